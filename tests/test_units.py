import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers import metrics, survey, units
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from tests.networks import Canvas, tiny_generator

N, SIZE = 13, 64  # masks larger than the 16 px images: any target size is the same maths
LAYERS = range(1, 7)


def canvas(activations, batch=8):
    """Return (flow, z) such that layer 1 is `activations` (N, U, H, H)."""
    return Flow(Canvas(*activations.shape[1:3]), batch), activations.flatten(1)


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()), batch=8)


@pytest.fixture(scope="module")
def z():
    return latents(range(N), 9)


@pytest.fixture(scope="module")
def masks():
    """One or two boxes per image; image 4 has no defect."""
    rng, out = np.random.RandomState(0), torch.zeros(N, SIZE, SIZE, dtype=torch.bool)
    for i, mask in enumerate(out):
        for _ in range(1 + i % 2):
            (top, left), (height, width) = rng.randint(0, SIZE - 8, 2), rng.randint(3, 40, 2)
            mask[top : top + height, left : left + width] = True
    out[4] = False
    return out


@pytest.fixture(scope="module")
def levels(flow):
    return survey.thresholds(flow, latents(range(100, 300), 9), 0.05)


def upsampled(h, size):
    return F.interpolate(h[None, None].double(), size=(size, size), mode="bilinear", align_corners=False)[0, 0]


def naive_iou(h, level, mask, order, binarise):
    """One unit, one image: Definition 1 as it is written, with upsampled featuremaps."""
    if order == "netdissect":
        u = (upsampled(h, len(mask)) > level).double()
    else:
        u = upsampled((h > level).double(), len(mask))
        if binarise is not None:
            u = (u >= binarise).double()
    smaller, larger = torch.minimum(u, mask.double()).sum(), torch.maximum(u, mask.double()).sum()
    return smaller, larger


def naive_scores(flow, z, masks, levels, order="paper", binarise=None, reduce="mean"):
    out = {}
    for layer, level in levels.items():
        h = flow.record(z, [layer])[layer]
        pairs = [
            [naive_iou(h[i, u], level[u], masks[i], order, binarise) for u in range(h.shape[1])] for i in range(len(z))
        ]
        pairs = torch.tensor(pairs, dtype=torch.float64)  # (N, U, 2)
        if reduce == "pooled":
            out[layer] = pairs[..., 0].sum(0) / pairs[..., 1].sum(0)
        else:
            ratio = torch.where(pairs[..., 1] > 0, pairs[..., 0] / pairs[..., 1], 0.0)
            out[layer] = ratio.mean(0)
    return out


def assert_scores(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys()
    for layer, score in expected.items():
        torch.testing.assert_close(found[layer].double(), score.double(), rtol=0, atol=tolerance)


# Defective scores


@pytest.mark.parametrize("reduce", ["mean", "pooled"])
@pytest.mark.parametrize(("order", "binarise"), [("paper", None), ("paper", 0.5), ("paper", 0.3), ("netdissect", None)])
def test_defective_scores_equal_upsampling(flow, z, masks, levels, order, binarise, reduce):
    found = units.defective_scores(flow, z, masks, levels, order, binarise, reduce)
    expected = naive_scores(flow, z, masks, levels, order, binarise, reduce)
    assert_scores(found, expected)
    assert sum((score > 0).sum() for score in expected.values()) > 20  # not an agreement of zeros
    assert all(score.min() >= 0 and score.max() <= 1 for score in found.values())


@pytest.mark.parametrize("size", [16, 24, 61])
def test_any_mask_size_down_to_the_layer_gives_the_written_out_score(flow, z, masks, levels, size):
    small = F.interpolate(masks[:, None].float(), size=(size, size), mode="nearest")[:, 0] > 0
    assert_scores(units.defective_scores(flow, z, small, levels), naive_scores(flow, z, small, levels))


def hand_case():
    """A 4x4 map with one lit cell in front of an 8x8 mask of just the four pixels that the cell covers."""
    h, mask = torch.zeros(1, 1, 4, 4), torch.zeros(1, 8, 8, dtype=torch.bool)
    h[0, 0, 1, 1], mask[0, 2:4, 2:4] = 1.0, True
    return *canvas(h), mask


def test_the_orders_differ_on_a_case_done_by_hand():
    flow, z, mask = hand_case()
    low, high = {1: torch.tensor([0.5])}, {1: torch.tensor([0.6])}
    # Upsampled 4 -> 8, a lit cell weighs 0.75 * 0.75 on its own pixels and sums to 4: 2.25 / (4 + 4 - 2.25).
    for level in (low, high):
        assert units.defective_scores(flow, z, mask, level)[1].item() == pytest.approx(9 / 23, abs=1e-6)
    # Thresholded after upsampling, the peak is only 0.5625 high.
    assert units.defective_scores(flow, z, mask, low, order="netdissect")[1].item() == 1
    assert units.defective_scores(flow, z, mask, high, order="netdissect")[1].item() == 0
    assert units.defective_scores(flow, z, mask, high, binarise_upsampled=0.5)[1].item() == 1


@pytest.mark.parametrize("ratio", [2, 16, 128])
def test_an_isolated_cell_keeps_its_mass_but_not_its_area(ratio):
    h, size = torch.zeros(1, 1, 4, 4), 4 * ratio
    h[0, 0, 1, 2] = 1.0
    flow, z = canvas(h)
    everything, level = torch.ones(1, size, size, dtype=torch.bool), {1: torch.tensor([0.5])}
    cells = 16 * units.defective_scores(flow, z, everything, level)[1].item()
    assert cells == pytest.approx(1, abs=1e-5)
    kept = 16 * units.defective_scores(flow, z, everything, level, binarise_upsampled=0.5)[1].item()
    tent = 1 - np.abs(np.arange(size) + 0.5 - 1.5 * ratio) / ratio
    tent = tent.clip(0)
    assert kept == pytest.approx((np.outer(tent, tent) >= 0.5).sum() / ratio**2, abs=1e-5)
    if ratio == 128:
        assert kept == pytest.approx(4 * (0.5 - 0.5 * math.log(2)), abs=3e-3)  # 0.614 in the continuous limit


def test_mean_and_pooled_differ_on_two_images_done_by_hand():
    h, masks = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    h[0, 0, 0, 0] = h[1, 0, :, :2] = 1.0
    masks[0, 0, 0], masks[1, :, 1:] = True, True
    flow, z = canvas(h)
    level = {1: torch.tensor([0.5])}
    assert units.defective_scores(flow, z, masks, level)[1].item() == pytest.approx((1 / 1 + 4 / 16) / 2)
    assert units.defective_scores(flow, z, masks, level, reduce="pooled")[1].item() == pytest.approx((1 + 4) / (1 + 16))


def test_an_empty_mask_counts_as_zero(flow, z, masks, levels):
    some = masks.clone()
    some[::2] = False
    found, lit = units.ious(flow, z, some, levels), some.any(dim=(1, 2))
    for layer, score in units.defective_scores(flow, z, some, levels).items():
        assert (found[layer][~lit] == 0).all() and score.isfinite().all()
        torch.testing.assert_close(score, found[layer][lit].sum(0) / N)
    one = torch.zeros_like(masks)
    one[3, 10:30, 10:30] = True
    alone = units.defective_scores(flow, z[3:4], one[3:4], levels)
    assert_scores(units.defective_scores(flow, z, one, levels), {n: s / N for n, s in alone.items()})


def test_a_constant_unit_scores_zero():
    network = tiny_generator()
    with torch.no_grad():
        network.layer2.weight[4], network.layer2.bias[4] = 0, 0.7
    flow, z = Flow(pggan.Layers(network)), latents(range(20), 9)
    masks = torch.ones(20, 32, 32, dtype=torch.bool)
    for order in ("paper", "netdissect"):
        found = units.defective_scores(flow, z, masks, survey.thresholds(flow, z, layers=[3]), order)
        assert found[3][4] == 0 and found[3].max() > 0


def test_the_mean_of_the_ious_is_the_score_and_a_row_is_the_image_alone(flow, z, masks, levels):
    found, scores = units.ious(flow, z, masks, levels), units.defective_scores(flow, z, masks, levels)
    assert_scores({layer: iou.mean(0) for layer, iou in found.items()}, scores)
    for i in (0, 7, 12):
        alone = units.defective_scores(flow, z[i : i + 1], masks[i : i + 1], levels)
        assert_scores({layer: iou[i] for layer, iou in found.items()}, alone)
    assert found[1].shape == (N, 12) and found[6].shape == (N, 8)


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_the_batch_size_and_the_order_change_nothing(flow, z, masks, levels, batch):
    other, order = Flow(flow.network, batch), torch.randperm(N, generator=torch.Generator().manual_seed(1))
    for reduce in ("mean", "pooled"):
        expected = units.defective_scores(flow, z, masks, levels, reduce=reduce)
        assert_scores(units.defective_scores(other, z, masks, levels, reduce=reduce), expected)
        assert_scores(units.defective_scores(other, z[order], masks[order], levels, reduce=reduce), expected)


def test_scaling_all_activations_of_a_unit_changes_nothing():
    g = torch.Generator().manual_seed(2)
    h, masks = torch.randn(9, 4, 8, 8, generator=g), torch.rand(9, 32, 32, generator=g) > 0.7
    scores = []
    for factor in (torch.ones(4), torch.tensor([1e-3, 0.5, 7.0, 1e4])):
        flow, z = canvas(h * factor[:, None, None])
        scores.append(units.defective_scores(flow, z, masks, survey.thresholds(flow, z, 0.1, [1])))
    assert_scores(scores[0], scores[1])


def test_the_scores_find_the_unit_that_draws_the_defect():
    g = torch.Generator().manual_seed(3)
    h, masks = torch.rand(30, 5, 8, 8, generator=g), torch.zeros(30, 64, 64, dtype=torch.bool)
    for i, (row, column) in enumerate(torch.randint(0, 6, (30, 2), generator=g).tolist()):
        h[i, 3, row : row + 2, column : column + 2] += 5
        masks[i, 8 * row : 8 * row + 16, 8 * column : 8 * column + 16] = True
    flow, z = canvas(h)
    scores = units.defective_scores(flow, z, masks, survey.thresholds(flow, z, 4 / 64, [1]))[1]
    assert scores.argmax() == 3 and scores[3] > 3 * scores.sort().values[-2]


def test_bad_masks_are_refused(flow, z, masks, levels):
    for run in (units.defective_scores, units.ious):
        for wrong in (masks.float(), masks.byte(), masks[:, :32], masks[0], masks[:, None]):
            with pytest.raises(ValueError, match=r"masks must be a bool tensor \(N, H, H\), got"):
                run(flow, z, wrong, levels)
        with pytest.raises(ValueError, match="got 12 masks for 13 images"):
            run(flow, z, masks[:-1], levels)
        with pytest.raises(ValueError, match="no mask has a single pixel"):
            run(flow, z, torch.zeros_like(masks), levels)
        with pytest.raises(ValueError, match="got 8 px for layer 5"):
            run(flow, z, masks[:, ::8, ::8], levels)


def test_bad_arguments_are_refused(flow, z, masks, levels):
    for run in (units.defective_scores, units.ious):
        with pytest.raises(ValueError, match="order must be 'paper' or 'netdissect', got 'mixed'"):
            run(flow, z, masks, levels, order="mixed")
        with pytest.raises(ValueError, match="layer 2 has 12 units, got 10 thresholds"):
            run(flow, z, masks, {2: torch.zeros(10)})
        with pytest.raises(ValueError, match="there is no layer 9"):
            run(flow, z, masks, {9: torch.zeros(10)})
        with pytest.raises(ValueError, match="at least one layer"):
            run(flow, z, masks, {})
        with pytest.raises(ValueError, match="binarise_upsampled .* order 'paper'"):
            run(flow, z, masks, levels, order="netdissect", binarise_upsampled=0.5)
        for level in (0, -0.5, 1.5):
            with pytest.raises(ValueError, match=f"binarise_upsampled lies in .*, got {level}"):
                run(flow, z, masks, levels, binarise_upsampled=level)
    with pytest.raises(ValueError, match="reduce must be 'mean' or 'pooled', got 'sum'"):
        units.defective_scores(flow, z, masks, levels, reduce="sum")


def test_activations_and_thresholds_that_are_not_finite_are_named(flow, z, masks, levels):
    h = torch.rand(3, 2, 4, 4)
    h[1, 1, 2, 2] = torch.nan
    broken, latent = canvas(h)
    with pytest.raises(ValueError, match="layer 1, unit 1 has activations that are not finite"):
        units.defective_scores(broken, latent, masks[:3], {1: torch.zeros(2)})
    nan = levels[3].clone()
    nan[7] = torch.nan
    with pytest.raises(ValueError, match="layer 3, unit 7 has the threshold nan"):
        units.ious(flow, z, masks, levels | {3: nan})


def test_scoring_leaves_its_inputs_alone(flow, z, masks, levels):
    kept = z.clone(), masks.clone(), {layer: level.clone() for layer, level in levels.items()}
    units.defective_scores(flow, z, masks, levels)
    assert torch.equal(z, kept[0]) and torch.equal(masks, kept[1])
    assert all(torch.equal(levels[layer], level) for layer, level in kept[2].items())


# Upsampling and its adjoint


@pytest.mark.parametrize(("size", "target"), [(4, 64), (8, 64), (16, 64), (16, 16), (4, 7), (8, 61)])
def test_upsampling_is_half_pixel_bilinear_and_pull_back_its_adjoint(size, target):
    g = torch.Generator().manual_seed(4)
    h, masks = torch.randn(5, size, size, generator=g), torch.rand(5, target, target, generator=g) > 0.4
    m = units.upsampling_matrix(size, target)
    up = F.interpolate(h[:, None], size=(target, target), mode="bilinear", align_corners=False)[:, 0]
    assert m.shape == (target, size)
    torch.testing.assert_close(m @ h @ m.T, up, rtol=1e-5, atol=1e-5)
    there = (up.double() * masks).sum(dim=(1, 2))
    back = (h.double() * units.pull_back(masks, size).double()).sum(dim=(1, 2))
    torch.testing.assert_close(back, there, rtol=1e-5, atol=1e-4)


def test_upsampling_keeps_constants_ramps_and_centres():
    m = units.upsampling_matrix(8, 64).double()
    torch.testing.assert_close(m.sum(1), torch.ones(64, dtype=torch.double))
    pixels, cells = torch.arange(64.0).double(), torch.arange(8.0).double()
    ramp = m @ ((cells + 0.5) * 8 - 0.5)
    torch.testing.assert_close(ramp[4:-4], pixels[4:-4])  # beyond the outer cells' centres it is flat
    for cell in range(1, 7):
        centroid = (pixels * m[:, cell]).sum() / m[:, cell].sum()
        assert centroid.item() == pytest.approx((cell + 0.5) * 8 - 0.5, abs=1e-5)


# Other rankings


def test_fd_scores_are_the_distances_of_each_units_top_images(flow):
    z, g = latents(range(60), 9), torch.Generator().manual_seed(5)
    features, real = torch.randn(60, 6, generator=g), torch.randn(80, 6, generator=g) + 0.3
    top = survey.top_images(flow, z, 15)
    found = units.fd_scores(top, features, real)
    assert list(found) == list(LAYERS)
    for layer, score in found.items():
        expected = [metrics.frechet_distance(features[rows], real) for rows in top[layer]]
        torch.testing.assert_close(score.double(), torch.tensor(expected, dtype=torch.double), rtol=1e-5, atol=1e-6)


def test_fd_scores_of_layers_with_different_numbers_of_top_images():
    g = torch.Generator().manual_seed(8)
    features, real = torch.randn(60, 6, generator=g), torch.randn(80, 6, generator=g)
    top = {k: torch.stack([torch.randperm(60, generator=g)[:k] for _ in range(4)]) for k in (9, 4, 30)}
    top[2] = top[9].flip(0)
    found = units.fd_scores(top, features, real)
    assert list(found) == [9, 4, 30, 2] and torch.equal(found[2], found[9].flip(0))
    for layer, rows in top.items():
        expected = torch.tensor([metrics.frechet_distance(features[r], real) for r in rows])
        torch.testing.assert_close(found[layer], expected, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="rows go from 0 to 59, but there are features of 50 images"):
        units.fd_scores({1: torch.tensor([[0, 59]])}, features[:50], real)
    with pytest.raises(ValueError, match="at least 2 images each"):
        units.fd_scores({1: torch.tensor([[3], [4]])}, features, real)
    with pytest.raises(ValueError, match="at least 2 images each"):
        units.fd_null(features, real, 1)
    with pytest.raises(ValueError, match="6 and 5 wide"):
        units.fd_scores(top, features, real[:, :5])


def test_fd_null_is_what_random_subsets_score():
    g = torch.Generator().manual_seed(6)
    features, real = torch.randn(200, 4, generator=g), torch.randn(300, 4, generator=g)
    features[:20] += 4  # a group of outliers, which one unit picks
    null = units.fd_null(features, real, 20)
    assert null.shape == (100,) and null.isfinite().all() and (null > 0).all() and len(null.unique()) == 100
    assert torch.equal(null, units.fd_null(features, real, 20))
    assert not torch.equal(null, units.fd_null(features, real, 20, seed=1))
    tops = torch.stack([torch.arange(20), torch.arange(0, 200, 10)])
    outliers, spread = units.fd_scores({1: tops}, features, real)[1]
    assert outliers > null.quantile(0.99) and null.min() <= spread <= null.max()
    means = [units.fd_null(features, real, k, draws=30).mean() for k in (10, 20, 80)]
    assert means[0] > means[1] > means[2]  # the bias of small sets
    whole = units.fd_null(features, real, 200, draws=3)
    torch.testing.assert_close(whole, torch.full((3,), metrics.frechet_distance(features, real)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="cannot pick 201 of 200 images"):
        units.fd_null(features, real, 201)


def test_random_scores_are_reproducible_and_differ_by_seed(flow):
    scores = units.random_scores(flow, seed=3)
    assert list(scores) == list(LAYERS)
    assert all(len(s) == flow.units(layer) and s.min() >= 0 and s.max() < 1 for layer, s in scores.items())
    assert all(torch.equal(s, units.random_scores(flow, seed=3)[layer]) for layer, s in scores.items())
    assert not any(torch.equal(s, units.random_scores(flow, seed=4)[layer]) for layer, s in scores.items())
    assert list(units.random_scores(flow, layers=[2, 5])) == [2, 5]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    units.random_scores(flow)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's random numbers shift


# From scores to weights, ranks and tables


def test_normalise_by_hand():
    scores = {1: torch.tensor([0.2, 0.1, 0.4]), 2: torch.tensor([0.8, 0.6, 0.8, 0.0])}
    by_hand = {
        "minmax": [[1 / 3, 0, 1], [1, 0.75, 1, 0]],
        "max": [[0.5, 0.25, 1], [1, 0.75, 1, 0]],
        "global": [[0.25, 0.125, 0.5], [1, 0.75, 1, 0]],
        "none": [[0.2, 0.1, 0.4], [0.8, 0.6, 0.8, 0]],
    }
    for how, (first, second) in by_hand.items():
        found = units.normalise(scores, how)
        assert_scores(found, {1: torch.tensor(first), 2: torch.tensor(second)})
        assert all(torch.equal(order, units.rank(found)[layer]) for layer, order in units.rank(scores).items())
    assert units.normalise(scores)[1].tolist() == units.normalise(scores, "minmax")[1].tolist()
    assert scores[1].tolist() == torch.tensor([0.2, 0.1, 0.4]).tolist()
    with pytest.raises(ValueError, match="how must be 'minmax', 'max', 'global' or 'none', got 'softmax'"):
        units.normalise(scores, "softmax")


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_equal_scores_become_zero_and_never_nan(value):
    equal = {1: torch.full((5,), value), 2: torch.full((3,), value)}
    for how in ("minmax", "max", "global"):
        assert all((s == 0).all() for s in units.normalise(equal, how).values()), how
    mixed = {1: torch.full((5,), value), 2: torch.tensor([value, value + 1])}
    for how in ("minmax", "max"):
        assert (units.normalise(mixed, how)[1] == 0).all(), how
    assert units.normalise(mixed, "global")[2].tolist() == [0, 1]
    assert units.normalise(equal, "none")[1].tolist() == equal[1].tolist()


def test_rank_puts_the_highest_first_and_ties_by_unit_number():
    g = torch.Generator().manual_seed(7)
    scores = {2: torch.tensor([0.1, 0.9, 0.1, 0.9, 0.5]), 5: torch.randint(0, 4, (300,), generator=g).float()}
    found = units.rank(scores)
    assert found[2].tolist() == [1, 3, 4, 0, 2]
    np.testing.assert_array_equal(found[5], np.argsort(-scores[5].numpy(), kind="stable"))
    assert units.rank({1: torch.zeros(40)})[1].tolist() == list(range(40))


def test_table_lays_every_unit_out_once():
    scores = {2: torch.tensor([0.25, 0.75, 0.25]), 1: torch.tensor([0.5, 1.0])}
    frame = units.table(scores)
    assert list(frame.columns) == ["layer", "unit", "score", "rank"]
    assert frame.values.tolist() == [[2, 1, 0.75, 1], [2, 0, 0.25, 2], [2, 2, 0.25, 3], [1, 1, 1.0, 1], [1, 0, 0.5, 2]]
    assert [frame[c].dtype.kind for c in frame] == ["i", "i", "f", "i"]
    assert list(frame.index) == list(range(5))
