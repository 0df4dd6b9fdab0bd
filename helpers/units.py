"""Score units: how much does each one draw artifacts? Scores come as {layer: tensor of one score per unit}."""

from functools import cache

import pandas as pd
import torch
from torch.nn import functional as F

from helpers import metrics
from helpers.corrections.differences import Differences, differences, nearest_differences  # noqa: F401
from helpers.survey import check_finite


def defective_scores(flow, z, masks, thresholds, order="paper", binarise_upsampled=None, reduce="mean"):
    """Score units by how well their activation overlaps the artifacts' masks (Definition 1).

    z: latents (N, D) of artifact images. masks: bool (N, H, W), where each image is defective.
    thresholds: {layer: (U,)} from `survey.thresholds`; its layers are scored.
    order: "paper" thresholds the activation, then upsamples; "netdissect" the other way round (slow).
    binarise_upsampled: None counts the upsampled map's fractions (fuzzy Jaccard); a level such as 0.5
    makes it binary again (slow, "paper" only). reduce: "mean" of the images' IoUs, or "pooled" sums.
    Returns {layer: (U,)} in [0, 1]. An empty mask counts as IoU 0. Raises ValueError for masks of the
    wrong kind, count or size, if no mask has a pixel, or for activations or thresholds that are not finite.
    Explained in notebook 03.
    """
    if reduce not in ("mean", "pooled"):
        raise ValueError(f"reduce must be 'mean' or 'pooled', got {reduce!r}")
    sums = {layer: 0 for layer in thresholds}
    for _, layer, intersection, union in _overlaps(flow, z, masks, thresholds, order, binarise_upsampled):
        if reduce == "mean":
            sums[layer] += _ratio(intersection, union).double().sum(dim=0)
        else:
            sums[layer] += torch.stack([intersection, union]).double().sum(dim=1)
    if reduce == "mean":
        return {layer: (total / len(z)).float() for layer, total in sums.items()}
    return {layer: _ratio(*total).float() for layer, total in sums.items()}


def ious(flow, z, masks, thresholds, order="paper", binarise_upsampled=None):
    """Measure the overlap of every unit with every image's mask: {layer: (N, U)} in [0, 1].

    The mean over images is the defective score; a single row is the per-image score of section 5.4.
    Arguments and errors as in `defective_scores`.
    """
    out = {layer: torch.empty(len(z), flow.units(layer)) for layer in thresholds}
    for rows, layer, intersection, union in _overlaps(flow, z, masks, thresholds, order, binarise_upsampled):
        out[layer][rows] = _ratio(intersection, union)
    return out


@cache
def upsampling_matrix(size, target):
    """Return M (target, size) such that M @ h @ M.T is h bilinearly upsampled, with half-pixel centres."""
    columns = F.interpolate(torch.eye(size)[None], size=target, mode="linear", align_corners=False)[0]
    return columns.T.contiguous()


def pull_back(masks, size):
    """Apply the adjoint of bilinear upsampling: masks (N, H, W) -> (N, size, size); size: a number, or (h, w).

    sum(upsampled(B) * L) == sum(B * pull_back(L)), so overlaps need no upsampled featuremap.
    """
    sizes = (size, size) if isinstance(size, int) else size
    down, across = (upsampling_matrix(n, m).to(masks.device) for n, m in zip(sizes, masks.shape[1:]))
    return down.T @ masks.float() @ across


def _overlaps(flow, z, masks, thresholds, order, binarise_upsampled):
    """Yield (rows, layer, intersection (B, U), union (B, U))."""
    if order not in ("paper", "netdissect"):
        raise ValueError(f"order must be 'paper' or 'netdissect', got {order!r}")
    if binarise_upsampled is not None and not 0 < binarise_upsampled <= 1:
        raise ValueError(f"binarise_upsampled lies in (0, 1] or is None, got {binarise_upsampled}")
    if binarise_upsampled is not None and order != "paper":
        raise ValueError(f"binarise_upsampled belongs to order 'paper', {order!r} is binary already: leave it None")
    _check_masks(masks, len(z))
    _check_thresholds(flow, thresholds, masks.shape[-1])
    for rows, recorded in flow.stream(z, list(thresholds)):
        lit = masks[rows].to(flow.device)
        area = lit.float().sum(dim=(1, 2))[:, None]
        check_finite(recorded)
        for layer, h in recorded.items():
            level = thresholds[layer].to(h.device)[:, None, None]
            if order == "paper" and binarise_upsampled is None:
                active, inside = h > level, pull_back(lit, tuple(h.shape[-2:]))
                everywhere = pull_back(torch.ones_like(lit[:1]), tuple(h.shape[-2:]))
            else:
                if order == "paper":
                    active = _upsampled((h > level).float(), lit.shape[-1]) >= binarise_upsampled
                else:
                    # No mean exceeds the maximum, but rounding may, and would light up constant units.
                    active = _upsampled(h, lit.shape[-1]).minimum(h.amax(dim=(2, 3), keepdim=True)) > level
                inside, everywhere = lit.float(), torch.ones_like(lit[:1], dtype=torch.float32)
            weights = torch.stack([inside, everywhere.expand_as(inside)], dim=1).flatten(2)
            by_place = active.permute(0, 2, 3, 1).flatten(1, 2).float()  # a view where h is channels-last
            intersection, size = torch.bmm(weights, by_place).unbind(dim=1)
            yield rows, layer, intersection.cpu(), (size + area - intersection).cpu()


def _upsampled(h, size):
    return F.interpolate(h, size=(size, size), mode="bilinear", align_corners=False)


def _check_thresholds(flow, thresholds, size):
    if not thresholds:
        raise ValueError("got thresholds of no layer, pass those of at least one layer: see survey.thresholds")
    for layer, levels in thresholds.items():
        if len(levels) != flow.units(layer):
            raise ValueError(f"layer {layer} has {flow.units(layer)} units, got {len(levels)} thresholds")
        if not levels.isfinite().all():
            unit = int((~levels.isfinite()).nonzero()[0])
            raise ValueError(f"layer {layer}, unit {unit} has the threshold {float(levels[unit])}: survey it again")
        if max(flow.shape(layer)[1:]) > size:
            raise ValueError(f"masks must be as large as the images, got {size} px for layer {layer}")


def _check_masks(masks, count):
    if masks.dtype != torch.bool or masks.ndim != 3 or masks.shape[1] != masks.shape[2]:
        raise ValueError(f"masks must be a bool tensor (N, H, H), got {masks.dtype} {tuple(masks.shape)}")
    if len(masks) != count:
        raise ValueError(f"got {len(masks)} masks for {count} images: pass one mask per image, in the same order")
    if not masks.any():
        raise ValueError("no mask has a single pixel, so there is no artifact to score: check labels and masks")


def _ratio(intersection, union):
    return torch.where(union > 0, intersection / union.clamp_min(torch.finfo(union.dtype).tiny), 0.0)


def fd_scores(top, features, real):
    """Score units by the Fréchet distance of their top images to real ones (section 3.1, Bau et al.).

    top: {layer: (U, k)} from `survey.top_images`. features: (N, D) of all surveyed images.
    real: features (M, D) of real images. Returns {layer: (U,)}, large where the top images look least real.
    Raises ValueError as `metrics.frechet_distances` does. Explained in notebook 03.
    """
    distances, found = metrics.frechet_to(real), {}
    for k in {units.shape[-1] for units in top.values()}:  # all layers at once: their units share images
        layers = [layer for layer, units in top.items() if units.shape[-1] == k]
        scores = distances.subsets(features, torch.cat([top[layer] for layer in layers])).float().cpu()
        found |= dict(zip(layers, scores.split([len(top[layer]) for layer in layers])))
    return {layer: found[layer] for layer in top}


def fd_null(features, real, k, draws=100, seed=0):
    """Measure what `fd_scores` gives for k images picked at random: (draws,). The scores' floor.

    Raises ValueError if there are fewer than k images, and as `metrics.frechet_distances` does.
    """
    if k > len(features):
        raise ValueError(f"cannot pick {k} of {len(features)} images: use the k of the top images, and their features")
    generator = torch.Generator().manual_seed(seed)
    picks = torch.stack([torch.randperm(len(features), generator=generator)[:k] for _ in range(draws)])
    return metrics.frechet_distances(features, picks, real).float().cpu()


def random_scores(flow, seed=0, layers=None):
    """Draw a random score in [0, 1) for every unit: the baseline every ranking has to beat."""
    generator = torch.Generator().manual_seed(seed)
    layers = flow.layers if layers is None else layers
    return {layer: torch.rand(flow.units(layer), generator=generator) for layer in layers}


def normalise(scores, how="minmax"):
    """Bring scores into [0, 1] before they become weights (Algorithm 1).

    how: "minmax" per layer (default), "max" per layer (keeps 0 at 0), "global" min-max over all layers,
    "none". Scores that are all equal, and so prefer no unit, become 0 ("none" apart).
    """
    if how == "none":
        return dict(scores)
    if how == "max":
        return {layer: _ratio(s, s.max().expand_as(s)) * (s.max() > s.min()) for layer, s in scores.items()}
    if how == "global":
        every = torch.cat([s.flatten() for s in scores.values()])
        low, high = every.min(), every.max()
        return {layer: _ratio(s - low, (high - low).expand_as(s)) for layer, s in scores.items()}
    if how == "minmax":
        return {layer: _ratio(s - s.min(), (s.max() - s.min()).expand_as(s)) for layer, s in scores.items()}
    raise ValueError(f"how must be 'minmax', 'max', 'global' or 'none', got {how!r}")


def rank(scores):
    """Order each layer's units by score, highest first, ties by unit number: {layer: (U,) unit numbers}."""
    return {layer: s.argsort(descending=True, stable=True) for layer, s in scores.items()}


def table(scores):
    """Lay scores out as a tidy DataFrame with columns layer, unit, score, rank (1 is the highest of its layer)."""
    parts = []
    for layer, units in rank(scores).items():
        score = scores[layer][units].tolist()
        ranks = range(1, len(units) + 1)
        parts.append(pd.DataFrame({"layer": layer, "unit": units.tolist(), "score": score, "rank": ranks}))
    return pd.concat(parts, ignore_index=True)
