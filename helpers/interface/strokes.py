"""Turn strokes of a brush into masks, and masks into edits of units: what painting on an image consists of.

Source: Bau et al. 2019, GANPaint: to remove sets units to 0, to draw brings each to its own 0.99 quantile, under the
brush; the mask keeps its largest value in each place of the layer. Explained in notebook 10.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch.nn import functional as F

from helpers import causal, correct
from helpers.corrections.edits import Chain

DRAW, REMOVE, MEND = "draw", "remove", "mend here"


@dataclass(frozen=True)
class Stroke:
    """One stroke on one image.

    how: "draw" and "remove" units, or "mend here", which shifts. name: of the units, to call them by. chosen: ((layer,
    (unit, ...)), ...), empty to mend. points: ((x, y), ...), pixels of the image that the brush went through, from 0;
    they may lie outside. size: of the brush, in pixels. strength: in [0, 1], alpha, or the amount of the shift.
    """

    how: str
    name: str
    chosen: tuple
    points: tuple
    size: int
    strength: float = 1.0

    def __str__(self):
        units = sum(len(units) for _, units in self.chosen)
        layers = ", ".join(str(layer) for layer, _ in self.chosen)
        what = f" {units} unit{'s' * (units > 1)} of layer {layers} ({self.name})" if self.chosen else ""
        return f"{self.how}{what}, brush {self.size} px, strength {self.strength:.2f}"


@dataclass(frozen=True, eq=False)
class Loaded:
    """Edits that were read from a file, painted over like a stroke."""

    edits: dict
    path: Path

    def __str__(self):
        return f"{self.path.name}, layer {', '.join(map(str, sorted(self.edits)))}"


def covered(points, size, side):
    """Mark the pixels under a brush that went along points: (side, side) bool.

    points: ((x, y), ...), at least one; size: the brush's width in pixels. A pixel is covered if its centre is at most
    size / 2 from the line through the points' pixels' centres. Raises ValueError for no points or a size below 1.
    """
    if not len(points) or size < 1:
        raise ValueError(f"a stroke needs a point and a brush of 1 pixel or more, got {len(points)} and {size}")
    mask, reach = torch.zeros(side, side, dtype=torch.bool), size / 2
    for (x, y), (x_end, y_end) in pairwise([points[0], *points]):
        (left, right), (top, bottom) = (
            (max(0, math.ceil(min(ends) - reach)), min(side, math.floor(max(ends) + reach) + 1))
            for ends in ((x, x_end), (y, y_end))
        )
        if left >= right or top >= bottom:
            continue
        down, along = torch.arange(top, bottom).double()[:, None] - y, torch.arange(left, right).double() - x
        dx, dy = x_end - x, y_end - y
        part = ((along * dx + down * dy) / max(dx * dx + dy * dy, 1)).clamp(0, 1)
        mask[top:bottom, left:right] |= (along - part * dx) ** 2 + (down - part * dy) ** 2 <= reach**2 + 1e-9
    return mask


def pooled(mask, size):
    """Bring a mask (R, R) in [0, 1] to the places of a layer, each the largest value in it: (1, h, w)."""
    return F.adaptive_max_pool2d(mask[None].float(), size)


def edits(stroke, flow, values=None, differences=None):
    """Return what a stroke does to its image: Edits.

    values: {layer: (U,)}, what "draw" brings units to, such as `survey.thresholds(flow, z, tau=0.01)`, each unit's 0.99
    quantile. differences: {layer: (U, H, W)}, what "mend here" takes off, see `correct.shift`; all their layers.
    Raises ValueError for a stroke that covers no pixel or names no unit, and where there is nothing to draw or mend by.
    """
    side = flow.resolution(flow.n_layers)
    mask = stroke.strength * (under := covered(stroke.points, stroke.size, side))
    if not under.any():
        raise ValueError(f"the brush covers no pixel: paint inside the picture, which has pixels 0 to {side - 1}")
    if stroke.how == MEND:
        if not differences:
            raise ValueError("to mend needs the differences of artifacts and normals: see units.differences")
        return correct.shift(differences, masks=mask[None])
    if not any(units for _, units in stroke.chosen):
        raise ValueError('no unit is chosen: choose a set, or write units as layer:unit, such as "6:12, 4:3"')
    found = {}
    for layer, units in stroke.chosen:
        alpha = torch.zeros(flow.units(layer)).index_fill(0, torch.tensor(units), 1.0)
        if stroke.how == DRAW and layer not in (values or {}):
            raise ValueError(f"to draw needs values of layer {layer}: survey.thresholds(flow, z, tau=0.01) has them")
        put = values[layer].float() if stroke.how == DRAW else torch.zeros_like(alpha)
        found |= causal.insert(layer, alpha, put, pooled(mask, flow.shape(layer)[1:]))
    return correct.chained(found)


def area(edits, side):
    """Return where edits of one image act: (side, side) bool, or None where one of them acts everywhere."""
    found = torch.zeros(side, side, dtype=torch.bool)
    for edit in edits.values():
        for part in edit.edits if isinstance(edit, Chain) else (edit,):
            masks = getattr(part, "masks", None)
            if masks is None:
                return None
            found |= F.interpolate(masks[:, None].float(), (side, side), mode="nearest")[0, 0] > 0
    return found
