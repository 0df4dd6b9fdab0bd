"""Gather statistics of every unit over many generations in one streaming pass of bounded memory.

A pass cuts the latents into shards, turns each into small statistics and merges these, so that the
built-in `map`, a process pool's or a cluster's give the same numbers. Explained in notebook 03.
"""

import builtins
from functools import partial

import torch

from helpers.tails import Tail, peaks

SHARD = 1024  # images per unit of work handed to `map`
ENOUGH = 2**20  # activations to look at in one go: calls on fewer cost more than the work
WIDTH = 16.0  # of the brackets around thresholds, see `tails.Tail`


def thresholds(flow, z, tau=0.005, layers=None, map=map):
    """Find each unit's threshold T_u with P(A_u > T_u) = tau over all images and positions (section 3.2).

    z: latents (N, D). tau: share of activations above the threshold, in (0, 1). layers: default all.
    Returns {layer: (U,)}, equal to torch.quantile(activations, 1 - tau) over everything at once.
    Raises ValueError for tau out of range, no images, or activations that are not finite.
    """
    if not 0 < tau < 1:
        raise ValueError(f"tau is the share of activations above the threshold and lies in (0, 1), got {tau}")
    out, layers, width = {}, _layers(flow, layers), WIDTH
    while layers:
        tails = _gather(flow, z, partial(_tails, flow, layers, tau, width), map)
        found = {layer: tail.quantile() for layer, tail in tails.items()}
        out |= {layer: levels for layer, (levels, exact) in found.items() if exact.all()}
        layers, width = [layer for layer in layers if layer not in out], 4 * width
    return dict(sorted(out.items()))


def activation_rates(flow, z, above=None, layers=None, map=map):
    """Measure the share of positions and images in which each unit is active.

    above: {layer: (U,)} of thresholds, or None for 0 (the sign that the leaky ReLU keeps). layers: default all
    that `above` has. Returns {layer: (U,)} in [0, 1]. Raises ValueError if `above` lacks a layer or a unit.
    """
    layers = _layers(flow, above if layers is None else layers)
    above = {layer: torch.zeros(flow.units(layer)) for layer in layers} if above is None else above
    for layer in layers:
        if layer not in above or len(above[layer]) != flow.units(layer):
            raise ValueError(f"layer {layer} has {flow.units(layer)} units, `above` has not one level each for them")
    make = partial(_rates, {layer: above[layer] for layer in layers})
    return {layer: mean.value() for layer, mean in _gather(flow, z, make, map).items()}


def unit_maxima(flow, z, layers=None, by="max", map=map):
    """Measure how strongly each image activates each unit.

    by: "max" (spatial maximum, what GAN Dissection ranks by), "mean" or "norm" (Euclidean, over positions).
    Returns {layer: (N, U)}.
    """
    make = partial(_maxima, _layers(flow, layers), _reduction(by))
    return {layer: rows.value() for layer, rows in _gather(flow, z, make, map).items()}


def top_images(flow, z, k=20, layers=None, by="max", map=map):
    """Find the k images that activate each unit most (section 3.3), strongest first, ties by position in z.

    Returns {layer: (U, k)} of row numbers of z. Raises ValueError if there are fewer than k images.
    """
    if len(z) and not 0 < k <= len(z):
        raise ValueError(f"cannot pick the top {k} of {len(z)} images: choose k between 1 and {len(z)}")
    make = partial(_tops, _layers(flow, layers), _reduction(by), k)
    return {layer: top.rows for layer, top in _gather(flow, z, make, map).items()}


def _layers(flow, layers):
    layers = [flow.checked(layer) for layer in (flow.layers if layers is None else layers)]
    if not layers:
        raise ValueError("a survey needs at least one layer, got none: pass layer numbers, or layers=None for all")
    return layers


def check_finite(recorded):
    """Raise ValueError, naming layer and unit, if featuremaps {layer: (B, U, H, W)} are NaN or infinite somewhere."""
    # Such values spread to the layers that follow, so that a sum over the last one shows them.
    if recorded[max(recorded)].sum().isfinite():
        return
    for layer, h in sorted(recorded.items()):
        bad = (~torch.isfinite(h)).any(dim=3).any(dim=2).any(dim=0).nonzero()
        if len(bad):
            unit = f"layer {layer}, unit {int(bad[0])}"
            raise ValueError(f"{unit} has activations that are not finite: check the weights and the latents")


def _reduction(by):
    known = {"max": _spatial_max, "mean": _spatial_mean, "norm": _spatial_norm}
    if by not in known:
        raise ValueError(f"by must be one of {', '.join(known)}, got {by!r}")
    return known[by]


def _spatial_max(h):
    return h.amax(dim=(2, 3))


def _spatial_mean(h):
    return h.mean(dim=(2, 3))


def _spatial_norm(h):
    return h.square().sum(dim=(2, 3)).sqrt()


def _gather(flow, z, make, map):
    if len(z) == 0:
        raise ValueError("a survey needs at least one image, got no latents")
    # One process needs no shards, and a tail that sees all images discards most of them at once.
    size = len(z) if map is builtins.map else SHARD
    starts, merged = range(0, len(z), size), None
    for stats in map(partial(_shard, flow, make), [z[s : s + size] for s in starts], starts):
        merged = stats if merged is None else {layer: merged[layer].merge(stats[layer]) for layer in stats}
    return merged


def _shard(flow, make, z, start):
    """Statistics of one shard of latents; a top-level function, so that it can be sent to other processes."""
    stats, held = make(), {}
    for rows, recorded in flow.stream(z, list(stats)):
        check_finite(recorded)
        for layer, h in recorded.items():
            first, parts = held.setdefault(layer, (start + rows.start, []))
            parts.append(h)
            if rows.stop == len(z) or sum(map(torch.numel, parts)) >= ENOUGH:
                _update(stats[layer], layer, torch.cat(parts) if len(parts) > 1 else h, first)
                del held[layer]
    return stats


def _update(stat, layer, h, start):
    top = peaks(h)
    if not top.sum().isfinite():  # hidden from `check_finite` by what follows
        check_finite({layer: h})
    stat.update(h, start, top)


def _tails(flow, layers, tau, width):
    return {layer: Tail(tau, flow.units(layer), width) for layer in layers}


def _rates(above):
    return {layer: Rate(level) for layer, level in above.items()}


def _maxima(layers, reduce):
    return {layer: Rows(reduce) for layer in layers}


def _tops(layers, reduce, k):
    return {layer: Top(reduce, k) for layer in layers}


class Rate:
    """The share of positions above a level."""

    def __init__(self, above):
        self.above, self.hits, self.count = above, 0, 0

    def update(self, h, start, top):
        self.hits = self.hits + (h > self.above.to(h.device)[:, None, None]).sum(dim=(0, 2, 3)).cpu()
        self.count += h.shape[0] * h.shape[2] * h.shape[3]

    def merge(self, other):
        self.hits, self.count = self.hits + other.hits, self.count + other.count
        return self

    def value(self):
        return self.hits.double().div(self.count).float()


class Rows:
    """One number per image and unit, put back into the order of the images."""

    def __init__(self, reduce):
        self.reduce, self.parts = reduce, {}

    def update(self, h, start, top):
        self.parts[start] = self.reduce(h).cpu()

    def merge(self, other):
        self.parts |= other.parts
        return self

    def value(self):
        return torch.cat([self.parts[start] for start in sorted(self.parts)])


class Top:
    """The k images with the largest value per unit."""

    def __init__(self, reduce, k):
        self.reduce, self.k, self.values, self.rows = reduce, k, None, None

    def update(self, h, start, top):
        values = self.reduce(h).T.cpu()
        self._add(values, (start + torch.arange(values.shape[1])).expand_as(values))

    def merge(self, other):
        self._add(other.values, other.rows)
        return self

    def _add(self, values, rows):
        if self.values is not None:
            values, rows = torch.cat([self.values, values], dim=1), torch.cat([self.rows, rows], dim=1)
        by_row = rows.argsort(dim=1)
        values, rows = values.gather(1, by_row), rows.gather(1, by_row)
        order = values.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        self.values, self.rows = values.gather(1, order), rows.gather(1, order)
