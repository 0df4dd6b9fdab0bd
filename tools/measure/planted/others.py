"""Rank the units of a planted generator by what needs no mask: places where they are rare, and class differences."""

from helpers import rare_units, survey
from tools.measure.planted.finding import precisions
from tools.measure.planted.settings import LABELS, LAYERS, Row
from tools.measure.planted.shared import Images, attempts
from tools.measure.planted.shifting import differences, scored


def measure(condition):
    """Measure the rankings on one planting: its rows, without the keys."""
    seed, layer, kind, strength, rate, _ = condition
    planting, _, refused = attempts(layer, kind, strength, rate, seed)
    rows = [Row("planting", "refused", refused)]
    if planting is None:
        return rows
    for (name, labels), score in rankings(planting.flow, Images(planting, "rank")).items():
        for scope, value in precisions(score, planting.units, layer).items():
            rows.append(Row("finding", "average precision", value, name, "", labels, scope))
    return rows


def rankings(flow, rank):
    """Score all units by every way: {(its name, labels used): scores}."""
    rates = survey.activation_rates(flow, rank.z, layers=LAYERS, places=True)
    scores = {("places where it is rare", 0): rare_units.unit_shares(rare_units.rare(rates))}
    for labels in LABELS:
        found = scored(differences(flow, rank, labels))
        scores |= {(name, labels): score for name, score in found.items()}
    return scores
