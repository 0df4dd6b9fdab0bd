"""Feature networks that see every image at one size: a ResNet-18 of ours, and the standard Inception of FID.

The Inception comes through torch-fidelity, which is optional: requirements-fid.txt.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.networks import features


class Sized(nn.Module):
    """A ResNet-18 of `features` that sees every image at one size, whatever size it has; `name` says so."""

    def __init__(self, network, side, name):
        super().__init__()
        self.network, self.side, self.name = network, side, f"{name} at {side} px"

    def maps(self, images, level=4):
        """Return the featuremap after a level: see `features.ResNet18.maps`."""
        return self.network.maps(resized(images, self.side), level)

    def pooled(self, images, batch=features.BATCH):
        """Return pooled features (N, D), on the CPU, without gradients."""
        return self._each(self.network.pooled, images, batch)

    def segment(self, images, batch=features.BATCH):
        """Return logits of each pixel's class at the network's size; ValueError for a network without that head."""
        return self._each(self.network.segment, images, batch)

    def corrupted(self, images, batch=features.BATCH):
        """Return logits that a place is corrupted; ValueError for a network without that head."""
        return self._each(self.network.corrupted, images, batch)

    def _each(self, compute, images, batch):
        if batch < 1:
            raise ValueError(f"a batch needs at least one image, got {batch}")
        return torch.cat([compute(resized(part, self.side), batch) for part in images.split(batch)])


class Inception(nn.Module):
    """The standard Inception features of FID, by torch-fidelity: images in [-1, 1] -> (N, 2048).

    weights: its published file. Raises ImportError, saying what to install, where torch-fidelity is not.
    """

    name = "Inception (torch-fidelity)"

    def __init__(self, weights):
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise ImportError(
                f"the standard Inception features need torch-fidelity ({error}): "
                "pip install -r requirements-fid.txt, or leave evaluation out"
            ) from None
        self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights))
        self.register_buffer("place", torch.zeros(()), persistent=False)

    @torch.no_grad()
    def pooled(self, images, batch=features.BATCH):
        """Return pooled features (N, 2048), on the CPU; images are rounded to 8 bits first, as FID has it."""
        images = features.coloured(images)
        if batch < 1:
            raise ValueError(f"a batch needs at least one image, got {batch}")
        found = [torch.zeros(0, 2048)]
        for part in images.split(batch):
            if len(part):
                part = part.clamp(-1, 1).add(1).mul(127.5).round().to(self.place.device, torch.uint8)
                found.append(self.network(part)[0].cpu().float())
        return torch.cat(found)


def resized(images, side):
    """Resize images (N, 3, H, W) to side x side, without aliasing."""
    if images.ndim != 4 or images.shape[-2:] == (side, side) or not images.is_floating_point():
        return images  # what is no batch of images, the network itself refuses
    return F.interpolate(images.clamp(-1, 1), (side, side), mode="bilinear", antialias=True)
