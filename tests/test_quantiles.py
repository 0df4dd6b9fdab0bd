import numpy as np
import pytest
import torch

from helpers import survey
from helpers.streaming import bins, quantiles, shards
from tests.test_survey import backwards, canvas

MANY = 10**9


def exactly(h, tau):
    """The quantiles of everything at once."""
    return torch.quantile(h.transpose(0, 1).flatten(1).double(), 1 - tau, dim=1)


def fed(tail, h, batch=32):
    """Feed a featuremap to a tail; returns the tail and the most keys it held after any batch."""
    held = 0
    for start in range(0, len(h), batch):
        part = h[start : start + batch]
        tail.update(part, start, quantiles.peaks(part))
        held = max(held, sum(map(len, tail.parts)))
    return tail, held


def passes(h, tau, width, capacity, cuts=1, batch=32):
    """Find the quantiles by as many passes as it takes; returns them, the number of passes and the most keys held."""
    found, bounds, held = torch.full((h.shape[1],), torch.nan), {}, []
    while found.isnan().any():
        parts = [fed(quantiles.Tail(tau, h.shape[1], width, capacity, **bounds), part, batch) for part in h.chunk(cuts)]
        tail, other = parts[0][0], parts[1:]
        for more, _ in other:
            tail.merge(quantiles.Tail(tau, h.shape[1], width, capacity, **bounds).restore(more.state()))
        missed, held = found.isnan(), [*held, max(most for _, most in parts)]
        found = tail.quantile().where(missed, found)
        bounds = tail.sought(found.isnan().numpy())
    return found, len(held), max(held)


def sample(n, units=3, size=4, seed=4):
    return torch.randn(n, units, size, size, generator=torch.Generator().manual_seed(seed))


def test_a_bracket_keeps_a_share_of_the_tail_that_falls_with_the_number_of_images():
    h = torch.rand(4096, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    tail, kept = quantiles.Tail(0.05, 3, 8.0, MANY), {}
    for start in range(0, 4096, 32):
        fed(tail, h[start : start + 32])
        kept[start + 32] = sum(map(len, tail.parts)) / (0.05 * 3 * 16 * (start + 32))
    assert kept[4096] < 0.6 < 2 < kept[64]  # of as many as lie above the threshold
    assert torch.equal(tail.quantile(), exactly(h, 0.05).float())


@pytest.mark.parametrize("cuts", [1, 3])
def test_what_is_held_does_not_grow_with_the_number_of_images(cuts):
    h, capacity, hits = sample(16_384), 400, 4 * 16 * 3  # hits: a batch has no more
    for n in (256, 1024, 4096):
        found, taken, held = passes(h[:n], 0.05, 16.0, capacity, cuts, batch=4)
        assert torch.equal(found, exactly(h[:n], 0.05).float())
        assert taken <= 3 and held <= capacity * 9 / 8 + hits
    assert fed(quantiles.Tail(0.05, 3, 16.0, MANY), h)[1] > 10 * capacity


def test_a_room_that_hardly_fits_is_made_smaller_and_one_pass_is_enough():
    h = sample(16_384)
    free, tight = (fed(quantiles.Tail(0.05, 3, 8.0, capacity), h)[0] for capacity in (MANY, 3000))
    assert "counts" not in tight.state()
    assert tight.state()["held"].sum() <= 3000 < free.state()["held"].sum()
    assert torch.equal(tight.quantile(), free.quantile()) and not tight.quantile().isnan().any()


@pytest.mark.parametrize("tau", [0.005, 0.3, 0.9])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("capacity", [400, MANY])
def test_images_in_order_of_brightness_take_another_pass(descending, capacity, tau):
    h = sample(600)
    h[:, 0] = h[:, 0].sort(dim=0, descending=descending).values
    tail, _ = fed(quantiles.Tail(tau, 3, 4.0, MANY), h)
    missed = tail.quantile().isnan()
    assert missed.tolist() == [True, False, False]
    bounds, expected = tail.sought(missed.numpy()), exactly(h, tau)
    assert bounds["low"][0] < expected[0] <= bounds["high"][0] and bounds["total"] == 600 * 16
    again, held = fed(quantiles.Tail(tau, 3, 4.0, MANY, **bounds), h)
    assert torch.equal(again.quantile()[:1], expected[:1].float()) and again.quantile()[1:].isnan().all()
    assert {bins.unit(part.keys).max() for part in again.parts if len(part)} == {0}  # only at what is missing
    for cuts in (1, 4):
        found, taken, _ = passes(h, tau, 4.0, capacity, cuts)
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
        assert taken == 2 or capacity == 400 and taken <= 4


def test_a_survey_takes_another_pass_over_the_layers_that_missed(monkeypatch):
    h = sample(400, units=2)
    h[:, 0] = h[:, 0].sort(dim=0).values
    flow, z = canvas(h)
    asked, gather = [], shards.gather
    monkeypatch.setattr(survey, "WIDTH", 4.0)
    monkeypatch.setattr(shards, "ENOUGH", 1)
    monkeypatch.setattr(
        shards, "gather", lambda flow, z, make, *rest: asked.append(make) or gather(flow, z, make, *rest)
    )
    for engine in (map, backwards):
        asked.clear()
        found = survey.thresholds(flow, z, 0.05, [1], map=engine)[1]
        assert torch.equal(found, exactly(h, 0.05).float())
        assert len(asked) == 2 and np.isinf(asked[1].keywords["bounds"][1]["low"]).tolist() == [False, True]


KINDS = {
    "ties": lambda h: h.round(),
    "constant": lambda h: torch.cat([h[:, :1] * 0 + 0.3, h[:, 1:]], dim=1),
    "mostly zero": lambda h: h.clamp_min(0),
    "all scales": lambda h: h.sign() * (20 * h).exp().clamp_max(1e37),
    "few bright images": lambda h: h + 5 * (torch.arange(len(h)) % 20 == 0)[:, None, None, None],
    "rising": lambda h: h.sort(dim=0).values,
    "falling": lambda h: h.sort(dim=0, descending=True).values,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tau", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("capacity", [1, 300, MANY])
def test_every_capacity_and_every_merge_is_exact(kind, tau, capacity):
    h = KINDS[kind](sample(300, size=2))
    for cuts, width, batch in ((1, 16.0, 32), (5, 16.0, 7), (40, 2.0, 4)):
        found, _, held = passes(h, tau, width, capacity, cuts, batch)
        torch.testing.assert_close(found.double(), exactly(h, tau), rtol=1e-6, atol=1e-30)
        assert held <= 2 * max(capacity, 510 * 3) + batch * 3 * 4


def test_a_pass_whose_activations_moved_out_of_the_bounds_is_followed_by_one_that_finds_them():
    h = sample(600)
    h[:, 0] = h[:, 0].sort(dim=0).values
    first, _ = fed(quantiles.Tail(0.05, 3, 4.0, MANY), h)
    missed = first.quantile().isnan().numpy()
    assert missed.any()
    for moved in (h - 50, h + 50):
        tail = first
        for _ in range(2):
            tail, _ = fed(quantiles.Tail(0.05, 3, 4.0, MANY, **tail.sought(missed)), moved)
        assert torch.equal(tail.quantile()[missed], exactly(moved, 0.05).float()[missed])


def test_tails_merge_in_any_order():
    h = sample(500)
    for capacity in (100, MANY):
        pieces = [fed(quantiles.Tail(0.1, 3, 16.0, capacity), part)[0].state() for part in h.chunk(5)]
        found = []
        for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1, 3], [3, 4, 1, 0, 2]):
            whole = quantiles.Tail(0.1, 3, 16.0, capacity)
            for place in order:
                whole.merge(quantiles.Tail(0.1, 3, 16.0, capacity).restore(pieces[place]))
            low, high = (whole.sought(np.ones(3, bool))[end] for end in ("low", "high"))
            assert (low < exactly(h, 0.1).numpy()).all() and (exactly(h, 0.1).numpy() <= high).all()
            found.append(whole.quantile())
        assert all(torch.equal(one.nan_to_num(), found[0].nan_to_num()) for one in found[1:])
        assert found[0].isnan().any() == (capacity == 100)


def test_brackets_that_have_nothing_in_common_know_nothing():
    h = torch.cat([sample(200), sample(200) + 50])
    one, other = (fed(quantiles.Tail(0.5, 3, 2.0, MANY), part)[0] for part in h.chunk(2))
    assert (one.brackets.high < other.brackets.low).all()
    assert one.merge(other).quantile().isnan().all()
    found, taken, _ = passes(h, 0.5, 2.0, MANY, cuts=2)
    torch.testing.assert_close(found.double(), exactly(h, 0.5), rtol=1e-6, atol=0)
    assert taken == 2


def merged(h, tau, width, capacity, cuts, batch):
    """One pass in several parts; returns the tail."""
    whole, *more = (fed(quantiles.Tail(tau, h.shape[1], width, capacity), part, batch)[0] for part in h.chunk(cuts))
    for tail in more:
        whole.merge(tail)
    return whole


def check_bounds(tail, h, tau):
    """Assert that what a tail says of every unit holds, whether it is exact or only between bounds."""
    ordered = h.transpose(0, 1).flatten(1).numpy()
    rank = (ordered.shape[1] - 1) * (1 - tau)
    ordered = np.sort(ordered, axis=1)
    bounds = tail.sought(np.ones(h.shape[1], bool))
    assert not np.isnan(bounds["low"]).any() and not np.isnan(bounds["high"]).any()
    assert (bounds["low"] < ordered[:, int(np.floor(rank))]).all()
    assert (ordered[:, int(np.ceil(rank))] <= bounds["high"]).all()
    found = tail.quantile()
    known = ~found.isnan()
    assert torch.equal(found[known], exactly(h, tau).float()[known])


def test_brackets_that_lie_apart_at_the_end_of_float32_have_bounds():
    lowest = -3e38 * (1 + torch.arange(20) / 400)
    h = torch.cat([lowest, torch.randperm(20, generator=torch.Generator().manual_seed(0))]).view(40, 1, 1, 1)
    check_bounds(merged(h, 0.5, 2.0, 1, cuts=3, batch=16), h, 0.5)


def test_a_bin_of_the_smallest_negative_numbers_is_counted_where_it_lies():
    h = sample(100, units=2, size=2)
    h[:, 0] = -1e-45
    check_bounds(merged(h, 0.5, 8.0, 1, cuts=1, batch=4), h, 0.5)


def test_infinities_are_counted_though_their_bins_are_joined():
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    h = torch.randperm(40, generator=torch.Generator().manual_seed(11)).float().where(order >= 10, torch.inf)
    h = h.view(40, 1, 1, 1)
    for tau in (0.5, 0.75):
        check_bounds(merged(h, tau, 2.0, 1, cuts=3, batch=4), h, tau)


HARD = {
    "smallest numbers": lambda h: h.mul(3).round() * 1.4e-45,
    "smallest numbers, none above 0": lambda h: -h.mul(3).round().abs() * 1.4e-45,
    "largest numbers": lambda h: h.sign() * (1 - h.abs() * 1e-6) * 3.4028e38,
    "few numbers": lambda h: h.sign() * 7,
    "two ends": lambda h: h + 3e38 * (torch.arange(len(h)) < len(h) // 2)[:, None, None, None],
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_what_a_pass_says_holds_at_the_ends_of_float32(kind, tau):
    h = sample(120, size=2)
    h[:, 0] = HARD[kind](h[:, 0:1])[:, 0]
    h[:, 1] = HARD[kind](h[:, 1:2])[:, 0]
    for capacity in (1, 60, MANY):
        for cuts, width, batch in ((1, 4.0, 4), (3, 0.5, 16), (10, 8.0, 7)):
            check_bounds(merged(h, tau, width, capacity, cuts, batch), h, tau)
            found, _, _ = passes(h, tau, width, capacity, cuts, batch)
            assert torch.equal(found, exactly(h, tau).float())
