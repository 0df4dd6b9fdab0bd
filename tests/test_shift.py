import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import correct, units
from helpers.corrections.edits import Shift
from helpers.flow import Flow, State
from helpers.latents import latents
from helpers.networks import pggan, stylegan2, unetgan
from tests.networks import Canvas, Dcgan, tiny_generator

N = 10
FLOWS = ("pggan", "stylegan2", "unetgan", "dcgan")


def made(name):
    torch.manual_seed(0)
    if name == "pggan":
        return Flow(pggan.Layers(tiny_generator()), batch=4)
    if name == "stylegan2":
        return Flow(stylegan2.Layers(stylegan2.Generator((8, 8, 6), 5, 6, 2)), batch=4)
    if name == "unetgan":
        return Flow(unetgan.Layers(unetgan.Generator((12, 10, 8), latent=9, hidden=7)), batch=4)
    return Flow.from_module(Dcgan(), ["main.2", "main.5"], (6, 1, 1), batch=4)


@pytest.fixture(scope="module", params=FLOWS)
def flow(request):
    return made(request.param)


@pytest.fixture(scope="module")
def z(flow):
    return latents(range(N), flow.latent)


@pytest.fixture(scope="module")
def found(flow):
    return units.differences(flow, latents(range(50, 70), flow.latent), latents(range(90, 105), flow.latent), [1, 2])


@pytest.fixture(scope="module")
def masks():
    g = torch.Generator().manual_seed(2)
    out = F.interpolate(torch.rand(N, 1, 5, 5, generator=g), size=(16, 16), mode="bilinear")[:, 0]
    out[0] = 0
    return out


@pytest.fixture(scope="module")
def amounts():
    return torch.linspace(-1, 2.2, N)


def close(a, b, tolerance=3e-5):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max())))


def by_hand(flow, z, change):
    """Edit layer by layer, {layer: function}, and go on."""
    state = flow.state(z, 0)
    for layer in range(1, flow.n_layers + 1):
        state = flow.advance(state, layer)
        if layer in change:
            state = State(layer, change[layer](state.h), state.extras)
    return state.h


def clamped(flow, h):
    return h.clamp_min(0) if isinstance(getattr(flow.network, "pieces", None), nn.ModuleList) else h


# A shift


@pytest.mark.parametrize("kind", ["number", "per image", "local", "both"])
def test_a_shift_takes_the_difference_off(flow, z, found, masks, amounts, kind):
    a = torch.tensor(0.8) if kind in ("number", "local") else amounts
    m = masks if kind in ("local", "both") else None

    def taken(layer):
        low = 1 if m is None else F.adaptive_avg_pool2d(m[:, None], flow.resolution(layer))
        return lambda h: clamped(flow, h - a.reshape(-1, 1, 1, 1) * low * found[layer])

    images = flow.generate(z, correct.shift(found, a, masks=m))
    close(images, by_hand(flow, z, {layer: taken(layer) for layer in found}))
    assert (images - flow.generate(z)).abs().amax(dim=(1, 2, 3))[1:].min() > 1e-4


@pytest.mark.parametrize("clamp", [False, True, None])
@pytest.mark.parametrize("linear", [False, True])
def test_the_written_out_maths_in_any_memory_layout(masks, amounts, linear, clamp):
    g = torch.Generator().manual_seed(4)
    h, (d, spread, centre) = torch.randn(N, 6, 8, 8, generator=g), torch.randn(3, 6, 8, 8, generator=g)
    h[:4], off = h[:4].abs(), torch.rand(6, 8, 8, generator=g) < 0.3
    d[off], spread[off] = 0, 0
    edit = Shift(d, amounts, masks, spread if linear else None, centre if linear else None, clamp)
    weight = amounts.double().reshape(-1, 1, 1, 1) * F.adaptive_avg_pool2d(masks[:, None].double(), 8)
    by = weight * (d.double() + (spread.double() * (h.double() - centre.double()) if linear else 0))
    above = torch.tensor([[clamp is not False and (clamp is True or i < 4)] for i in range(N)])[..., None, None]
    expected = torch.where(above & (weight != 0) & ~off, (h - by).clamp_min(0), h - by)
    for layout in (torch.contiguous_format, torch.channels_last):
        laid = h.to(memory_format=layout)
        found = edit(laid)
        assert found.is_contiguous(memory_format=layout) and found.data_ptr() != laid.data_ptr()
        close(found.double(), expected, 1e-6)
        assert torch.equal(laid, h)


def test_a_large_spread_does_not_cancel():
    g = torch.Generator().manual_seed(5)
    centre, d = torch.rand(2, 6, 8, 8, generator=g)
    h, spread = centre + 1e-3 * torch.randn(N, 6, 8, 8, generator=g), torch.full((6, 8, 8), -1e4)
    expected = h.double() - 0.5 * (d.double() + spread.double() * (h.double() - centre.double()))
    close(Shift(d, torch.tensor(0.5), None, spread, centre, False)(h).double(), expected, 1e-6)


def test_nothing_is_the_identity_bit_for_bit(flow, z, found, masks):
    plain = flow.generate(z)
    some = {"how": "linear", "portion": 0.3}
    for edits in (
        correct.shift(found, 0),
        correct.shift(found, torch.zeros(N)),
        correct.shift(found, 0, **some),
        correct.shift(found, 0, clamp=True),
        correct.shift(found, 2.0, masks=torch.zeros(N, 16, 16)),
        correct.shift(found, 2.0, masks=torch.zeros(N, 16, 16, dtype=torch.bool), clamp=True, **some),
        correct.shift(found, 1.0, portion=0),
        correct.shift({}, 1.0),
    ):
        assert torch.equal(flow.generate(z, edits), plain)
    mixed = torch.zeros(N).index_fill_(0, torch.tensor([3]), 1.0)
    changed = (flow.generate(z, correct.shift(found, mixed)) != plain).flatten(1).any(dim=1)
    assert changed.tolist() == [i == 3 for i in range(N)]
    assert torch.equal(flow.generate(z, correct.shift(found, 1.0, masks=masks))[0], plain[0])


def test_amounts_per_image_are_so_many_single_calls(flow, z, found, amounts, masks):
    together = flow.generate(z, correct.shift(found, amounts, masks=masks))
    for i in range(N):
        edits = correct.shift(found, float(amounts[i]), masks=masks[i : i + 1])
        close(together[i : i + 1], flow.generate(z[i : i + 1], edits))


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_chunks_and_order_do_not_matter(flow, z, found, amounts, masks, batch):
    other, order = Flow(flow.network, batch), torch.randperm(N, generator=torch.Generator().manual_seed(3))
    expected = flow.generate(z, correct.shift(found, amounts, 0.5, masks, "linear"))
    close(other.generate(z, correct.shift(found, amounts, 0.5, masks, "linear")), expected)
    edits = correct.shift(found, amounts[order], 0.5, masks[order], "linear")
    close(other.generate(z[order], edits), expected[order])


def test_layers_before_stay_untouched(flow, z, found):
    only = {2: found[2]}
    plain, shifted = flow.record(z, [1, 2]), flow.record(z, [1, 2], correct.shift(only, 1.5))
    assert torch.equal(plain[1], shifted[1])
    close(shifted[2], clamped(flow, plain[2] - 1.5 * found[2]))
    assert (shifted[2] != plain[2]).any()


def test_only_the_portion_that_stands_out_is_shifted(flow, found):
    for portion in (0.1, 0.5):
        edits = correct.shift(found, 1.0, portion)
        for layer, d in found.items():
            kept = edits[layer].difference != 0
            count = int(portion * d.numel() + 1e-9)
            s = found.standardised()[layer].abs()
            assert kept.sum() == min(count, int((d != 0).sum()))
            assert s[kept].min() >= s[~kept].max() and torch.equal(edits[layer].difference[kept], d[kept])
    whole = correct.shift(found, 1.0, 0.5, places=False)
    for layer, d in found.items():
        assert (whole[layer].difference != 0).flatten(1).all(dim=1).sum() == flow.units(layer) // 2
        top = found.standardised(places=False)[layer][:, 0, 0].abs().argsort(descending=True)[: flow.units(layer) // 2]
        close(whole[layer].difference[top, 0, 0], d.mean(dim=(1, 2))[top])


def test_linear_carries_mean_and_deviation_of_one_class_to_the_other(flow, found):
    z = latents(range(50, 70), flow.latent)  # the artifacts themselves
    h = flow.record(z, [1])[1].double()
    edits = correct.shift({1: found[1]} | {}, 1.0)
    one = units.differences(flow, z, latents(range(90, 105), flow.latent), [1])
    edits = correct.shift(one, 1.0, how="linear", clamp=False)
    moved = flow.record(z, [1], edits)[1].double()
    (mean_a, s_a), (mean_n, s_n) = one.artifacts[1], one.normals[1]
    varies = s_a > 1e-3 * s_a.max()
    scale = float(h.abs().max())
    torch.testing.assert_close(moved.mean(dim=0), mean_n.double(), rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(moved.std(dim=0, correction=0)[varies], s_n.double()[varies], rtol=1e-3, atol=1e-4)
    # Half of the way, written out.
    target = mean_n + torch.where(s_a > 0, s_n / s_a, 1.0) * (h - mean_a)
    half = flow.record(z, [1], correct.shift(one, 0.5, how="linear", clamp=False))[1]
    torch.testing.assert_close(half.double(), h + 0.5 * (target - h), rtol=0, atol=1e-4 * float(target.abs().max()))


def test_the_result_stays_in_the_range_of_a_relu_and_leaves_that_of_a_leaky_one():
    relu, leaky = made("dcgan"), made("pggan")
    for flow, floor in ((relu, True), (leaky, False)):
        z = latents(range(N), flow.latent)
        d = units.differences(flow, z[:5], z[5:], [1])
        free = flow.record(z, [1])[1] - 3 * d[1]
        assert (free < 0).any()
        for some in (d, dict(d)):
            close(flow.record(z, [1], correct.shift(some, 3))[1], free.clamp_min(0) if floor else free)
        close(flow.record(z, [1], correct.shift(d, 3, clamp=not floor))[1], free if floor else free.clamp_min(0))


def test_a_constant_added_to_one_unit_at_one_place_is_mended_exactly():
    flow, g = Flow(Canvas(3, 4)), torch.Generator().manual_seed(0)
    whole = torch.randn(40, 3, 4, 4, generator=g)
    broken = whole.clone()
    broken[:, 1, 2, 3] += 2.5
    d = units.differences(flow, broken.flatten(1), whole.flatten(1), [1])
    expected = torch.zeros(3, 4, 4)
    expected[1, 2, 3] = 2.5
    close(d[1], expected, 1e-6)
    for options in ({}, {"portion": 1 / 48}, {"how": "linear"}):
        mended = flow.record(broken.flatten(1), [1], correct.shift(d, 1.0, **options))[1]
        close(mended, whole, 1e-6)
    assert d.standardised()[1].abs().argmax() == 1 * 16 + 2 * 4 + 3


# Layer after layer


def test_layer_after_layer_measures_on_the_flow_as_already_shifted(flow):
    bad, good = latents(range(50, 70), flow.latent), latents(range(90, 105), flow.latent)
    d = correct.layer_after_layer(flow, bad, good, [2, 1], amount=0.7, portion=0.6)
    first = units.differences(flow, bad, good, [1])
    assert torch.equal(d[1], first[1]) and sorted(d) == [1, 2] and d.counts == (20, 15)
    edits = correct.shift(first, 0.7, 0.6)
    a, n = flow.record(bad, [2], edits)[2].double(), flow.record(good, [2])[2].double()
    close(d[2].double(), a.mean(dim=0) - n.mean(dim=0))
    both = correct.layer_after_layer(flow, bad, good, [1, 2], amount=0.7, normals="shifted", portion=0.6)
    n = flow.record(good, [2], edits)[2].double()
    close(both[2].double(), a.mean(dim=0) - n.mean(dim=0))
    assert not torch.allclose(both[2], d[2])
    with pytest.raises(ValueError, match="normals must be"):
        correct.layer_after_layer(flow, bad, good, [1], normals="both")
    with pytest.raises(ValueError, match="no layers"):
        correct.layer_after_layer(flow, bad, good, [])


# A shift is a value


def test_shifts_pickle_and_know_their_ids(flow, z, found, amounts, masks):
    known = units.Differences(found, found.artifacts, found.normals, found.counts, found.lowest, ids=range(5))
    edits = correct.shift(known, amounts, 0.5, masks, "linear")
    again = pickle.loads(pickle.dumps(edits))
    assert torch.equal(flow.generate(z, again), flow.generate(z, edits)) and again.ids == edits.ids == set(range(5))
    assert correct.shift(found).ids is None and correct.shift(dict(found)).ids is None


def test_nothing_is_changed_in_place_and_later_changes_do_not_reach_an_edit(flow, z, found, masks, amounts):
    mine, mask, a = {k: d.clone() for k, d in found.items()}, masks.clone(), amounts.clone()
    edits = correct.shift(mine, a, masks=mask)
    expected, h = flow.generate(z, edits), flow.record(z, [1])[1]
    before = h.clone()
    assert not torch.equal(edits[1](h), h) and torch.equal(h, before)
    assert all(torch.equal(mine[k], found[k]) for k in found) and torch.equal(a, amounts)
    mine[1].zero_(), mask.zero_(), a.zero_()
    assert torch.equal(flow.generate(z, edits), expected)


# Bad input


def test_other_numbers_of_images_are_refused(flow, z, found, amounts, masks):
    for edits, what in ((correct.shift(found, amounts), "amount"), (correct.shift(found, masks=masks), "masks")):
        for wrong in (z[:3], z[:4], torch.cat([z, z])):
            with pytest.raises(ValueError, match=f"has {what} for 10 images, but {len(wrong)} images"):
                flow.generate(wrong, edits)
        with pytest.raises(ValueError, match=f"has {what} for 10 images, but 4 images came"):
            edits[1](flow.record(z[:4], [1])[1])
    with pytest.raises(ValueError, match="got 10 amounts and 4 masks"):
        correct.shift(found, amounts, masks=masks[:4])


def test_arguments_out_of_range_are_refused(found, masks):
    for bad in (float("nan"), float("inf"), torch.ones(2, 2), [], torch.tensor([1.0, torch.nan])):
        with pytest.raises(ValueError, match="amount must be a finite number"):
            correct.shift(found, bad)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="portion .* lies in"):
            correct.shift(found, portion=bad)
    for bad in (masks[0], masks + 1, -masks, masks * torch.nan):
        with pytest.raises(ValueError, match="masks must be"):
            correct.shift(found, masks=bad)
    with pytest.raises(ValueError, match="how must be 'mean' or 'linear'"):
        correct.shift(found, how="affine")
    for some in ({"portion": 0.5}, {"how": "linear"}):
        with pytest.raises(ValueError, match="need standard deviations: pass what units.differences returns"):
            correct.shift(dict(found), **some)
    for bad in (found[1][0], found[1] * torch.nan, found[1][:0]):
        with pytest.raises(ValueError, match="layer 1 needs finite differences"):
            correct.shift({1: bad})


def test_a_shift_for_another_layer_is_refused(flow, z, found):
    with pytest.raises(ValueError, match=r"this edit is for a layer of|for featuremaps of"):
        flow.generate(z, {flow.n_layers: correct.shift(found)[1]})
    with pytest.raises(ValueError, match=f"a layer of {flow.units(1) + 1} units, got {flow.units(1)}"):
        flow.generate(z, correct.shift({1: torch.ones(flow.units(1) + 1, 4, 4)}))
    with pytest.raises(ValueError, match=r"for featuremaps of \(5, 5\) places, got \(4, 4\)"):
        flow.generate(z, correct.shift({1: torch.ones(flow.units(1), 5, 5)}))
    with pytest.raises(ValueError, match="there is no layer 99"):
        flow.generate(z, correct.shift({99: found[1]}))


def test_a_difference_per_image_is_as_many_single_shifts(flow, z, found, amounts, masks):
    g = torch.Generator().manual_seed(5)
    own = {layer: torch.randn(N, *d.shape, generator=g) * d.abs().max() for layer, d in found.items()}
    whole = flow.generate(z, correct.shift(own, amounts, masks=masks))
    for i in (0, 3, N - 1):
        one = {layer: d[i] for layer, d in own.items()}
        single = flow.generate(z[i : i + 1], correct.shift(one, float(amounts[i]), masks=masks[i : i + 1]))
        close(whole[i : i + 1], single)
    same = {layer: d.expand(N, *d.shape).clone() for layer, d in found.items()}
    close(flow.generate(z, correct.shift(same, clamp=False)), flow.generate(z, correct.shift({**found}, clamp=False)))
    assert torch.equal(flow.generate(z, correct.shift(own, 0.0)), flow.generate(z))
    with pytest.raises(ValueError, match=f"difference for {N} images"):
        flow.generate(z[:4], correct.shift(own))


def test_the_smallest_amount_of_a_difference_per_image(flow, z, found):
    def judge(images):
        return images.mean(dim=(1, 2, 3)) - level

    own = {1: found[1].expand(N, *found[1].shape) * torch.linspace(0.5, 2, N)[:, None, None, None]}
    values = flow.generate(z, correct.shift(own)).clamp(-1, 1).mean(dim=(1, 2, 3)).sort().values
    level = float(values[N // 2 - 1 : N // 2 + 1].mean())  # between two images, so that rounding decides nothing
    amounts, _ = correct.smallest_amount(flow, z, own, judge, (0, 0.5, 1, 2))
    for i in range(N):
        alone, _ = correct.smallest_amount(flow, z[i : i + 1], {1: own[1][i]}, judge, (0, 0.5, 1, 2))
        assert float(alone) == float(amounts[i])
