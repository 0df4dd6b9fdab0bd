"""Float32 values of many units as integers that sort, and bins of neighbouring ones that are only counted.

    key  = 2**32 * unit + step        step: how many float32 numbers the value lies above 0, or below it
    value  -inf        ...  -1.4e-45  0  1.4e-45  ...  1           ...  inf
    step   -2139095040 ...  -1        0  1        ...  1065353216  ...  2139095040

Keys sort by unit, then by value, and neighbours differ by 1. A bin holds all keys that agree but for their last `shift`
bits: at 0 a single value, at 23 all between two powers of 2. It is named by its last key.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

COARSEST = 23  # the bits of a float32 number's fraction: with more, a bin would hold infinity and numbers


def key(units, values):
    """Return the keys (N,) int64 of unit numbers and float32 values, both (N,); 0 and -0 have the same."""
    bits = values.view(np.int32)
    steps = (bits & 0x7FFFFFFF) * (bits >> 31 | 1)  # all bits but that of the sign, times 1 or -1
    return (units.astype(np.int64) << 32) + steps


def alike(units, number):
    """Return the keys (U,) of the same value in each of so many units."""
    return key(np.arange(units), np.full(units, number, np.float32))


def value(keys):
    """Return the float32 values of keys."""
    steps = keys.astype(np.int32)  # the lower half
    size = np.abs(steps).view(np.float32)
    return np.where(steps < 0, -size, size)


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

    counts: (N,), how many activations each bin holds; None: each is kept for itself.
    """

    keys: np.ndarray
    counts: np.ndarray | None = None
    shift: int = 0

    def __len__(self):
        return len(self.keys)

    @cached_property
    def _before(self):
        return np.append(0, self.counts.cumsum())  # of each bin, and in all of them

    def up_to(self, keys):
        """Count the activations in bins up to some keys, over all units before, too."""
        places = self.keys.searchsorted(keys, "right")
        return places if self.counts is None else self._before[places]

    def at(self, ranks):
        """Return the keys of activations by rank, 0 for the smallest of all; of a rank that none has, any key."""
        places = ranks if self.counts is None else self._before.searchsorted(ranks, "right") - 1
        return self.keys[places.clip(0, len(self) - 1)] if len(self) else np.zeros_like(ranks)

    def within(self, low, high):
        """Return the bins in each unit's interval (low, high] of keys, packed."""
        start, stop = (self.keys.searchsorted(end, "right") for end in (low, high))
        cut = [slice(*ends) for ends in zip(start, stop)]
        steps = np.concatenate([self.keys[part].astype(np.int32) for part in cut])
        counts = None if self.counts is None else np.concatenate([self.counts[part] for part in cut])
        return Packed(stop - start, steps, counts, self.shift)


@dataclass(frozen=True)
class Packed:
    """Bins in order as they are kept and saved, in half the memory: `steps` (N,) int32 are the lower halves of keys.

    held: (U,), how many of the bins are of each unit.
    """

    held: np.ndarray
    steps: np.ndarray
    counts: np.ndarray | None = None
    shift: int = 0

    def __len__(self):
        return len(self.steps)

    @property
    def keys(self):
        """The last keys of the bins, (N,) int64."""
        return np.repeat(np.arange(len(self.held)) << 32, self.held) + self.steps


def gathered(parts, high, shift=None):
    """Put several Bins, packed or not, in order as one.

    high: the key (U,) up to which each unit's bins reach; what lies above is counted as infinity. shift: the width of
    the bins; None: that of the widest part, and where none is joined each activation stays by itself.
    """
    keys = np.concatenate([part.keys for part in parts])
    if shift is None and all(part.counts is None for part in parts):
        keys.sort()
        return Bins(keys)
    shift = max(part.shift for part in parts) if shift is None else shift
    counts = [np.ones(len(part), np.int64) if part.counts is None else part.counts for part in parts]
    units, infinity = unit(keys), alike(len(high), np.inf)
    keys = np.where(keys <= high[units], np.minimum(last(keys, shift), high[units]), infinity[units])
    order = keys.argsort()
    keys, before = keys[order], np.concatenate(counts)[order].cumsum()
    ends = np.flatnonzero(np.diff(keys, append=2**62))
    return Bins(keys[ends], np.diff(before[ends], prepend=0), shift)
