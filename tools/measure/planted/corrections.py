"""Measure how near corrections come to the perfect one, the unplanted image."""

import itertools

import torch

from helpers import correct, gradcam, units
from helpers.evidence import ground_truth
from helpers.worlds import planted
from tools.measure.planted.settings import LAYERS, USUAL
from tools.measure.planted.shared import SHARED


def corrections(planting, layer, scores, learned, rank, maps, test, shown, seen):
    """Rows of the likeness to the perfect correction, on artifacts and normals that nothing was ranked on."""
    flow, true_units = planting.flow, planting.units[layer]
    ds, random = scores["DS", "firm", USUAL], units.random_scores(flow, 0, LAYERS)

    def top(score):
        return correct.ablate(layer, score[layer].argsort(descending=True, stable=True)[: len(true_units)].tolist())

    tuning = (rank.artifact & (torch.arange(len(maps)) < USUAL)).nonzero().flatten()[:24]
    tuning_masks = gradcam.binary_mask(learned.cams(maps[tuning], rank.images[tuning], "firm"))

    def tuned(make):
        def quality(stop, portion):
            images = flow.generate(rank.z[tuning], make(tuning_masks, stop, portion))
            return float(ground_truth.psnr(images, rank.truth[tuning]).mean())

        return max(itertools.product(LAYERS, (0.03, 0.2)), key=lambda setting: quality(*setting))

    ways = {
        "none": lambda masks: None,
        "ablate the planted units": lambda masks: correct.ablate(layer, true_units),
        "ablate the planted units in exact masks": lambda masks: only(layer, true_units, masks[1], flow),
        "ablate top DS, exact masks": lambda masks: top(scores["DS", "exact", USUAL]),
        "ablate top DS, learned masks": lambda masks: top(ds),
        "ablate top ablation effect": lambda masks: top(scores["ablation effect", "firm", USUAL]),
        "ablate top FD": lambda masks: top(scores["FD", "", 0]),
        "ablate top activation rate": lambda masks: top(scores["activation rate", "", 0]),
        "ablate random units": lambda masks: top(random),
        "sequential": lambda masks: correct.sequential(ds),
        "local": lambda masks: correct.local(ds, masks[0]),
    }
    stop, portion = tuned(lambda masks, stop, portion: correct.sequential(ds, stop, portion))
    ways["sequential, tuned on the truth"] = lambda masks, at=(stop, portion): correct.sequential(ds, *at)
    stop, portion = tuned(lambda masks, stop, portion: correct.local(ds, masks, stop, portion))
    ways["local, tuned on the truth"] = lambda masks, at=(stop, portion): correct.local(ds, masks[0], *at)

    quiet = (~test.fires).nonzero().flatten()[:32]
    maps = SHARED["domain"].maps(test.images[quiet])
    quiet_masks = gradcam.binary_mask(learned.cams(maps, test.images[quiet], "firm")), test.regions[quiet]
    shown_masks = gradcam.binary_mask(learned.cams(seen, test.images[shown], "firm")), test.regions[shown]
    rows = []
    for name, make in ways.items():
        images, region = flow.generate(test.z[shown], make(shown_masks)), test.regions[shown]
        for scope, where in (("image", None), ("inside", region), ("outside", ~region)):
            quality = ground_truth.psnr(images, test.truth[shown], where).clamp_max(99).mean()
            rows.append(("correction", name, "", USUAL, scope, "PSNR", float(quality)))
        left = planted.regions(images, test.truth[shown]) & region
        rows.append(("correction", name, "", USUAL, "inside", "defect left", float(left.sum() / region.sum())))
        images = flow.generate(test.z[quiet], make(quiet_masks))
        quality = ground_truth.psnr(images, test.truth[quiet]).clamp_max(99).mean()
        rows.append(("correction", name, "", USUAL, "normal images", "PSNR", float(quality)))
    return rows


def only(layer, chosen, masks, flow):
    """Set units to zero inside masks alone."""
    selected = torch.zeros(flow.units(layer), dtype=torch.bool)
    selected[list(chosen)] = True
    return {layer: correct.LocalScale(selected, masks.float())}
