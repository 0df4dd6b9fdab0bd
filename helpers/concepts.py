"""See what a unit draws: the images it fires for, their mean featuremap, and units that draw the same (section 3.3)."""

import operator

import torch
from scipy.cluster import hierarchy
from torch.nn import functional as F

from helpers.flow import State


def representative_image(flow, z, layer):
    """Draw the mean featuremap of the given latents: z (k, D) of a unit's top images -> image (1, C, H, W).

    All units of `layer` are averaged over the k images, and the rest of the generator turns the mean into
    one image: clear where the images agree, blurred where they do not (Figure 7). Raises ValueError for no latent, or
    images with different labels. Explained in notebook 04.
    """
    if len(z) == 0:
        raise ValueError("a representative image needs at least one latent")
    state = flow.state(z, layer)
    extras = {name: _middle(name, value) for name, value in state.extras.items()}
    return flow.resume(State(state.layer, state.h.mean(0, keepdim=True), extras))


def _middle(name, value):
    """Average what goes along with featuremaps over the images; labels have no mean."""
    if value.is_floating_point():
        return value.mean(0, keepdim=True)
    if not torch.equal(value, value[:1].expand_as(value)):
        raise ValueError(f"the images differ in {name}, which has no mean: take images of one and the same")
    return value[:1]


def clusters(flow, z, layer, units, count=4, masks=None):
    """Group units that fire at the same places of the same images (Figure 8).

    z: latents (N, D), usually of artifacts. units: unit numbers of `layer`. masks: bool (N, H, W) to look
    only at the defective regions. Similarity is the correlation of activations over images and positions;
    clusters are merged by average linkage until `count` are left.
    Returns a list of lists of unit numbers, largest cluster first, equal ones in the order of `units`.
    Raises ValueError for a count, units, latents or masks that do not fit.
    """
    units, last = [operator.index(u) for u in units], flow.units(layer) - 1
    if len(set(units)) < len(units) or not set(units) <= set(range(last + 1)):
        raise ValueError(f"units must be different numbers from 0 to {last}, the units of layer {layer}, got {units}")
    if not 0 < count <= len(units):
        raise ValueError(f"cannot split {len(units)} units into {count} clusters: choose from 1 to {len(units)}")
    if len(z) == 0:
        raise ValueError("clusters need at least one latent")
    weight = None
    if masks is not None:
        if len(masks) != len(z):
            raise ValueError(f"got {len(masks)} masks for {len(z)} images: pass one mask per image, in the same order")
        if not masks.any():
            raise ValueError("no mask has a single pixel, so there is nowhere to look: pass masks=None for everywhere")
        weight = F.adaptive_avg_pool2d(masks[:, None].float(), flow.shape(layer)[1:])[:, 0].flatten()
    if count == len(units):
        return [[u] for u in units]
    similar = correlation(flow.record(z, [layer])[layer][:, units], weight)
    pairs = (1 - similar)[tuple(torch.triu_indices(len(units), len(units), 1))].clamp_min(0)
    # fcluster would give fewer than `count` where merges tie, as those of dead units do.
    found = hierarchy.cut_tree(hierarchy.linkage(pairs.numpy(), "average"), count)[:, 0]
    groups = [[u for u, c in zip(units, found) if c == number] for number in dict.fromkeys(found)]
    return sorted(groups, key=len, reverse=True)


def correlation(h, weight=None):
    """Correlate units over images and positions: (N, U, H, W), weight (N*H*W,) -> (U, U); constant units give 0."""
    x = h.transpose(0, 1).flatten(1).double()
    w = torch.ones(x.shape[1], dtype=torch.double) if weight is None else weight.double()
    w = w / w.sum().clamp_min(1e-12)
    x = x - (x * w).sum(dim=1, keepdim=True)
    covariance = (x * w) @ x.T
    deviation = covariance.diagonal().clamp_min(0).sqrt()
    scale = torch.outer(deviation, deviation)
    return torch.where(scale > 1e-12, covariance / scale.clamp_min(1e-12), 0.0).clamp(-1, 1)
