"""The frozen feature networks: ResNet-18 with torchvision's keys, full size or small, and its dense heads.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1 (18 layers); key names and the
order of operations follow torchvision, so that published ImageNet weights load without it.
"""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

STEMS = {"imagenet": 7, "small": 3}  # name -> kernel of the first convolution
LEVELS = (1, 2, 3, 4)
BATCH = 16  # stays in a processor's cache: 1.4 times as fast as 64 on one
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, h):
        shortcut = h if self.downsample is None else normalised(*self.downsample, h)
        h = normalised(self.conv1, self.bn1, h).relu_()
        return normalised(self.conv2, self.bn2, h).add_(shortcut).relu_()


def normalised(conv, bn, h):
    """Compute bn(conv(h)), once trained as one convolution: a quarter of the network's time was the normalisation."""
    if bn.training:
        return bn(conv(h))
    scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
    weight, bias = conv.weight * scale[:, None, None, None], bn.bias - bn.running_mean * scale
    return F.conv2d(h, weight, bias, conv.stride, conv.padding)


class Pyramid(nn.Module):
    """Read featuremaps from coarse to fine: {level: (N, C, h, w)} -> (N, outputs, h, w) at the finest level."""

    def __init__(self, widths, hidden, outputs):
        super().__init__()
        self.lateral = nn.ModuleDict({str(level): nn.Conv2d(units, hidden, 1) for level, units in widths.items()})
        self.output = nn.Conv2d(hidden, outputs, 1)

    @property
    def levels(self):
        return sorted(map(int, self.lateral))

    def forward(self, maps):
        h = None
        for level in reversed(self.levels):
            lateral = self.lateral[str(level)](maps[level])
            h = lateral if h is None else lateral + F.interpolate(h, size=lateral.shape[-2:], mode="bilinear")
        return self.output(F.relu(h))


class ResNet18(nn.Module):
    """ResNet-18 of any width; keys and shapes equal torchvision's at width 64 with the standard stem.

    stem "imagenet": 7x7 stride 2 and max-pooling, last map 1/32 of the image; "small": 3x3 stride 1 without
    pooling, last map 1/8, so that 64x64 images give 8x8. classes: rows of `fc`, 0 for none. segments: classes of
    the segmentation head, 0 for none. corrupt: have the head that finds corrupted places. Images are float
    (N, 3, H, W) in [-1, 1]; what lies outside is clamped, as it is when shown. Raises ValueError for an unknown
    stem. Explained in notebook 02.
    """

    def __init__(self, width=64, stem="imagenet", classes=1000, segments=0, corrupt=False):
        super().__init__()
        if stem not in STEMS:
            raise ValueError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")
        self.width, self.stem = width, stem
        kernel = STEMS[stem]
        self.conv1 = nn.Conv2d(3, width, kernel, 2 if stem == "imagenet" else 1, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        units = {level: width * 2 ** (level - 1) for level in LEVELS}
        for level in LEVELS:
            first = Block(units[max(1, level - 1)], units[level], 1 if level == 1 else 2)
            self.add_module(f"layer{level}", nn.Sequential(first, Block(units[level], units[level], 1)))
        self.fc = nn.Linear(units[4], classes) if classes else None
        self.heads = nn.ModuleDict()
        if segments:
            self.heads["segment"] = Pyramid(units, 24, segments)
        if corrupt:
            self.heads["corrupt"] = Pyramid({level: units[level] for level in (3, 4)}, 48, 1)

    @property
    def units(self):
        """Return how many features `pooled` gives."""
        return 8 * self.width

    def all_maps(self, h):
        """Return every level's featuremap of prepared input h: {level: (N, width * 2**(level - 1), h, w)}."""
        h = normalised(self.conv1, self.bn1, h).relu_()
        if self.stem == "imagenet":
            h = F.max_pool2d(h, 3, 2, 1)
        return {level: (h := getattr(self, f"layer{level}")(h)) for level in LEVELS}

    def forward(self, h):
        """Return `fc`'s logits (N, classes), exactly as torchvision does: h is input normalised beforehand."""
        if self.fc is None:
            raise ValueError("this network was stored without its fc layer and has no logits; use pooled or maps")
        return self.fc(self.all_maps(h)[4].mean(dim=(2, 3)))

    def prepare(self, images):
        """Turn images in [-1, 1] into what the first convolution expects; ValueError for anything else."""
        images = coloured(images).to(self.conv1.weight).clamp(-1, 1)
        if self.stem == "small":
            return images
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return ((images + 1) / 2 - mean) / std

    def maps(self, images, level=4):
        """Return the featuremap after layer 1, 2, 3 or 4: (N, width * 2**(level - 1), h, w).

        Keeps gradients if the images or the weights have them. Raises ValueError for another level.
        """
        if level not in LEVELS:
            raise ValueError(f"level must be 1, 2, 3 or 4, got {level!r}")
        return self.all_maps(self.prepare(images))[level]

    def pooled(self, images, batch=BATCH):
        """Return the last map's global average of each image: (N, 8 * width), on the CPU, without gradients."""
        return self._chunks(lambda part: self.maps(part).mean(dim=(2, 3)), images, batch)

    def segment(self, images, batch=BATCH):
        """Return logits (N, len(churches.CLASSES), H, W) of each pixel's class, without gradients.

        Raises ValueError if the file came without a segmentation head.
        """
        return self._head("segment", images, batch)

    def corrupted(self, images, batch=BATCH):
        """Return logits (N, H / 4, W / 4) that a place is corrupted, without gradients.

        Learned from renders with defects painted in (`tools/train/features.py`), never from labels of
        generations, so it is a second opinion on the masks of `gradcam`. Raises ValueError without such a head.
        """
        return self._head("corrupt", images, batch)[:, 0]

    def head(self, name):
        """Return the head of a name, a module on `all_maps`; ValueError if the file came without it."""
        if name not in self.heads:
            have = ", ".join(self.heads) or "none"
            raise ValueError(f"this network has no {name} head (heads: {have}); load the file that carries one")
        return self.heads[name]

    def _head(self, name, images, batch):
        head = self.head(name)
        return self._chunks(lambda part: head(self.all_maps(self.prepare(part))), images, batch)

    @torch.no_grad()
    def _chunks(self, compute, images, batch):
        if batch < 1:
            raise ValueError(f"a batch needs at least one image, got {batch}")
        training = self.training
        self.eval()
        try:
            return torch.cat([compute(part).cpu() for part in images.split(batch)])
        finally:
            self.train(training)


def coloured(images):
    """Return images (N, 3, H, W), grey ones (N, 1, H, W) with their channel repeated; ValueError for anything else."""
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be float (N, 3, H, W) in [-1, 1], or grey (N, 1, H, W), got {images.dtype} "
            f"{tuple(images.shape)}; turn uint8 renders into float by / 127.5 - 1"
        )
    return images.expand(-1, 3, -1, -1)


def load(path):
    """Read a network from a weight file: float32, eval mode, no gradients.

    path: .safetensors, or a published .pth state dict (read with `weights_only`). Width, stem, fc and heads are
    taken from the tensors' names and shapes; float16 files are turned into float32. Raises FileNotFoundError,
    or ValueError for a file that cannot be read or holds anything but this ResNet-18. Explained in notebook 02.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no weight file at {path}; train one with `python -m tools.train.features`")
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        weights = {name: w.float() if w.is_floating_point() else w for name, w in weights.items()}
    except (SafetensorError, UnpicklingError, RuntimeError, AttributeError, OSError) as error:
        why = " ".join(str(error).split())[:120]
        raise ValueError(f"{path} is no readable weight file ({why}); fetch or train it again") from error
    stem = weights.get("conv1.weight", torch.empty(0)).shape
    names = {kernel: name for name, kernel in STEMS.items()}
    if len(stem) != 4 or stem[-1] not in names:
        raise ValueError(f"{path} has a first convolution of shape {tuple(stem)}, expected (width, 3, 3 or 7, ...)")
    rows = {name: len(weights.get(f"{name}.weight", ())) for name in ("fc", "heads.segment.output")}
    network = ResNet18(
        stem[0], names[stem[-1]], rows["fc"], rows["heads.segment.output"], "heads.corrupt.output.weight" in weights
    )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold this ResNet-18: {' '.join(str(error).split())}") from error
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
