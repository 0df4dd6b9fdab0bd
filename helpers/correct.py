"""Corrections as values: each function returns Edits, `{layer: function}`, for `flow.generate(z, edits)`.

Nothing is changed in place, in the network or in a featuremap. Explained in notebook 05.
"""

import math
import operator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from helpers import units as unit_scores


@dataclass(frozen=True)
class Scale:
    """Multiply each unit's featuremap by a weight: (B, U, H, W) -> same."""

    weights: torch.Tensor  # (U,), or (N, U) for each of N images its own

    def take(self, rows, total):
        """Cut to the images of a chunk; `total` is how many images the flow was asked for."""
        if self.weights.ndim == 1:
            return self
        if total != len(self.weights):
            raise ValueError(f"this correction is for {len(self.weights)} images, but {total} images were asked for")
        return Scale(self.weights[rows])

    def __call__(self, h):
        _check_units(h, self.weights.shape[-1])
        if self.weights.ndim == 2 and len(h) != len(self.weights):
            raise ValueError(f"got {len(h)} images for the weights of {len(self.weights)}: pass a row per image")
        return h * self.weights.to(h)[..., None, None]


@dataclass(frozen=True)
class LocalScale:
    """Multiply the selected units by (1 - mask), image by image."""

    selected: torch.Tensor  # (U,) bool
    masks: torch.Tensor  # (N, H, W) in [0, 1], at the layer's resolution once called

    def take(self, rows, total):
        """Cut to the images of a chunk; `total` is how many images the flow was asked for."""
        if total != len(self.masks):
            raise ValueError(f"this local correction has {len(self.masks)} masks, but {total} images were asked for")
        return LocalScale(self.selected, self.masks[rows])

    def __call__(self, h):
        if len(h) != len(self.masks):
            raise ValueError(f"got {len(h)} images for {len(self.masks)} masks: pass one mask per image")
        _check_units(h, len(self.selected))
        keep = 1 - F.adaptive_avg_pool2d(self.masks[:, None].to(h), h.shape[-2:])
        return torch.where(self.selected.to(h.device)[:, None, None], h * keep, h)


def ablate(layer, units):
    """Set units of one layer to zero (the single-layer correction of section 3.2).

    units: unit numbers. Returns Edits. Raises ValueError for a negative or repeated unit number, and once applied
    for one that the layer does not have; TypeError for anything but integers.
    """
    units = [operator.index(u) for u in units]
    if len(set(units)) < len(units) or min(units, default=0) < 0:
        raise ValueError(f"units must be different numbers from 0 up, got {units}")
    return {layer: Zero(tuple(units))}


@dataclass(frozen=True)
class Zero:
    """Set the listed units' featuremaps to zero."""

    units: tuple

    def __call__(self, h):
        if self.units and max(self.units) >= h.shape[1]:
            raise ValueError(f"there is no unit {max(self.units)} in a layer of {h.shape[1]} units")
        weights = torch.ones(h.shape[1], dtype=h.dtype, device=h.device)
        weights[list(self.units)] = 0
        return h * weights[:, None, None]


def sequential(scores, stop_layer=6, portion=0.2, scale=0.9, normalise="minmax", inclusive_loop=False):
    """Damp the highest-scoring units of layers 1..stop_layer by scale * (1 - score) (Algorithm 1).

    scores: {layer: (U,)}, defective scores of at least these layers; normalised per layer first (see
    `units.normalise`). stop_layer: 0 is the identity. portion: share of each layer's units, in [0, 1].
    scale: lambda in [0, 1]; 0 is plain zero ablation. inclusive_loop: edit one layer more, as the printed
    loop "k = 0 to l" taken literally does (0 stays the identity). Returns Edits.
    Raises ValueError for arguments out of range, layers without scores, or scores that do not normalise into [0, 1].
    """
    _check_scale(scale)
    layers = _upto(scores, stop_layer, inclusive_loop)
    chosen, scaled = selected(scores, layers, portion), unit_scores.normalise(scores, normalise)
    for layer in layers:
        if not (scaled[layer].min() >= 0 and scaled[layer].max() <= 1):
            raise ValueError(f"layer {layer} has scores outside [0, 1] under normalise={normalise!r}: use 'minmax'")
    return {layer: Scale(torch.where(top, scale * (1 - scaled[layer]), 1.0)) for layer, top in chosen.items()}


def per_image(scores, stop_layer=6, portion=0.2, scale=0.9):
    """Correct each image by its own scores: Algorithm 1 where units mean another thing in each image (section 5.4).

    scores: {layer: (N, U)}, the overlap of each unit with each image's mask (`units.ious`), in the order of z; min-max
    normalised per image and layer. A unit that does not meet its image's mask at all is left alone, so an image
    with an empty mask stays as it is. Other arguments as in `sequential`. Returns Edits for exactly these N images.
    Raises ValueError as `sequential` does, and once applied for another number of images. Explained in notebook 08.
    """
    _check_scale(scale)
    edits = {}
    for layer in _upto(scores, stop_layer):
        own = scores[layer]
        if own.ndim != 2 or not len(own) or own.isinf().any():
            raise ValueError(f"layer {layer} needs finite scores (N, U), a row per image, got {tuple(own.shape)}")
        by_image = {f"{layer} of image {i}": row for i, row in enumerate(own)}
        top = torch.stack([*selected(by_image, by_image, portion).values()]) & (own > 0)
        scaled = torch.stack([*unit_scores.normalise(by_image).values()])
        edits[layer] = Scale(torch.where(top, scale * (1 - scaled), 1.0))
    return edits


def local(scores, masks, stop_layer=6, portion=0.2):
    """Damp the same units as `sequential`, but by (1 - mask) and so only where an image is defective (section 4.2).

    masks: (N, H, W) in [0, 1] (bool or soft), one per image in the order of z; averaged down to each layer.
    Returns Edits for exactly these N images; a mask of zeros leaves its image as it is.
    Raises ValueError for bad masks, arguments out of range or layers without scores, and once applied for another
    number of images.
    """
    masks = torch.as_tensor(masks).float().clone()
    if masks.ndim != 3 or masks.numel() == 0 or not (masks.min() >= 0 and masks.max() <= 1):
        raise ValueError(f"masks must be (N, H, W) with values in [0, 1], got shape {tuple(masks.shape)}")
    chosen = selected(scores, _upto(scores, stop_layer), portion)
    return {layer: LocalScale(top, masks) for layer, top in chosen.items()}


def selected(scores, layers, portion=0.2):
    """Mark the top portion of each layer's units: {layer: (U,) bool}; int(portion * U) of them."""
    if not 0 <= portion <= 1:
        raise ValueError(f"portion is a share of a layer's units and lies in [0, 1], got {portion}")
    for layer in layers:
        if scores[layer].isnan().any():
            raise ValueError(f"layer {layer} has NaN among its scores: score its units again")
    out = {}
    for layer, order in unit_scores.rank({layer: scores[layer] for layer in layers}).items():
        out[layer] = torch.zeros(len(order), dtype=torch.bool)
        out[layer][order[: math.floor(portion * len(order) + 1e-9)]] = True
    return out


def gain(h, edit):
    """Measure by how much pixel normalisation amplifies the units an edit leaves alone: (B, H, W), 1 is not at all."""
    return (h.square().sum(dim=1) / edit(h).square().sum(dim=1).clamp_min(1e-12)).sqrt()


def _check_scale(scale):
    if not 0 <= scale <= 1:
        raise ValueError(f"scale (lambda) lies in [0, 1], got {scale}")


def _check_units(h, count):
    if h.shape[1] != count:
        raise ValueError(f"this edit is for a layer of {count} units, got {h.shape[1]}")


def _upto(scores, stop_layer, inclusive_loop=False):
    try:
        last = int(stop_layer)
    except (TypeError, ValueError, OverflowError):
        last = -1
    if isinstance(stop_layer, bool) or last != stop_layer or last < 0:
        raise ValueError(f"stop_layer must be 0 (no correction) or a layer number, got {stop_layer!r}")
    last += bool(inclusive_loop and last)
    layers = list(range(1, last + 1))
    missing = [layer for layer in layers if layer not in scores]
    if missing:
        what = f"stop_layer {stop_layer}" + (" with inclusive_loop" if inclusive_loop else "")
        scored = f"{min(scores)} to {max(scores)}" if scores else "none"
        raise ValueError(f"{what} needs scores of layers 1 to {last}, layer {missing[0]} has none (scored: {scored})")
    return layers
