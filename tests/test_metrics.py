import math

import numpy as np
import pytest
import torch

from helpers import metrics


def normal(n, d, seed, scale=1.0, shift=0.0):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((n, d))) * scale + shift


# Kernel distance


def test_kernel_distance_equals_the_double_loop():
    x, y = normal(7, 5, 1).numpy(), normal(9, 5, 2, shift=0.5).numpy()

    def k(a, b):
        return (a @ b / 5 + 1) ** 3

    xx = sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
    yy = sum(k(y[i], y[j]) for i in range(9) for j in range(9) if i != j) / 72
    xy = sum(k(a, b) for a in x for b in y) / 63
    assert metrics.kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_kernel_distance_is_unbiased():
    values = np.array([metrics.kernel_distance(normal(20, 8, s), normal(30, 8, 1000 + s)) for s in range(400)])
    assert abs(values.mean()) < 3 * values.std() / 20 and (values < 0).any()
    assert metrics.kernel_distance(normal(200, 8, 1), normal(200, 8, 2, shift=1.0)) > 10 * values.std()


# Neighbour statistics


def naive_radii(x, k):
    return [sorted(float((a - b).norm()) for j, b in enumerate(x) if j != i)[k - 1] for i, a in enumerate(x)]


def naive_prdc(real, fake, k):
    r, f = naive_radii(real, k), naive_radii(fake, k)
    d = [[float((a - b).norm()) for b in fake] for a in real]
    n, m = len(real), len(fake)
    return (
        sum(any(d[i][j] < r[i] for i in range(n)) for j in range(m)) / m,
        sum(any(d[i][j] < f[j] for j in range(m)) for i in range(n)) / n,
        sum(d[i][j] < r[i] for i in range(n) for j in range(m)) / (k * m),
        sum(min(d[i]) < r[i] for i in range(n)) / n,
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc_equals_the_loops(k):
    real, fake = normal(40, 6, 1), normal(30, 6, 2, scale=0.8, shift=0.3)
    assert metrics.prdc(real, fake, k) == pytest.approx(naive_prdc(real, fake, k), abs=1e-12)


def test_prdc_of_equal_large_samples():
    result = metrics.prdc(normal(1500, 16, 1), normal(1500, 16, 2))
    assert result.density == pytest.approx(1, abs=0.1) and result.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_prdc_of_sets_apart_is_zero_and_swapping_swaps_precision_and_recall():
    a, b = normal(30, 4, 1), normal(40, 4, 2, scale=0.4)
    assert metrics.prdc(a, b + 100) == (0, 0, 0, 0)
    assert metrics.prdc(a, b).precision == metrics.prdc(b, a).recall != metrics.prdc(a, b).recall


def test_duplicates_lie_in_no_ball_because_inside_is_strict():
    points = torch.zeros(10, 3)
    assert metrics.prdc(points, points, k=3) == (0, 0, 0, 0)
    # On a grid every distance ties: the k-th neighbour itself is not strictly nearer than the radius.
    line = torch.arange(6.0)[:, None]
    assert metrics.prdc(line, line, k=1) == (1, 1, 1, 1)  # each point lies in its own ball only
    assert metrics.prdc(line, line + 1, k=1).precision == pytest.approx(5 / 6)


def naive_realism(real, fake, k):
    radii = naive_radii(real, k)
    half = sorted(radii)[: (len(radii) + 1) // 2]
    kept = [(a, r) for a, r in zip(real, radii, strict=True) if r <= half[-1]]
    return [max(r / float((g - a).norm()) for a, r in kept) for g in fake]


@pytest.mark.parametrize("n", [30, 31])
def test_realism_equals_the_loops(n):
    real, fake = normal(n, 6, 1), normal(12, 6, 2)
    expected = torch.tensor(naive_realism(real, fake, 3), dtype=torch.float64)
    assert torch.allclose(metrics.realism(real, fake), expected, rtol=1e-12)
    assert torch.allclose(metrics.realism(real, fake, squared=True), expected**2, rtol=1e-12)
    assert torch.equal(metrics.realism_to(real)(fake[:1]), metrics.realism(real, fake)[:1])


def test_squared_realism_follows_the_published_convention():
    real, fake = normal(200, 16, 1).numpy(), normal(50, 16, 2).numpy()
    own = ((real[:, None] - real[None]) ** 2).sum(-1)
    radii = np.partition(own, 3, axis=1)[:, 3]
    radii[radii > np.percentile(radii, 50)] = 0
    cross = ((fake[:, None] - real[None]) ** 2).sum(-1)
    expected = (radii / (cross + 1e-5)).max(axis=1)
    assert np.allclose(metrics.realism(real, fake, squared=True).numpy(), expected, rtol=1e-4)


def test_pruning_ignores_the_outlier_with_the_wide_ball():
    real = torch.cat([normal(20, 2, 1, scale=0.1), torch.tensor([[50.0, 0.0]], dtype=torch.float64)])
    beside = torch.tensor([[49.0, 0.0]])
    assert metrics.realism(real, beside) < 0.1 and metrics.prdc(real, beside.repeat(6, 1)).precision == 1


def test_realism_of_copies():
    real = normal(20, 3, 1)
    values = metrics.realism(real, real)
    assert values.isinf().sum() == 10 and not values.isnan().any()
    assert torch.equal(metrics.realism(torch.zeros(8, 2), torch.zeros(1, 2)), torch.zeros(1, dtype=torch.float64))


def test_rarity_equals_the_loops_and_is_nan_outside():
    real = normal(40, 3, 1)
    fake = torch.cat([normal(30, 3, 2, scale=1.3), torch.full((1, 3), 50.0, dtype=torch.float64)])
    radii, expected = naive_radii(real, 3), []
    for g in fake:
        inside = [r for a, r in zip(real, radii, strict=True) if float((g - a).norm()) < r]
        expected.append(min(inside) if inside else math.nan)
    result = metrics.rarity(real, fake)
    assert torch.allclose(result, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, equal_nan=True)
    assert result[-1].isnan() and 0 < result.isnan().sum() < 31
    line = torch.arange(6.0)[:, None]  # all radii are 1, and the rim is outside
    assert metrics.rarity(line, torch.tensor([[6.0], [5.999]]), k=1).nan_to_num(-1).tolist() == [-1, 1]


def test_no_result_depends_on_the_chunk(monkeypatch):
    real, fake = normal(45, 5, 1), normal(33, 5, 2)

    def everything():
        return (*metrics.prdc(real, fake), *metrics.realism(real, fake).tolist(), *metrics.rarity(real, fake).tolist())

    whole, kernel = everything(), metrics.kernel_distance(real, fake)
    for chunk in (1, 7, 32):
        monkeypatch.setattr(metrics, "CHUNK", chunk)
        assert np.array_equal(everything(), whole, equal_nan=True)
        assert metrics.kernel_distance(real, fake) == pytest.approx(kernel, rel=1e-12)


# Scores of a classifier


def test_auc_counts_pairs_with_ties_as_half():
    rng = np.random.RandomState(0)
    scores, labels = rng.randint(0, 8, 60), rng.rand(60) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[labels] for b in scores[~labels]]
    assert metrics.auc(scores, labels) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert metrics.auc(-scores, labels) == pytest.approx(1 - np.mean(pairs), rel=1e-12)


def test_auc_at_the_ends():
    assert metrics.auc([1, 2, 3], [0, 0, 1]) == 1 and metrics.auc([5, 5, 5], [0, 1, 1]) == 0.5
    assert math.isnan(metrics.auc([1, 2], [1, 1])) and math.isnan(metrics.auc([1, 2], [0, 0]))
    with pytest.raises(ValueError, match="score 1 is NaN"):
        metrics.auc([1, math.nan], [0, 1])
    with pytest.raises(ValueError, match="3 scores but 2 labels"):
        metrics.auc([1, 2, 3], [0, 1])


def test_macro_f1_by_hand():
    truth, predicted = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]
    assert metrics.macro_f1(predicted, truth) == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)
    assert metrics.macro_f1([0, 0], [0, 0]) == 1 and metrics.macro_f1([0, 0], [1, 1]) == 0
    with pytest.raises(ValueError, match="1 predictions for 2"):
        metrics.macro_f1([0], [0, 1])


# Bootstrap


def test_bootstrap_interval_of_a_mean():
    x = normal(400, 1, 1).flatten()
    value, low, high = metrics.bootstrap(torch.mean, x, n=2000)
    error = float(x.std()) / 20
    assert value == float(x.mean())
    assert low == pytest.approx(value - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(value + 1.96 * error, abs=0.15 * error)
    narrow = metrics.bootstrap(torch.mean, x, n=2000, level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * error, rel=0.1)


def test_bootstrap_covers_as_often_as_it_says():
    inside = 0
    for seed in range(200):
        interval = metrics.bootstrap(torch.mean, normal(40, 1, seed).flatten(), n=200, level=0.8, seed=seed)
        inside += interval.low <= 0 <= interval.high
    assert 0.7 < inside / 200 < 0.88  # 0.8 with three standard errors, less for 40 samples


def test_bootstrap_of_a_frechet_distance_is_not_pushed_off_by_repeated_images():
    scale = torch.logspace(0, -2, 48, dtype=torch.float64)
    to = metrics.frechet_to(normal(800, 48, 1) * scale)
    truth = np.mean([to((normal(100, 48, seed) + 0.05) * scale) for seed in range(100, 160)])
    x = (normal(100, 48, 2) + 0.05) * scale
    interval = metrics.bootstrap(to, x, n=200)
    assert interval.low < truth < interval.high and interval.low < interval.value < interval.high
    again = [to(x[torch.from_numpy(np.random.RandomState(s).randint(0, 100, 100))]) for s in range(50)]
    assert np.mean(again) > interval.high  # what a plain percentile interval would be centred on


def test_bootstrap_pairs_and_seeds():
    x = normal(100, 1, 1).flatten()

    def difference(a, b):
        return (a - b).mean()

    paired = metrics.bootstrap(difference, x, x + 1, n=100, paired=True)
    assert paired == pytest.approx((-1, -1, -1))
    free = metrics.bootstrap(difference, x, x + 1, n=100)
    assert free.high - free.low > 0.3
    assert free == metrics.bootstrap(difference, x, x + 1, n=100)
    assert free != metrics.bootstrap(difference, x, x + 1, n=100, seed=1)


def test_bootstrap_takes_arrays_lists_and_sizes_that_differ():
    interval = metrics.bootstrap(lambda a, b: a.mean() - b.float().mean(), np.arange(10.0), [1, 2, 3], n=50)
    assert interval.value == 2.5 and interval.low < 2.5 < interval.high


def test_bootstrap_leaves_out_resamples_without_a_class():
    scores, labels = torch.arange(8.0), torch.arange(8) >= 6
    interval = metrics.bootstrap(metrics.auc, scores, labels, n=200, paired=True)
    assert interval == (1, 1, 1)
    with pytest.raises(ValueError, match="the statistic is NaN on the samples"):
        metrics.bootstrap(metrics.auc, scores, scores >= 0, n=20, paired=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 1.5}, "level 1.5"),
        ({"n": 1}, "n 1"),
        ({"samples": [torch.ones(3), torch.ones(2)], "paired": True}, r"\[3, 2\]"),
        ({"samples": [torch.ones(0)]}, r"\[0\]"),
        ({"samples": []}, "at least one"),
    ],
)
def test_bootstrap_refuses(arguments, message):
    arguments = dict(arguments)
    samples = arguments.pop("samples", [torch.ones(3)])
    with pytest.raises(ValueError, match=message):
        metrics.bootstrap(lambda *s: 0.0, *samples, **arguments)


# Bad input

PAIRWISE = [metrics.frechet_distance, metrics.kernel_distance, metrics.prdc, metrics.realism, metrics.rarity]


@pytest.mark.parametrize("compare", PAIRWISE)
def test_bad_features_are_named(compare):
    good = normal(20, 4, 1)
    broken = good.clone()
    broken[7, 2] = math.nan
    broken[9, 0] = math.inf
    for pair in ((broken, good), (good, broken)):
        with pytest.raises(ValueError, match=r"row 7 \(2 such\)"):
            compare(*pair)
    with pytest.raises(ValueError, match="4 and 5 wide|5 and 4 wide"):
        compare(good, normal(20, 5, 1))
    for few in (good[:1], good[:0], good[0]):
        with pytest.raises(ValueError, match="at least 2 samples"):
            compare(few, good)


@pytest.mark.parametrize("compare", PAIRWISE[2:])
def test_k_must_leave_a_neighbour(compare):
    good = normal(20, 4, 1)
    for k in (0, 20):
        with pytest.raises(ValueError, match=f"between 1 and 19, got {k}"):
            compare(good, good, k=k)
    assert compare(good, good + 1, k=19) is not None


def test_bootstrap_of_several_numbers_measures_all_on_the_same_resamples():
    x, y = normal(60, 1, 0).flatten(), normal(60, 1, 1).flatten()
    both = metrics.bootstrap(lambda a, b: [a.mean(), float((a - b).mean())], x, y, n=200, paired=True)
    apart = metrics.bootstrap(lambda a, b: (a - b).mean(), x, y, n=200, paired=True)
    torch.testing.assert_close(torch.tensor(both), torch.tensor([metrics.bootstrap(torch.mean, x, n=200), apart]))
    assert isinstance(both[1], metrics.Interval)


def test_bootstrap_of_several_numbers_leaves_out_what_is_nan_for_each_alone():
    scores, labels = torch.arange(6.0), torch.tensor([0, 0, 0, 0, 0, 1])
    mean, area = metrics.bootstrap(lambda s, k: [s.mean(), metrics.auc(s, k)], scores, labels, n=200, paired=True)
    assert mean == metrics.bootstrap(lambda s, k: s.mean(), scores, labels, n=200, paired=True)
    assert area == metrics.bootstrap(metrics.auc, scores, labels, n=200, paired=True)
    with pytest.raises(ValueError, match="NaN"):
        metrics.bootstrap(lambda s, k: [s.mean(), metrics.auc(s, k)], scores, scores >= 0, n=20, paired=True)


def test_moved_is_in_units_of_the_distance_between_images():
    x = torch.tensor([[0.0, 0], [3, 4], [0, 0]])
    after = x + torch.tensor([[0.0, 2], [0, 0], [1, 0]])
    assert metrics.moved(x, after).tolist() == pytest.approx([2 / (10 / 3), 0, 1 / (10 / 3)])
    for bad in (after[:2], after[:, :1]):
        with pytest.raises(ValueError, match="pass both of the same images"):
            metrics.moved(x, bad)
    with pytest.raises(ValueError, match="pass both of the same images"):
        metrics.moved(x[:1], x[:1])
