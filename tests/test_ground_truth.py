import math

import pytest
import torch

from helpers.evidence import ground_truth

SCORES = {1: torch.tensor([0.9, 0.1, 0.5]), 2: torch.tensor([0.7, 0.2, 0.3])}


def test_average_precision_equals_the_sum_over_ranks():
    # Ranked: (1,0) (2,0) (1,2) (2,2) (2,1) (1,1); the true ones stand at 1, 3 and 6.
    value = ground_truth.average_precision(SCORES, {1: (0, 1, 2)})
    assert value == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    assert ground_truth.average_precision(SCORES, {1: (0,), 2: (0,)}) == 1
    assert ground_truth.average_precision(SCORES, {1: (1,)}) == pytest.approx(1 / 6)
    assert ground_truth.average_precision(SCORES, {1: (1,)}, [1]) == pytest.approx(1 / 3)


def test_average_precision_of_ties_is_the_mean_of_both_orders():
    flat = {1: torch.zeros(5)}
    assert ground_truth.average_precision(flat, {1: (0,)}) == pytest.approx((1 + 1 / 5) / 2)
    assert ground_truth.average_precision(flat, {1: (4,)}) == pytest.approx((1 + 1 / 5) / 2)


def test_average_precision_of_random_scores_is_about_the_share_of_true_units():
    generator = torch.Generator().manual_seed(0)
    values = [
        ground_truth.average_precision({1: torch.rand(400, generator=generator)}, {1: range(40)}) for _ in range(40)
    ]
    assert sum(values) / len(values) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    "scores, units, layers, message",
    [
        ({1: torch.tensor([0.1, math.nan])}, {1: (0,)}, None, "NaN"),
        (SCORES, {3: (0,)}, None, "none of the true units"),
        (SCORES, {1: (0,)}, [2], "none of the true units"),
        (SCORES, {1: (3,)}, None, "no unit 3"),
        (SCORES, {1: (-1,)}, None, "no unit -1"),
        (SCORES, {1: (0,)}, [1, 7], "scores of layers"),
        ({}, {1: (0,)}, None, "scores of layers"),
    ],
)
def test_average_precision_refuses(scores, units, layers, message):
    with pytest.raises(ValueError, match=message):
        ground_truth.average_precision(scores, units, layers)


def test_pointing_hits_where_the_strongest_place_is_inside():
    maps, inside = torch.zeros(4, 6, 6), torch.zeros(4, 6, 6, dtype=torch.bool)
    maps[:2, 2, 3], maps[2, 0, 0] = 1, 1
    maps[:, 5, 5] = maps[:, 5, 5].clamp_min(0) + torch.tensor([0.5, 0.5, 0.5, 0])
    inside[0, 2, 3], inside[1, 5, 5], inside[2:, 0, 0] = True, True, True
    # The last map points nowhere: its first pixel must not count as its strongest.
    assert ground_truth.pointing(maps, inside).tolist() == [True, False, True, False]


def test_overlap_is_intersection_over_union():
    masks, inside = torch.zeros(3, 4, 4, dtype=torch.bool), torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2], inside[0, 1:3] = True, True
    masks[1, 0, 0] = True
    assert ground_truth.overlap(masks, inside).tolist() == pytest.approx([4 / 12, 0, 0])
    assert ground_truth.overlap(masks[:1], masks[:1]).item() == 1


def test_psnr_is_written_out():
    target = torch.zeros(2, 3, 4, 4)
    images = target.clone()
    images[0] += 0.2
    images[1, :, :2] += 0.5
    whole = ground_truth.psnr(images, target)
    assert whole[0].item() == pytest.approx(10 * math.log10(4 / 0.04), abs=1e-4)
    assert whole[1].item() == pytest.approx(10 * math.log10(4 / 0.125), abs=1e-4)
    where = torch.zeros(2, 4, 4, dtype=torch.bool)
    where[1, :2] = True
    inside = ground_truth.psnr(images, target, where)
    assert inside[0].isnan() and inside[1].item() == pytest.approx(10 * math.log10(4 / 0.25), abs=1e-4)
    assert ground_truth.psnr(images, target, ~where)[1].item() == math.inf


def test_psnr_clamps_as_images_are_shown():
    assert ground_truth.psnr(torch.full((1, 3, 2, 2), 5.0), torch.full((1, 3, 2, 2), 1.5)).item() == math.inf


@pytest.mark.parametrize("function", [ground_truth.pointing, ground_truth.overlap, ground_truth.psnr])
def test_shapes_must_be_equal(function):
    with pytest.raises(ValueError, match="shapes must be equal"):
        function(torch.zeros(2, 3, 4, 4), torch.zeros(3, 3, 4, 4))
