import numpy as np
import pytest

from helpers.streaming import bins
from helpers.streaming.bins import Bins

VALUES = np.array([-np.inf, -3e38, -2.5, -1e-45, 0, 1e-45, 0.3, 2.5, 3e38, np.inf], np.float32)


def keys(*values):
    """The keys of values of unit 0."""
    return bins.key(np.zeros(len(values), np.int64), np.array(values, np.float32))


def test_keys_sort_as_units_and_values_do_and_lead_back():
    units = np.repeat(np.arange(3), len(VALUES))
    found = bins.key(units, np.tile(VALUES, 3))
    assert (np.diff(found) > 0).all()
    assert np.array_equal(bins.value(found), np.tile(VALUES, 3)) and np.array_equal(bins.unit(found), units)
    assert np.array_equal(bins.alike(3, np.inf), found[len(VALUES) - 1 :: len(VALUES)])


def test_neighbouring_keys_are_neighbouring_values_through_zero():
    assert keys(-0.0) == keys(0.0) == 0
    around = np.arange(-3, 4)
    up = np.nextafter(bins.value(around), np.float32(np.inf))
    assert np.array_equal(bins.value(around + 1), up)
    most = np.finfo(np.float32).max
    assert np.array_equal(bins.value(keys(-most, most) + [-1, 1]), np.float32([-np.inf, np.inf]))


def test_the_coarsest_bins_lie_between_powers_of_two():
    inside = keys(1, 1.5, 1.9999999, 2)
    assert bins.value(bins.first(inside, bins.COARSEST)).tolist() == [1, 1, 1, 2]
    assert bins.value(bins.last(inside, bins.COARSEST)[:3] + 1).tolist() == [2, 2, 2]
    assert bins.first(keys(np.inf), bins.COARSEST) == keys(np.inf)  # which no number shares a bin with
    assert np.array_equal(bins.first(inside, 0), inside) and np.array_equal(bins.last(inside, 0), inside)


@pytest.mark.parametrize("joined", [False, True])
def test_bins_count_and_find_by_rank(joined):
    values = [1, 1, 1, 2, 2, 5] if not joined else [1, 2, 5]
    found = Bins(keys(*values), np.array([3, 2, 1]) if joined else None)
    assert found.up_to(keys(0, 1, 1.5, 2, 5, 9)).tolist() == [0, 3, 3, 5, 6, 6]
    assert bins.value(found.at(np.arange(6))).tolist() == [1, 1, 1, 2, 2, 5]
    assert len(found.at(np.array([-3, 17]))) == 2 and Bins(keys()).at(np.array([0, 4])).tolist() == [0, 0]
    part = found.within(keys(1), keys(3))
    assert bins.value(part.keys).tolist() == ([2] if joined else [2, 2]) and part.held.tolist() == [len(part)]
    assert part.counts.tolist() == [2] if joined else part.counts is None


def test_within_cuts_each_unit_by_itself():
    seen = Bins(bins.key(np.repeat([0, 1], 4), np.tile(np.float32([1, 2, 3, 4]), 2)))
    low, high = bins.key(np.arange(2), np.float32([1, 2])), bins.key(np.arange(2), np.float32([3, 2]))
    packed = seen.within(low, high)
    assert packed.held.tolist() == [2, 0] and np.array_equal(packed.keys, seen.keys[1:3])
    assert packed.steps.nbytes == packed.keys.nbytes / 2
    last = seen.within(low, bins.alike(2, 9))
    assert np.array_equal(last.keys, np.delete(seen.keys, [0, 4, 5]))


@pytest.mark.parametrize("shift", [0, 3, 10, 23])
def test_gathered_bins_hold_what_lay_in_them(shift):
    rng = np.random.default_rng(3)
    units, values = rng.integers(0, 3, 900), np.round(20 * rng.standard_normal(900)).astype(np.float32)
    values[units == 1] *= np.float32(1.4e-45)  # bins below 0, too, where float32 has its smallest numbers
    parts = [Bins(part) for part in np.split(bins.key(units, values), [200, 500])]
    high = bins.key(np.arange(3), np.float32([7, 0, np.inf]))
    found = bins.gathered([parts[0], bins.gathered(parts[1:], high, max(0, shift - 2))], high, shift)
    assert (np.diff(found.keys) > 0).all() and found.counts.sum() == 900
    every = bins.key(units, values)
    for unit in range(3):
        own, counts = (part[bins.unit(found.keys) == unit] for part in (found.keys, found.counts))
        begins = np.where(own > high[unit], high[unit] + 1, bins.first(own, shift))
        expected = [((every >= begin) & (every <= end)).sum() for begin, end in zip(begins, own)]
        assert counts.tolist() == expected and expected[-1] > 0
        assert (own[own > high[unit]] == bins.alike(3, np.inf)[unit]).all()  # what lies above is only counted


def test_infinity_keeps_its_bin_whatever_the_end_of_the_bracket():
    seen = Bins(keys(1, np.inf, 3, np.inf))
    for high in (2, np.inf):
        found = bins.gathered([seen], keys(high), 4)
        assert found.up_to(keys(np.inf)) == 4 and found.keys[-1] == keys(np.inf)


def test_what_is_not_joined_stays_as_it_is_in_order():
    found = bins.gathered([Bins(keys(3, 1)), Bins(keys(2, 1))], keys(np.inf))
    assert found.counts is None and bins.value(found.keys).tolist() == [1, 1, 2, 3]
    empty = bins.gathered([Bins(keys())], keys(np.inf), 5)
    assert len(empty) == 0 and empty.up_to(keys(3)) == 0 and empty.shift == 5
