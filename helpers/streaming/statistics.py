"""Statistics of all units of a layer, taken in batch by batch and merged in any order: what a survey gathers.

Each has `update(h, start, peaks)` with a featuremap (B, U, H, W), the row number of its first image and its
`quantiles.peaks`, `merge(other)` with the same statistic of other images, and `state` and `restore`, by which it is
saved and sent: plain arrays and numbers.
"""

import numpy as np
import torch

ROUNDING = 16  # a unit's mean square may be so many times its variance before that is computed with more care


class Statistic:
    """What the statistics share: they are saved as the attributes named in `kept`."""

    kept = ()

    def state(self):
        """Return what was gathered, as {name: array or number}."""
        return {name: getattr(self, name) for name in self.kept}

    def restore(self, state):
        """Take over what another one of the same make had gathered; returns itself."""
        vars(self).update(state)
        return self


class Rate(Statistic):
    """The share of images, and of positions, in which each unit is above a level."""

    kept = ("hits", "count")

    def __init__(self, above):
        self.above, self.hits, self.count = above, np.zeros((), np.int32), 0  # hits (H, W, U)

    def update(self, h, start, peaks):
        """See the module."""
        level = self.above.to(h.device).repeat(h.shape[2] * h.shape[3])
        active = _by_place(h)
        if h.device.type == "cpu":  # where NumPy compares, and counts in bytes, far faster
            few = np.uint8 if len(h) < 256 else np.int32
            active = np.greater(active.numpy(), level.numpy()).view(np.uint8)
            hits = np.add.reduce(active, axis=0, dtype=few).astype(np.int32)
        else:
            hits = (active > level).sum(dim=0, dtype=torch.int32).cpu().numpy()
        self.hits = self.hits + hits.reshape(*h.shape[2:], h.shape[1])
        self.count += len(h)

    def merge(self, other):
        """See the module."""
        self.hits, self.count = self.hits + other.hits, self.count + other.count
        return self

    def value(self):
        """Return the share of positions and images: (U,) in [0, 1]."""
        return torch.from_numpy(self.hits.mean(axis=(0, 1)) / self.count).float()

    def by_position(self):
        """Return the share of images at each position: (U, H, W) in [0, 1]."""
        return torch.from_numpy(self.hits / self.count).float().permute(2, 0, 1).contiguous()


class Moments(Statistic):
    """The mean and the standard deviation of each unit over all positions and images, in float64."""

    kept = ("count", "mean", "spread")  # spread: the sum of squared deviations from the mean

    def __init__(self, units):
        self.count, self.mean, self.spread = 0, np.zeros(units), np.zeros(units)

    def update(self, h, start, peaks):
        """See the module."""
        count = h.numel() // h.shape[1]
        mean, square = (_sums(h, power) / count for power in (1, 2))
        spread = square - mean**2
        close = np.flatnonzero(spread * ROUNDING < square)
        if len(close):  # their squares hardly differ, so what rounding leaves of them says little: look at them apart
            some = h[:, torch.from_numpy(close).to(h.device)]
            first = some[0, :, 0, 0]
            constant = (some == first[:, None, None]).all(dim=3).all(dim=2).all(dim=0)
            shift = torch.where(constant, first, torch.from_numpy(mean[close]).to(first))
            apart = some - shift[:, None, None]
            rest = _sums(apart, 1) / count
            mean[close] = shift.double().cpu().numpy() + rest
            spread[close] = (_sums(apart, 2) / count - rest**2).clip(0)
        self._add(count, mean, spread * count)

    def merge(self, other):
        """See the module."""
        self._add(other.count, other.mean, other.spread)
        return self

    def _add(self, count, mean, spread):
        """Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances"."""
        total, apart = self.count + count, mean - self.mean
        self.spread = self.spread + spread + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    def value(self):
        """Return the mean, and the standard deviation of what was seen (divided by the count), both (U,)."""
        return torch.from_numpy(self.mean).float(), torch.from_numpy(np.sqrt(self.spread / self.count)).float()


class Rows(Statistic):
    """One number per image and unit, put back into the order of the images."""

    kept = ("parts",)

    def __init__(self, reduce):
        self.reduce, self.parts = reduce, {}

    def update(self, h, start, peaks):
        """See the module."""
        self.parts[start] = self.reduce(h, peaks).cpu()

    def merge(self, other):
        """See the module."""
        self.parts |= other.parts
        return self

    def value(self):
        """Return the numbers (N, U)."""
        return torch.cat([self.parts[start] for start in sorted(self.parts)])


class Top(Statistic):
    """The k images with the largest value per unit, ties to the earlier row."""

    kept = ("values", "rows")

    def __init__(self, reduce, k):
        self.reduce, self.k, self.values, self.rows = reduce, k, None, None  # (U, k), strongest first

    def update(self, h, start, peaks):
        """See the module."""
        values = self.reduce(h, peaks).T.cpu()
        self._add(values, (start + torch.arange(values.shape[1])).expand_as(values))

    def merge(self, other):
        """See the module."""
        self._add(other.values, other.rows)
        return self

    def _add(self, values, rows):
        if self.values is not None:
            later = bool(self.rows.amax() < rows.amin())
            values, rows = torch.cat([self.values, values], dim=1), torch.cat([self.rows, rows], dim=1)
            if not later:
                by_row = rows.argsort(dim=1)
                values, rows = values.gather(1, by_row), rows.gather(1, by_row)
        order = values.argsort(dim=1, descending=True, stable=True)[:, : self.k]  # stable: ties stay in order of rows
        self.values, self.rows = values.gather(1, order), rows.gather(1, order)


class Several(Statistic):
    """Several statistics of one layer, by name, gathered in one go."""

    def __init__(self, **parts):
        self.parts = parts

    def __getitem__(self, name):
        return self.parts[name]

    def update(self, h, start, peaks):
        """See the module."""
        for part in self.parts.values():
            part.update(h, start, peaks)

    def merge(self, other):
        """See the module."""
        for name, part in self.parts.items():
            part.merge(other[name])
        return self

    def state(self):
        """See `Statistic`."""
        return {name: part.state() for name, part in self.parts.items()}

    def restore(self, state):
        """See `Statistic`."""
        for name, part in self.parts.items():
            part.restore(state[name])
        return self


def reduction(by):
    """Return the function (featuremap (B, U, H, W), its peaks) -> (B, U) of a name: "max", "mean" or "norm"."""
    known = {"max": _spatial_max, "mean": _spatial_mean, "norm": _spatial_norm}
    if by not in known:
        raise ValueError(f"by must be one of {', '.join(known)}, got {by!r}")
    return known[by]


def _spatial_max(h, peaks):
    return peaks.view(len(h), -1, h.shape[1]).amax(dim=1)


def _spatial_mean(h, peaks):
    return h.mean(dim=(2, 3))


def _spatial_norm(h, peaks):
    return h.square().sum(dim=(2, 3)).sqrt()


def _by_place(h):
    return h.permute(0, 2, 3, 1).flatten(1)  # (B, H * W * U), a view where h is channels-last


def _sums(h, power):
    """Sum h, or its squares, per unit: over images in float32, whose rounding is small for a few, then in float64."""
    rows = _by_place(h)
    if power == 1:
        sums = rows.sum(dim=0)
    elif h.device.type == "cpu":  # where torch would write the squares down first
        sums = torch.from_numpy(np.einsum("np,np->p", rows.numpy(), rows.numpy()))
    else:
        sums = rows.square().sum(dim=0)
    return sums.view(-1, h.shape[1]).double().sum(dim=0).cpu().numpy()
