"""Corrections as values: each function returns Edits, `{layer: function}`, for `flow.generate(z, edits)`.

Nothing is changed in place, in the network or in a featuremap. The paper's corrections damp units, explained in
notebook 05; ours shift them toward normal, explained in notebook 06.
"""

import math
import operator

import torch

from helpers import units as unit_scores
from helpers.corrections import amounts
from helpers.corrections.amounts import AMOUNTS, latent_direction, smallest_step  # noqa: F401
from helpers.corrections.differences import Differences, over_places
from helpers.corrections.edits import Chain, Edits, LocalScale, Scale, Shift, Zero
from helpers.corrections.files import read as read_edits  # noqa: F401
from helpers.corrections.files import write as write_edits  # noqa: F401


def ablate(layer, units):
    """Set units of one layer to zero (the single-layer correction of section 3.2).

    units: unit numbers. Returns Edits. Raises ValueError for a negative or repeated unit number, and once applied
    for one that the layer does not have; TypeError for anything but integers.
    """
    units = [operator.index(u) for u in units]
    if len(set(units)) < len(units) or min(units, default=0) < 0:
        raise ValueError(f"units must be different numbers from 0 up, got {units}")
    return {layer: Zero(tuple(units))}


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
    layers = _upto(scores, stop_layer)
    for layer in layers:
        own = scores[layer]
        if own.ndim != 2 or not len(own) or len(own) != len(scores[1]):
            raise ValueError(f"layer {layer} needs finite scores (N, U), a row per image, got {tuple(own.shape)}")
        if not own.isfinite().all():
            image = int((~own.isfinite()).any(dim=1).nonzero()[0])
            raise ValueError(f"layer {layer} of image {image} has NaN or infinity among its scores: score it again")
    images = range(len(scores[1])) if layers else []
    alone = [sequential({layer: scores[layer][i] for layer in layers}, stop_layer, portion, scale) for i in images]
    weights = {layer: torch.stack([edits[layer].weights for edits in alone]) for layer in layers}
    return {layer: Scale(weights[layer].where(scores[layer] > 0, 1.0)) for layer in layers}


def local(scores, masks, stop_layer=6, portion=0.2):
    """Damp the same units as `sequential`, but by (1 - mask) and so only where an image is defective (section 4.2).

    masks: (N, H, W) in [0, 1] (bool or soft), one per image in the order of z; averaged down to each layer.
    Returns Edits for exactly these N images; a mask of zeros leaves its image as it is.
    Raises ValueError for bad masks, arguments out of range or layers without scores, and once applied for another
    number of images.
    """
    masks = _checked_masks(masks)
    chosen = selected(scores, _upto(scores, stop_layer), portion)
    return {layer: LocalScale(top, masks) for layer, top in chosen.items()}


def shift(differences, amount=1.0, portion=1.0, masks=None, how="mean", places=True, clamp=None):
    """Shift units toward normal: take off what artifacts have more than normals, per unit and place.

    differences: {layer: (U, H, W)}, of `units.differences`, `evaluation.differences` or `layer_after_layer`; or
    {layer: (N, U, H, W)} of `units.nearest_differences`, one per image. All its layers are edited.
    h <- h - amount * mask * difference. amount: a number or (N,), one per image in the order of z; 0 is the identity.
    masks: (N, H, W) in [0, 1] (bool or soft), averaged down to each layer; None is everywhere.
    portion: share of each layer's units and places that are shifted, those with the largest |difference| / s, s the
    standard deviation within the classes. how: "mean" takes off the difference of the means; "linear" goes by amount
    of the way to where the affine map leads that carries the artifacts' mean and deviation to the normals' (Rodríguez
    et al. 2024, "Controlling language and diffusion models by transporting activations"). places: False shifts a unit
    by its mean over places. clamp: keep what is shifted from falling below 0, as after a ReLU; None: where no
    activation of the classes was below 0, or for a plain dict, where none of the image is.
    Returns Edits that know the ids of the differences. Raises ValueError for arguments out of range or of the wrong
    shape, not finite differences, and a plain dict where portion or how need the deviations; once applied, for
    another layer or number of images. Explained in notebook 06.
    """
    if how not in ("mean", "linear"):
        raise ValueError(f"how must be 'mean' or 'linear', got {how!r}")
    if not 0 <= portion <= 1:
        raise ValueError(f"portion is a share of a layer's units and places and lies in [0, 1], got {portion}")
    known = isinstance(differences, Differences)
    if not known and (how == "linear" or portion < 1):
        raise ValueError("portion and how='linear' need standard deviations: pass what units.differences returns")
    amount, masks = amounts.checked_amount(amount), None if masks is None else _checked_masks(masks)
    if masks is not None and amount.ndim and len(amount) != len(masks):
        raise ValueError(f"got {len(amount)} amounts and {len(masks)} masks: pass one of each per image")
    edits, standardised = {}, differences.standardised(places) if known and portion < 1 else {}
    for layer, d in differences.items():
        if d.ndim not in (3, 4) or not d.numel() or not d.isfinite().all():
            raise ValueError(f"layer {layer} needs finite differences (U, H, W) or one per image, got {tuple(d.shape)}")
        d = (d if places else over_places(d)[0]).float().clone()
        spread = centre = None
        if how == "linear":
            spread, centre = _affine(differences.artifacts[layer], differences.normals[layer], places)
        if portion < 1:
            out = ~_largest(standardised[layer].abs(), portion, places)
            d[out] = 0
            spread = spread if spread is None else spread.masked_fill(out, 0)
        lower = differences.lowest[layer] >= 0 if known and clamp is None else clamp
        edits[layer] = Shift(d, amount, masks, spread, centre, lower)
    return Edits(edits, getattr(differences, "ids", None))


def layer_after_layer(flow, z_artifacts, z_normals, layers, amount=1.0, normals="untouched", **options):
    """Measure each layer's difference on the flow as already shifted in the layers before -> Differences for `shift`.

    z_artifacts, z_normals, layers: as for `units.differences`. amount: by which the layers before are shifted.
    normals: "untouched", what the artifacts are compared with, or "shifted" like them. options: of `shift`, the same
    as later. Raises ValueError as these two do. Explained in notebook 06.
    """
    if normals not in ("untouched", "shifted"):
        raise ValueError(f"normals must be 'untouched' or 'shifted', got {normals!r}")
    found, edits = None, {}
    for layer in sorted(layers):
        theirs = edits if normals == "shifted" else None
        own = unit_scores.differences(flow, z_artifacts, z_normals, [layer], edits, theirs)
        found = own if found is None else found.joined(own)
        edits = shift(found, amount, **options)
    if found is None:
        raise ValueError("got no layers: pass at least one")
    return found


def smallest_amount(flow, z, differences, judge, grid=AMOUNTS, every=False, margin=0.0, **options):
    """Find the smallest amount of a shift at which a judge calls each image normal -> (amounts (N,), said (N, G)).

    judge: a function of images (B, C, R, R), clamped to [-1, 1], -> scores (B,), below 0 for normal. grid: rising
    amounts from 0 on; an image that is called normal at none gets the one with the lowest score. every: let the judge
    see all amounts, not only those up to the first one that satisfies it; `said` is NaN where it did not look.
    margin: how far below 0 the score of a shifted image must fall; one that is below 0 untouched is left alone.
    options: of `shift`. Layers up to the first one shifted are computed once. Hand the amounts to `shift`.
    Raises ValueError for another grid, scores of another shape or NaN, and as `shift` does. Explained in notebook 06.
    """
    edits = shift(differences, torch.ones(len(z)), **options)
    return amounts.smallest_amount(flow, z, edits, judge, grid, every, margin)


def chained(*corrections):
    """Do corrections one after the other in each layer: Edits, in which a later one gets what an earlier one leaves.

    Returns Edits that know the ids of all their images if every correction does.
    """
    layers = sorted({layer for edits in corrections for layer in edits})
    each = {layer: tuple(edits[layer] for edits in corrections if layer in edits) for layer in layers}
    ids = [getattr(edits, "ids", None) for edits in corrections]
    known = frozenset().union(*ids) if ids and None not in ids else None
    return Edits({layer: found[0] if len(found) == 1 else Chain(found) for layer, found in each.items()}, known)


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


def _largest(values, portion, places):
    """Mark the portion of the largest values (U, H, W), or of whole units where places do not differ."""
    each = values if places else values[:, :1, :1]
    top = each.flatten().argsort(descending=True, stable=True)[: math.floor(portion * each.numel() + 1e-9)]
    return torch.zeros(each.numel(), dtype=torch.bool).index_fill(0, top, True).view_as(each).expand_as(values)


def _affine(artifacts, normals, places):
    """Return what `Shift` needs of the affine map: 1 - s_n / s_a, 0 where artifacts do not vary, and their mean."""
    (mean, s_a), (_, s_n) = (part if places else over_places(*part) for part in (artifacts, normals))
    return torch.where(s_a > 0, 1 - s_n / s_a, 0.0), mean.clone()


def _checked_masks(masks):
    masks = torch.as_tensor(masks).float().clone()
    if masks.ndim != 3 or masks.numel() == 0 or not (masks.min() >= 0 and masks.max() <= 1):
        raise ValueError(f"masks must be (N, H, W) with values in [0, 1], got shape {tuple(masks.shape)}")
    return masks


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
