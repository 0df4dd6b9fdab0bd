"""Plant artifact units in a trained generator: defects whose units, region and perfect correction are known.

A planted unit draws as before. Where it fires, that is, exceeds its level, additional weights that leave it push the
next layer's units, and the rest of the generator turns the push into a defect. Where no planted unit fires, the
planted generator is the original, bit by bit. Not in the paper: ground truth for its scores and corrections.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from helpers import survey
from helpers.flow import Flow
from helpers.networks import pggan

KINDS = ("stain", "texture", "missing")
LEVEL = 0.3  # a pixel is defective where a channel of [-1, 1] differs by more
SIZE = 0.015  # an image is an artifact where a larger share of its pixels is defective
TRIALS = 24  # images on which a candidate has to show what it draws
BLUR = (0.25, 0.5, 0.25)


class Refused(ValueError):
    """Too few units of a layer draw a local, visible defect: another seed or setting may do."""


class Leaving(nn.Module):
    """The additional weights that leave a layer's planted units, read only where these exceed their levels."""

    def __init__(self, units, levels, weight):
        super().__init__()
        self.register_buffer("units", units)  # (K,)
        self.register_buffer("levels", levels)  # (K,), never negative, so that a unit set to zero is silent
        self.register_buffer("weight", weight)  # (units of the next layer, K, 3, 3)

    def forward(self, h, normalised, double):
        """Return what the planted units of featuremap h (B, U, H, W) add to the next convolution's output."""
        sent = normalised[:, self.units] * (h[:, self.units] > self.levels[:, None, None])
        return F.conv2d(pggan.upsample(sent) if double else sent, self.weight, padding=1)


class Layers(nn.Module):
    """The numbered layers of a progressive GAN with planted units, for `flow.Flow`; see `pggan.Layers`."""

    def __init__(self, network, leaving):
        super().__init__()
        self.network = copy.deepcopy(network)
        self.leaving = nn.ModuleDict({str(layer): part for layer, part in leaving.items()})
        self.latent, self.n_layers = network.latent, network.n_layers

    def advance(self, layer, h, extras):
        """Compute one layer from the one before, plus what that one's planted units send. See `flow.Flow`."""
        index = layer - 1
        if str(index) not in self.leaving:
            return self.network.advance(layer, h, extras)
        normalised, double = h if self.network.post_pn else pggan.pixel_norm(h), index % 2 == 0
        convolution = getattr(self.network.generator, f"layer{index}")
        out = convolution(pggan.upsample(normalised) if double else normalised)
        out = F.leaky_relu(out + self.leaving[str(index)](h, normalised, double), pggan.SLOPE)
        return (pggan.pixel_norm(out) if self.network.post_pn else out), extras


@dataclass(frozen=True)
class Planting:
    """A generator with planted artifact units, and the truth about them.

    flow: the planted generator. original: the unplanted one; its image of the same latent is the perfect correction.
    units: the planted set, {layer: tuple of unit numbers}. levels: {layer: (K,)}, above which each of them fires.
    """

    flow: Flow
    original: Flow
    units: dict
    levels: dict

    def fires(self, z):
        """Tell in which images a planted unit fires; all others are the original's, bit by bit: bool (N,)."""
        return self.fired(survey.unit_maxima(self.original, z, list(self.units)))

    def fired(self, maxima):
        """Tell the same from `survey.unit_maxima` of the original, {layer: (N, U)}, for those who have them already."""
        each = [(maxima[layer][:, list(units)] > self.levels[layer]).any(dim=1) for layer, units in self.units.items()]
        return torch.stack(each).any(dim=0)


def plant(flow, z, layers=(6,), count=4, kind="stain", strength=6.0, rate=0.35, area=(0.002, 0.2), seed=0):
    """Plant artifact units in a progressive GAN, without touching it.

    z: latents (N, D) on which levels and weights are measured; a few hundred. layers: from which units are taken.
    count: units per layer, picked at random among those that fire on a share of a featuremap within `area` (where
    they fire at all) and alone draw a visible defect in most of the images in which they fire.
    kind: "stain" pushes the next layer's units in one random direction, "texture" in another one at each of the nine
    taps, "missing" from what they are where the unit fires towards what they are elsewhere. strength: size of the
    push, in root mean squares of what the next convolution puts out. rate: share of the images in which a planted unit
    fires, between 0 and 1; all planted units fire in equally many. seed: of units and directions.
    Returns a Planting. Raises ValueError for an unknown kind, arguments out of range, a layer that is not there or that
    no convolution reads, or more units than the layer has, and `Refused` if too few units qualify; TypeError for
    another generator.
    Explained in notebook 07.
    """
    layers = _checked(flow, layers, count, kind, strength, rate)
    generator = torch.Generator().manual_seed(seed)
    maxima = survey.unit_maxima(flow, z, layers)
    alone = 1 - (1 - rate) ** (1 / (count * len(layers)))
    units, weights = {}, {}
    for layer in layers:
        levels = maxima[layer].quantile(1 - alone, dim=0).clamp_min(0)
        weight, share = _weights(flow, z, layer, levels, kind, strength, generator)
        local = (share >= area[0]) & (share <= area[1])
        order = torch.randperm(len(levels), generator=generator)
        chosen = []
        for unit in order[local[order]].tolist():
            if len(chosen) == count:
                break
            rows = (maxima[layer][:, unit] > levels[unit]).nonzero().flatten()[:TRIALS]
            one = _planted(flow, {layer: ([unit], levels[[unit]], weight[:, [unit]])})
            if _visible(one, z[rows]):
                chosen.append(unit)
        if len(chosen) < count:
            raise Refused(
                f"only {len(chosen)} of layer {layer}'s {len(levels)} units draw a local, visible defect, {count} are "
                "wanted: ask for fewer, for more strength, or for another layer"
            )
        units[layer] = sorted(chosen)
        weights[layer] = weight[:, units[layer]].contiguous()
    levels = _levels({layer: maxima[layer][:, units[layer]] for layer in layers}, rate)
    return _planted(flow, {layer: (units[layer], levels[layer], weights[layer]) for layer in layers})


def regions(planted, truth, level=LEVEL):
    """Mark the defects' exact regions: where planted and true images (N, C, H, W) differ by more than `level`.

    The largest difference of a pixel's channels counts, after clamping to [-1, 1]. Returns bool (N, H, W).
    """
    if planted.shape != truth.shape:
        raise ValueError(
            f"got planted images {tuple(planted.shape)} for true images {tuple(truth.shape)}: same latents?"
        )
    return (planted.clamp(-1, 1) - truth.clamp(-1, 1)).abs().amax(dim=1) > level


class Check(NamedTuple):
    """What a planting does to fresh images, and whether that makes it an experiment."""

    fires: float  # share of images in which a planted unit fires
    artifacts: float  # share of images that are artifacts: a defective region above SIZE
    area: float  # median share of an artifact's pixels that are defective
    accepted: bool


def check(planting, z):
    """Check on latents not used to plant that the defects are visible, local, and neither rare nor everywhere.

    Accepted is a planting where 10 to 60 % of the images are artifacts, these are at least half of the images in which
    a planted unit fires, and their median defect covers at most 30 % of the image. Returns a Check.
    """
    fires = planting.fires(z)
    area = torch.zeros(len(z))
    area[fires] = regions(planting.flow.generate(z[fires]), planting.original.generate(z[fires])).float().mean((1, 2))
    artifact = area > SIZE
    share, middle = float(artifact.float().mean()), float(area[artifact].median()) if artifact.any() else 0.0
    fired = float(fires.float().mean())
    return Check(fired, share, middle, 0.1 <= share <= 0.6 and share >= fired / 2 and middle <= 0.3)


def _checked(flow, layers, count, kind, strength, rate):
    if not isinstance(flow.network, pggan.Layers):
        raise TypeError(f"units can be planted in a pggan.Layers network, got {type(flow.network).__name__}")
    layers = sorted({flow.checked(layer) for layer in layers})
    if not layers or layers[-1] > flow.n_layers - 2:
        raise ValueError(f"layers 1 to {flow.n_layers - 2} are read by a convolution, got {layers}: plant in those")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    for layer in layers:
        if not 1 <= count <= flow.units(layer):
            raise ValueError(
                f"layer {layer} has {flow.units(layer)} units, cannot plant {count}: choose count among them"
            )
    if not 0 < rate < 1 or not 0 < strength < float("inf"):
        raise ValueError(f"rate lies in (0, 1) and strength is positive and finite, got {rate} and {strength}")
    return layers


def _weights(flow, z, layer, levels, kind, strength, generator):
    """Return the leaving weights each unit would get (U', U, 3, 3), and on what share of a map it fires (U,)."""
    cells = images = count = sent = area = there_fired = total = square = 0.0
    for _, h in flow.stream(z, [layer, layer + 1]):
        here, there = h[layer].cpu(), h[layer + 1].cpu()
        there = torch.where(there < 0, there / pggan.SLOPE, there)  # as it was before the leaky ReLU
        lit = (here > levels[:, None, None]).float()
        cells, images = cells + lit.mean(dim=(2, 3)).sum(dim=0), images + lit.amax(dim=(2, 3)).sum(dim=0)
        count, sent = count + lit.sum(dim=(0, 2, 3)), sent + (pggan.pixel_norm(here) * lit).sum(dim=(0, 2, 3))
        lit = F.interpolate(lit, size=there.shape[-1])
        area, there_fired = area + lit.sum(dim=(0, 2, 3)), there_fired + torch.einsum("bkhw,buhw->ku", lit, there)
        total, square = total + there.mean(dim=(2, 3)).sum(dim=0), square + there.square().mean(dim=(1, 2, 3)).sum()
    mean, size = total / len(z), (square / len(z)).sqrt()
    if kind == "texture":
        taps = torch.randn(len(levels), len(mean), 3, 3, generator=generator) / 3
    else:
        push = torch.randn(len(levels), len(mean), generator=generator)
        if kind == "missing":
            push = mean - there_fired / area.clamp_min(1)[:, None]
            push = push / push.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-12)
        blur = torch.tensor(BLUR)
        taps = push[:, :, None, None] * blur[:, None] * blur
    gain = strength * size * count / sent.clamp_min(1e-12)  # by the unit's mean where it fires
    return (taps * gain[:, None, None, None]).transpose(0, 1), cells / images.clamp_min(1)


def _levels(maxima, rate):
    """Find levels {layer: (K,)} that equally many images exceed per unit, and a share `rate` for any unit."""
    joined, low, high = torch.cat(list(maxima.values()), dim=1), 0.0, rate
    for _ in range(30):
        middle = (low + high) / 2
        fires = joined > joined.quantile(1 - middle, dim=0).clamp_min(0)
        low, high = (middle, high) if fires.any(dim=1).float().mean() < rate else (low, middle)
    return {layer: m.quantile(1 - high, dim=0).clamp_min(0) for layer, m in maxima.items()}


def _planted(flow, parts):
    leaving = {layer: Leaving(torch.tensor(units), levels, weight) for layer, (units, levels, weight) in parts.items()}
    network = Layers(flow.network, leaving).to(flow.device)
    units, levels = ({layer: part[i] for layer, part in parts.items()} for i in (0, 1))
    return Planting(Flow(network, flow.batch), flow, {layer: tuple(u) for layer, u in units.items()}, levels)


def _visible(planting, z):
    if not len(z):
        return False
    area = regions(planting.flow.generate(z), planting.original.generate(z)).float().mean(dim=(1, 2))
    return bool((area > SIZE).float().mean() >= 0.6)
