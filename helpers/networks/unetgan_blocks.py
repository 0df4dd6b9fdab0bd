"""The residual blocks of the U-net GAN: spectrally normalised weights, batch normalisation modulated by z.

Raw weights are stored and normalised at run time; keys and shapes are those of the published files.
Source: Brock et al. 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", appendix B;
Miyato et al. 2018 (spectral normalisation); Chen et al. 2019 (self-modulation).
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.networks.pggan import upsample

EPSILON = 1e-5  # of every batch normalisation
MOMENTUM = 0.1  # of the running statistics while training
TINY = 1e-6  # keeps the power iteration from dividing by 0


class Spectral(nn.Module):
    """Convolution or dense layer whose weight is divided by its largest singular value (Miyato et al. 2018).

    kernel 0 makes a dense layer. The value is estimated by one step of power iteration from the stored left
    vector `u0`. Only training moves `u0` and notes the value in `sv0`; nothing ever reads `sv0`.
    """

    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.weight = nn.Parameter(torch.empty((outputs, inputs, kernel, kernel) if kernel else (outputs, inputs)))
        nn.init.orthogonal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("u0", torch.randn(1, outputs))
        self.register_buffer("sv0", torch.ones(1))
        self.padding = kernel // 2

    def normalised(self):
        """Return the weight divided by the estimate of its largest singular value."""
        with torch.autocast(self.weight.device.type, enabled=False):  # eight bits are too few here
            matrix = self.weight.flatten(1)
            with torch.no_grad():
                v = F.normalize(self.u0 @ matrix, eps=TINY)
                u = F.normalize(v @ matrix.T, eps=TINY)
            sigma = ((v @ matrix.T) @ u.T).squeeze()
            if self.training:
                self.u0.copy_(u)
                self.sv0.fill_(sigma.detach())
            return self.weight / sigma

    def forward(self, h):
        if self.weight.ndim == 2:
            return F.linear(h, self.normalised(), self.bias)
        return F.conv2d(h, self.normalised(), self.bias, padding=self.padding)


class Norm(nn.Module):
    """Batch normalisation with running statistics, and a learned gain and bias per unit."""

    def __init__(self, units):
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(units)), nn.Parameter(torch.zeros(units))
        self.register_buffer("stored_mean", torch.zeros(units))
        self.register_buffer("stored_var", torch.ones(units))

    def forward(self, h):
        return self.normalise(h, self.gain, self.bias)

    def normalise(self, h, gain=None, bias=None):
        return F.batch_norm(h, self.stored_mean, self.stored_var, gain, bias, self.training, MOMENTUM, EPSILON)


class Modulated(Norm):
    """Batch normalisation whose gain (about 1) and bias (about 0) are functions of z: self-modulation."""

    def __init__(self, units, latent, hidden):
        super().__init__(units)
        del self.gain, self.bias
        for name in ("gain", "bias"):
            layers = nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, units, bias=False)
            for layer in layers[::2]:
                nn.init.orthogonal_(layer.weight)
            self.add_module(name, nn.Sequential(*layers))

    def forward(self, h, z):
        return torch.addcmul(self.bias(z)[:, :, None, None], self.normalise(h), 1 + self.gain(z)[:, :, None, None])


class Up(nn.Module):
    """Generator block: (B, inputs, H, W) -> (B, outputs, 2H, 2W), a residual sum of two paths."""

    def __init__(self, inputs, outputs, latent, hidden):
        super().__init__()
        self.conv1, self.conv2 = Spectral(inputs, outputs, 3), Spectral(outputs, outputs, 3)
        self.conv_sc = Spectral(inputs, outputs, 1)
        self.bn1, self.bn2 = Modulated(inputs, latent, hidden), Modulated(outputs, latent, hidden)

    def first(self, h, z):
        """Return the output of conv1 and the shortcut that `forward` adds to the output of conv2."""
        # A 1x1 convolution and a resizing commute: the small featuremap is convolved, here and below.
        return self.conv1(upsample(F.relu(self.bn1(h, z)))), upsample(self.conv_sc(h))

    def second(self, h, z):
        """Return the output of conv2, from that of conv1."""
        return self.conv2(F.relu(self.bn2(h, z)))

    def forward(self, h, z):
        h, shortcut = self.first(h, z)
        return self.second(h, z) + shortcut


class Residual(nn.Module):
    """Discriminator block without normalisation; `scale` halves the featuremap ("down") or doubles it ("up").

    raw: the input is an image, which no ReLU precedes.
    """

    def __init__(self, inputs, outputs, scale, raw=False):
        super().__init__()
        self.conv1, self.conv2 = Spectral(inputs, outputs, 3), Spectral(outputs, outputs, 3)
        self.conv_sc = Spectral(inputs, outputs, 1)
        self.scale, self.raw = scale, raw

    def forward(self, x):
        h = x if self.raw else F.relu(x)
        if self.scale == "up":
            return self.conv2(F.relu(self.conv1(upsample(h)))) + upsample(self.conv_sc(x))
        return F.avg_pool2d(self.conv2(F.relu(self.conv1(h))), 2) + self.conv_sc(F.avg_pool2d(x, 2))
