"""Find where an image is defective: class-activation maps of the artifact class, and masks from them.

Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2. Behind a global average and one linear layer the
gradient is the weight itself, so the map needs no backward pass: alpha_k = w_k / (h * w), up to a scale that the
normalisation removes. Notebook 02 writes both out and asserts that they agree.
"""

import torch
from torch.nn import functional as F

from helpers.classifier import ARTIFACT


def gradcam(maps, head, target=ARTIFACT, against=None, baseline=None, size=64):
    """Map how much each place speaks for a class: (N, size, size) in [0, 1], 1 at each image's strongest place.

    maps: featuremaps (N, D, h, w) whose average over places the head reads. head: a `classifier.Head`.
    target: the class explained. against: None explains its score alone, as the paper does; a class number, or
    "others", explains the difference to that class's score or to the mean of the other ones, which does not
    depend on the head's gauge. baseline: (h, w) map to subtract before the ReLU, such as the mean map of normal
    images (`evidence`), so that what is lit everywhere is not taken for a defect.
    A map that is nowhere positive becomes all zero. Raises ValueError for arguments that do not fit each other, or
    featuremaps that are not finite. Explained in notebook 02.
    """
    raw = evidence(maps, head, target, against)
    if baseline is not None:
        if baseline.shape[-2:] != raw.shape[-2:]:
            raise ValueError(f"the baseline must be a map {tuple(raw.shape[-2:])}, got {tuple(baseline.shape)}")
        raw = raw - baseline
    cam = F.interpolate(raw.relu()[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    low, high = cam.amin(dim=(1, 2), keepdim=True), cam.amax(dim=(1, 2), keepdim=True)
    flat = high - low <= 1e-12
    return torch.where(flat, torch.zeros_like(cam), (cam - low) / (high - low).clamp_min(1e-12))


def evidence(maps, head, target=ARTIFACT, against=None):
    """Weigh the featuremaps by the head: (N, h, w), signed; its average plus the bias is the class's score."""
    if maps.ndim != 4 or maps.shape[1] != head.weight.shape[1]:
        raise ValueError(f"the head reads featuremaps (N, {head.weight.shape[1]}, h, w), got {tuple(maps.shape)}")
    if target not in range(len(head.weight)):
        raise ValueError(f"target must be a class number below {len(head.weight)}, got {target!r}")
    others = [c for c in range(len(head.weight)) if c != target]
    if against not in (None, "others", *others):
        raise ValueError(f"against must be None, 'others' or one of the other classes {others}, got {against!r}")
    bad = ~maps.isfinite().flatten(1).all(dim=1)
    if bad.any():
        raise ValueError(f"featuremaps of image {int(bad.nonzero()[0])} are not finite: check image and network")
    weight = head.weight[target]
    if against is not None:
        weight = weight - head.weight[others if against == "others" else [against]].mean(0)
    return torch.einsum("nkhw,k->nhw", maps, weight)


def binary_mask(cam, level=0.5):
    """Binarise maps (N, H, W) in [0, 1] at `level` (Decision: >= 0.5): bool (N, H, W); zero is never in a mask."""
    if not 0 <= level <= 1:
        raise ValueError(f"the level of a mask lies in [0, 1], got {level}")
    return (cam >= level) & (cam > 0)
