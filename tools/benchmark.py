"""Measure what README states: the survey against plain generation, a correction against plain generation.

    python -m tools.benchmark            # about two minutes; prints a table of ratios and the peak memory

Each ratio compares two ways in one process, alternating, and is the median of several rounds.
"""

import argparse
import platform
import resource
import statistics
import time

import torch
from torch.nn import functional as F

from helpers import churches, correct, domains, survey, units


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratio(slow, fast, rounds):
    """Median of slow / fast and median seconds of both, measured in turns."""
    pairs = [(seconds(slow), seconds(fast)) for _ in range(rounds)]
    return statistics.median(s / f for s, f in pairs), *(statistics.median(column) for column in zip(*pairs))


def upsampled_scores(flow, z, masks, thresholds, layer):
    """The defective score as written down: upsample every featuremap, minima over maxima."""
    total, lit = torch.zeros(flow.units(layer)), masks[:, None].float()
    for rows, recorded in flow.stream(z, [layer]):
        active = (recorded[layer].cpu() > thresholds[layer][:, None, None]).float()
        up = F.interpolate(active, size=masks.shape[-1], mode="bilinear", align_corners=False)
        union = torch.maximum(up, lit[rows]).sum(dim=(2, 3))
        total += (torch.minimum(up, lit[rows]).sum(dim=(2, 3)) / union.clamp_min(1e-9)).sum(dim=0)
    return total / len(z)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=2000)
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    domain = domains.load("churches")
    flow, z = domain.flow, domain.latents(domains.POOL[: a.images])
    ids = domain.split(domains.TRAIN)[0]
    z_artifact, masks = domain.latents(ids), domain.masks(ids)
    thresholds = survey.thresholds(flow, z)
    scores = units.defective_scores(flow, z_artifact, masks, thresholds)
    edits = correct.sequential(scores)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {a.images} images")

    def whole_survey():
        units.defective_scores(flow, z_artifact, masks, survey.thresholds(flow, z))

    rows = {
        f"DS survey of all layers ({len(ids)} artifacts) / generation": (whole_survey, lambda: flow.generate(z)),
        "corrected / plain generation": (lambda: flow.generate(z, edits), lambda: flow.generate(z)),
        "layer 6 by upsampling / by the adjoint": (
            lambda: upsampled_scores(flow, z_artifact, masks, thresholds, 6),
            lambda: units.defective_scores(flow, z_artifact, masks, {6: thresholds[6]}),
        ),
    }
    for name, (slow, fast) in rows.items():
        r, s, f = ratio(slow, fast, a.rounds)
        print(f"{name:58s} {r:6.2f}   ({s:.2f} s / {f:.2f} s)")
    rate = a.images / seconds(lambda: flow.generate(z))
    scenes = 500 / seconds(lambda: churches.render(range(500)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{rate:.0f} generations/s, {scenes:.0f} scenes/s on one core, peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
