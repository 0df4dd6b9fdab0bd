"""The generator of a DCGAN, for weights that others published: transposed convolutions from one place to the image.

Source: Radford et al. 2016, "Unsupervised Representation Learning with Deep Convolutional GANs", figure 1, with the
keys of PyTorch's tutorial (`main.0.weight`, ...), which most published ones follow.
"""

from torch import nn

LAYERS = ("main.2", "main.5", "main.8", "main.11")  # the ReLUs: behind them the featuremaps are complete


class Generator(nn.Module):
    """Latents (B, latent, 1, 1) -> images (B, 3, 64, 64) in [-1, 1], over units at 4, 8, 16 and 32 px."""

    def __init__(self, units=(512, 256, 128, 64), latent=100):
        super().__init__()
        parts, inputs = [], latent
        for number, outputs in enumerate(units):
            stride, padding = (2, 1) if number else (1, 0)
            parts.append(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
            parts += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        self.main = nn.Sequential(*parts, nn.ConvTranspose2d(inputs, 3, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, z):
        return self.main(z)
