"""Say how sure a figure is: bootstrap intervals, and Wilson's for shares."""

from typing import NamedTuple

import torch

Z95 = 1.959964  # of the normal distribution, for 95 % intervals


class Interval(NamedTuple):
    """A statistic and its bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap(statistic, *samples, n=1000, level=0.95, seed=0, paired=False):
    """Return a statistic with its bootstrap interval: statistic(*samples) -> Interval(value, low, high).

    statistic: a function that returns a number; or a list of numbers, all measured on the same resamples, which gives
    a list of Intervals.
    samples: tensors, arrays or lists; the first axis of each is resampled on its own, or all alike if paired.
    n: resamples. level: coverage in (0, 1). The percentiles are taken after moving the resamples' mean to the value:
    drawing with replacement repeats images, which raises distances such as FD and KID, and would push a plain
    percentile interval off the value. Resamples where a number is NaN are left out for that number.
    Raises ValueError for empty or unequal paired samples, a level or n out of range, a statistic that is NaN.
    Source: Efron and Tibshirani 1993, chapters 10 and 13. Explained in notebook 01.
    """
    if not 0 < level < 1 or n < 2:
        raise ValueError(f"level must lie between 0 and 1 and n be at least 2, got level {level} and n {n}")
    samples = [s if hasattr(s, "shape") else torch.as_tensor(s) for s in samples]
    sizes = [len(s) for s in samples]
    if not samples or 0 in sizes or (paired and len(set(sizes)) > 1):
        raise ValueError(f"got samples of sizes {sizes}: pass at least one, none empty, all of one size if paired")
    found = torch.as_tensor(statistic(*samples), dtype=torch.float64, device="cpu")
    if found.isnan().any():
        raise ValueError("the statistic is NaN on the samples themselves: check that they hold what it needs")
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(n):
        rows = [torch.randint(size, (size,), generator=generator) for size in (sizes[:1] if paired else sizes)]
        rows = rows * len(sizes) if paired else rows
        draws.append(torch.as_tensor(statistic(*map(_take, samples, rows)), dtype=torch.float64, device="cpu"))
    draws = torch.stack(draws).reshape(n, -1)
    if (lacking := int(draws.isnan().sum(dim=0).max())) > n / 2:
        raise ValueError(f"the statistic is NaN in {lacking} of {n} resamples: the samples are too small for it")
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    ends = (draws - draws.nanmean(dim=0) + found.reshape(1, -1)).nanquantile(tail, dim=0).T.tolist()
    intervals = [Interval(value, *pair) for value, pair in zip(found.reshape(-1).tolist(), ends)]
    return intervals if found.dim() else intervals[0]


def _take(sample, rows):
    return sample[rows.to(sample.device)] if isinstance(sample, torch.Tensor) else sample[rows.numpy()]


def wilson(share, n):
    """Return Wilson's 95 % interval of a share of n: (low, high)."""
    middle, half = share + Z95**2 / (2 * n), Z95 * (share * (1 - share) / n + Z95**2 / (4 * n * n)) ** 0.5
    return tuple((middle + sign * half) / (1 + Z95**2 / n) for sign in (-1, 1))
