"""What all plantings of a process share, and what a planting makes of the images."""

import torch
from torch.nn import functional as F

from helpers import classifier, domains, gradcam, survey
from helpers.worlds import planted
from tools.measure.planted.settings import FRESH, LABELS, LAYERS, PLANT, RANK, TEST

FIRM = 0.3  # weight penalty of the local detector; the suite's own was chosen for 900 labels
TRIES = 10
SHARED = {}


def prepare():
    """Compute once per process what all plantings share: everything about the original generator."""
    torch.set_num_threads(1)
    domain = domains.load("churches")
    SHARED["domain"] = domain
    for name, ids in (("plant", PLANT), ("fresh", FRESH), ("rank", RANK), ("test", TEST)):
        SHARED[name] = domain.latents(ids)
    for name in ("rank", "test"):
        SHARED[name, "images"] = domain.flow.generate(SHARED[name])
        SHARED[name, "maxima"] = survey.unit_maxima(domain.flow, SHARED[name], LAYERS)
    parts = [
        {k: (h > 0).float().mean(dim=(2, 3)) for k, h in r.items()}
        for _, r in domain.flow.stream(SHARED["rank"], LAYERS)
    ]
    SHARED["rank", "shares"] = {layer: torch.cat([part[layer] for part in parts]) for layer in LAYERS}
    SHARED["rank", "maps"] = domain.maps(SHARED["rank", "images"])
    SHARED["real", "maps"] = domain.maps(domain.real(domains.REAL_TRAIN[: max(LABELS)]))


def attempts(layer, kind, strength, rate, seed):
    """Plant, with other seeds while units are too few or the check refuses: (planting, check, plantings refused).

    No planting after TRIES: then the setting cannot be planted, which its rows tell.
    """
    flow, count = SHARED["domain"].flow, 2 if layer == 7 else 4
    for refused in range(TRIES):
        try:
            planting = planted.plant(
                flow, SHARED["plant"], (layer,), count, kind, strength, rate, seed=seed + 1000 * refused
            )
        except planted.Refused:
            continue
        check = planted.check(planting, SHARED["fresh"])
        if check.accepted:
            return planting, check, refused
    return None, None, TRIES


class Images:
    """The planted and true images of a part of the ids: what differs is generated, the rest is shared."""

    def __init__(self, planting, name):
        self.z, self.truth = SHARED[name], SHARED[name, "images"]
        self.fires = planting.fired(SHARED[name, "maxima"])
        self.images = self.truth.clone()
        self.images[self.fires] = planting.flow.generate(self.z[self.fires])
        self.regions = planted.regions(self.images, self.truth)
        self.artifact = self.regions.float().mean(dim=(1, 2)) > planted.SIZE


class Masks:
    """What the suite learns from labels, and maps by it: (N, 64, 64) in [0, 1].

    "local" is the suite's detector, "firm" the same with a stronger weight penalty, "gradcam" the paper's head of
    three classes. "corrupt" asks the backbone's own head, which has seen no label.
    """

    def __init__(self, maps, rank, labels):
        # What fires without a visible defect is neither artifact nor normal, and gets no label.
        known = ((rank.artifact | ~rank.fires) & (torch.arange(len(maps)) < labels)).nonzero().flatten()
        real = SHARED["real", "maps"][:labels]
        targets = torch.cat([rank.artifact[known].long(), torch.full((len(real),), classifier.REAL)])
        x = torch.cat([maps[known], real])
        self.normal = x[targets == classifier.NORMAL]
        self.local, self.firm = classifier.fit_local(x, targets), classifier.fit_local(x, targets, l2=FIRM)
        self.gradcam = classifier.fit(x.mean(dim=(2, 3)), targets)

    def cams(self, maps, images, name):
        if name == "corrupt":
            found = SHARED["domain"].backbone.corrupted(images).sigmoid()
            return F.interpolate(found[:, None], size=images.shape[-1], mode="bilinear", align_corners=False)[:, 0]
        head = getattr(self, name)
        if name == "gradcam":
            return gradcam.gradcam(maps, head)
        return gradcam.gradcam(maps, head, baseline=gradcam.evidence(self.normal, head).mean(dim=0))
