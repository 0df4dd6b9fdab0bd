"""What is planted and on which ids it is measured, and what a measured figure is."""

from typing import NamedTuple

from helpers import domains
from helpers.worlds import planted

POOL = domains.POOL
PLANT, FRESH, RANK, TEST = POOL[:400], POOL[400:700], POOL[1000:2000], POOL[3000:3400]
LAYERS = range(1, 9)
LABELS = (50, 200, 800)
USUAL = 200  # labels, where their number is not what varies
STRENGTHS, RATES = (6.0, 4.0, 10.0), (0.35, 0.2, 0.5)  # the first ones are the middle
PROBES = 12  # images that the ablation effect is measured on
MASKS = ("local", "firm", "gradcam", "corrupt")
FIRST = 100  # seeds below were looked at while this was written
KEYS = ["seed", "layer", "kind", "strength", "rate"]


class Row(NamedTuple):
    """One figure of a planting."""

    part: str  # "planting", "finding", "masks", "correction" or "why"
    measure: str
    value: float
    method: str = ""
    masks: str = ""  # by which masks
    labels: int = 0  # how many labels; 0 where none are used
    scope: str = ""  # which layers, or which pixels


FIELDS = ["part", "method", "masks", "labels", "scope", "measure", "value"]  # in the order of the file
COLUMNS = [*KEYS, *FIELDS]


def conditions(seeds):
    """List what is measured, as tuples of KEYS and whether corrections and numbers of labels are measured too."""
    usual, out = (STRENGTHS[0], RATES[0]), [[], [], [], []]  # the fullest first, so that a part is of use
    for seed in seeds:
        layer, turn = 3 + seed % 5, seed // 5 % len(planted.KINDS)
        kind, *kinds = planted.KINDS[turn:] + planted.KINDS[:turn]
        out[0].append((seed, layer, kind, *usual, True))
        out[1] += [(seed, layer, other, *usual, False) for other in kinds]
        out[2] += [(seed, layer, kind, strength, RATES[0], False) for strength in STRENGTHS[1:]]
        out[3] += [(seed, layer, kind, STRENGTHS[0], rate, False) for rate in RATES[1:]]
    return sum(out, [])
