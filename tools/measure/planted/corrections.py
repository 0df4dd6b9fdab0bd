"""Measure how near corrections come to the perfect one, the unplanted image."""

import itertools

import torch

from helpers import correct, gradcam, units
from helpers.evidence import ground_truth
from helpers.worlds import planted
from tools.measure.planted.settings import LAYERS, USUAL, Row
from tools.measure.planted.shared import SHARED


def corrections(planting, layer, scores, learned, rank, maps, test, shown, seen):
    """Rows of the likeness to the perfect correction, on artifacts and normals that nothing was ranked on.

    Where no learned mask has a pixel, what needs a ranking by them is left out.
    """
    flow, true_units = planting.flow, planting.units[layer]
    ds, random = scores.get(("DS", "firm", USUAL)), units.random_scores(flow, 0, LAYERS)

    def top(score):
        return correct.ablate(layer, score[layer].argsort(descending=True, stable=True)[: len(true_units)].tolist())

    ways = {
        "none": lambda masks: None,
        "ablate the planted units": lambda masks: correct.ablate(layer, true_units),
        "ablate the planted units in exact masks": lambda masks: only(layer, true_units, masks[1], flow),
        "ablate top DS, exact masks": lambda masks: top(scores["DS", "exact", USUAL]),
        "ablate top FD": lambda masks: top(scores["FD", "", 0]),
        "ablate top activation rate": lambda masks: top(scores["activation rate", "", 0]),
        "ablate random units": lambda masks: top(random),
    }
    if ds is not None:
        ways |= {
            "ablate top DS, learned masks": lambda masks: top(ds),
            "ablate top ablation effect": lambda masks: top(scores["ablation effect", "firm", USUAL]),
        } | damped(flow, ds, learned, rank, maps)
    return likeness(flow, ways, learned, test, shown, seen)


def damped(flow, ds, learned, rank, maps):
    """Name the paper's corrections, as they are and with the setting that comes nearest to the truth in ranked images.

    Returns {name: function of (learned masks, exact masks) -> Edits}.
    """
    tuning = tuned_on(rank)
    masks = gradcam.binary_mask(learned.cams(maps[tuning], rank.images[tuning], "firm"))

    def tuned(make):
        def quality(stop, portion):
            images = flow.generate(rank.z[tuning], make(masks, stop, portion))
            return float(ground_truth.psnr(images, rank.truth[tuning]).mean())

        return max(itertools.product(LAYERS, (0.03, 0.2)), key=lambda setting: quality(*setting))

    whole = tuned(lambda masks, stop, portion: correct.sequential(ds, stop, portion))
    near = tuned(lambda masks, stop, portion: correct.local(ds, masks, stop, portion))
    return {
        "sequential": lambda masks: correct.sequential(ds),
        "local": lambda masks: correct.local(ds, masks[0]),
        "sequential, tuned on the truth": lambda masks: correct.sequential(ds, *whole),
        "local, tuned on the truth": lambda masks: correct.local(ds, masks[0], *near),
    }


def tuned_on(rank):
    """Pick the labelled artifacts on which settings are tuned: row numbers."""
    return (rank.artifact & (torch.arange(len(rank.artifact)) < USUAL)).nonzero().flatten()[:24]


def likeness(flow, ways, learned, test, shown, seen):
    """Rows of how near each way comes to the unplanted image: artifacts `shown`, whose maps are `seen`, and normals.

    ways: {name: function of (learned masks, exact masks) of the images -> Edits}.
    """
    quiet = (~test.fires).nonzero().flatten()[:32]
    maps = SHARED["domain"].maps(test.images[quiet])
    quiet_masks = gradcam.binary_mask(learned.cams(maps, test.images[quiet], "firm")), test.regions[quiet]
    shown_masks = gradcam.binary_mask(learned.cams(seen, test.images[shown], "firm")), test.regions[shown]
    rows = []
    for name, make in ways.items():
        images, region = flow.generate(test.z[shown], make(shown_masks)), test.regions[shown]
        told = {"method": name, "labels": USUAL}
        for scope, where in (("image", None), ("inside", region), ("outside", ~region)):
            quality = ground_truth.psnr(images, test.truth[shown], where).clamp_max(99).mean()
            rows.append(Row("correction", "PSNR", float(quality), scope=scope, **told))
        left = planted.regions(images, test.truth[shown]) & region
        rows.append(Row("correction", "defect left", float(left.sum() / region.sum()), scope="inside", **told))
        images = flow.generate(test.z[quiet], make(quiet_masks))
        quality = ground_truth.psnr(images, test.truth[quiet]).clamp_max(99).mean()
        rows.append(Row("correction", "PSNR", float(quality), scope="normal images", **told))
    return rows


def only(layer, chosen, masks, flow):
    """Set units to zero inside masks alone."""
    selected = torch.zeros(flow.units(layer), dtype=torch.bool)
    selected[list(chosen)] = True
    return {layer: correct.LocalScale(selected, masks.float())}
