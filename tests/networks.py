"""Small networks that several test files use."""

import contextlib
import os
import signal

import torch
from torch import nn

from helpers import survey, units
from helpers.networks import pggan


def tiny_generator():
    """A random PGGAN generator of three resolutions, with biases, always the same."""
    torch.manual_seed(0)
    network = pggan.Generator((12, 10, 8), latent=9)
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(value, std=0.3)
    return network


def paintable(flow, z):
    """What there is to paint by on images z (6, D) of the tiny generator: the arguments of a painter beside them."""
    values = survey.thresholds(flow, z, tau=0.01, layers=[2, 4])
    sets = {"door": {2: torch.arange(12.0), 4: torch.arange(10.0) % 3}, "mine": {4: [7, 1]}}
    return {"sets": sets, "values": values, "differences": units.differences(flow, z[:3], z[3:], [1])}


class Dcgan(nn.Module):
    """The usual transposed convolutions, in place activations included."""

    def __init__(self):
        super().__init__()
        up = [nn.ConvTranspose2d(6, 8, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(True)]
        up += [nn.ConvTranspose2d(8, 5, 4, 2, 1, bias=False), nn.BatchNorm2d(5), nn.ReLU(True)]
        self.main = nn.Sequential(*up, nn.ConvTranspose2d(5, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z):
        return self.main(z)


class Canvas(nn.Module):
    """A generator whose layer 1 is whatever the latents say, so that a test can choose the activations."""

    def __init__(self, units, size):
        super().__init__()
        self.shape, self.latent, self.n_layers = (units, size, size), units * size * size, 2
        self.zero = nn.Parameter(torch.zeros(()))

    def advance(self, layer, h, extras):
        return (h.view(-1, *self.shape) if layer == 1 else h[:, :1] + self.zero), extras


class Mortal(nn.Module):
    """A tiny generator that kills the process it runs in, once: at the image with the first latent value `doomed`.

    marker: a path; the file there says that it has happened. The process that made the network is spared.
    """

    def __init__(self, marker, doomed):
        super().__init__()
        self.inner, self.marker, self.doomed = pggan.Layers(tiny_generator()), str(marker), float(doomed)
        self.latent, self.n_layers, self.maker = self.inner.latent, self.inner.n_layers, os.getpid()

    def advance(self, layer, h, extras):
        if layer == 1 and os.getpid() != self.maker and bool((h[:, 0] == self.doomed).any()):
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.advance(layer, h, extras)
