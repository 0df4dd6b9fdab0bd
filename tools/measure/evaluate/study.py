"""What all parts of the evaluation share, computed when first asked for and once."""

import functools

import torch

from helpers import domains, evaluation, rare_units, survey, units
from tools.measure.evaluate.settings import LAYERS, LIT, POOL, RARE, RARE_LAYERS, REAL


def spread(ids, count):
    """Take so many ids, evenly spread over all of them."""
    count = min(count, len(ids))
    return [ids[n * len(ids) // count] for n in range(count)]


def counted(domain, images):
    """Count each image's pixels of every class, and of lit windows last: (N, C + 1)."""
    window = domain.classes.index("window")
    lit = images[:, 0] - images[:, 2] > LIT
    seen = torch.cat([domain.evaluation.segment(part).argmax(dim=1) for part in images.split(256)])
    return torch.cat([evaluation.parts(domain, images), ((seen == window) & lit).sum(dim=(1, 2))[:, None]], dim=1)


class Study:
    """The domain, its splits, the rankings, and the samples that everything is compared with."""

    def __init__(self):
        self.domain = domains.load("churches")
        self.flow = self.domain.flow
        evaluation.check_splits(train=domains.TRAIN, tune=domains.TUNE, test=domains.TEST, pool=domains.POOL)
        self.tune, self.tune_normals = self.domain.split(domains.TUNE)
        self.test, normals = self.domain.split(domains.TEST)
        self.normals = spread(normals, len(self.test))
        self.masks = functools.cache(self.domain.masks)
        self.plain = functools.cache(lambda group: evaluation.sample(self.domain, getattr(self, group)))
        self.pixels = functools.cache(lambda group: counted(self.domain, self.plain(group).images))

    @functools.cached_property
    def pool(self):
        """Latents that nothing is labelled of."""
        return self.domain.latents(domains.POOL[:POOL])

    @functools.cached_property
    def thresholds(self):
        return survey.thresholds(self.flow, self.pool, layers=LAYERS)

    @functools.cached_property
    def ds(self):
        return evaluation.ranked(self.domain, domains.TRAIN, self.thresholds)

    @functools.cached_property
    def on_normals(self):
        """What the same recipe gives to training images without a defect."""
        ids = spread(self.domain.split(domains.TRAIN)[1], len(self.domain.split(domains.TRAIN)[0]))
        z, masks = self.domain.latents(ids), self.domain.masks(ids)
        return units.defective_scores(self.flow, z, masks, self.thresholds)

    @functools.cached_property
    def contrast(self):
        return evaluation.Scores({k: s - self.on_normals[k] for k, s in self.ds.items()}, self.ds.ids)

    @functools.cached_property
    def tops(self):
        """The 5 % of the pool that activate each unit most, strongest first."""
        return survey.top_images(self.flow, self.pool, POOL // 20, LAYERS)

    @functools.cached_property
    def fd_ranked(self):
        """FD ranking on the backbone's features, so that the evaluation network takes no part."""
        z, backbone = self.pool, self.domain.backbone
        found = torch.cat([backbone.pooled(self.flow.generate(part).clamp(-1, 1)) for part in z.split(256)])
        real = backbone.pooled(self.domain.real(domains.REAL_TRAIN))
        return evaluation.Scores(units.fd_scores(self.tops, found, real), domains.POOL[:POOL])

    @functools.cached_property
    def real(self):
        """The real images that samples are compared with."""
        return evaluation.real_sample(self.domain, domains.REAL_REFERENCE[:REAL])

    @functools.cached_property
    def reference(self):
        return evaluation.Reference(self.real)

    @functools.cached_property
    def floor(self):
        """As many real images as there are test artifacts, other ones than the reference's."""
        return evaluation.real_sample(self.domain, domains.REAL_TEST[: len(self.test)])

    @functools.cached_property
    def mean(self):
        """The mean featuremap of layer 1."""
        return self.flow.record(self.pool, [1])[1].mean(dim=0)

    @functools.cached_property
    def rare(self):
        """Neurons, one unit at one place, that fire in few images, but in some: {layer: bool (U, h, w)}."""
        return rare_units.rare(survey.activation_rates(self.flow, self.pool, layers=RARE_LAYERS, places=True), RARE)

    def corrected(self, ids, way, tuned=False, in_sample=False):
        """Sample ids under a way of correcting: a `ways.Way`."""
        z = evaluation.noisy(self.domain.latents(ids), way.noise) if way.noise else None
        correction = (lambda scores: way.make(scores, tuple(ids))) if way.make else None
        tuned_on = domains.TUNE if tuned else ()
        return evaluation.sample(self.domain, ids, correction, way.scores, tuned_on, in_sample, z=z)
