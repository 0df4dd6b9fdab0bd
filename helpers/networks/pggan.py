"""The progressive GAN's two networks, in the published layout: raw weights, scaled at run time.

Keys and shapes follow the layout most PGGAN files are published in (`layer{i}.weight`,
`output{b}.weight`, `input{b}.weight`), so that own and published weights load alike.
Source: Karras et al. 2018, "Progressive Growing of GANs", sections 3, 4.1, 4.2 and appendix A.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

SLOPE = 0.2  # of every leaky ReLU
EPSILON = 1e-8


def pixel_norm(h):
    """Divide each pixel's feature vector by its root mean square (section 4.2): (B, U, H, W) -> same."""
    return h * torch.rsqrt(h.square().mean(dim=1, keepdim=True) + EPSILON)


def upsample(h):
    """Repeat every pixel 2x2: (B, U, H, W) -> (B, U, 2H, 2W)."""
    return F.interpolate(h, scale_factor=2, mode="nearest")


def minibatch_deviation(h, group=4):
    """Append one map with the mean standard deviation over groups of images (section 3).

    h: (B, U, H, W) -> (B, U + 1, H, W). The image's value depends on the images it is grouped with,
    which is why `domains.Domain.d_values` scores each image within a group of copies of itself.
    Raises ValueError if `group` (capped at B) does not divide B.
    """
    group = min(group, len(h))
    if len(h) % group:
        raise ValueError(
            f"a batch of {len(h)} images cannot be split into groups of {group} for the minibatch deviation: "
            f"pass a multiple of {group} images, or use Domain.d_values, which scores each image on its own"
        )
    grouped = h.view(group, -1, *h.shape[1:])
    deviation = (grouped - grouped.mean(0)).square().mean(0).add(EPSILON).sqrt().mean(dim=(1, 2, 3), keepdim=True)
    return torch.cat([h, deviation.repeat(group, 1, *h.shape[2:])], dim=1)


def unbiased_deviation(h, group=None):
    """Append the deviation map of networks from the GAN zoo: (B, U, H, W) -> (B, U + 1, H, W).

    Groups are consecutive images, four or `group` of them, or the whole batch if that does not divide it. The variance
    is the unbiased one, and a group of one image has deviation 0.
    """
    size = _divisor(len(h), group)
    return _with_map(h, _deviations(h.unflatten(0, (-1, size)).transpose(0, 1)).repeat_interleave(size, 0))


def crossed_deviation(h, group=None):
    """Append the deviation map that the GAN zoo's code had before July 2019; sizes and variance as today.

    Its groups are strided, as those of `minibatch_deviation`, but their values are handed out to consecutive images, so
    that an image may get another group's. With a number for `group`, each image gets the value of its own strided one.
    """
    size = _divisor(len(h), group)
    values = _deviations(h.unflatten(0, (size, -1)))
    return _with_map(h, values.repeat(size, 1, 1, 1) if group else values.repeat_interleave(size, 0))


def _divisor(count, group):
    size = min(group or 4, count)
    return size if count % size == 0 else count


def _deviations(groups):
    """Return the mean deviation of each group: (size, groups, U, H, W) -> (groups, 1, 1, 1); 0 for single images."""
    if len(groups) == 1:
        return groups.new_zeros(groups.shape[1], 1, 1, 1)
    return groups.var(0).add(EPSILON).sqrt().mean(dim=(1, 2, 3)).view(-1, 1, 1, 1)


def _with_map(h, values):
    return torch.cat([h, values.expand(-1, 1, *h.shape[2:])], dim=1)


class Scaled(nn.Module):
    """Convolution or dense layer with equalised learning rate (section 4.1).

    The stored weight is drawn from N(0, 1); He's constant `gain / sqrt(fan_in)` is applied at run time.
    kernel 0 makes a dense layer (weight (out, in)); padding defaults to "same" for odd kernels.
    cells: (height, width) of the result if each of its cells has a bias of its own.
    """

    def __init__(self, inputs, outputs, kernel, padding=None, gain=math.sqrt(2), cells=()):
        super().__init__()
        shape = (outputs, inputs, kernel, kernel) if kernel else (outputs, inputs)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(outputs, *cells))
        self.scale = gain / math.sqrt(inputs * max(kernel, 1) ** 2)
        self.padding = kernel // 2 if padding is None else padding

    def forward(self, h):
        weight = self.weight * self.scale
        if weight.ndim == 2:
            return F.linear(h.flatten(1), weight, self.bias)
        if self.bias.ndim > 1:
            return F.conv2d(h, weight, padding=self.padding) + self.bias
        return F.conv2d(h, weight, self.bias, padding=self.padding)


class Generator(nn.Module):
    """PGGAN generator: latents (B, D) -> unclamped images (B, 3, R, R), about [-1, 1].

    channels: units per resolution, from 4x4 up; R = 4 * 2**(len(channels) - 1).
    `layer0` to `layer{2n-1}` are convolutions (two per resolution), `output{b}` the toRGB layers.
    The paper counts layers from 1, so its layer 1 is `layer0`; `flow.Flow` speaks the paper's numbers.
    Some published files differ: cells=True gives `layer0` a bias per cell (C, 4, 4), and grown=True leaves out
    all toRGB layers but the last, so that `forward` takes no lod. colours: 3, or 1 for grey images.
    """

    def __init__(self, channels=(128, 128, 128, 32, 16), latent=128, cells=False, grown=False, colours=3):
        super().__init__()
        self.channels, self.latent = tuple(channels), latent
        inputs = latent
        for block, units in enumerate(self.channels):
            first = Scaled(inputs, units, 3) if block else Scaled(inputs, units, 4, 3, cells=(4, 4) if cells else ())
            self.add_module(f"layer{2 * block}", first)
            self.add_module(f"layer{2 * block + 1}", Scaled(units, units, 3))
            if not grown or block == len(self.channels) - 1:
                self.add_module(f"output{block}", Scaled(units, colours, 1, gain=1.0))
            inputs = units

    @property
    def resolution(self):
        return 4 * 2 ** (len(self.channels) - 1)

    def convolve(self, index, h):
        """Apply convolution `index` (from 0) and its leaky ReLU to a normalised featuremap."""
        if index and index % 2 == 0:
            h = upsample(h)
        return F.leaky_relu(getattr(self, f"layer{index}")(h), SLOPE)

    def to_rgb(self, block, h):
        """Turn the last normalised featuremap of a resolution into an image."""
        return getattr(self, f"output{block}")(h)

    def forward(self, z, lod=0.0):
        """lod: how many resolutions are still to grow; its fraction fades the newest one in."""
        h = pixel_norm(z[:, :, None, None])
        last, fade = len(self.channels) - 1 - int(lod), lod - int(lod)
        image = None
        for block in range(last + 1):
            if block == last and fade:
                image = upsample(self.to_rgb(block - 1, h))
            for index in (2 * block, 2 * block + 1):
                h = pixel_norm(self.convolve(index, h))
        full = self.to_rgb(last, h)
        return full if image is None else torch.lerp(full, image, fade)


class Discriminator(nn.Module):
    """PGGAN discriminator: images (B, 3, R, R) in [-1, 1] -> D-values (B,), the raw output.

    `input{b}` are the fromRGB layers counted from full resolution down, `layer{i}` the rest in that order.
    group: how many images share a minibatch deviation. Some published files differ: dense is the number of units
    of the dense layer if it is not as many as at 4x4, deviation computes the minibatch deviation, and fused=True
    halves a featuremap before its leaky ReLU instead of after, as one strided convolution. colours: of the images.
    """

    def __init__(
        self,
        channels=(128, 128, 64, 32, 16),
        group=4,
        dense=None,
        deviation=minibatch_deviation,
        fused=False,
        colours=3,
    ):
        super().__init__()
        self.channels, self.group, self.deviation, self.fused = tuple(channels), group, deviation, fused
        down = self.channels[::-1]
        for block, units in enumerate(down):
            self.add_module(f"input{block}", Scaled(colours, units, 1))
            if block < len(down) - 1:
                self.add_module(f"layer{2 * block}", Scaled(units, units, 3))
                self.add_module(f"layer{2 * block + 1}", Scaled(units, down[block + 1], 3))
        last, units = 2 * (len(down) - 1), down[-1]
        self.add_module(f"layer{last}", Scaled(units + 1, units, 3))
        self.add_module(f"layer{last + 1}", Scaled(units * 16, dense or units, 0))
        self.add_module(f"layer{last + 2}", Scaled(dense or units, 1, 0, gain=1.0))

    @property
    def consecutive(self):
        """Whether images that share a minibatch deviation follow each other; otherwise they are strided."""
        return self.deviation is unbiased_deviation

    def from_rgb(self, block, images):
        return F.leaky_relu(getattr(self, f"input{block}")(images), SLOPE)

    def layer(self, index, h):
        return F.leaky_relu(getattr(self, f"layer{index}")(h), SLOPE)

    def halve(self, index, h):
        if self.fused:
            return F.leaky_relu(F.avg_pool2d(getattr(self, f"layer{index}")(h), 2), SLOPE)
        return F.avg_pool2d(self.layer(index, h), 2)

    def forward(self, images, lod=0.0, group=None):
        """lod: as in `Generator.forward`; images come at the size that belongs to it. group: for this call only."""
        first, fade = int(lod), lod - int(lod)
        h = self.from_rgb(first, images)
        last = len(self.channels) - 1
        for block in range(first, last):
            h = self.halve(2 * block + 1, self.layer(2 * block, h))
            if block == first and fade:
                h = torch.lerp(h, self.from_rgb(block + 1, F.avg_pool2d(images, 2)), fade)
        h = self.deviation(h, group or self.group)
        h = self.layer(2 * last + 1, self.layer(2 * last, h))
        return getattr(self, f"layer{2 * last + 2}")(h).flatten()


class Layers(nn.Module):
    """The generator as the numbered layers of the paper, for `flow.Flow`.

    Layers 1..2n are the convolutions, layer 2n+1 is the last toRGB. A unit's activation is taken after the
    nonlinearity and before pixel normalisation; post_pn=True moves the cut behind the normalisation.
    """

    def __init__(self, generator, post_pn=False):
        super().__init__()
        self.generator, self.post_pn = generator, post_pn
        self.latent, self.n_layers = generator.latent, 2 * len(generator.channels) + 1

    def advance(self, layer, h, extras):
        """Compute one layer from the one before; layer 1 receives z (B, D). See `flow.Flow`."""
        if layer == 1:
            h = h[:, :, None, None]
        if layer == 1 or not self.post_pn:
            h = pixel_norm(h)
        if layer == self.n_layers:
            return self.generator.to_rgb(len(self.generator.channels) - 1, h), extras
        h = self.generator.convolve(layer - 1, h)
        return (pixel_norm(h) if self.post_pn else h), extras
