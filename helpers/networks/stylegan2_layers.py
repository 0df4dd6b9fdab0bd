"""The filters and layers that StyleGAN2 is made of: resampling, activation, equalised learning rate.

Sources: Karras et al. 2018, "Progressive Growing of GANs", section 4.1; Karras et al. 2020, "Analyzing and Improving
the Image Quality of StyleGAN", section 4 and appendix B.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from helpers.networks.pggan import EPSILON, SLOPE

GAIN = math.sqrt(2)  # of every leaky ReLU: it keeps the second moment


def resample_filter():
    """Build the separable low-pass filter [1, 3, 3, 1] of all resampling, summing to 1: (4, 4)."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(taps, taps)


def smooth(h, kernel, padding, stride=1, gain=1.0):
    """Convolve every map with one small kernel: (B, U, H, W) -> (B, U, H', W')."""
    kernel = (kernel.flip(0, 1) * gain).to(h.dtype).expand(h.shape[1], 1, -1, -1)
    # A strided depthwise convolution is many times slower backwards on a CPU than dropping every other pixel.
    return F.conv2d(h, kernel, padding=padding, groups=h.shape[1])[:, :, ::stride, ::stride]


def upsample(image, kernel):
    """Double an image's size: zeros between the pixels, then the low-pass filter (B, C, H, W) -> (B, C, 2H, 2W)."""
    kernel = (kernel * 4).to(image.dtype).expand(image.shape[1], 1, -1, -1)
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=image.shape[1])


def activate(h, clamp=None):
    """Apply the leaky ReLU, and the clamp that networks trained in float16 keep.

    The gain of the activation is left out: it commutes with the ReLU, so callers put it into their weights.
    """
    h = F.leaky_relu(h, SLOPE)
    return h if clamp is None else h.clamp(-clamp, clamp)


class Dense(nn.Module):
    """Dense layer with equalised learning rate; rate: how much slower it learns than the rest."""

    def __init__(self, inputs, outputs, rate=1.0, bias=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias)))
        self.rate, self.scale = rate, rate / math.sqrt(inputs)

    def forward(self, h, gain=1.0):
        return F.linear(h, self.weight * (self.scale * gain), self.bias * (self.rate * gain))


class Plain(nn.Module):
    """Convolution with equalised learning rate, "same" padding and optional halving of the size."""

    def __init__(self, inputs, outputs, kernel, down=False, bias=True, clamp=None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("resample_filter", resample_filter())
        self.scale, self.down, self.clamp = 1 / math.sqrt(inputs * kernel**2), down, clamp

    def forward(self, h, gain=1.0):
        """gain: factor on the result; a layer without bias is linear, others end in a leaky ReLU of gain sqrt(2)."""
        padding = self.weight.shape[-1] // 2
        if self.bias is None:
            h = smooth(h, self.resample_filter, padding=1, stride=2) if self.down else h
            return F.conv2d(h, self.weight * (self.scale * gain), padding=padding)
        if self.down:
            h, padding = smooth(h, self.resample_filter, padding=padding + 1), 0
        total = gain * GAIN
        h = F.conv2d(h, self.weight * (self.scale * total), self.bias * total, padding=padding, stride=1 + self.down)
        return activate(h, self.clamp and self.clamp * gain)


class Styled(nn.Module):
    """Modulated and demodulated 3x3 convolution with fixed noise and leaky ReLU (section 2.2 of StyleGAN2).

    Scaling the weights per image is the same as scaling the featuremap before and after one shared
    convolution: sum_i (s_i w_ji) x_i = sum_i w_ji (s_i x_i), and the demodulation is a factor per output map.
    scaled: its epsilon is added to weights that are divided by sqrt(fan-in), as some codes do, instead of raw ones.
    """

    def __init__(self, inputs, units, size, style, up=False, clamp=None, scaled=False):
        super().__init__()
        self.affine = Dense(style, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(units, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(units))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size, size))
        self.register_buffer("resample_filter", resample_filter())
        self.up, self.clamp, self.epsilon = up, clamp, EPSILON * (9 * inputs if scaled else 1)

    def forward(self, h, w):
        style = self.affine(w)
        energy = self.weight.square().sum(dim=(2, 3))
        demodulate = torch.rsqrt(style.float().square() @ energy.float().T + self.epsilon) * GAIN
        h = h * style[:, :, None, None].to(h.dtype)
        if self.up:
            # Zeros between the pixels, then the convolution, in one; the filter removes the zeros' mirror images.
            h = F.conv_transpose2d(h, self.weight.transpose(0, 1), stride=2)
            h = smooth(h, self.resample_filter, padding=1, gain=4)
        else:
            h = F.conv2d(h, self.weight, padding=1)
        noise = self.noise_const * (self.noise_strength * GAIN)
        offset = (noise[None, :, :, None] + self.bias * GAIN).permute(0, 3, 1, 2)  # channels last, as h is
        h = torch.addcmul(offset.to(h.dtype), h, demodulate[:, :, None, None].to(h.dtype))
        return activate(h, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image's colours, without demodulation or nonlinearity."""

    def __init__(self, inputs, style, clamp=None, colours=3):
        super().__init__()
        self.affine = Dense(style, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(colours, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(colours))
        self.scale, self.clamp = 1 / math.sqrt(inputs), clamp

    def forward(self, h, w):
        style = self.affine(w, self.scale)
        image = F.conv2d(h * style[:, :, None, None].to(h.dtype), self.weight, self.bias)
        return image if self.clamp is None else image.clamp(-self.clamp, self.clamp)
