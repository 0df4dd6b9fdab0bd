"""Measure the defective score by the adjoint of upsampling against the score as it is written down.

The featuremaps are given, so that the score is timed and nothing else: 512 units of 16x16 positions and masks
of 256 px are the sizes of the paper's layer 6.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import compare, why
from helpers import units
from helpers.flow import Flow

GOAL = ">= 100"


class Given(nn.Module):
    """A generator whose layer 1 is what the latents say, laid out as a convolution leaves it: channels last."""

    def __init__(self, units, size):
        super().__init__()
        self.shape, self.latent, self.n_layers = (size, size, units), units * size * size, 2
        self.device = nn.Parameter(torch.zeros(()))

    def advance(self, layer, h, extras):
        return (h.view(-1, *self.shape).permute(0, 3, 1, 2) if layer == 1 else h[:, :1]), extras


def rows(rounds, images=16, channels=512, size=16, pixels=256):
    """Yield the one row of this module."""
    flow, z, masks, levels = given(images, channels, size, pixels)
    found = {}
    slow = lambda: found.update(slow=upsampled(flow, z, masks, levels))  # noqa: E731
    fast = lambda: found.update(fast=units.defective_scores(flow, z, masks, {1: levels})[1])  # noqa: E731
    times = compare(slow, fast, rounds)
    note = f"{images} images; largest difference {float((found['slow'] - found['fast']).abs().max()):.0e}"
    name = f"Defective score, {channels} units, {size}x{size}, {pixels} px: upsampling / adjoint"
    yield name, GOAL, *times, note + why(fast, times[0], GOAL)


def given(images, channels, size, pixels):
    """Draw featuremaps, as latents of a flow that hands them on, masks of one rectangle each, and thresholds."""
    generator = torch.Generator().manual_seed(0)
    flow = Flow(Given(channels, size))
    z = torch.randn(images, flow.latent, generator=generator)
    start, length = torch.rand(2, images, 2, 1, generator=generator) * pixels / 2
    inside = (torch.arange(pixels) >= start) & (torch.arange(pixels) <= start + length + 1)
    levels = torch.full((channels,), 2.5758)  # which a normal number exceeds with probability 0.005
    return flow, z, inside[:, 0, :, None] & inside[:, 1, None], levels


def upsampled(flow, z, masks, levels):
    """Return the defective scores of layer 1 as Definition 1 reads: upsample each featuremap, minima over maxima."""
    total = torch.zeros(len(levels), dtype=torch.float64)
    for rows, recorded in flow.stream(z, [1]):
        for h, mask in zip(recorded[1].split(1), masks[rows].float()):  # one by one: more at once is slower
            up = F.interpolate((h > levels[:, None, None]).float(), mask.shape, mode="bilinear", align_corners=False)
            shared, either = (bound(up, mask).sum(dim=(2, 3)) for bound in (torch.minimum, torch.maximum))
            total += (shared / either)[0]
    return (total / len(z)).float()
