"""Name what units draw: how well each one agrees with each concept of the segmented generations (GAN Dissection).

Source: Bau et al. 2019, "GAN Dissection". Masks of the concepts are pulled back to every layer, see `units.pull_back`,
so that all units of all layers are compared with all concepts in one streaming pass. Explained in notebook 10.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from helpers import survey
from helpers.units import pull_back

SMALLEST_IOU, SMALLEST_QUALITY = 0.05, 0.01  # above which a unit counts as interpretable
FRACTIONS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)  # of places above a level: where thresholds are looked for
PLACES = 1024  # of a featuremap that levels are taken from
CACHED = 2**16  # activations compared at once: what stays in a processor's cache is compared ten times as fast


@dataclass(frozen=True)
class Agreement:
    """What `dissect` counted, in pixels over all images: K levels per unit, U units of a layer, C concepts.

    concepts: their names. levels: {layer: (K, U)}. inside: {layer: (K, U, C)}, how much of the upsampled unit lies on
    the concept; sizes: {layer: (K, U)}, how much of it there is; both float64, of maps that are 1 where the unit is
    above its level and fractions at borders. areas: (C,) of the concepts. pixels: of all images. images: how many.
    """

    concepts: tuple
    levels: dict
    inside: dict
    sizes: dict
    areas: torch.Tensor
    pixels: int
    images: int

    def at(self, level):
        """Return the same of one level alone, by its row number."""
        cut = {name: {layer: part[[level]] for layer, part in getattr(self, name).items()} for name in CUT}
        return replace(self, **cut)

    def ious(self):
        """Return intersection over union, each summed over the images first: {layer: (K, U, C)} in [0, 1]."""
        return {
            layer: inside / (self.sizes[layer][..., None] + self.areas - inside)
            for layer, inside in self.inside.items()
        }

    def qualities(self):
        """Return the information-quality ratio, mutual information over joint entropy: {layer: (K, U, C)} in [0, 1].

        Of a pixel drawn at random: whether the unit is active there, and whether the concept is. 0 for a unit that is
        active nowhere or everywhere. It is as high where unit and concept shun each other: look at the IoU as well.
        """
        found = {}
        for layer, both in self.inside.items():
            active, concept = self.sizes[layer][..., None].expand_as(both), self.areas.expand_as(both)
            cells = torch.stack([both, active - both, concept - both, self.pixels - active - concept + both])
            joint = _entropy(cells / self.pixels)
            alone = sum(_entropy(torch.stack([part, self.pixels - part]) / self.pixels) for part in (active, concept))
            found[layer] = ((alone - joint) / joint.clamp_min(1e-300)).clamp(0, 1)
        return found


CUT = ("levels", "inside", "sizes")


def segmenter(network):
    """Make the function images (B, 3, R, R) -> label maps (B, R, R) of a network with a segmentation head.

    Raises ValueError for a network without one, as of the faces, for which there are no concepts.
    """
    if not hasattr(network, "segment"):
        raise ValueError(
            "this network has no segmentation head, so there are no concepts here: choose units by other scores, or "
            "write a function images (B, 3, R, R) -> label maps (B, R, R) of your own"
        )
    return lambda images: network.segment(images).argmax(dim=1)


def levels(flow, z, fractions=FRACTIONS, layers=None):
    """Find a grid of thresholds per unit, by the share of places and images above: {layer: (K, U)} for `dissect`.

    z: latents (N, D); a few hundred images will do. A survey finds each threshold exactly, in a pass or more per
    fraction; levels to choose from need not be exact, so here one pass looks at up to 1024 places of each image.
    Raises ValueError for no images, and fractions out of (0, 1).
    """
    if not len(fractions) or not all(0 < fraction < 1 for fraction in fractions):
        raise ValueError(f"fractions are shares of places above a level, in (0, 1), at least one, got {fractions}")
    if len(z) == 0:
        raise ValueError("levels need at least one image, got no latents")
    layers = flow.layers if layers is None else layers
    kept, generator = {layer: [] for layer in layers}, torch.Generator().manual_seed(0)
    for _, recorded in flow.stream(z, layers):
        survey.check_finite(recorded)
        for layer, h in recorded.items():
            some = torch.randperm(h.shape[2] * h.shape[3], generator=generator)[:PLACES].to(h.device)
            kept[layer].append(h.flatten(2)[..., some].transpose(0, 1).flatten(1).cpu())  # (U, B * places)
    above = 1 - np.asarray(fractions, np.float64)
    found = {layer: np.quantile(torch.cat(parts, dim=1).numpy(), above, axis=1) for layer, parts in kept.items()}
    return {layer: torch.from_numpy(rows).float() for layer, rows in found.items()}


def dissect(flow, z, segment, thresholds, concepts):
    """Compare every unit with every concept, in one streaming pass of bounded memory.

    z: latents (N, D). segment: function images (B, C, R, R) -> integer label maps (B, R, R), such as `segmenter`'s.
    thresholds: {layer: (U,)} from `survey.thresholds`, or {layer: (K, U)} from `levels`; its layers are dissected.
    concepts: the names of labels 0, 1, ..., or {name: label} for some of them. Returns an `Agreement`.
    A unit is active where its activation is above its threshold, strictly, and what is active is upsampled.
    Raises ValueError for a concept that occurs in no image, label maps or thresholds that do not fit, no images, or
    activations that are not finite.
    """
    named = dict(concepts) if isinstance(concepts, dict) else {name: i for i, name in enumerate(concepts)}
    if not named:
        raise ValueError("there is nothing to compare units with, got no concepts: pass names such as domain.classes")
    if len(z) == 0:
        raise ValueError("a dissection needs at least one image, got no latents")
    grid = {layer: _grid(flow, layer, given) for layer, given in thresholds.items()}
    if not grid:
        raise ValueError("got thresholds of no layer, pass those of at least one: see survey.thresholds")
    numbers, image = torch.tensor(list(named.values()), device=flow.device), flow.n_layers
    sums = {layer: 0 for layer in grid}  # (K, C + 1, U): on the concepts, and anywhere
    areas, pixels = torch.zeros(len(named), dtype=torch.float64), 0
    for _, recorded in flow.stream(z, [*grid, image]):
        survey.check_finite(recorded)
        labels = checked_labels(segment(recorded[image]), recorded[image]).to(flow.device)
        masks = labels[:, None] == numbers[:, None, None]  # (B, C, R, R)
        areas += masks.sum(dim=(0, 2, 3)).double().cpu()
        pixels, weights = pixels + labels.numel(), {}
        for layer, rows in grid.items():
            size = tuple(recorded[layer].shape[-2:])
            if size not in weights:
                weights[size] = _weights(masks, size)
            sums[layer] += _sums(recorded[layer], rows, weights[size])
    for name, area in zip(named, areas):
        if area == 0:
            raise ValueError(
                f"the concept {name!r} occurs in none of the {len(z)} images: take more, or leave it out of `concepts`"
            )
    inside = {layer: part[:, :-1].transpose(1, 2).contiguous() for layer, part in sums.items()}
    sizes = {layer: part[:, -1] for layer, part in sums.items()}
    return Agreement(tuple(named), grid, inside, sizes, areas, pixels, len(z))


def table(agreement, by="iou"):
    """Name every unit: a DataFrame with layer, unit, concept, iou, quality, threshold, fraction, interpretable.

    by: "iou" takes the unit's level with the largest IoU, concept by concept, "quality" the one with the largest
    information-quality ratio; a unit is then named after the concept of the largest IoU. With one level per unit both
    are the same thing. fraction: share of the pixels where the unit is active at its threshold. interpretable: by the
    rule of the authors, IoU > 0.05, and for "quality" a ratio > 0.01 as well.
    """
    if by not in ("iou", "quality"):
        raise ValueError(f"by must be 'iou' or 'quality', got {by!r}")
    parts, qualities = [], agreement.qualities()
    for layer, iou in agreement.ious().items():
        quality = qualities[layer]
        level = (iou if by == "iou" else quality).argmax(dim=0)  # (U, C)
        iou, quality = (part.gather(0, level[None])[0] for part in (iou, quality))
        concept = iou.argmax(dim=1, keepdim=True)  # (U, 1)
        level, iou, quality = (part.gather(1, concept)[:, 0] for part in (level, iou, quality))
        each = torch.arange(len(iou))
        right = (iou > SMALLEST_IOU) & ((quality > SMALLEST_QUALITY) | (by == "iou"))
        columns = {
            "layer": layer,
            "unit": each.tolist(),
            "concept": [agreement.concepts[i] for i in concept[:, 0].tolist()],
            "iou": iou.tolist(),
            "quality": quality.tolist(),
            "threshold": agreement.levels[layer].cpu()[level, each].tolist(),
            "fraction": (agreement.sizes[layer][level, each] / agreement.pixels).tolist(),
            "interpretable": right.tolist(),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def scores(agreement, concept):
    """Score units by their agreement with one concept, the best of their levels: {layer: (U,)} for `units.rank`.

    Raises ValueError for a concept that was not asked for.
    """
    if concept not in agreement.concepts:
        raise ValueError(f"there is no concept {concept!r}, there is: {', '.join(agreement.concepts)}")
    index = agreement.concepts.index(concept)
    return {layer: iou[..., index].amax(dim=0).float() for layer, iou in agreement.ious().items()}


def counts(named, concepts=None):
    """Count the interpretable units of a `table`: a DataFrame, a row per layer, a column per concept.

    concepts: the columns, in this order; by default those that occur.
    """
    columns = list(dict.fromkeys(named.concept[named.interpretable])) if concepts is None else list(concepts)
    rows = named.layer.drop_duplicates().tolist()
    found = named[named.interpretable].groupby(["layer", "concept"]).size().unstack(fill_value=0)
    return found.reindex(index=rows, columns=columns, fill_value=0).astype(int)


def checked_labels(labels, images):
    """Return label maps (B, R, R) of images (B, C, R, R), or raise ValueError for anything else."""
    expected = (len(images), *images.shape[-2:])
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.shape != expected:
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ValueError(f"label maps must be integers {expected}, one number per pixel, got {got}: see `segmenter`")
    return labels


def _grid(flow, layer, given):
    rows = given[None] if given.ndim == 1 else given
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != flow.units(layer):
        raise ValueError(f"layer {layer} has {flow.units(layer)} units, got thresholds {tuple(given.shape)}")
    if not rows.isfinite().all():
        raise ValueError(f"layer {layer} has thresholds that are not finite: survey it again")
    return rows


def _sums(h, rows, weights):
    """Add up weights (B, C + 1, h * w) where units are above levels (K, U): float64 (K, C + 1, U)."""
    levels, found = rows.to(h), torch.zeros(len(rows), weights.shape[1], h.shape[1], dtype=torch.float64)
    by_place = h.permute(0, 2, 3, 1).flatten(1, 2)  # a view where h is channels-last
    some = max(1, CACHED // h[0].numel()) if h.device.type == "cpu" else len(h)
    for part, weight in zip(by_place.split(some), weights.split(some)):
        active = torch.empty(part.shape, device=h.device)  # of 0 and 1: no other memory is touched per level
        for level, total in zip(levels, found):
            total += torch.bmm(weight, torch.gt(part, level, out=active)).sum(dim=0, dtype=torch.float64).cpu()
    return found


def _weights(masks, size):
    """Pull masks (B, C, R, R), and one of everything, back to a layer: (B, C + 1, h * w)."""
    count, _, *side = masks.shape
    everything = torch.ones(1, *side, device=masks.device)
    # Nothing is to be pulled back where the layer is as large as the image.
    pulled = [
        part.float() if tuple(side) == size else pull_back(part, size) for part in (masks.flatten(0, 1), everything)
    ]
    by_concept, everywhere = pulled[0].unflatten(0, (count, -1)), pulled[1].expand(count, 1, *size)
    return torch.cat([by_concept, everywhere], dim=1).flatten(2)


def _entropy(shares):
    """Sum -p log p over the first dimension; rounding may leave shares a little below 0."""
    return -torch.special.xlogy(shares.clamp_min(0), shares.clamp_min(0)).sum(dim=0)
