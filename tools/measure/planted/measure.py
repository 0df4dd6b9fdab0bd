"""Measure one planting: what its scores, masks and corrections are worth."""

from helpers import gradcam, survey, units
from helpers.evidence import ground_truth
from tools.measure.planted.corrections import corrections
from tools.measure.planted.finding import effects, overlapping, precisions, reasons, surveyed
from tools.measure.planted.settings import LAYERS, MASKS, PROBES, USUAL, Row
from tools.measure.planted.shared import SHARED, Images, attempts


def measure(condition):
    """Measure one planting: its rows, without the keys."""
    seed, layer, kind, strength, rate, full = condition
    planting, check, refused = attempts(layer, kind, strength, rate, seed)
    rows = [Row("planting", "refused", refused)]
    if planting is None:  # stored, too: a setting that cannot be planted is not tried again
        return rows
    rows[:0] = [Row("planting", k, v) for k, v in check._asdict().items() if k != "accepted"]
    rank = Images(planting, "rank")
    maps = SHARED["rank", "maps"].clone()
    maps[rank.fires] = SHARED["domain"].maps(rank.images[rank.fires])
    scores, learned = ranked(planting, layer, rank, maps, seed, full)
    if full:
        rows += reasons(planting, layer, scores["DS", "exact", USUAL])
    rows += ranking_rows(planting, layer, scores)
    test = Images(planting, "test")
    shown = test.artifact.nonzero().flatten()[:64]
    seen = SHARED["domain"].maps(test.images[shown])
    rows += masking(test, shown, seen, learned, MASKS if full else MASKS[:2])
    if full:
        rows += corrections(planting, layer, scores, learned[USUAL], rank, maps, test, shown, seen)
    return rows


def ranked(planting, layer, rank, maps, seed, full):
    """Score all units by every method: {(method, masks, labels): scores}, and what was learned by number of labels.

    Ablations are many images: unless all is measured, only the planted layer's units are scored by them.
    """
    levels = survey.thresholds(planting.flow, rank.z, layers=LAYERS)
    artifacts = rank.artifact.nonzero().flatten()
    scores, learned = overlapping(planting, rank, maps, levels, artifacts, seed, full)
    tops, scores["activation rate", "", 0] = surveyed(planting.flow, rank)
    scores["FD", "", 0] = units.fd_scores(tops, maps.mean(dim=(2, 3)), SHARED["real", "maps"].mean(dim=(2, 3)))
    usual = "firm", USUAL
    if ("DS", *usual) in scores:
        some = artifacts[artifacts < USUAL][:PROBES]
        masks = gradcam.binary_mask(learned[USUAL].cams(maps[some], rank.images[some], "firm"))
        head, layers = learned[USUAL].firm, LAYERS if full else [layer]
        effect = effects(planting.flow, rank.z[some], masks, scores["DS", *usual], head, layers)
        scores["ablation effect", *usual] = effect
    return scores, learned


def ranking_rows(planting, layer, scores):
    """Rows of the average precision of every ranking, and of 20 random ones."""
    rows = []
    for (method, masks, labels), score in scores.items():
        for scope, value in precisions(score, planting.units, layer).items():
            rows.append(Row("finding", "average precision", value, method, masks, labels, scope))
    draws = [precisions(units.random_scores(planting.flow, s, LAYERS), planting.units, layer) for s in range(20)]
    for scope in draws[0]:
        value = sum(d[scope] for d in draws) / len(draws)
        rows.append(Row("finding", "average precision", value, "random", scope=scope))
    return rows


def masking(test, shown, seen, learned, names):
    """Rows of how well masks meet the defects of the shown test images, whose maps are `seen`."""
    rows, inside = [], test.regions[shown]
    for labels, fitted in learned.items():
        for name in names:
            cams = fitted.cams(seen, test.images[shown], name)
            masks = gradcam.binary_mask(cams)
            values = (
                ground_truth.pointing(cams, inside),
                ground_truth.overlap(masks, inside),
                masks.float().mean(dim=(1, 2)),
            )
            for measured, value in zip(("pointing game", "IoU", "area"), values):
                rows.append(Row("masks", measured, float(value.float().mean()), masks=name, labels=labels))
    rows.append(Row("masks", "area", float(inside.float().mean()), masks="exact"))
    return rows
