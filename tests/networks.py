"""Small networks that several test files use."""

import torch
from torch import nn

from helpers import pggan


def tiny_generator():
    """A random PGGAN generator of three resolutions, with biases, always the same."""
    torch.manual_seed(0)
    network = pggan.Generator((12, 10, 8), latent=9)
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(value, std=0.3)
    return network


class Canvas(nn.Module):
    """A generator whose layer 1 is whatever the latents say, so that a test can choose the activations."""

    def __init__(self, units, size):
        super().__init__()
        self.shape, self.latent, self.n_layers = (units, size, size), units * size * size, 2
        self.zero = nn.Parameter(torch.zeros(()))

    def advance(self, layer, h, extras):
        return (h.view(-1, *self.shape) if layer == 1 else h[:, :1] + self.zero), extras
