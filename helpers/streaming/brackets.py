"""One bracket per unit around the rank of its quantile, and what is known of the activations beside it.

        floor          low       kept        high
    ------|-------------(======================]----------------------> activation
                        ^ at_low: counted             above: counted

What is kept are `Bins` or, at rest, `Packed` ones. All functions return new values and change none.
"""

from dataclasses import dataclass

import numpy as np

from helpers.streaming import bins


@dataclass(frozen=True)
class Brackets:
    """The brackets of all units: every field is (U,) int64, the first three of them keys, see `bins`.

    above: how many activations are > high. at_low: how many are == low, or fewer, where counting began late.
    floor: what is sought lies above it for certain, while low is a guess in a first pass.
    """

    low: np.ndarray
    high: np.ndarray
    floor: np.ndarray
    above: np.ndarray
    at_low: np.ndarray


def between(low, high):
    """Return the brackets of units of which nothing was seen: float32 values (U,), below and up to which to look."""
    units, none = np.arange(len(low)), np.zeros(len(low), np.int64)
    low, high = bins.key(units, low), bins.key(units, high)
    return Brackets(low, high, low, none, none)


def narrowed(old, seen, most, least, certain):
    """Draw brackets together; returns the new ones and what is left in them, packed.

    seen: all Bins in the brackets, and maybe beside them. most, least: how many activations may at most lie above low,
    and must at least lie above high. certain: whether what is sought is known to have fewer than `most` above it.
    """
    start, stop, end = (seen.up_to(keys) for keys in (old.low, old.high, bins.alike(len(old.low), np.inf)))
    above = old.above + end - stop
    most, least = (np.floor(rank - above).astype(np.int64) for rank in (most, least))  # places: 1 is the bracket's top
    lower, upper = ((place > 0) & (place <= stop - start) for place in (most, least))
    low, high = seen.at(stop - most), seen.at(stop - least)
    if seen.shift:
        low = bins.first(low, seen.shift) - 1  # keep the bin whole
    low, high = np.where(lower, np.maximum(low, old.low), old.low), np.where(upper, high, old.high)
    at_low = 0 if seen.shift else seen.up_to(low) - seen.up_to(low - 1)
    new = Brackets(
        low,
        high,
        floor=np.where(lower & certain, np.maximum(low - 1, old.floor), old.floor),
        above=old.above + end - seen.up_to(high),
        at_low=np.where(low == old.low, old.at_low, 0) + at_low,
    )
    return new, seen.within(low, high)


def merged(one, other, shift):
    """Return brackets around what two have in common, of other images of the same units; shift: of the wider bins.

    Where they lie apart, what is between them was neither kept nor counted, and nothing is known any more.
    """
    low, high = np.maximum(one.low, other.low), np.minimum(one.high, other.high)
    # A bin that reaches beyond the end of only one of them is left out, since the other knows a part of it.
    high = np.where(one.high == other.high, high, bins.first(high + 1, shift) - 1)
    apart = low > high
    low = np.where(one.low == other.low, low, np.minimum(bins.last(low, shift), high))
    at_low = sum(np.where(each.low == low, each.at_low, 0) for each in (one, other))
    nowhere, known = bins.alike(len(low), np.inf), ~apart
    return Brackets(
        np.where(apart, nowhere, low),
        np.where(apart, nowhere, high),
        floor=np.maximum(one.floor, other.floor),
        above=(one.above + other.above) * known,
        at_low=at_low * known,
    )


def around(brackets, seen, place):
    """Find an order statistic by its place from the top (1: the largest); returns keys (before, last), both (U,).

    It lies in (before, last]: it is `last` where this is the next key, and not known better where it is not.
    seen: all Bins in the brackets, and maybe beside them.
    """
    low, start, stop = brackets.low, seen.up_to(brackets.low), seen.up_to(brackets.high)
    place, size = place - brackets.above, stop - start
    end = seen.at(stop - place)
    cases = [place <= 0, place <= size, place <= size + brackets.at_low]
    before = [brackets.high, np.maximum(bins.first(end, seen.shift) - 1, low), low - 1]
    last = [bins.alike(len(low), np.inf), end, low]
    return np.select(cases, before, brackets.floor), np.select(cases, last, low)
