import math
import pickle

import numpy as np
import pytest
import torch
from scipy import linalg

from helpers import metrics
from helpers.evidence import frechet


def normal(n, d, seed, scale=1.0, shift=0.0):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((n, d))) * scale + shift


def exactly(mean, deviations, n=64):
    """Samples whose mean and diagonal covariance are exactly those given."""
    d = len(deviations)
    centred = normal(n, d, 5)
    q = torch.linalg.qr(centred - centred.mean(0)).Q * (n - 1) ** 0.5
    return q * torch.tensor(deviations, dtype=torch.float64) + torch.as_tensor(mean, dtype=torch.float64)


def root_distance(x, y):
    """The textbook formula, with SciPy's matrix root."""
    x, y = x.numpy(), y.numpy()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(a @ b).real
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)


# Two sets


@pytest.mark.parametrize(("n", "m"), [(200, 300), (40, 300), (300, 17)])
def test_frechet_equals_the_matrix_root(n, m):
    x, y = normal(n, 40, 1, scale=1.5), normal(m, 40, 2) @ normal(40, 40, 3) / 6 + 0.3
    # SciPy's root of a singular product is good to about 1e-6.
    assert metrics.frechet_distance(x, y) == pytest.approx(root_distance(x, y), rel=1e-9 if min(n, m) > 41 else 1e-4)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 8), (9, 300), (300, 9), (40, 41), (41, 40)])
def test_frechet_is_exact_with_fewer_samples_than_features(n, m):
    x, y = normal(n, 40, 1), normal(m, 40, 2, scale=2.0, shift=0.1)
    xc, yc = x - x.mean(0), y - y.mean(0)
    nuclear = np.linalg.svd((xc @ yc.T).numpy(), compute_uv=False).sum() / math.sqrt((n - 1) * (m - 1))
    traces = float(xc.square().sum() / (n - 1) + yc.square().sum() / (m - 1))
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + traces - 2 * nuclear
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n", [10, 500])
def test_frechet_of_a_shifted_copy_is_the_squared_shift(n):
    x, shift = normal(n, 24, 1), torch.linspace(-1, 2, 24, dtype=torch.float64)
    assert metrics.frechet_distance(x, x + shift) == pytest.approx(float(shift.square().sum()), rel=1e-10)


def test_frechet_of_diagonal_gaussians():
    a, b = [1.0, 2.0, 3.0, 0.0], [2.0, 0.5, 3.0, 1.0]
    x, y = exactly([0, 0, 0, 1], a), exactly([1, 0, -2, 1], b)
    expected = 5 + sum((s - t) ** 2 for s, t in zip(a, b, strict=True))
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n", "d"), [(400, 16), (12, 64)])
def test_frechet_to_itself_is_zero_and_it_is_symmetric(n, d):
    x, y = normal(n, d, 1, scale=7.0, shift=100.0), normal(n + 3, d, 2)
    assert 0 <= metrics.frechet_distance(x, x.clone()) < 1e-8
    assert metrics.frechet_distance(x, y) == pytest.approx(metrics.frechet_distance(y, x), rel=1e-12)


def test_frechet_ignores_order_rotation_and_takes_float32():
    x, y = normal(90, 12, 1), normal(80, 12, 2, shift=0.2)
    rotation = torch.linalg.qr(normal(12, 12, 3)).Q
    value = metrics.frechet_distance(x, y)
    assert metrics.frechet_distance(x.flip(0) @ rotation, y @ rotation) == pytest.approx(value, rel=1e-10)
    assert metrics.frechet_distance(x.float(), y.float()) == pytest.approx(value, rel=1e-5)


def test_prepared_frechet_compares_many_sets_with_one():
    y = normal(200, 20, 1)
    to = pickle.loads(pickle.dumps(metrics.frechet_to(y)))
    for n in (2, 15, 100):
        x = normal(n, 20, n)
        assert to(x) == metrics.frechet_distance(x, y)


def test_small_sets_are_far_from_themselves():
    # The known bias at n/d = 2: about a quarter of the trace, which is why the floor is always shown.
    d = 128
    assert metrics.frechet_distance(normal(256, d, 1), normal(256, d, 2)) / d == pytest.approx(0.25, abs=0.02)


def singular(x, y):
    """The distance by singular values of the centred sets: slower, with no squares to round."""
    xc, yc = (s - s.mean(0) for s in (x, y))
    nuclear = np.linalg.svd((xc @ yc.T).numpy(), compute_uv=False).sum() / math.sqrt((len(x) - 1) * (len(y) - 1))
    traces = xc.square().sum() / (len(x) - 1) + yc.square().sum() / (len(y) - 1)
    return float((x.mean(0) - y.mean(0)).square().sum() + traces) - 2 * nuclear


@pytest.mark.parametrize("power", [0.0, 0.75, 1.5, 3.0])
@pytest.mark.parametrize(("n", "m"), [(200, 300), (30, 300), (30, 25), (300, 25), (48, 49), (49, 48)])
def test_frechet_is_exact_however_fast_the_spectrum_falls(n, m, power):
    scale, turn = torch.arange(1, 49).double() ** -power, torch.linalg.qr(normal(48, 48, 3)).Q
    x, y = (normal(n, 48, 1) * scale) @ turn, (normal(m, 48, 2) * scale) @ turn * 1.05 + 0.01
    assert metrics.frechet_distance(x, y) == pytest.approx(singular(x, y), rel=1e-7)
    rows = torch.from_numpy(np.stack([np.random.RandomState(s).permutation(n)[:20] for s in range(9)]))
    expected = torch.tensor([singular(x[r], y) for r in rows], dtype=torch.float64)
    torch.testing.assert_close(metrics.frechet_distances(x, rows, y), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("block", [1, 7, 40])
@pytest.mark.parametrize(("n", "m"), [(200, 300), (30, 300), (300, 25), (30, 25)])
def test_no_distance_depends_on_the_blocks(n, m, block, monkeypatch):
    x, y = normal(n, 48, 1, scale=1.3) @ normal(48, 48, 3), normal(m, 48, 2, shift=0.5)
    expected = singular(x, y)
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(frechet, "BLOCK", block)
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_rounding_that_would_show_is_noticed_and_avoided(monkeypatch):
    scale = torch.arange(1, 49).double() ** -3.0
    x, y = normal(30, 48, 1) * scale, normal(300, 48, 2) * scale
    truth = singular(x, y)
    assert abs(metrics.frechet_distance(x, y) / truth - 1) < 1e-10
    monkeypatch.setattr(frechet, "DOUBT", math.inf)  # eigenvalues whatever they cost
    assert abs(metrics.frechet_distance(x, y) / truth - 1) > 1e-8


def test_features_that_never_move_cost_nothing():
    x, y = normal(200, 20, 1), normal(300, 20, 2)
    still = torch.tensor([3.0, -1.0]).double()
    wide = [torch.cat([s, still.expand(len(s), 2)], dim=1) for s in (x, y)]
    assert metrics.frechet_distance(*wide) == pytest.approx(metrics.frechet_distance(x, y), rel=1e-9)
    doubled = [torch.cat([s, s[:, :5]], dim=1) for s in (x, y)]
    assert metrics.frechet_distance(*doubled) == pytest.approx(singular(*doubled), rel=1e-9)


# Many subsets against one set


@pytest.mark.parametrize(
    ("n", "k", "d", "m"), [(90, 2, 24, 200), (90, 12, 24, 200), (60, 40, 24, 200), (60, 12, 24, 9)]
)
@pytest.mark.parametrize("limit", [None, 20_000, 1_500])
def test_subsets_are_the_same_one_by_one(n, k, d, m, limit, monkeypatch):
    if limit is not None:  # several batches, and subsets whose features do not fit together
        monkeypatch.setattr(frechet, "BYTES", limit)
    features, real = normal(n, d, 1, scale=1.5, shift=3.0), normal(m, d, 2) @ normal(d, d, 3) / 5
    rows = torch.from_numpy(np.stack([np.random.RandomState(s).permutation(n)[:k] for s in range(40)]))
    expected = torch.tensor([metrics.frechet_distance(features[r], real) for r in rows], dtype=torch.float64)
    found = metrics.frechet_distances(features, rows, real)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(metrics.frechet_to(real).subsets(features, rows.flip(1)), expected, rtol=1e-9, atol=0)


def test_subsets_equal_the_matrix_root():
    features, real = normal(300, 12, 1, scale=0.7), normal(200, 12, 2, shift=0.2)
    rows = torch.arange(300).view(4, 75)
    expected = [root_distance(features[r], real) for r in rows]
    assert metrics.frechet_distances(features, rows, real).tolist() == pytest.approx(expected, rel=1e-9)


def test_a_subset_equal_to_the_real_set_is_at_zero():
    x = normal(30, 40, 1, scale=5.0, shift=50.0)
    found = metrics.frechet_distances(torch.cat([x, x + 1]), torch.arange(60).view(2, 30), x)
    assert 0 <= found[0] < 1e-8 and found[1] == pytest.approx(40, rel=1e-9)


def test_subsets_of_repeated_images_and_float32_features():
    x, y = normal(40, 16, 1), normal(90, 16, 2)
    rows = torch.tensor([[0, 0, 1, 1, 2, 2], [5, 6, 7, 8, 9, 9]])
    expected = [singular(x[r], y) for r in rows]
    assert metrics.frechet_distances(x, rows, y).tolist() == pytest.approx(expected, rel=1e-7)
    assert metrics.frechet_distances(x.float(), rows, y.float()).tolist() == pytest.approx(expected, rel=1e-5)


def test_contrasts_keep_the_scatter_and_lose_the_mean():
    x = normal(7, 5, 1, shift=4.0)
    centred = x - x.mean(0)
    for n in (2, 7):
        c, few = frechet.contrasts(x[:n], 0), x[:n] - x[:n].mean(0)
        assert c.shape == (n - 1, 5)
        torch.testing.assert_close(c.T @ c, few.T @ few)
    both = frechet.contrasts(frechet.contrasts(x @ x.T, 0), 1)
    torch.testing.assert_close(torch.linalg.eigvalsh(both), torch.linalg.eigvalsh(centred @ centred.T)[1:])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.tensor([[0, 20]]), "rows go from 0 to 20, but there are features of 20 images"),
        (torch.tensor([[-1, 2]]), "rows go from -1 to 2"),
        (torch.tensor([[3]]), "at least 2 images each"),
        (torch.tensor([0, 1]), "at least 2 images each"),
        (torch.tensor([[0.0, 1.0]]), "whole numbers"),
        (torch.zeros(0, 3, dtype=torch.long), "whole numbers"),
    ],
)
def test_rows_that_are_no_subsets(rows, message):
    with pytest.raises(ValueError, match=message):
        metrics.frechet_distances(normal(20, 4, 1), rows, normal(20, 4, 2))


def test_subsets_name_the_bad_image():
    features, real = normal(20, 4, 1), normal(20, 4, 2)
    features[13, 2] = math.nan
    assert metrics.frechet_distances(features, torch.tensor([[0, 1, 2]]), real).isfinite().all()
    with pytest.raises(ValueError, match=r"row 13 \(1 such\)"):
        metrics.frechet_distances(features, torch.tensor([[0, 1, 2], [5, 13, 9]]), real)
    with pytest.raises(ValueError, match="4 and 5 wide"):
        metrics.frechet_distances(features, torch.tensor([[0, 1, 2]]), normal(20, 5, 1))
