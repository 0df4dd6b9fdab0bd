import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers import correct, units
from helpers.flow import Flow, State
from helpers.latents import latents
from helpers.networks import pggan
from tests.networks import tiny_generator
from tests.rounding import close

N = 20
LAYERS = range(1, 7)


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()), batch=7)


@pytest.fixture(scope="module")
def z():
    return latents(range(N), 9)


@pytest.fixture(scope="module")
def exact():
    """The same in float64: damping and normalising by turns enlarges what float32 rounds off."""
    flow = Flow(pggan.Layers(tiny_generator()), batch=7)
    flow.network.double()
    return flow, latents(range(N), 9).double()


@pytest.fixture(scope="module")
def scores(flow):
    """Made-up defective scores: all small, as real ones are, with ties in layer 4."""
    g = torch.Generator().manual_seed(1)
    out = {layer: 0.03 * torch.rand(flow.units(layer), generator=g) for layer in LAYERS}
    return out | {4: (out[4] * 100).round() / 100}


@pytest.fixture(scope="module")
def masks():
    """Soft masks at four times the image's size, the first without defect."""
    g = torch.Generator().manual_seed(2)
    out = F.interpolate(torch.rand(N, 1, 5, 5, generator=g), size=(64, 64), mode="bilinear")[:, 0]
    out[0] = 0
    return out


def top_units(score, portion):
    """The first int(portion * U) units by score, ties by unit number."""
    return np.argsort(-score.double().numpy(), kind="stable")[: int(portion * len(score))]


@torch.no_grad()
def algorithm_1(flow, z, scores, stop_layer, portion, scale):
    """Sequential correction exactly as it is printed, one unit at a time, in layers 1..stop_layer."""
    h = z
    for layer in range(1, flow.n_layers + 1):
        h, _ = flow.network.advance(layer, h, {})
        if layer > stop_layer:
            continue
        h, low, high = h.clone(), scores[layer].min(), scores[layer].max()
        for j in top_units(scores[layer], portion):
            h[:, j] = scale * (1 - (scores[layer][j] - low) / (high - low)) * h[:, j]
    return h


@torch.no_grad()
def local_by_hand(flow, z, scores, masks, stop_layer, portion):
    h = z
    for layer in range(1, flow.n_layers + 1):
        h, _ = flow.network.advance(layer, h, {})
        if layer > stop_layer:
            continue
        h, size = h.clone(), h.shape[-1]
        step = masks.shape[-1] // size
        small = masks.float().unflatten(1, (size, step)).unflatten(3, (size, step)).mean(dim=(2, 4))
        for j in top_units(scores[layer], portion):
            h[:, j] = h[:, j] * (1 - small)
    return h


# Sequential correction


@pytest.mark.parametrize("stop_layer", range(7))
@pytest.mark.parametrize(("portion", "scale"), [(0.2, 0.9), (0.5, 0.3), (1.0, 0.7), (0.2, 0.0)])
def test_sequential_is_algorithm_1(exact, scores, stop_layer, portion, scale):
    flow, z = exact
    edits = correct.sequential(scores, stop_layer, portion, scale)
    close(flow.generate(z, edits), algorithm_1(flow, z, scores, stop_layer, portion, scale))
    assert sorted(edits) == list(range(1, stop_layer + 1))


def test_the_defaults_are_the_papers(exact, scores):
    flow, z = exact
    corrected = flow.generate(z, correct.sequential(scores))
    close(corrected, algorithm_1(flow, z, scores, 6, 0.2, 0.9))
    assert (corrected - flow.generate(z)).abs().max() > 0.05


@torch.no_grad()
def test_sequential_by_recording_editing_and_resuming(flow, z, scores):
    edits = correct.sequential(scores, 3)
    state = flow.state(z, 1)
    state = State(1, edits[1](state.h))
    for layer in (2, 3):
        h, _ = flow.network.advance(layer, state.h, state.extras)
        state = State(layer, edits[layer](h))
    close(flow.resume(state), flow.generate(z, edits))
    close(flow.record(z, [3], edits)[3], state.h)


def test_the_stop_layer_is_the_last_one_edited(flow, z, scores):
    plain, edited = flow.record(z, LAYERS), flow.record(z, LAYERS, correct.sequential(scores, 2, 0.5))
    assert all((plain[layer] != edited[layer]).any() for layer in (1, 2))
    after = {4: correct.sequential(scores, 4, 0.5)[4]}
    edited = flow.record(z, LAYERS, after)
    assert all(torch.equal(plain[layer], edited[layer]) for layer in (1, 2, 3))
    assert torch.equal(edited[4], plain[4] * after[4].weights[:, None, None])
    with torch.no_grad():
        h, _ = flow.network.advance(5, edited[4], {})
    close(edited[5], h)


def test_weights_come_from_the_normalised_scores_of_each_layer():
    scores = {1: torch.tensor([0.02, 0.01, 0.03, 0.0]), 2: torch.tensor([0.1, 0.3])}
    edits = correct.sequential(scores, 2, portion=0.5, scale=0.9)
    close(edits[1].weights, torch.tensor([0.9 * (1 - 2 / 3), 1, 0, 1]))
    close(edits[2].weights, torch.tensor([1.0, 0.0]))
    weights = correct.sequential(scores, 2, 0.5, 0.9, normalise="none")
    close(weights[1].weights, torch.tensor([0.9 * 0.98, 1, 0.9 * 0.97, 1]))
    weights = correct.sequential(scores, 2, 0.5, 0.9, normalise="max")
    close(weights[1].weights, torch.tensor([0.9 / 3, 1, 0, 1]))
    weights = correct.sequential(scores, 2, 0.5, 0.9, normalise="global")
    close(weights[1].weights, torch.tensor([0.9 * (1 - 0.02 / 0.3), 1, 0.9 * (1 - 0.03 / 0.3), 1]))


def test_identities_are_bit_identical(flow, z, scores):
    plain = flow.generate(z)
    zero = {layer: torch.zeros_like(s) for layer, s in scores.items()}
    assert correct.sequential(scores, 0) == {} and correct.sequential({}, 0) == {}
    for edits in (
        correct.sequential(scores, stop_layer=0),
        correct.sequential(scores, stop_layer=0, inclusive_loop=True),
        correct.sequential(scores, portion=0),
        correct.sequential(zero, portion=1.0, scale=1, normalise="none"),
        correct.ablate(3, []),
        correct.local(scores, torch.zeros(N, 64, 64), portion=1.0),
        correct.local(scores, torch.ones(N, 64, 64), portion=0),
        correct.local(scores, torch.ones(N, 64, 64), stop_layer=0),
    ):
        assert torch.equal(flow.generate(z, edits), plain)


def test_scale_zero_is_zero_ablation_of_the_same_units(flow, z, scores):
    together = {}
    for layer in range(1, 5):
        together |= correct.ablate(layer, units.rank(scores)[layer][: int(0.3 * flow.units(layer))])
    assert torch.equal(flow.generate(z, correct.sequential(scores, 4, 0.3, scale=0)), flow.generate(z, together))


def test_the_inclusive_loop_edits_one_layer_more(flow, z, scores):
    edits = correct.sequential(scores, 3, inclusive_loop=True)
    assert sorted(edits) == [1, 2, 3, 4]
    assert torch.equal(flow.generate(z, edits), flow.generate(z, correct.sequential(scores, 4)))


def test_portion_counts_units():
    scores = {layer: torch.rand(size) for layer, size in enumerate((512, 128, 10, 8, 1), start=1)}
    for portion, counts in {
        0: [0] * 5,
        0.2: [102, 25, 2, 1, 0],
        0.3: [153, 38, 3, 2, 0],
        0.7: [358, 89, 7, 5, 0],
        1: [512, 128, 10, 8, 1],
    }.items():
        marked = correct.selected(scores, scores, portion)
        assert [int(m.sum()) for m in marked.values()] == counts
        for layer, mark in marked.items():
            assert sorted(units.rank(scores)[layer][: mark.sum()].tolist()) == mark.nonzero().flatten().tolist()
    edits = correct.sequential(scores, 5, portion=1, scale=0.5)
    assert all((edit.weights <= 0.5).all() for edit in edits.values())


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_the_batch_size_and_the_order_change_nothing(flow, z, scores, masks, batch):
    other, order = Flow(flow.network, batch), torch.randperm(N, generator=torch.Generator().manual_seed(3))
    edits = correct.sequential(scores, 5, 0.5)
    expected = flow.generate(z, edits)
    close(other.generate(z, edits), expected)
    close(other.generate(z[order], edits), expected[order])
    expected = flow.generate(z, correct.local(scores, masks, 5, 0.5))
    close(other.generate(z, correct.local(scores, masks, 5, 0.5)), expected)
    close(other.generate(z[order], correct.local(scores, masks[order], 5, 0.5)), expected[order])


# Ablation


def test_ablate_silences_the_units_and_nothing_else(flow, z):
    plain, edited = flow.record(z, LAYERS), flow.record(z, LAYERS, correct.ablate(4, torch.tensor([7, 2])))
    assert all(torch.equal(plain[layer], edited[layer]) for layer in (1, 2, 3))
    rest = [u for u in range(10) if u not in (2, 7)]
    assert (edited[4][:, [2, 7]] == 0).all() and torch.equal(edited[4][:, rest], plain[4][:, rest])
    assert not torch.allclose(edited[5], plain[5])


def test_bad_units_are_refused(flow, z):
    for bad in ([1, 1], [-1], [3, -2]):
        with pytest.raises(ValueError, match="units must be different numbers from 0 up, got"):
            correct.ablate(4, bad)
    with pytest.raises((TypeError, ValueError)):
        correct.ablate(4, [1.5])
    with pytest.raises(ValueError, match="there is no unit 10 in a layer of 10 units"):
        flow.generate(z, correct.ablate(4, [10]))
    with pytest.raises(ValueError, match="there is no layer 9"):
        flow.generate(z, correct.ablate(9, [0]))


# Pixel normalisation


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_scaling_all_units_of_a_layer_changes_nothing(flow, z, layer, factor):
    everything = {layer: correct.Scale(torch.full((flow.units(layer),), factor))}
    close(flow.generate(z, everything), flow.generate(z))


def test_behind_pixel_normalisation_scaling_all_units_does_change_the_image(flow, z):
    post = Flow(pggan.Layers(flow.network.generator, post_pn=True))
    everything = {3: correct.Scale(torch.full((10,), 0.5))}
    assert (post.generate(z, everything) - post.generate(z)).abs().max() > 0.05


@pytest.mark.parametrize("layer", [2, 4, 5])
def test_gain_is_the_amplification_of_the_untouched_units(flow, z, scores, layer):
    h = flow.record(z, [layer])[layer]
    edit = correct.sequential(scores, 6, 0.5, 0.8)[layer]
    untouched = edit.weights == 1
    formula = (h.square().sum(1) / (edit.weights[:, None, None] * h).square().sum(1)).sqrt()
    close(correct.gain(h, edit), formula)
    measured = pggan.pixel_norm(edit(h))[:, untouched] / pggan.pixel_norm(h)[:, untouched]
    close(measured, formula[:, None].expand_as(measured))
    assert (formula > 1).all()


def test_gain_for_units_of_equal_energy():
    h = torch.randn(2, 1, 4, 4).sign().expand(-1, 10, -1, -1)
    close(correct.gain(h, correct.Zero((0, 5))), torch.full((2, 4, 4), 1.25**0.5))  # 1.118
    damped = torch.ones(10)
    damped[:2] = 0.88
    close(correct.gain(h, correct.Scale(damped)), torch.full((2, 4, 4), (10 / (2 * 0.88**2 + 8)) ** 0.5))  # 1.023
    assert torch.equal(correct.gain(h, correct.Zero(())), torch.ones(2, 4, 4))
    assert correct.gain(h, correct.Zero(tuple(range(10)))).isfinite().all()


# Local correction


@pytest.mark.parametrize("stop_layer", [1, 4, 6])
@pytest.mark.parametrize("portion", [0.2, 1.0])
def test_local_is_the_masked_algorithm(exact, scores, masks, stop_layer, portion):
    flow, z = exact
    for kind in (masks, masks > 0.6):
        edits = correct.local(scores, kind, stop_layer, portion)
        assert sorted(edits) == list(range(1, stop_layer + 1))
        corrected = flow.generate(z, edits)
        close(corrected, local_by_hand(flow, z, scores, kind, stop_layer, portion))
        assert torch.equal(corrected[0], flow.generate(z)[0])  # its mask is empty
    assert (flow.generate(z, correct.local(scores, masks, 6, 0.5)) - flow.generate(z)).abs().max() > 0.05


def test_a_mask_of_ones_is_zero_ablation(exact, scores):
    flow, z = exact
    everywhere = correct.local(scores, torch.ones(N, 64, 64), 4, 0.4)
    close(flow.generate(z, everywhere), flow.generate(z, correct.sequential(scores, 4, 0.4, scale=0)))


def test_pixels_beyond_the_receptive_field_of_the_mask_are_bit_identical(scores):
    torch.manual_seed(4)
    flow, z = Flow(pggan.Layers(pggan.Generator((12, 10, 8, 6), latent=9)), batch=3), latents(range(5), 9)
    scores = {layer: torch.rand(flow.units(layer)) for layer in range(1, 9)}
    masks = torch.zeros(5, 32, 32)
    for i, (row, column) in enumerate([(0, 0), (31, 31), (15, 16), (0, 31), (9, 4)]):
        masks[i, row, column] = 0.8
    for stop_layer in (1, 3, 6):
        reach = torch.zeros(5, 4, 4)
        for layer in range(1, 9):
            size = flow.resolution(layer)
            if layer > 1:
                if size > reach.shape[-1]:
                    reach = reach.repeat_interleave(2, 1).repeat_interleave(2, 2)
                reach = F.max_pool2d(reach[:, None], 3, 1, 1)[:, 0]  # a 3x3 convolution
            if layer <= stop_layer:
                reach = torch.maximum(reach, F.adaptive_max_pool2d(masks[:, None], size)[:, 0].sign())
        plain, local = flow.generate(z), flow.generate(z, correct.local(scores, masks, stop_layer, 0.5))
        outside = (reach == 0)[:, None].expand_as(plain)
        assert outside.any() and torch.equal(local[outside], plain[outside])
        assert (local != plain).any(dim=3).any(dim=2).any(dim=1).all()  # each image changes somewhere


@pytest.fixture(scope="module")
def own(flow):
    """Made-up scores of each image, the first image without a mask that any unit meets."""
    g = torch.Generator().manual_seed(3)
    out = {layer: (0.1 * torch.rand(N, flow.units(layer), generator=g) - 0.03).clamp_min(0) for layer in LAYERS}
    for s in out.values():
        s[0] = 0
    return out


def test_per_image_is_algorithm_1_with_the_scores_of_each_image_alone(exact, own):
    flow, z = exact
    together = flow.generate(z, correct.per_image(own, 4, 0.5, 0.9))
    for i in range(N):
        weights = {}
        for layer in range(1, 5):
            s = own[layer][i]
            top = s.argsort(descending=True, stable=True)[: s.numel() // 2]
            top = top[s[top] > 0]
            scaled = (s - s.min()) / (s.max() - s.min()) if s.max() > s.min() else s * 0
            weights[layer] = torch.ones_like(s).scatter(0, top, 0.9 * (1 - scaled[top]))
        alone = flow.generate(z[i : i + 1], {k: lambda h, w=w: h * w[:, None, None] for k, w in weights.items()})
        close(together[i : i + 1], alone)
    assert torch.equal(together[0], flow.generate(z)[0])  # no unit meets its mask: it stays as it is
    assert (together[1:] - flow.generate(z)[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_per_image_refuses_other_numbers_of_images_shared_scores_and_nan(flow, z, own, scores):
    with pytest.raises(ValueError, match=f"for {N} images, but 3 images were asked for"):
        flow.generate(z[:3], correct.per_image(own, 4))
    with pytest.raises(ValueError, match=r"layer 1 needs finite scores \(N, U\)"):
        correct.per_image(scores, 4)
    with pytest.raises(ValueError, match="layer 1 needs finite scores"):
        correct.per_image({layer: s[:0] for layer, s in own.items()}, 4)
    with pytest.raises(ValueError, match="has weights for 20 images, but 5 images came"):
        correct.per_image(own, 1)[1](flow.record(z[:5], [1])[1])
    with pytest.raises(ValueError, match=r"layer 2 needs .* a row per image, got \(19, "):
        correct.per_image(own | {2: own[2][1:]}, 4)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="layer 2 of image 5 has NaN or infinity"):
            correct.per_image(own | {2: own[2].clone().index_fill_(0, torch.tensor([5]), bad)}, 4)
    with pytest.raises(ValueError, match="lambda"):
        correct.per_image(own, 4, scale=1.2)


def test_a_wrong_number_of_masks_is_refused(flow, z, scores, masks):
    edits = correct.local(scores, masks)
    for wrong in (z[:5], z[:7], z[:1], torch.cat([z, z])):
        with pytest.raises(ValueError, match=f"has masks for 20 images, but {len(wrong)} images were asked for"):
            flow.generate(wrong, edits)
        with pytest.raises(ValueError, match=f"has masks for 20 images, but {len(wrong)} images were asked for"):
            flow.resume(flow.state(wrong, 2), {3: edits[3]})
    with pytest.raises(ValueError, match="has masks for 20 images, but 5 images came"):
        edits[3](torch.zeros(5, 10, 8, 8))
    one = correct.local(scores, masks[:1])
    with pytest.raises(ValueError, match="has masks for 1 images, but 20 images"):
        flow.generate(z, one)


def test_bad_masks_are_refused(scores, masks):
    outside, nan = masks + 0.5, masks.clone()
    nan[3, 5, 5] = torch.nan
    for bad in (masks[0], masks[:, None], outside, -masks, nan, masks[:0], 255 * (masks > 0.5).byte()):
        with pytest.raises(ValueError, match=r"masks must be \(N, H, W\) with values in \[0, 1\]"):
            correct.local(scores, bad)


# Corrections are values


def corrections(scores, masks):
    return [
        correct.sequential(scores, 4, 0.5),
        correct.local(scores, masks, 4, 0.5),
        correct.ablate(3, [1, 2]),
    ]


def test_edits_pickle(flow, z, scores, masks):
    for edits in corrections(scores, masks):
        again = pickle.loads(pickle.dumps(edits))
        assert torch.equal(flow.generate(z, again), flow.generate(z, edits))


def test_nothing_is_changed_in_place(flow, z, scores, masks):
    kept = z.clone(), masks.clone(), {layer: s.clone() for layer, s in scores.items()}
    weights = {key: value.clone() for key, value in flow.network.state_dict().items()}
    plain = flow.generate(z)
    for edits in corrections(scores, masks):
        flow.generate(z, edits)
        h = flow.record(z, [3])[3]
        before = h.clone()
        edited = edits[3](h)
        assert torch.equal(h, before) and edited.data_ptr() != h.data_ptr() and not torch.equal(edited, h)
    assert torch.equal(z, kept[0]) and torch.equal(masks, kept[1])
    assert all(torch.equal(scores[layer], s) for layer, s in kept[2].items())
    assert all(torch.equal(value, weights[key]) for key, value in flow.network.state_dict().items())
    assert torch.equal(flow.generate(z), plain)


def test_later_changes_of_scores_or_masks_do_not_reach_an_edit(flow, z, scores, masks):
    mine, mask = {layer: s.clone() for layer, s in scores.items()}, masks.clone()
    for make in (lambda: correct.sequential(mine, 4, 0.5), lambda: correct.local(mine, mask, 4, 0.5)):
        edits = make()
        expected = flow.generate(z, edits)
        mine[2].zero_(), mask.zero_()
        assert torch.equal(flow.generate(z, edits), expected)
        mine[2].copy_(scores[2]), mask.copy_(masks)


def test_an_edit_for_another_layer_is_refused(flow, z, scores):
    edits = correct.sequential(scores)
    with pytest.raises(ValueError, match="this edit is for a layer of 12 units, got 10"):
        flow.generate(z, {3: edits[2]})
    with pytest.raises(ValueError, match="for a layer of 12 units, got 10"):
        flow.generate(z, {3: correct.local(scores, torch.zeros(N, 16, 16))[2]})


@pytest.mark.parametrize("portion", [-0.1, 1.01, 20, float("nan")])
def test_a_portion_outside_its_range_is_refused(scores, masks, portion):
    for make in (lambda: correct.sequential(scores, 3, portion), lambda: correct.local(scores, masks, 3, portion)):
        with pytest.raises(ValueError, match=r"portion .* lies in \[0, 1\], got"):
            make()


@pytest.mark.parametrize("scale", [-0.1, 1.1, float("nan")])
def test_a_scale_outside_its_range_is_refused(scores, scale):
    with pytest.raises(ValueError, match=r"scale \(lambda\) lies in \[0, 1\], got"):
        correct.sequential(scores, scale=scale)


@pytest.mark.parametrize("stop_layer", [-1, 2.5, "3", None, True, float("nan"), float("inf"), "six"])
def test_a_stop_layer_that_is_no_layer_number_is_refused(scores, masks, stop_layer):
    for make in (
        lambda: correct.sequential(scores, stop_layer),
        lambda: correct.sequential(scores, stop_layer, inclusive_loop=True),
        lambda: correct.local(scores, masks, stop_layer),
    ):
        with pytest.raises(ValueError, match="stop_layer must be 0 .no correction. or a layer number, got"):
            make()


def test_a_stop_layer_beyond_the_scored_ones_is_refused(scores, masks):
    for stop_layer in (7, 8, 100):
        for make in (correct.sequential, lambda s, n: correct.local(s, masks, n)):
            with pytest.raises(ValueError, match=rf"stop_layer {stop_layer} .*layer 7 has none \(scored: 1 to 6\)"):
                make(scores, stop_layer)
    with pytest.raises(ValueError, match="stop_layer 6 with inclusive_loop .* layer 7 has none"):
        correct.sequential(scores, 6, inclusive_loop=True)
    with pytest.raises(ValueError, match="layer 1 has none"):
        correct.sequential({2: scores[2]}, 2)
    with pytest.raises(ValueError, match="layer 1 has none"):
        correct.sequential({}, 2)
    assert sorted(correct.sequential(scores, np.int64(3))) == [1, 2, 3] == sorted(correct.sequential(scores, 3.0))


def test_scores_that_make_no_weight_in_the_unit_interval_are_refused(scores):
    nan = {layer: s.clone() for layer, s in scores.items()}
    nan[2][4] = torch.nan
    with pytest.raises(ValueError, match="layer 2.* scores"):
        correct.sequential(nan, 3)
    assert sorted(correct.sequential(nan, 1)) == [1]  # layer 2 is not used
    distances = {layer: 30 + 100 * s for layer, s in scores.items()}
    with pytest.raises(ValueError, match=r"layer 1.* scores .*\[0, 1\].* normalise"):
        correct.sequential(distances, 3, normalise="none")
    with pytest.raises(ValueError, match=r"layer 1.* scores .*\[0, 1\]"):
        correct.sequential({1: torch.tensor([-2.0, 1.0])}, 1, normalise="max")
    with pytest.raises(ValueError, match="layer 2.* scores"):
        correct.local(nan, torch.zeros(1, 16, 16), 3)
    assert correct.sequential(distances, 3)[1].weights.min() == 0


def test_a_chain_gives_a_later_edit_what_an_earlier_one_leaves(flow, z, scores, masks):
    first, second = correct.sequential(scores, 3), correct.local(scores, masks, 2, 0.5)
    both = correct.chained(first, second, correct.ablate(5, [0]))
    assert list(both) == [1, 2, 3, 5] and both.ids is None
    h = flow.record(z, [2])[2]
    assert torch.equal(both[2](h), second[2](first[2](h)))
    assert torch.equal(both[3](flow.record(z, [3])[3]), first[3](flow.record(z, [3])[3]))
    by_hand = {
        1: lambda h: second[1].take(rows(h), N)(first[1](h)),
        2: lambda h: second[2].take(rows(h), N)(first[2](h)),
    }
    seen = []

    def rows(h):  # chunks come in order, each with layers 1 and 2
        seen.append(len(h))
        start = 7 * ((len(seen) - 1) // 2)
        return slice(start, start + len(h))

    expected = flow.generate(z, first | second | by_hand | {5: correct.ablate(5, [0])[5]})
    assert torch.equal(flow.generate(z, both), expected)
    with pytest.raises(ValueError, match="masks for 20 images"):
        flow.generate(z[:3], both)
    assert torch.equal(flow.generate(z, correct.chained()), flow.generate(z))
    assert correct.chained() == {}


def test_a_chain_knows_its_images_if_all_its_parts_do(flow, z):
    found = units.differences(flow, z[:3], z[3:6], [1])
    found.ids = frozenset({3, 7})
    other = units.differences(flow, z[:3], z[3:6], [2])
    other.ids = frozenset({9})
    assert correct.chained(correct.shift(found), correct.shift(other)).ids == {3, 7, 9}
    assert correct.chained(correct.shift(found), correct.ablate(2, [0])).ids is None
