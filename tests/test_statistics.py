import numpy as np
import pytest
import torch

from helpers.streaming import quantiles, statistics
from helpers.streaming.statistics import Moments, Rate, Rows, Several, Top, reduction

UNITS = 5


@pytest.fixture(scope="module")
def h():
    h = torch.randn(48, UNITS, 4, 4, generator=torch.Generator().manual_seed(0))
    h[:, 1] = 0.7  # constant
    h[:, 2] = 1000 + h[:, 2] / 100  # hardly anything but its mean
    h[:, 3] = 0  # dead
    h[:, 4] = torch.where(h[:, 4] > 1, h[:, 4] * 50, 0)
    return h


def made():
    level = torch.tensor([0.1, 0.7, 1000.0, -1.0, 0.0])
    return {
        "rate": Rate(level),
        "moments": Moments(UNITS),
        "rows": Rows(reduction("mean")),
        "top": Top(reduction("max"), 7),
        "tail": quantiles.Tail(0.05, UNITS, 16.0, 2**19),
    }


def gathered(h, cuts=(), start=0, memory=torch.contiguous_format):
    """Feed a featuremap to every statistic in pieces that begin at `cuts`."""
    stats = made()
    for begin, stop in zip((0, *cuts), (*cuts, len(h))):
        piece = h[begin:stop].to(memory_format=memory)
        for stat in stats.values():
            stat.update(piece, start + begin, quantiles.peaks(piece))
    return stats


def values(stats):
    return [
        stats["rate"].value(),
        stats["rate"].by_position(),
        *stats["moments"].value(),
        stats["rows"].value(),
        stats["top"].rows,
        stats["tail"].quantile(),
    ]


def assert_same(found, expected):
    for mine, theirs in zip(values(found), values(expected), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_rates_are_shares_of_what_is_strictly_above(h):
    rate, above = gathered(h)["rate"], h > made()["rate"].above[:, None, None]
    torch.testing.assert_close(rate.value(), above.double().mean(dim=(0, 2, 3)).float())
    torch.testing.assert_close(rate.by_position(), above.double().mean(dim=0).float())
    assert rate.by_position().shape == (UNITS, 4, 4) and rate.value()[1] == 0 and rate.value()[3] == 1


@pytest.mark.parametrize("images", [255, 256, 700])
def test_rates_of_many_images_at_once_do_not_overflow(images):
    rate = Rate(torch.zeros(2))
    h = torch.ones(images, 2, 2, 2)
    rate.update(h, 0, quantiles.peaks(h))
    assert rate.value().tolist() == [1, 1] and rate.by_position().eq(1).all()


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("cuts", [(), (1,), (16, 32), tuple(range(1, 48))])
def test_moments_are_those_of_everything_at_once_in_float64(h, cuts, memory):
    mean, deviation = gathered(h, cuts, memory=memory)["moments"].value()
    everything = h.transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(mean.double(), everything.mean(dim=1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(deviation.double(), everything.std(dim=1, unbiased=False), rtol=1e-6, atol=1e-7)
    assert deviation[1] == 0 and mean[1] == torch.tensor(0.7) and deviation[3] == 0 == mean[3]


def test_moments_of_a_unit_that_drifts_are_merged_by_chans_formula():
    h = torch.linspace(0, 1e4, 4000).view(1000, 1, 2, 2)
    mean, deviation = gathered_moments(h, 10)
    np.testing.assert_allclose(mean, h.double().mean(), rtol=1e-7)
    np.testing.assert_allclose(deviation, h.double().std(unbiased=False), rtol=1e-6)


def gathered_moments(h, size):
    whole = Moments(1)
    for start in range(0, len(h), size):
        one = Moments(1)
        one.update(h[start : start + size], start, None)
        whole.merge(one)
    return (value.double().numpy()[0] for value in whole.value())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_merging_is_associative_and_needs_no_order(h, order):
    pieces = [(0, 10), (10, 29), (29, 48)]
    for together in (lambda a, b, c: (a, b, c), lambda a, b, c: (b, c, a)):
        parts = [gathered(h[begin:stop], start=begin) for begin, stop in (pieces[n] for n in order)]
        first, second, third = together(*parts)
        for name, stat in second.items():
            stat.merge(third[name])
        for name, stat in first.items():
            stat.merge(second[name])
        assert_same(first, gathered(h))


def test_a_state_is_plain_and_restores_everything(h):
    stats, fresh = gathered(h, (7, 20)), made()
    for name, stat in stats.items():
        state = stat.state()
        plain = [part for value in state.values() for part in (value.values() if name == "rows" else [value])]
        assert all(isinstance(value, np.ndarray | torch.Tensor | int) for value in plain)
        assert fresh[name].restore(state) is fresh[name]
    assert_same(fresh, gathered(h))
    more = gathered(h[:9] + 1, start=48)
    for name, stat in fresh.items():
        stat.merge(more[name])
    both = torch.cat([h, h[:9] + 1])
    assert_same(fresh, gathered(both))


def test_the_state_of_a_tail_takes_four_bytes_per_activation_in_its_bracket():
    h = torch.randn(512, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    h[:, 1] -= 100  # keys of negative values, too, belong to their own unit
    tail = quantiles.Tail(0.01, 3, 8.0, 2**19)
    for start in range(0, 512, 32):
        tail.update(h[start : start + 32], start, quantiles.peaks(h[start : start + 32]))
    state = tail.state()
    assert state["steps"].nbytes == 4 * state["held"].sum()
    share = state["held"] / (0.01 * 512 * 64)
    assert (share < 1.1).all() and (share > 0.3).all()  # 2 * 8 / sqrt(512) of the tail, not all of it
    levels = quantiles.Tail(0.01, 3, 8.0, 2**19).restore(state).quantile()
    expected = torch.quantile(h.transpose(0, 1).flatten(1).double(), 0.99, dim=1)
    torch.testing.assert_close(levels.double(), expected, rtol=1e-6, atol=1e-6)


def test_several_statistics_go_together(h):
    both, alone = Several(rate=made()["rate"], moments=made()["moments"]), gathered(h)
    for piece, start in ((h[:20], 0), (h[20:], 20)):
        other = Several(rate=made()["rate"], moments=made()["moments"])
        other.update(piece, start, quantiles.peaks(piece))
        fresh = Several(rate=made()["rate"], moments=made()["moments"]).restore(other.state())
        both = fresh if start == 0 else both.merge(fresh)
    torch.testing.assert_close(both["rate"].value(), alone["rate"].value())
    torch.testing.assert_close(both["moments"].value(), alone["moments"].value())


def test_the_maximum_is_read_from_the_peaks(h):
    for size in (4, 8):
        grown = h.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
        for memory in (torch.contiguous_format, torch.channels_last):
            piece = grown.to(memory_format=memory)
            found = statistics.reduction("max")(piece, quantiles.peaks(piece))
            assert torch.equal(found, h.amax(dim=(2, 3)))


def test_top_images_do_not_depend_on_the_order_of_the_pieces():
    values = torch.randint(0, 3, (30, 2), generator=torch.Generator().manual_seed(3)).float()
    h = values[:, :, None, None].expand(-1, -1, 2, 2).contiguous()
    expected = np.argsort(-values.numpy().T, axis=1, kind="stable")[:, :9]
    for order in ([0, 10, 20], [20, 10, 0], [10, 20, 0]):
        top = Top(reduction("max"), 9)
        for start in order:
            top.update(h[start : start + 10], start, quantiles.peaks(h[start : start + 10]))
        np.testing.assert_array_equal(top.rows, expected)
