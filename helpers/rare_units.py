"""Find the neurons that are rarely active, score images by them, and silence them.

A neuron is one unit at one place. Its rate is the share of images in which it is active, that is, above 0, and comes
from `survey.activation_rates(..., places=True)` or a Survey's `position_rates`. No label is needed. Everything goes by
the layer's number. Source: Choi et al. 2022, "Can we find neurons that cause unrealistic images in deep generative
networks?" (IJCAI). Explained in notebook 11.
"""

from functools import partial

import torch
from torch.nn import functional as F

from helpers.corrections.edits import Edits, Silence

RATE = 0.3  # a neuron is rare if it is active in at most that share of the images, but in some


def rare(rates, at_most=RATE, layers=None):
    """Mark the rare neurons, 0 < rate <= at_most: {layer: bool (U, H, W)}.

    rates: {layer: (U, H, W)} in [0, 1]. layers: which of them, by number; None for all. Neurons that are never active
    are not rare but dead. Raises ValueError for a layer without rates or with none of this kind, and for a rate or a
    shape that cannot be; so a layer that has no rare neuron is never passed over in silence.
    """
    if not 0 < at_most <= 1:
        raise ValueError(f"at_most is a share of the images and lies in (0, 1], got {at_most}")
    layers = list(rates if layers is None else layers)
    if not layers:
        raise ValueError("got no layers: pass the rates of at least one")
    found = {}
    for layer in layers:
        if layer not in rates:
            there = ", ".join(map(str, rates)) or "none"
            raise ValueError(f"layer {layer!r} has no rates (there are: {there}): survey it with places=True")
        share = rates[layer]
        if share.ndim != 3 or not (share.min() >= 0 and share.max() <= 1):
            raise ValueError(
                f"layer {layer} needs rates (U, H, W) in [0, 1], got shape {tuple(share.shape)}: those of "
                "survey.activation_rates(..., places=True)"
            )
        found[layer] = (share > 0) & (share <= at_most)
        if not found[layer].any():
            some = share[share > 0]
            lowest = f"the lowest rate above 0 is {some.min():.3g}" if len(some) else "all its neurons are dead"
            raise ValueError(
                f"no neuron of layer {layer} has a rate up to {at_most} ({lowest}): leave it out, or raise it"
            )
    return found


def active_counts(flow, z, neurons):
    """Count each image's active neurons among the marked ones: z (N, D) -> {layer: int64 (N,)}.

    neurons: {layer: bool (U, H, W)}, see `rare`. One pass of bounded memory. Raises ValueError for neurons of another
    layer's shape, or none.
    """
    neurons = _checked(flow, neurons)
    counts = {layer: torch.zeros(len(z), dtype=torch.int64) for layer in neurons}
    here = {layer: marked.to(flow.device) for layer, marked in neurons.items()}
    for rows, recorded in flow.stream(z, list(neurons)):
        for layer, h in recorded.items():
            counts[layer][rows] = ((h > 0) & here[layer]).sum(dim=(1, 2, 3)).cpu()
    return counts


def artifact_scores(flow, z, neurons, normalise="none"):
    """Score images by how many rare neurons are active: z (N, D) -> float64 (N,), high for suspected artifacts.

    normalise: "none" sums the counts over layers, as the source does, so that large layers weigh most; "layer"
    averages over layers the share of the layer's rare neurons that are active. Raises ValueError as `active_counts`.
    """
    if normalise not in ("none", "layer"):
        raise ValueError(f"normalise must be 'none' or 'layer', got {normalise!r}")
    counts = active_counts(flow, z, neurons)
    if normalise == "none":
        return sum(count.double() for count in counts.values())
    return sum(counts[layer].double() / int(neurons[layer].sum()) for layer in counts) / len(counts)


def ablate(neurons, ids=None):
    """Silence the marked neurons, layer after layer in one pass: h <- 0 where h > 0, what is negative stays.

    neurons: see `rare`. ids: the images whose rates they come from, for `evaluation.sample`. Returns Edits, which
    `correct.write_edits` saves. Raises ValueError for what is not marks, and once applied for another layer's.
    """
    for layer, marked in neurons.items():
        if marked.dtype != torch.bool or marked.ndim != 3:
            got = f"{marked.dtype} {tuple(marked.shape)}"
            raise ValueError(f"layer {layer} needs marked neurons, bool (U, H, W), got {got}: see `rare`")
    return Edits({layer: Silence(marked) for layer, marked in neurons.items()}, ids)


def as_many_others(rates, neurons, seed=0):
    """Mark other neurons of the same layers at random, until as many activations are marked on average: a control.

    rates: {layer: (U, H, W)} in [0, 1]. neurons: marks as of `rare`. Returns marks likewise, none of them in neurons.
    """
    generator, drawn = torch.Generator().manual_seed(seed), {}
    for layer, marked in neurons.items():
        rate, marks = rates[layer].flatten(), marked.flatten()
        mix = torch.randperm(len(rate), generator=generator)
        mix = mix[~marks[mix]]
        enough = int((rate[mix].cumsum(0) <= rate[marks].sum()).sum())
        drawn[layer] = torch.zeros_like(marks).index_fill(0, mix[:enough], True).view_as(marked)
    return drawn


def unit_shares(neurons):
    """Return which share of each unit's places is marked, a score of whole units: {layer: (U,)} in [0, 1]."""
    return {layer: marked.float().mean(dim=(1, 2)) for layer, marked in neurons.items()}


def overlay(flow, z, neurons):
    """Map where the ablation silences neurons: z (N, D) -> (N, R, R) in [0, 1], at the images' size.

    At each place the share of the layer's units that are set to zero there, with the layers before already ablated;
    upsampled bilinearly, and averaged over layers. Raises ValueError as `active_counts` does.
    """
    neurons, side = _checked(flow, neurons), flow.resolution(flow.n_layers)
    heat, silenced = torch.zeros(len(z), side, side), {}
    edits = {layer: partial(_watched, Silence(marked), layer, silenced) for layer, marked in neurons.items()}
    for rows, _ in flow.stream(z, [max(neurons)], edits):
        for share in silenced.values():
            up = F.interpolate(share[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
            heat[rows] += up.cpu() / len(neurons)
    return heat


def _watched(silence, layer, silenced, h):
    silenced[layer] = (silence.neurons.to(h.device) & (h > 0)).float().mean(dim=1)
    return silence(h)


def _checked(flow, neurons):
    if not neurons:
        raise ValueError("got neurons of no layer: mark those of at least one, see `rare`")
    ablate(neurons)
    for layer, marked in neurons.items():
        if tuple(marked.shape) != flow.shape(layer):
            raise ValueError(
                f"layer {layer} has featuremaps {flow.shape(layer)}, got neurons {tuple(marked.shape)}: they are of "
                "another layer or generator"
            )
    return {layer: neurons[layer] for layer in sorted(neurons)}
