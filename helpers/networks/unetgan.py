"""The U-net GAN's two networks, in the published layout, so that own and published weights load alike.

The generator is a BigGAN without classes, every block of which has the whole z. The discriminator gives a score
of the image and a map of scores of its pixels.
Source: Schoenfeld et al. 2020, "A U-Net Based Discriminator for Generative Adversarial Networks", section 3.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F

from helpers.networks.unetgan_blocks import Norm, Residual, Spectral, Up


class Generator(nn.Module):
    """U-net GAN generator: z (B, D) -> images (B, 3, R, R) in [-1, 1].

    channels: units at 4x4, 8x8, ... R x R; the last two of the published 256-pixel network are 128, 64.
    latent: D. hidden: units inside the self-modulation, D in the published layout.
    In eval mode an image does not depend on its batch; see `standing_statistics`. Shown in notebook 08.
    """

    def __init__(self, channels=(128, 128, 128, 64, 32), latent=128, hidden=None):
        super().__init__()
        self.channels, self.latent = tuple(channels), latent
        self.hidden = hidden or latent
        self.linear = Spectral(latent, 16 * self.channels[0], 0)
        pairs = zip(self.channels, self.channels[1:])
        self.blocks = nn.ModuleList(nn.ModuleList([Up(a, b, latent, self.hidden)]) for a, b in pairs)
        self.output_layer = nn.Sequential(Norm(self.channels[-1]), nn.ReLU(), Spectral(self.channels[-1], 3, 3))

    @property
    def resolution(self):
        return 4 * 2 ** len(self.blocks)

    def first(self, z):
        """Turn z into the 4x4 featuremap."""
        return self.linear(z).view(len(z), -1, 4, 4)

    def to_rgb(self, h):
        """Turn the last featuremap into an image."""
        return torch.tanh(self.output_layer(h))

    def forward(self, z):
        h = self.first(z)
        for (block,) in self.blocks:
            h = block(h, z)
        return self.to_rgb(h)


class Discriminator(nn.Module):
    """U-net discriminator: images (B, 3, R, R) in [-1, 1] -> D-values (B,), the raw bottleneck score.

    channels: units after each halving, R/2 first, 4x4 last; the way up mirrors them. Its layout is sure as far as
    keys and shapes go: `blocks.{i}.0` down and then up, a plain 1x1 convolution as the last of `blocks`,
    `linear_middle` for the score, and a `linear` that the published files hold and nothing uses.
    A file made with class labels has more (`embed`, `embed_middle`) and is not of this kind. Shown in notebook 08.
    """

    def __init__(self, channels=(32, 64, 128, 128)):
        super().__init__()
        self.channels = down = tuple(channels)
        up = (*down[-2::-1], down[0])
        blocks = [Residual(a, b, "down", raw=not i) for i, (a, b) in enumerate(zip((3, *down), down))]
        # What comes from below is joined by the way down's featuremap of the same size, but not at the very bottom.
        below = (down[-1], *(2 * units for units in up[:-1]))
        blocks += [Residual(a, b, "up") for a, b in zip(below, up)]
        self.blocks = nn.ModuleList(nn.ModuleList([block]) for block in blocks)
        self.blocks.append(nn.Conv2d(up[-1], 1, 1))
        self.linear, self.linear_middle = Spectral(up[-1], 1, 0), Spectral(down[-1], 1, 0)

    @property
    def resolution(self):
        return 4 * 2 ** len(self.channels)

    def forward(self, images):
        return self._down(images)[0]

    def both(self, images):
        """Score whole images and their pixels: (B, 3, R, R) -> D-values (B,) and maps (B, R, R), both unbounded.

        The lower a value, the more artificial the image or the place (section 3.1): a defect map for free.
        """
        scores, skips = self._down(images)
        h = skips.pop()
        for index, (block,) in enumerate(self.blocks[len(self.channels) : -1]):
            h = block(torch.cat([h, skips.pop()], 1) if index else h)
        return scores, self.blocks[-1](h)[:, 0]

    def _down(self, h):
        skips = []
        for (block,) in self.blocks[: len(self.channels)]:
            h = block(h)
            skips.append(h)
        return self.linear_middle(F.relu(h).sum((2, 3)))[:, 0], skips


class Layers(nn.Module):
    """The generator as numbered layers, for `flow.Flow`.

    Layer 1 is the dense layer's 4x4 featuremap, layers 2i and 2i+1 are conv1 and conv2 of block i (from 1), the
    last layer is the image. A unit is a convolution's output as it leaves it: before the next normalisation and ReLU,
    so of either sign, and before the shortcut is added.
    """

    def __init__(self, generator):
        super().__init__()
        self.generator = generator
        self.latent, self.n_layers = generator.latent, 2 * len(generator.blocks) + 2

    def advance(self, layer, h, extras):
        """Compute one layer from the one before; layer 1 receives z (B, D). See `flow.Flow`."""
        if layer == 1:
            return self.generator.first(h), {"z": h}
        h, z = joined(h, extras), extras["z"]
        if layer == self.n_layers:
            return self.generator.to_rgb(h), {}
        (block,) = self.generator.blocks[layer // 2 - 1]
        if layer % 2:
            return block.second(h, z), {"z": z, "shortcut": extras["open"]}
        h, shortcut = block.first(h, z)
        return h, {"z": z, "open": shortcut}

    def norm(self, layer):
        """Return the batch normalisation that a layer (from 2) begins with."""
        if layer == self.n_layers:
            return self.generator.output_layer[0]
        (block,) = self.generator.blocks[layer // 2 - 1]
        return block.bn2 if layer % 2 else block.bn1


def joined(h, extras):
    """Add the shortcut to a block's output, if there is one: what the next normalisation receives."""
    return h + extras["shortcut"] if "shortcut" in extras else h


@torch.no_grad()
def standing_statistics(generator, z, batch=32):
    """Set every stored mean and variance to the pooled moments over latents z (N, D), in place; returns the generator.

    Averaged weights, or statistics that lag behind their weights, need it: images are poor without. The
    normalisations are measured in order, each with those before it already set, so the result does not depend on
    `batch`. N of 1,000 is plenty. Raises ValueError for latents of another shape.
    """
    if z.ndim != 2 or z.shape[1] != generator.latent or len(z) < 2:
        raise ValueError(f"latents must have shape (N, {generator.latent}) with N of at least 2, got {tuple(z.shape)}")
    generator.eval()
    layers = Layers(generator)
    for last in range(2, layers.n_layers + 1):
        parts = []
        for part in z.split(batch):
            h, extras = part, {}
            for layer in range(1, last):
                h, extras = layers.advance(layer, h, extras)
            x = joined(h, extras)
            var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            parts.append((x[:, 0].numel(), mean.double(), var.double()))
        count = sum(n for n, _, _ in parts)
        pooled = sum(n * mean for n, mean, _ in parts) / count
        squares = sum(n * (var + (mean - pooled).square()) for n, mean, var in parts)
        norm = layers.norm(last)
        norm.stored_mean.copy_(pooled)
        norm.stored_var.copy_(squares / (count - 1))
    return generator


def sizes(weights):
    """Return the arguments that make `Generator` or `Discriminator` of the sizes in a state dict.

    {"channels": ..., "latent": ..., "hidden": ...}, or {"channels": ...} where there is a `linear_middle`.
    Raises ValueError naming the key that is lacking or of another shape.
    """
    numbers = [re.match(r"blocks\.(\d+)\.0\.conv1\.weight$", key) for key in weights]
    blocks = 1 + max((int(n[1]) for n in numbers if n), default=-1)
    if not blocks:
        raise ValueError("this is no U-net GAN: it has no blocks.{i}.0.conv1.weight")
    down = "linear_middle.weight" in weights
    units = [_shape(weights, f"blocks.{i}.0.conv2.weight", 4)[0] for i in range(blocks // 2 if down else blocks)]
    if down:
        return {"channels": units}
    hidden, latent = _shape(weights, "blocks.0.0.bn1.gain.0.weight", 2)
    return {"channels": [_shape(weights, "blocks.0.0.conv1.weight", 4)[1], *units], "latent": latent, "hidden": hidden}


def _shape(weights, key, ndim):
    if key not in weights:
        raise ValueError(f"this U-net GAN is incomplete: it lacks {key}")
    if weights[key].ndim != ndim:
        raise ValueError(f"{key} must have {ndim} dimensions, got shape {tuple(weights[key].shape)}")
    return weights[key].shape
