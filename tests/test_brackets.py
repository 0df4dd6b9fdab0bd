import dataclasses

import numpy as np
import pytest

from helpers.streaming import bins, brackets
from helpers.streaming.bins import Bins


def keys(*values):
    """The keys of one value each of units 0, 1, ..."""
    return bins.key(np.arange(len(values)), np.array(values, np.float32))


def of(values):
    """Bins of unit 0."""
    return bins.gathered([Bins(bins.key(np.zeros(len(values), np.int64), np.float32(values)))], keys(np.inf))


def bracket(low, high, above=0, at_low=0):
    """The bracket of a single unit."""
    whole = brackets.between(np.float32([low]), np.float32([high]))
    return dataclasses.replace(whole, above=np.array([above]), at_low=np.array([at_low]))


def said(found):
    """A bracket as plain values."""
    low, high, floor = (float(bins.value(end)[0]) for end in (found.low, found.high, found.floor))
    return low, high, floor, int(found.above[0]), int(found.at_low[0])


def test_narrowing_keeps_what_lies_between_two_ranks_and_counts_the_rest():
    seen, before = of([1, 2, 3, 4, 4, 5, 6, 7]), bracket(-np.inf, np.inf)
    found, kept = brackets.narrowed(before, seen, 5, 2, False)
    assert said(found) == (4, 6, -np.inf, 1, 2)  # the fifth from the top is a 4, of which there are two
    assert bins.value(kept.keys).tolist() == [5, 6]
    assert said(before) == (-np.inf, np.inf, -np.inf, 0, 0) and len(seen) == 8  # is not changed
    again, rest = brackets.narrowed(found, of([5, 6]), 5, 2, False)
    assert said(again) == said(found) and np.array_equal(rest.keys, kept.keys)


def test_a_certain_bound_raises_the_floor_to_what_is_still_possible():
    found, _ = brackets.narrowed(bracket(-np.inf, np.inf), of([1, 2, 3, 4]), 3, 0, True)
    assert said(found)[:2] == (2, np.inf) and bins.value(found.floor + 1)[0] == 2  # 2 itself may be what is sought


def test_a_bracket_does_not_move_towards_ranks_beside_it():
    seen = of([11, 12, 13])
    found, kept = brackets.narrowed(bracket(10, 20, above=5), seen, 9, 2, False)
    assert said(found) == (10, 20, -np.inf if found.floor[0] < 0 else 10, 5, 0) and len(kept) == 3


@pytest.mark.parametrize("unit", [0, 1])
def test_a_bin_is_kept_whole(unit):
    values = np.float32([[1.1, 1.2, 1.7, 2.5, 5], [-5, -2.5, -1.7, -1.2, -1.1]])
    high = np.full(2, np.inf, np.float32)
    seen = bins.gathered([Bins(bins.key(np.repeat([0, 1], 5), values.ravel()))], bins.alike(2, np.inf), bins.COARSEST)
    found, kept = brackets.narrowed(brackets.between(-high, high), seen, 4, 0, False)
    low, inside = bins.value(found.low)[unit], bins.unit(kept.keys) == unit
    assert low < values[unit, 1] and np.log2(np.abs(values[unit, 1] / low)) < 1  # the second smallest is the fourth
    assert kept.counts[inside].sum() == (values[unit] > low).sum() and found.at_low[unit] == 0


def test_order_statistics_are_told_exactly_where_they_are_known():
    kept = of([3, 4, 6])
    held = bracket(2, 6, above=2, at_low=3)
    for place, value in ((3, 6), (4, 4), (5, 3), (6, 2), (8, 2)):
        before, last = brackets.around(held, kept, place)
        assert last - before == 1 and bins.value(last) == value
    for place, ends in ((2, (6, np.inf)), (9, (2, 2))):  # above the bracket, and below: here the floor is its low end
        before, last = brackets.around(held, kept, place)
        assert (bins.value(before), bins.value(last)) == ends


def test_an_order_statistic_in_a_bin_lies_within_its_ends():
    joined = bins.gathered([of([1.1, 1.2, 1.7, 2.5])], keys(np.inf), bins.COARSEST)
    before, last = brackets.around(bracket(-np.inf, np.inf), joined, 2)
    assert bins.value(before + 1) == 1 and bins.value(last + 1) == 2
    before, last = brackets.around(bracket(1.5, np.inf), joined, 2)  # as far as it lies in the bracket
    assert bins.value(before) == np.float32(1.5)


def test_merging_keeps_what_brackets_have_in_common():
    found = brackets.merged(bracket(1, 9, 2, 4), bracket(3, 7, 5, 6), 0)
    assert said(found) == (3, 7, 3, 7, 6)
    found = brackets.merged(bracket(3, 7, 2, 4), bracket(3, 7, 5, 6), 0)
    assert said(found) == (3, 7, 3, 7, 10)


def test_merging_leaves_out_a_bin_that_only_one_knows_whole():
    found = brackets.merged(bracket(1.5, 24), bracket(3, 9), bins.COARSEST)
    assert np.array_equal(bins.value(np.append(found.low, found.high) + 1), [4, 8])
    same = brackets.merged(bracket(3, 9), bracket(3, 9), bins.COARSEST)  # both know as much of it
    assert said(same)[:2] == (3, 9)


@pytest.mark.parametrize("shift", [0, 5, bins.COARSEST])
@pytest.mark.parametrize("ends", [((-np.inf, -3.4e38), (1, 5)), ((-np.inf, -np.inf), (2, 3)), ((1, 2), (3, np.inf))])
def test_nothing_is_known_of_brackets_that_lie_apart(ends, shift):
    one, other = (bracket(*pair, above=4, at_low=2) for pair in ends)
    for found in (brackets.merged(one, other, shift), brackets.merged(other, one, shift)):
        assert said(found) == (np.inf, np.inf, max(ends)[0], 0, 0)
        before, last = brackets.around(found, of([]), 3)
        assert before == found.floor and bins.value(last) == np.inf
        again = brackets.merged(found, bracket(1, 5, above=4), shift)  # nor does a third help
        assert said(again)[:2] == (np.inf, np.inf) and again.above == 0
