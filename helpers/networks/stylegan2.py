"""StyleGAN2's two networks, in the published layout: raw weights, scaled at run time, fixed noise.

Keys and shapes follow the layout StyleGAN2 files are published in (`mapping.fc{i}`, `synthesis.b{r}.conv0`, ...;
discriminator `b{r}.fromrgb`, ...), so that own and published weights load alike. Plain PyTorch, any device, float32.
Sources: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", sections 2 to 4 and appendix B;
Karras et al. 2019, "A Style-Based Generator Architecture", section 2.
"""

import math

import torch
from torch import nn

from helpers.networks.pggan import EPSILON, minibatch_deviation
from helpers.networks.stylegan2_layers import GAIN, Dense, Plain, Styled, ToRGB, activate, resample_filter, upsample


class Mapping(nn.Module):
    """Mapping network: latents (B, D) -> styles w (B, S), pulled towards the mean style by truncation < 1."""

    def __init__(self, latent, style, layers):
        super().__init__()
        for i in range(layers):
            self.add_module(f"fc{i}", Dense(style if i else latent, style, rate=0.01))
        self.register_buffer("w_avg", torch.zeros(style))
        self.layers = layers

    def forward(self, z, truncation=1.0):
        w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + EPSILON)
        for i in range(self.layers):
            w = activate(getattr(self, f"fc{i}")(w, GAIN))
        return w if truncation == 1 else torch.lerp(self.w_avg, w, truncation)


class Synthesis(nn.Module):
    """One resolution of the generator: the constant or conv0, then conv1 and toRGB."""

    def __init__(self, inputs, units, size, style, clamp=None, scaled=False, colours=3):
        super().__init__()
        if inputs:
            self.conv0 = Styled(inputs, units, size, style, True, clamp, scaled)
        else:
            self.const = nn.Parameter(torch.randn(units, size, size))
        self.conv1 = Styled(units, units, size, style, False, clamp, scaled)
        self.torgb = ToRGB(units, style, clamp, colours)
        self.register_buffer("resample_filter", resample_filter())

    def begin(self, h, w):
        """Compute what conv1 reads; h is the featuremap of the resolution before, None at 4 px."""
        return self.conv0(h, w) if h is not None else self.const.expand(len(w), -1, -1, -1)

    def to_rgb(self, h, w, image=None):
        """Add this resolution's colours to the upsampled image of the one before (section 4.1, "skip")."""
        colours = self.torgb(h, w)
        return colours if image is None else upsample(image, self.resample_filter).add_(colours)


class Generator(nn.Module):
    """StyleGAN2 generator: latents (B, D) -> unclamped images (B, 3, R, R), about [-1, 1].

    channels: units per resolution, from 4x4 up; R = 4 * 2**(len(channels) - 1). latent, style: dimensions of
    z and w. conv_clamp: bound on activations, 256 in published networks that were trained in float16. scaled: see
    `Styled`. colours: 3, or 1 for grey images. The same z gives the same image: the noise is the fixed one of the file.
    """

    def __init__(
        self,
        channels=(512, 512, 512, 512, 512, 256, 128, 64, 32),
        latent=512,
        style=512,
        mapping_layers=8,
        conv_clamp=None,
        scaled=False,
        colours=3,
    ):
        super().__init__()
        self.channels, self.latent, self.style = tuple(channels), latent, style
        if not self.channels:
            raise ValueError("a generator needs at least one resolution, got no channels: pass units per resolution")
        self.mapping = Mapping(latent, style, mapping_layers)
        self.synthesis = nn.Module()
        for i, units in enumerate(self.channels):
            inputs, size = self.channels[i - 1] if i else 0, 4 * 2**i
            self.synthesis.add_module(f"b{size}", Synthesis(inputs, units, size, style, conv_clamp, scaled, colours))

    @property
    def resolution(self):
        return 4 * 2 ** (len(self.channels) - 1)

    def block(self, index):
        """Return the layers of one resolution, index 0 being 4x4."""
        return getattr(self.synthesis, f"b{4 * 2**index}")

    def draw(self, w, blocks=None):
        """Turn styles (B, S) into images: of full size, or of the size that the first `blocks` resolutions give."""
        h = image = None
        for index in range(blocks or len(self.channels)):
            block = self.block(index)
            h = block.conv1(block.begin(h, w), w)
            image = block.to_rgb(h, w, image)
        return image

    def forward(self, z, truncation=1.0):
        """truncation: psi, in [0, 1]; 1 leaves styles alone, 0 gives the mean style's image for every z."""
        return self.draw(self.mapping(z, truncation))


class Residual(nn.Module):
    """One resolution of the discriminator, halving the size, beside a linear shortcut (section 4.1)."""

    def __init__(self, units, outputs, colours=0, clamp=None):
        super().__init__()
        if colours:
            self.fromrgb = Plain(colours, units, 1, clamp=clamp)
        self.conv0 = Plain(units, units, 3, clamp=clamp)
        self.conv1 = Plain(units, outputs, 3, down=True, clamp=clamp)
        self.skip = Plain(units, outputs, 1, down=True, bias=False)
        self.register_buffer("resample_filter", resample_filter())

    def forward(self, h):
        return self.skip(h, math.sqrt(0.5)) + self.conv1(self.conv0(h), math.sqrt(0.5))


class Decision(nn.Module):
    """The discriminator's end at 4x4: minibatch deviation, one convolution, two dense layers."""

    def __init__(self, units, clamp=None):
        super().__init__()
        self.conv = Plain(units + 1, units, 3, clamp=clamp)
        self.fc = Dense(units * 16, units)
        self.out = Dense(units, 1)

    def forward(self, h, group):
        h = self.conv(minibatch_deviation(h, group))
        return self.out(activate(self.fc(h.flatten(1), GAIN))).flatten()


class Discriminator(nn.Module):
    """StyleGAN2 discriminator: images (B, 3, R, R) in [-1, 1] -> D-values (B,), the raw output.

    channels: units per resolution, from 4x4 up, at least two. group: images that share a minibatch deviation.
    colours: of the images.
    Raises ValueError for fewer resolutions, for images of another size, and for a batch `group` does not divide.
    """

    def __init__(self, channels=(512, 512, 512, 512, 512, 256, 128, 64, 32), group=4, conv_clamp=None, colours=3):
        super().__init__()
        self.channels, self.group, self.colours = tuple(channels), group, colours
        if len(self.channels) < 2:
            raise ValueError(f"a discriminator needs at least two resolutions, got channels {self.channels}: add one")
        for i in reversed(range(1, len(self.channels))):
            first = colours if i == len(self.channels) - 1 else 0
            self.add_module(f"b{4 * 2**i}", Residual(self.channels[i], self.channels[i - 1], first, conv_clamp))
        self.b4 = Decision(self.channels[0], conv_clamp)

    @property
    def resolution(self):
        return 4 * 2 ** (len(self.channels) - 1)

    def block(self, index):
        """Return the layers of one resolution, index 0 being 4x4."""
        return getattr(self, f"b{4 * 2**index}")

    def forward(self, images, group=None):
        """group: for this call only; see `domains.Domain.d_values` for scores that do not depend on the batch."""
        if images.shape[1:] != (self.colours, self.resolution, self.resolution):
            got, wanted = tuple(images.shape), (self.colours, self.resolution, self.resolution)
            raise ValueError(f"images must have shape (B, {', '.join(map(str, wanted))}), got {got}: resize them first")
        last = len(self.channels) - 1
        h = self.block(last).fromrgb(images)
        for index in range(last, 0, -1):
            h = self.block(index)(h)
        return self.b4(h, group or self.group)


class Layers(nn.Module):
    """The generator as numbered layers, for `flow.Flow`: b4.conv1, b8.conv0, b8.conv1, ..., the image.

    A unit's activation is a convolution's output after its nonlinearity. With n resolutions layers 1 to 2n - 1 are
    convolutions and layer 2n is the image. extras: w (B, S), and the image so far (B, 3, r, r).
    """

    def __init__(self, generator, truncation=1.0):
        super().__init__()
        self.generator, self.truncation = generator, truncation
        self.latent, self.n_layers = generator.latent, 2 * len(generator.channels)

    def get_extra_state(self):
        """Return the truncation, so that results kept for another one are told apart."""
        return f"truncation {self.truncation}"

    def set_extra_state(self, state):
        """The truncation is chosen, not loaded."""

    def advance(self, layer, h, extras):
        """Compute one layer from the one before; layer 1 receives z (B, D). See `flow.Flow`."""
        if layer == 1:
            w, block = self.generator.mapping(h, self.truncation), self.generator.block(0)
            return block.conv1(block.begin(None, w), w), {"w": w}
        w = extras["w"]
        if layer % 2:
            return self.generator.block(layer // 2).conv1(h, w), extras
        image = self.generator.block(layer // 2 - 1).to_rgb(h, w, extras.get("image"))
        if layer == self.n_layers:
            return image, extras
        return self.generator.block(layer // 2).begin(h, w), {"w": w, "image": image}
