"""Measure what finds planted units without masks, rare places and class differences, and what a shift restores."""

import itertools

import torch

from helpers import correct, rare_units, survey, units
from helpers.evidence import ground_truth
from tools.measure.planted.corrections import likeness, only, tuned_on
from tools.measure.planted.finding import precisions
from tools.measure.planted.settings import LABELS, LAYERS, USUAL, Row
from tools.measure.planted.shared import SHARED, Images, Masks, attempts

AMOUNTS, SHARES = (0.5, 1.0, 2.0), (0.01, 0.1, 1.0)


def measure(condition):
    """Measure rankings and shifts on one planting: its rows, without the keys."""
    seed, layer, kind, strength, rate, _ = condition
    planting, _, refused = attempts(layer, kind, strength, rate, seed)
    if planting is None:
        return [Row("planting", "refused", refused)]
    rank, test = Images(planting, "rank"), Images(planting, "test")
    maps = SHARED["rank", "maps"].clone()
    maps[rank.fires] = SHARED["domain"].maps(rank.images[rank.fires])
    rows = [Row("planting", "refused", refused)]
    for (name, labels), score in rankings(planting.flow, rank).items():
        for scope, value in precisions(score, planting.units, layer).items():
            rows.append(Row("finding", "average precision", value, name, "", labels, scope))
    found = differences(planting.flow, rank, USUAL)
    shown = test.artifact.nonzero().flatten()[:64]
    seen = SHARED["domain"].maps(test.images[shown])
    return rows + likeness(
        planting.flow, ways(planting, layer, found, rank), Masks(maps, rank, USUAL), test, shown, seen
    )


def rankings(flow, rank):
    """Score all units by every way that needs no mask: {(its name, labels used): scores}."""
    rates = survey.activation_rates(flow, rank.z, layers=LAYERS, places=True)
    scores = {("places where it is rare", 0): rare_units.unit_shares(rare_units.rare(rates))}
    for labels in LABELS:
        found = scored(differences(flow, rank, labels))
        scores |= {(name, labels): score for name, score in found.items()}
    return scores


def differences(flow, rank, labels):
    """Measure the differences of all layers on so many labelled images; what fires unseen has no label."""
    known = torch.arange(len(rank.z)) < labels
    return units.differences(flow, rank.z[known & rank.artifact], rank.z[known & ~rank.fires], LAYERS)


def scored(found):
    """Score units by how far their activations differ, in deviations: at the place where they do most, and by mean."""
    places, whole = found.standardised(), found.standardised(places=False)
    return {
        "|D| / s, largest of the places": {k: d.abs().flatten(1).amax(dim=1) for k, d in places.items()},
        "|D| / s, unit mean": {k: d.abs()[:, 0, 0] for k, d in whole.items()},
        "D / s, unit mean": {k: d[:, 0, 0] for k, d in whole.items()},
    }


def ways(planting, layer, found, rank):
    """Name the shifts: {name: function of (learned masks, exact masks) -> Edits}."""
    flow, tuning = planting.flow, tuned_on(rank)
    exact = rank.regions[tuning].float()

    def edits(at, amount=1.0, portion=1.0, masks=None, places=True):
        return correct.shift(found.only([at]), amount, portion, masks, places=places)

    def tuned(masks, places=True):
        def quality(setting):
            images = flow.generate(rank.z[tuning], edits(*setting, masks, places))
            return float(ground_truth.psnr(images, rank.truth[tuning]).mean())

        return max(itertools.product(LAYERS, AMOUNTS, SHARES), key=quality)

    whole, near, level = tuned(None), tuned(exact), tuned(exact, places=False)
    return {
        "none": lambda masks: None,
        "ablate the planted units in exact masks": lambda masks: only(layer, planting.units[layer], masks[1], flow),
        "shift of layer 1": lambda masks: edits(1),
        "shift of the planted layer": lambda masks: edits(layer),
        "shift, tuned on the truth": lambda masks: edits(*whole),
        "shift in exact masks, tuned on the truth": lambda masks: edits(*near, masks[1].float()),
        "shift by unit mean in exact masks, tuned on the truth": lambda masks: edits(*level, masks[1].float(), False),
        "shift by unit mean in learned masks, tuned on the truth": lambda masks: edits(*level, masks[0].float(), False),
    }
