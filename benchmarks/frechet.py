"""Measure the Fréchet distance: against SciPy's matrix root, and all units at once against one call each.

The features are random, with a spectrum that falls as those of a trained network do.
"""

import numpy as np
import torch
from scipy import linalg

from benchmarks import compare
from helpers import metrics

UNITS = 512
WAYS = (("ours", "fast"), ("the root", "slow"))


def rows(rounds, wide=2048, narrow=192, sizes=(10_000, 1_000), units=UNITS, tops=(20, 100, 500)):
    """Yield (name, goal, ratio, seconds of the slow way, of the fast way, note): a ratio >= the goal is meant."""
    for n, goal in zip(sizes, (10, 30)):
        yield against_root(rounds, goal, n, wide)
    for width, images in ((narrow, 2000), (wide, sizes[0])):
        features, real = _features(images, width, 3), _features(images, width, 4)
        # The work of a call does not depend on the unit, so few of them stand for all where they take minutes.
        called = units if width == narrow else min(units, 8)
        for k in tops:
            yield all_units(rounds, features, real, k, units, called)


def against_root(rounds, goal, n, width):
    """Compare `metrics.frechet_distance` of n and n images with the textbook formula."""
    x, y = _features(n, width, 1), _features(n, width, 2)
    found = {}
    times = compare(
        lambda: found.update(slow=root_distance(x.numpy(), y.numpy())),
        lambda: found.update(fast=metrics.frechet_distance(x, y)),
        rounds,
    )
    note = f"relative difference {abs(found['fast'] / found['slow'] - 1):.0e}"
    if n <= width:  # the root of a singular product is not accurate itself
        exact = singular_distance(x, y)
        note += "; from singular values: " + ", ".join(
            f"{name} {abs(found[way] / exact - 1):.0e}" for name, way in WAYS
        )
    return f"Fréchet distance, n={n}, d={width}: matrix root / ours", goal, *times, note


def singular_distance(x, y):
    """Return the Fréchet distance by the singular values of both sets' product: exact, for few images."""
    x_centred, y_centred = ((s - s.mean(dim=0)) / (len(s) - 1) ** 0.5 for s in (x, y))
    shared = torch.linalg.svdvals(x_centred @ y_centred.T).sum()
    apart = (x.mean(dim=0) - y.mean(dim=0)).square().sum()
    return float(apart + x_centred.square().sum() + y_centred.square().sum() - 2 * shared)


def root_distance(x, y):
    """Return the Fréchet distance as it is written down, with SciPy's matrix root: arrays (N, D), (M, D)."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(a @ b).real
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * np.trace(root)


def all_units(rounds, features, real, k, units, called):
    """Compare the distances of all units' top k images with one call of `frechet_distance` per unit."""
    generator = torch.Generator().manual_seed(k)
    top = torch.stack([torch.randperm(len(features), generator=generator)[:k] for _ in range(units)])
    found = {}
    each = lambda: found.update(slow=[metrics.frechet_distance(features[r], real) for r in top[:called]])  # noqa: E731
    once = lambda: found.update(fast=metrics.frechet_distances(features, top, real))  # noqa: E731
    part, slow, fast = compare(each, once, rounds)
    slow, share = slow * units / called, units / called
    apart = (found["fast"][:called] / torch.tensor(found["slow"], dtype=torch.float64) - 1).abs().max()
    note = f"relative difference {float(apart):.0e}" + (
        f"; {called} calls timed, times {share:.0f}" if share > 1 else ""
    )
    return (
        f"FD of {units} units, top {k}, d={features.shape[1]}: one by one / at once",
        50,
        part * share,
        slow,
        fast,
        note,
    )


def _features(n, width, seed):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, width + 1).double() ** -0.75
    mixing = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0)).double()).Q
    return (torch.randn(n, width, generator=generator).double() * scale) @ mixing + 0.01 * seed
