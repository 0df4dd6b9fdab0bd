"""The edits of one layer's featuremap that corrections consist of: (B, U, H, W) -> same, never in place."""

from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F


class Edits(dict):
    """Edits, {layer: function}, that remember in `ids` which images they were made from; None where nobody knows."""

    def __init__(self, edits=(), ids=None):
        super().__init__(edits)
        self.ids = ids


@dataclass(frozen=True)
class Edit:
    """What edits share: the layer they are for is checked, and so is the number of images where each has its own."""

    def own(self):
        """Return the fields that hold one row per image: {name: tensor (N, ...)}."""
        return {}

    def take(self, rows, total):
        """Cut to the images of a chunk; `total` is how many images the flow was asked for."""
        self._check_count(total, "were asked for")
        own = {name: value[rows] for name, value in self.own().items()}
        return replace(self, **own) if own else self

    def check(self, h, units):
        """Raise ValueError unless the featuremap has so many units, and one image per row of what is per image."""
        if h.shape[1] != units:
            raise ValueError(f"this edit is for a layer of {units} units, got {h.shape[1]}")
        self._check_count(len(h), "came")

    def _check_count(self, count, what):
        for name, value in self.own().items():
            if len(value) != count:
                raise ValueError(
                    f"this edit has {name} for {len(value)} images, but {count} images {what}: pass one row per image"
                )


@dataclass(frozen=True)
class Scale(Edit):
    """Multiply each unit's featuremap by a weight."""

    weights: torch.Tensor  # (U,), or (N, U) for each of N images its own

    def own(self):
        """See `Edit`."""
        return {"weights": self.weights} if self.weights.ndim == 2 else {}

    def __call__(self, h):
        self.check(h, self.weights.shape[-1])
        return h * self.weights.to(h)[..., None, None]


@dataclass(frozen=True)
class LocalScale(Edit):
    """Multiply the selected units by (1 - mask), image by image."""

    selected: torch.Tensor  # (U,) bool
    masks: torch.Tensor  # (N, H, W) in [0, 1], at the layer's resolution once called

    def own(self):
        """See `Edit`."""
        return {"masks": self.masks}

    def __call__(self, h):
        self.check(h, len(self.selected))
        return torch.where(self.selected.to(h.device)[:, None, None], h * (1 - _lowered(self.masks, h)), h)


@dataclass(frozen=True)
class Zero(Edit):
    """Set the listed units' featuremaps to zero."""

    units: tuple

    def __call__(self, h):
        if self.units and max(self.units) >= h.shape[1]:
            raise ValueError(f"there is no unit {max(self.units)} in a layer of {h.shape[1]} units")
        weights = torch.ones(h.shape[1], dtype=h.dtype, device=h.device)
        weights[list(self.units)] = 0
        return h * weights[:, None, None]


@dataclass(frozen=True)
class Silence(Edit):
    """Set chosen neurons, units at places, to zero where they are active; what is negative stays."""

    neurons: torch.Tensor  # (U, H, W) bool

    def __call__(self, h):
        if h.shape[1:] != self.neurons.shape:
            got, expected = tuple(h.shape[1:]), tuple(self.neurons.shape)
            raise ValueError(f"these neurons are of a layer {expected}, got a featuremap {got}: take its own layer's")
        return _laid_out(h, torch.where(self.neurons.to(h.device) & (h > 0), 0.0, h))


@dataclass(frozen=True)
class Shift(Edit):
    """Take amount * mask * (difference + spread * (h - centre)) off the featuremap; see `correct.shift`."""

    difference: torch.Tensor  # (U, H, W), or (N, U, H, W): one per image
    amount: torch.Tensor  # () or (N,)
    masks: torch.Tensor | None = None  # (N, H, W) in [0, 1]
    spread: torch.Tensor | None = None  # (U, H, W), 1 - s_n / s_a, and the artifacts' mean, for how="linear"
    centre: torch.Tensor | None = None
    clamp: bool | None = None  # keep the result from falling below 0; None: in images whose featuremap is nowhere below

    def own(self):
        """See `Edit`."""
        per_image = {"amount": self.amount.ndim == 1, "masks": self.masks is not None}
        per_image["difference"] = self.difference.ndim == 4
        return {name: getattr(self, name) for name, own in per_image.items() if own}

    def at(self, amount):
        """Return the same shift by another amount, one number for all images."""
        return replace(self, amount=self.amount.new_tensor(amount))

    def __call__(self, h):
        self.check(h, self.difference.shape[-3])
        if h.shape[2:] != self.difference.shape[-2:]:
            got, expected = tuple(h.shape[2:]), tuple(self.difference.shape[-2:])
            raise ValueError(f"this shift is for featuremaps of {expected} places, got {got}")
        weight = self.amount.to(h).reshape(-1, 1, 1, 1)
        weight = weight if self.masks is None else weight * _lowered(self.masks, h)
        shifted = h - weight * _beside(self.difference, h)
        if self.spread is not None:  # not multiplied out: a large spread would cancel badly
            shifted.addcmul_(h - _beside(self.centre, h), weight * _beside(self.spread, h), value=-1)
        if self.clamp is not False:
            shifted.clamp_(min=self._floor(h, weight))
        return _laid_out(h, shifted)

    def _floor(self, h, weight):
        """Return what the result must not fall below: 0 in what is shifted, nothing elsewhere, which stays as it is."""
        touched = self.difference != 0 if self.spread is None else (self.difference != 0) | (self.spread != 0)
        free = (weight == 0) if self.clamp else (weight == 0) | (h.amin(dim=(1, 2, 3), keepdim=True) < 0)
        return _beside(torch.where(touched, 0.0, -torch.inf), h) + torch.where(free, -torch.inf, 0.0).to(h)


def _beside(values, h):
    """Return values (1 or N, U, H, W), or (U, H, W), laid out like h: mixed layouts cost more than the arithmetic."""
    return torch.empty_like(h[:1] if values.ndim == 3 else h).copy_(values)


def _laid_out(h, edited):
    """Return an edit in the memory layout of h, on which a convolution's rounding hangs."""
    return edited if edited.stride() == h.stride() else torch.empty_like(h).copy_(edited)


@dataclass(frozen=True)
class Blend(Edit):
    """Replace units by values where a mask says so: h (1 - alpha mask) + value alpha mask; see `causal`."""

    alpha: torch.Tensor  # (U,) in [0, 1]
    values: torch.Tensor  # (U,)
    masks: torch.Tensor | None = None  # (N, H, W) in [0, 1]; None: everywhere

    def own(self):
        """See `Edit`."""
        return {} if self.masks is None else {"masks": self.masks}

    def __call__(self, h):
        self.check(h, len(self.alpha))
        a = self.alpha.to(h)[:, None, None]
        a = a if self.masks is None else a * _lowered(self.masks, h)
        # h itself where a is 0, with a gradient there, too
        return _laid_out(h, h * (1 - a) + self.values.to(h)[:, None, None] * a)


@dataclass(frozen=True)
class Chain(Edit):
    """Apply several edits of one layer, each to what the one before leaves."""

    edits: tuple

    def take(self, rows, total):
        """See `Edit`; each of them is cut."""
        return Chain(tuple(edit.take(rows, total) if hasattr(edit, "take") else edit for edit in self.edits))

    def __call__(self, h):
        for edit in self.edits:
            h = edit(h)
        return h


def _lowered(masks, h):
    """Average masks (N, H, W) down to the places of a featuremap: (N, 1, h, w)."""
    return F.adaptive_avg_pool2d(masks[:, None].to(h), h.shape[-2:])
