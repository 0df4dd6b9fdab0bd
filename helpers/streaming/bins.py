"""Float32 values of many units as integers that sort, and bins of neighbouring ones that are only counted.

    key  = 2**32 * unit + step        step: how many float32 numbers the value lies above 0, or below it
    value  -inf        ...  -1.4e-45  0  1.4e-45  ...  1           ...  inf
    step   -2139095040 ...  -1        0  1        ...  1065353216  ...  2139095040

Keys sort by unit, then by value, and neighbours differ by 1. A bin holds all keys that agree but for their last `shift`
bits: at 0 a single value, at 23 all between two powers of 2. It is named by its last key.
"""

from dataclasses import dataclass

import numpy as np

COARSEST = 23  # the bits of a float32 number's fraction: with more, a bin would hold infinity and numbers


def key(units, values):
    """Return the keys (N,) int64 of unit numbers and float32 values, both (N,); 0 and -0 have the same."""
    bits = values.view(np.int32)
    return (units.astype(np.int64) << 32) + np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def alike(units, number):
    """Return the keys (U,) of the same value in each of so many units."""
    return key(np.arange(units), np.full(units, number, np.float32))


def value(keys):
    """Return the float32 values of keys."""
    steps = keys.astype(np.int32)  # the lower half
    return np.where(steps < 0, -steps | -(2**31), steps).view(np.float32)


def unit(keys):
    """Return the units of keys."""
    return (keys + 2**31) >> 32


def first(keys, shift):
    """Return the first keys of the bins that keys lie in."""
    return keys >> shift << shift


def last(keys, shift):
    """Return the last keys of the bins that keys lie in."""
    return keys | (1 << shift) - 1


@dataclass(frozen=True)
class Bins:
    """Activations as the last keys of their bins, (N,) int64, in order once they are `gathered`.

    before: (N + 1,), how many activations lie before each bin, and in all of them; None: each is kept for itself.
    """

    keys: np.ndarray
    before: np.ndarray | None = None
    shift: int = 0

    def __len__(self):
        return len(self.keys)

    def up_to(self, keys):
        """Count the activations in bins up to some keys, over all units before, too."""
        places = self.keys.searchsorted(keys, "right")
        return places if self.before is None else self.before[places]

    def at(self, ranks):
        """Return the keys of activations by rank, 0 for the smallest of all; of a rank that none has, any key."""
        places = ranks if self.before is None else self.before.searchsorted(ranks, "right") - 1
        return self.keys[places.clip(0, len(self) - 1)] if len(self) else np.zeros_like(ranks)

    def within(self, low, high):
        """Return the bins in each unit's interval (low, high] of keys."""
        start, stop = (self.keys.searchsorted(end, "right") for end in (low, high))
        counts = None if self.before is None else _cut(self.counts(), start, stop)
        return counted(_cut(self.keys, start, stop), counts, self.shift)

    def counts(self):
        """Return how many activations each bin holds."""
        return np.ones(len(self), np.int64) if self.before is None else np.diff(self.before)


def counted(keys, counts, shift):
    """Return Bins from their last keys in order and the counts of activations in them, None for each by itself."""
    return Bins(keys, _summed(counts), shift)


def gathered(parts, high, shift=None):
    """Put several Bins in order as one.

    high: the key (U,) up to which each unit's bins reach; what lies above is counted as infinity. shift: the width of
    the bins; None: that of the widest part, and where none is joined each activation stays by itself.
    """
    keys = np.concatenate([part.keys for part in parts])
    if shift is None and all(part.before is None for part in parts):
        keys.sort()
        return Bins(keys)
    shift = max(part.shift for part in parts) if shift is None else shift
    counts, units = np.concatenate([part.counts() for part in parts]), unit(keys)
    infinity = alike(len(high), np.inf)
    keys = np.where(keys <= high[units], np.minimum(last(keys, shift), high[units]), infinity[units])
    order = keys.argsort()
    keys, before = keys[order], _summed(counts[order])
    ends = np.flatnonzero(np.diff(keys, append=2**62))
    return Bins(keys[ends], np.append(0, before[ends + 1]), shift)


def _summed(counts):
    return None if counts is None else np.append(0, counts.cumsum())


def _cut(numbers, start, stop):
    return np.concatenate([numbers[begin:end] for begin, end in zip(start, stop)])
