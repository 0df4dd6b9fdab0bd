"""The ImageNet networks of the faces: EfficientNet-Lite, batch normalisations folded into the convolutions.

Source: Tan and Le 2019, "EfficientNet", table 1, in the variant without squeeze-and-excitation and with ReLU6 that its
authors call Lite. These are lines of our own, since the published port to torch has stood still since 2020 and brings
training, downloads and a dozen other networks; folded and in channels-last order, they also run faster. The weights
come from packages, see `weights.packages`; `tests/test_efficientnet.py` compares with the published code.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from helpers.networks import features
from helpers.networks.sized import resized

# repeats, kernel, stride, expansion and units of each stage of the smallest network
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}  # factors of units and of repeats
STEM = 32  # units before the first stage, at every scale
EPS = 1e-3  # of the published batch normalisations


class Same(nn.Conv2d):
    """A convolution padded as TensorFlow does, by what kernel and stride need: the odd pixel at the right and below."""

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, h):
        (left, right), (top, bottom) = (self._pads(side) for side in (h.shape[-1], h.shape[-2]))
        if left == right and top == bottom:
            return F.conv2d(h, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        return super().forward(F.pad(h, (left, right, top, bottom)))

    def _pads(self, side):
        kernel, stride = self.kernel_size[0], self.stride[0]
        lacking = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        return lacking // 2, lacking - lacking // 2


class Block(nn.Module):
    """Widen, filter each unit by itself, narrow; added to its input where the shapes agree."""

    def __init__(self, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        self.expand = Same(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = Same(wide, wide, kernel, stride, groups=wide)
        self.project = Same(wide, outputs, 1)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        h = x if self.expand is None else F.relu6(self.expand(x))
        h = self.project(F.relu6(self.depthwise(h)))
        return h + x if self.shortcut else h


class EfficientNet(nn.Module):
    """EfficientNet-Lite0, 1 or 2 up to its last stage: images in [-1, 1] to featuremaps; explained in notebook 09.

    side: to so many pixels every image is resized. levels: the stages (1 to 7) that `maps` gives, laid one behind the
    other on the grid of the first one named. Stages behind the last one needed are left out.
    Raises ValueError for a scale, side or level that does not exist.
    """

    def __init__(self, scale="lite0", side=224, levels=(7,)):
        super().__init__()
        if scale not in SCALES or side < 32:
            raise ValueError(f"scale is one of {', '.join(SCALES)}, side at least 32, got {scale!r} and {side!r}")
        if not levels or not set(levels) <= set(range(1, len(STAGES) + 1)):
            raise ValueError(f"levels are numbers from 1 to {len(STAGES)}, got {levels!r}")
        said = " and ".join(map(str, levels))
        self.name = f"EfficientNet-{scale}, stage{'s' * (len(levels) > 1)} {said}, at {side} px"
        self.side, self.levels = side, tuple(levels)
        widen, deepen = SCALES[scale]
        self.stem, self.stages, inputs, widths = Same(3, STEM, 3, 2), nn.ModuleList(), STEM, {}
        for number, (repeats, kernel, stride, expansion, outputs) in enumerate(STAGES[: max(levels)], start=1):
            repeats = repeats if number in (1, len(STAGES)) else math.ceil(repeats * deepen)
            widths[number] = outputs = _rounded(outputs * widen)
            blocks = [Block(inputs, outputs, kernel, stride, expansion)]
            blocks += [Block(outputs, outputs, kernel, 1, expansion) for _ in range(repeats - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = outputs
        self.units = sum(widths[level] for level in levels)  # features that `pooled` gives

    def prepare(self, images):
        """Resize images in [-1, 1] and scale them as in training, (v - 127) / 128 for v from 0 to 255."""
        images = resized(features.coloured(images).to(self.stem.weight).clamp(-1, 1), self.side)
        return (images * 127.5 + 0.5) / 128

    def all_maps(self, h):
        """Return every stage's featuremap of prepared input: {stage: (N, U, h, w)}."""
        h = F.relu6(self.stem(h))
        return {number: (h := stage(h)) for number, stage in enumerate(self.stages, start=1)}

    def maps(self, images):
        """Return the featuremaps of the levels chosen, as one: (N, units, h, w). Keeps gradients if there are any."""
        found = self.all_maps(self.prepare(images))
        first, *others = (found[level] for level in self.levels)
        return torch.cat([first, *(_on_grid(h, first.shape[-2:]) for h in others)], dim=1)

    @torch.no_grad()
    def pooled(self, images, batch=features.BATCH):
        """Return the average over places of `maps`: (N, units), on the CPU, without gradients."""
        if batch < 1:
            raise ValueError(f"a batch needs at least one image, got {batch}")
        parts = [self.maps(part.to(self.stem.weight.device)).mean(dim=(2, 3)).cpu() for part in images.split(batch)]
        return torch.cat(parts)


def build(weights, scale, side, levels):
    """Make a network of published weights {name: tensor}: eval mode, no gradients, channels-last.

    Raises ValueError for weights of another network.
    """
    network = EfficientNet(scale, side, levels)
    try:
        network.load_state_dict(folded(weights, network))
    except (KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"these weights are not those of EfficientNet-{scale} ({why}): take its package's") from error
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def folded(weights, network):
    """Turn published weights into the network's: each convolution takes up the batch normalisation behind it."""
    parts, number = {"stem": ("_conv_stem", "_bn0")}, 0
    for s, stage in enumerate(network.stages):
        for b, block in enumerate(stage):
            inner = ("expand", "depthwise", "project")
            for norm, part in enumerate(inner):
                if getattr(block, part) is not None:
                    published = f"_blocks.{number}._{part}_conv", f"_blocks.{number}._bn{norm}"
                    parts[f"stages.{s}.{b}.{part}"] = published
            number += 1
    out = {}
    for name, (conv, norm) in parts.items():
        factor = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPS).sqrt()
        out[f"{name}.weight"] = weights[f"{conv}.weight"] * factor[:, None, None, None]
        out[f"{name}.bias"] = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * factor
    return out


def _on_grid(h, size):
    if h.shape[-2] > size[0]:
        return F.adaptive_avg_pool2d(h, size)
    return F.interpolate(h, size=size, mode="bilinear", align_corners=False)


def _rounded(units):
    """Round a number of units to a multiple of 8, but not down by more than a tenth."""
    near = max(8, int(units + 4) // 8 * 8)
    return near + 8 if near < 0.9 * units else near
