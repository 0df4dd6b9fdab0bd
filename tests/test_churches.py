"""The renderer: the same id is the same picture, and the label map tells the truth about it."""

import hashlib

import pytest
import torch

from helpers.worlds import churches as c

IDS = range(4_000_000, 4_000_160)
# sha256 of the picture and then the label map; every label, weight and figure of the suite hangs on these.
GOLDEN = {
    0: "40afea81d7b29c947cc90598404644c7de9482b6035bf5672f30abe3fa097772",
    1: "f4010e569274c9fd3890156ef76ae9a41bf34c0d46986d1576e7340ba617fd27",
    12_345: "e89541455efa223b6aa00d8c5c283ee916a4dff5966ffbf2bda289845a4e0b4d",
    4_294_967_295: "ae969c0ab5e6e2549c76e636dad0e7488b9160c75886b560e72dd1b3f69772d6",
}


@pytest.fixture(scope="module")
def world():
    images, labels = c.render(IDS)
    return images, labels, c.factors(IDS)


def luminance(images):
    return images.float().mean(dim=1)


def digest(image, label):
    return hashlib.sha256(image.numpy().tobytes() + label.numpy().tobytes()).hexdigest()


def test_shapes_types_and_classes(world):
    images, labels, factors = world
    assert images.shape == (160, 3, 64, 64) and images.dtype == torch.uint8
    assert labels.shape == (160, 64, 64) and labels.dtype == torch.uint8
    assert len(factors) == 160 and set(labels.unique().tolist()) == set(range(len(c.CLASSES)))


def test_golden_pictures():
    images, labels = c.render(GOLDEN)
    assert {i: digest(x, y) for i, x, y in zip(GOLDEN, images, labels)} == GOLDEN


def test_order_repetition_and_company_do_not_matter(world):
    images, labels, _ = world
    order = [7, 3, 3, 0, 159]
    again, maps = c.render([IDS[i] for i in order])
    assert torch.equal(again, images[order]) and torch.equal(maps, labels[order])
    assert torch.equal(c.render([IDS[7]])[0][0], images[7])


def test_workers_do_not_matter(world):
    images, labels, _ = world
    again, maps = c.render(IDS[:9], workers=2)
    assert torch.equal(again, images[:9]) and torch.equal(maps, labels[:9])


def test_pictures_differ(world):
    assert len({x.numpy().tobytes() for x in world[0]}) == len(IDS)


def test_no_ids_give_empty_tensors():
    images, labels = c.render([])
    assert images.shape == (0, 3, 64, 64) and labels.shape == (0, 64, 64)
    assert images.dtype == labels.dtype == torch.uint8 and c.factors([]) == []


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_bad_id_is_named(bad):
    for function in (c.render, c.factors):
        with pytest.raises(ValueError, match=rf"from 0 to .*got {bad}"):
            function([5, bad])


def test_last_id_renders():
    assert c.render([2**32 - 1])[0].float().std() > 5


def test_night_is_dark_and_day_is_not(world):
    images, _, factors = world
    light = luminance(images).mean(dim=(1, 2))
    night = torch.tensor([f.time == "night" for f in factors])
    day = torch.tensor([f.time == "day" for f in factors])
    assert night.sum() > 5 and light[night].max() < light[day].min()


def test_snow_ground_is_bright(world):
    images, labels, factors = world
    bright = {True: [], False: []}
    for image, label, f in zip(luminance(images), labels, factors):
        if f.time == "day" and (label == c.GROUND).any():
            bright[f.snow].append(image[label == c.GROUND].mean().item())
    assert len(bright[True]) >= 3 and min(bright[True]) > max(bright[False])


def test_cross_stands_on_towers_only(world):
    _, labels, factors = world
    for label, f in zip(labels, factors):
        cross = (label == c.CROSS).any()
        if f.tower == "none":
            assert not cross
        else:  # unless the picture's upper edge cuts it off
            assert cross or ((label[0] == c.ROOF) | (label[0] == c.WALL)).any()


def test_label_map_shows_the_factors(world):
    _, labels, factors = world
    for label, f in zip(labels, factors):
        assert f.path or not (label == c.PATH).any()
        assert f.hill or not (label == c.HILL).any()
        assert (f.trees > 0) or not (label == c.TREE).any()
        for always in (c.SKY, c.GROUND, c.WALL, c.ROOF):
            assert (label == always).any()
        assert (label[0] == c.SKY).float().mean() > 0.7  # sky above, ground below
        assert not (label[-1] == c.SKY).any()


def within(image, label):
    """Return how much colour varies inside the classes: the mean squared distance to the class's mean colour."""
    pixels, classes = image.float().flatten(1), label.flatten().long()
    ones = torch.nn.functional.one_hot(classes, len(c.CLASSES)).float()
    means = pixels @ ones / ones.sum(0).clamp(min=1)
    return (pixels - means[:, classes]).square().mean().item()


@pytest.mark.parametrize("shift", [(0, 2), (0, -2), (2, 0), (-2, 0)])
def test_label_map_lies_on_the_picture(world, shift):
    images, labels, _ = world
    better = [within(x, y) < within(x, y.roll(shift, (0, 1))) for x, y in zip(images, labels)]
    assert all(better)


def test_brick_walls_are_red(world):
    images, labels, factors = world
    for image, label, f in zip(images.float(), labels, factors):
        if f.wall == "brick" and f.time == "day":
            red, _, blue = image[:, label == c.WALL].mean(dim=1)
            assert red > blue + 20


def test_lit_windows_shine_at_night(world):
    images, labels, factors = world
    shine = {True: [], False: []}
    for image, label, f in zip(luminance(images), labels, factors):
        if f.time == "night" and (label == c.WINDOW).any():
            shine[f.lit].append(image[label == c.WINDOW].max().item())
    assert len(shine[True]) >= 3 and min(shine[True]) > max(shine[False], default=0) + 40


def test_factors_agree_with_their_stated_shares():
    drawn = c.factors(range(5_000_000, 5_002_000))
    share = {name: sum(f.time == name for f in drawn) / len(drawn) for name in c.TIMES}
    for name, expected in zip(c.TIMES, c._TIME_P):
        assert abs(share[name] - expected) < 0.04  # four standard errors at most
    assert {f.tower for f in drawn} == set(c.TOWERS) and {f.wall for f in drawn} == set(c.WALLS)
    assert {f.roof for f in drawn} == set(c.ROOFS) and {f.ground for f in drawn} == set(c.GROUNDS)
    assert {f.trees for f in drawn} == set(range(5))
    assert abs(sum(f.snow for f in drawn) / len(drawn) - 0.1) < 0.03
