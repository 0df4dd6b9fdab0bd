"""Compare what a method says with a known truth: planted units, exact regions, perfect corrections."""

import torch


def average_precision(scores, units, layers=None):
    """Return how well scores find a known set of units: average precision in [0, 1] over all units of `layers`.

    scores: {layer: (U,)}, high for suspects. units: the true set, {layer: unit numbers}. layers: default all that are
    scored. 1 if the true units come first; random scores give about their share among all. Ties count as the mean of
    both orders of units. Raises ValueError for a layer without scores, a score that is NaN, a unit that the scores do
    not have, or if no true unit is in these layers. Explained in notebook 07.
    """
    layers = list(scores if layers is None else layers)
    missing = [layer for layer in layers if layer not in scores]
    if missing or not layers:
        raise ValueError(f"there are scores of layers {list(scores)}, got layers {layers}: pass some of those")
    score = torch.cat([scores[layer] for layer in layers])
    truth = torch.cat([_marked(layer, units.get(layer, ()), len(scores[layer])) for layer in layers])
    if score.isnan().any():
        raise ValueError(f"{int(score.isnan().sum())} of {len(score)} scores are NaN: score these units again")
    if not truth.any():
        raise ValueError(f"none of the true units {units} is in layers {layers}: score the layers that hold them")
    return (_average_precision(score, truth) + _average_precision(score.flip(0), truth.flip(0))) / 2


def pointing(maps, inside):
    """Play the pointing game: is the strongest place of each map (N, H, W) inside the region (N, H, W)? bool (N,).

    A map that is nowhere positive points nowhere, and misses. Source: Zhang et al. 2016, "Top-down neural attention".
    Raises ValueError for different shapes. Explained in notebook 07.
    """
    _same(maps, inside)
    flat = maps.flatten(1)
    best = flat.argmax(dim=1, keepdim=True)
    return (inside.flatten(1).gather(1, best) & (flat.gather(1, best) > 0))[:, 0]


def overlap(masks, inside):
    """Return each mask's intersection over union with its region, both bool (N, H, W): (N,), 0 if both are empty.

    Raises ValueError for different shapes. Explained in notebook 07.
    """
    _same(masks, inside)
    return (masks & inside).sum(dim=(1, 2)) / (masks | inside).sum(dim=(1, 2)).clamp_min(1)


def psnr(images, truth, where=None):
    """Return each image's peak signal-to-noise ratio to its truth, (N, C, H, W) in [-1, 1], clamped: (N,) in dB.

    where: bool (N, H, W), the pixels that count; default all. Infinite for equal images, NaN where no pixel counts.
    Raises ValueError for different shapes. Explained in notebook 07.
    """
    _same(images, truth)
    error = (images.clamp(-1, 1) - truth.clamp(-1, 1)).square().mean(dim=1)
    where = torch.ones_like(error, dtype=torch.bool) if where is None else where
    _same(error, where)
    return 10 * torch.log10(4 * where.sum(dim=(1, 2)) / (error * where).sum(dim=(1, 2)))


def _marked(layer, units, total):
    wrong = [unit for unit in units if not 0 <= unit < total]
    if wrong:
        raise ValueError(f"layer {layer} has scores of {total} units, there is no unit {wrong[0]}: same generator?")
    return torch.zeros(total, dtype=torch.bool).index_fill(0, torch.tensor(list(units), dtype=torch.long), True)


def _average_precision(scores, truth):
    hits = truth[scores.argsort(descending=True, stable=True)].double()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def _same(a, b):
    if a.shape != b.shape:
        raise ValueError(
            f"shapes must be equal, got {tuple(a.shape)} and {tuple(b.shape)}: the same images, one by one?"
        )
