"""Generators as people write them: they branch, draw noise, take labels, return several things, work in place."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Plain(nn.Module):
    """z (B, 6) or (B, 6, 1, 1) -> images (B, colours, 8, 8)."""

    def __init__(self, colours=3):
        super().__init__()
        self.first, self.second = nn.ConvTranspose2d(6, 8, 4), nn.ConvTranspose2d(8, 5, 4, 2, 1)
        self.rgb = nn.Conv2d(5, colours, 1)

    def one(self, z):
        return F.leaky_relu(self.first(z), 0.2)

    def two(self, h):
        return F.leaky_relu(self.second(h), 0.2)

    def forward(self, z):
        if z.ndim == 2:
            z = z[:, :, None, None]
        return torch.tanh(self.rgb(self.two(self.one(z))))


class Noisy(Plain):
    """Noise of several kinds: of each image, of a size, in place, for all images alike, and by dropout."""

    def __init__(self, kind="randn_like"):
        super().__init__()
        self.kind = kind

    def noise(self, h):
        n, _, high, wide = h.shape
        return {
            "randn_like": lambda: torch.randn_like(h),
            "size": lambda: torch.randn(n, 1, high, wide, device=h.device),
            "in place": lambda: h.new_empty(n, 1, high, wide).normal_(),
            "uniform": lambda: torch.rand(h.shape) - 0.5,
            "one for all": lambda: torch.randn(1, 1, high, wide),
            "units": lambda: torch.randn(h.shape[1])[:, None, None],
            "dropout": lambda: F.dropout(h, 0.5, training=True) - h,
            "own generator": lambda: torch.randn(
                h.shape, generator=torch.Generator().manual_seed(int(torch.rand(1) * 99))
            ),
            "integers": lambda: torch.randint(0, 3, (n, 1, high, wide)).float(),
            "each": lambda: torch.stack([torch.randn(h.shape[1:]) for _ in h]),
            "numpy": lambda: torch.from_numpy(np.random.standard_normal(h.shape)).float(),  # noqa: NPY002
        }[self.kind]()

    def forward(self, z):
        h = self.first(z[:, :, None, None])
        h = F.leaky_relu(h + 0.5 * self.noise(h), 0.2)
        h = self.second(h)
        return torch.tanh(self.rgb(h + 0.5 * self.noise(h)))


class Several(Plain):
    """Returns the image beside other things, as a tuple, a dict or an object."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, z):
        h = self.one(z[:, :, None, None])
        image = torch.tanh(self.rgb(self.two(h)))
        small = F.avg_pool2d(image, 2)
        return {
            "tuple": (image, z),
            "list": [z, image],
            "dict": {"styles": z, "image": image},
            "two images": (small, image),
            "named images": {"small": small, "image": image},
            "object": Result(image, z),
            "none": z,
            "bytes": (127.5 + 127.5 * image).byte(),
        }[self.kind]


class Result:
    def __init__(self, image, styles):
        self.image, self.styles = image, styles


class Labelled(Plain):
    """A forward that takes a class, and a strength that has a default."""

    def __init__(self, branch=False):
        super().__init__()
        self.embed, self.branch = nn.Embedding(4, 6), branch

    def forward(self, z, y, strength=1.0):
        if self.branch and z.ndim == 2:
            z = z + 0
        return super().forward((z + strength * self.embed(y))[:, :, None, None])


class Keywords(Labelled):
    """A forward that looks for its class among the rest."""

    def forward(self, z, **rest):
        return super().forward(z, rest["y"])


class Styled(Plain):
    """A forward with a tensor of styles by keyword only, which every layer needs."""

    def forward(self, z, *, styles, flip=False):
        h = self.one(z[:, :, None, None]) * styles[:, :1, None, None]
        image = self.rgb(self.two(h) + styles[:, 1:2, None, None])
        return image.flip(3) if flip else image


class LabelFirst(Labelled):
    """A forward whose first argument is the class."""

    def forward(self, y, z):
        return super().forward(z, y)


class StylesFirst(Styled):
    """A forward whose first argument are the styles."""

    def forward(self, styles, z):
        return super().forward(z, styles=styles)


class InPlace(Plain):
    """Sums that overwrite a featuremap that somebody may have recorded."""

    def forward(self, z):
        h = self.first(z[:, :, None, None])
        h += 1
        h = self.second(h)
        h *= 0.5
        return torch.tanh(self.rgb(h))


class Untraceable(InPlace):
    def forward(self, z):
        return super().forward(z) if float(z.sum()) < 1e9 else z


class Crowd(Plain):
    """Its images depend on their batch."""

    def forward(self, z):
        h = self.one(z[:, :, None, None])
        return torch.tanh(self.rgb(self.two(h - h.mean(dim=0))))


class Mnist(nn.Module):
    """A small generator of grey images: a dense layer and two transposed convolutions, 28 x 28."""

    def __init__(self):
        super().__init__()
        self.dense, self.up1 = nn.Linear(10, 6 * 49), nn.ConvTranspose2d(6, 5, 4, 2, 1)
        self.up2 = nn.ConvTranspose2d(5, 1, 4, 2, 1)

    def forward(self, z):
        h = F.relu(self.dense(z)).view(len(z), 6, 7, 7)
        return torch.tanh(3 * self.up2(F.relu(self.up1(h))))


class Oblong(nn.Module):
    """Featuremaps of 9 x 7; the image is square, or not."""

    def __init__(self, square=True):
        super().__init__()
        self.conv, self.rgb, self.square = nn.ConvTranspose2d(6, 4, (9, 7)), nn.Conv2d(4, 3, 1), square

    def forward(self, z):
        h = self.rgb(F.relu(self.conv(z[:, :, None, None])))
        return F.interpolate(h, (12, 12)) if self.square else h


def made(kind, *arguments, seed=0):
    """A generator with weights that are always the same."""
    torch.manual_seed(seed)
    module = kind(*arguments).eval()
    for value in module.parameters():
        nn.init.normal_(value, std=0.4)
    return module
