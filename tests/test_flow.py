import pickle

import pytest
import torch

from helpers import correct
from helpers.flow import Flow, State
from helpers.latents import latents
from helpers.networks import pggan, stylegan2
from helpers.streaming import partials
from tests.rounding import close


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(0)
    return Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)), batch=7)


@pytest.fixture(scope="module")
def z():
    return latents(range(20), 9)


def test_layers_are_counted_from_one(flow):
    assert flow.n_layers == 7
    assert [flow.units(layer) for layer in flow.layers] == [12, 12, 10, 10, 8, 8]
    assert [flow.resolution(layer) for layer in range(1, 8)] == [4, 4, 8, 8, 16, 16, 16]


@torch.no_grad()
def test_generate_equals_the_network(flow, z):
    close(flow.generate(z), flow.network.generator(z))


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_batch_size_and_order_change_nothing(flow, z, batch):
    other = Flow(flow.network, batch)
    close(other.generate(z), flow.generate(z))
    order = torch.randperm(20)
    close(other.generate(z[order]), flow.generate(z)[order])


@pytest.mark.parametrize("layer", range(8))
def test_resume_goes_on_from_any_layer(flow, z, layer):
    state = flow.state(z, layer)
    assert state.layer == layer
    close(flow.resume(state), flow.generate(z))


@pytest.mark.parametrize("start", [0, 1, 3, 6])
def test_advance_takes_a_state_further(flow, z, start):
    state = flow.state(z, start)
    for layer in range(start, 8):
        further = flow.advance(state, layer)
        assert further.layer == layer and torch.equal(further.h, flow.state(z, layer).h)
    assert torch.equal(state.h, flow.state(z, start).h)
    with pytest.raises(ValueError, match="layer 2 lies before the state"):
        flow.advance(flow.state(z, 3), 2)
    with pytest.raises(ValueError, match="layers 1 to 7"):
        flow.advance(state, 8)


def test_an_edit_changes_its_layer_and_nothing_before(flow, z):
    layers, weights = flow.layers, torch.linspace(0, 1, 10)
    plain, edited = flow.record(z, layers), flow.record(z, layers, {3: correct.Scale(weights)})
    for layer in (1, 2):
        assert torch.equal(plain[layer], edited[layer])
    assert torch.equal(edited[3], plain[3] * weights[:, None, None])
    assert not torch.allclose(edited[4], plain[4])


def test_edited_generation_equals_editing_the_state(flow, z):
    edit = correct.Scale(torch.rand(10))
    state = flow.state(z, 4)
    by_hand = flow.resume(State(4, edit(state.h)))
    close(flow.generate(z, {4: edit}), by_hand)


def test_nothing_stays_behind_after_an_edit_or_an_error(flow, z):
    before, recorded = flow.generate(z), flow.record(z, [3])[3]
    kept = recorded.clone()
    flow.generate(z, {3: correct.Scale(torch.zeros(10))})
    assert torch.equal(flow.generate(z), before) and torch.equal(recorded, kept)

    def broken(h):
        raise RuntimeError("broken edit")

    with pytest.raises(RuntimeError, match="broken edit"):
        flow.generate(z, {3: broken})
    assert torch.equal(flow.generate(z), before)
    assert not any(m._forward_hooks for m in flow.network.modules())


def test_a_flow_pickles(flow, z):
    assert torch.equal(pickle.loads(pickle.dumps(flow)).generate(z), flow.generate(z))


def test_record_puts_the_chunks_together(flow, z):
    found = flow.record(z, [2, 7])
    for layer in found:
        chunks = torch.cat([chunk[layer] for _, chunk in flow.stream(z, [2, 7])])
        assert torch.equal(found[layer], chunks) and found[layer].dtype == torch.float32
        assert not found[layer].is_pinned()  # that is for copies from a GPU


def test_unknown_layers_and_wrong_latents_are_refused(flow, z):
    for layer in (0, 8, -1, True, "3"):
        with pytest.raises(ValueError, match="layers 1 to 7"):
            flow.units(layer)
    with pytest.raises(ValueError, match="there is no layer 9"):
        flow.generate(z, {9: lambda h: h})
    with pytest.raises(ValueError, match=r"latents must have shape \(B, 9\)"):
        flow.generate(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="must keep the shape"):
        flow.generate(z, {3: lambda h: h[:, :5]})
    with pytest.raises(ValueError, match="lies before the state"):
        flow.resume(flow.state(z, 4), {4: lambda h: h})


def test_autocast_is_close_float32_and_edited_alike(flow, z):
    half = flow.autocast()
    exact, near = flow.record(z, flow.layers), half.record(z, flow.layers)
    for layer, h in exact.items():
        error = (near[layer] - h).norm() / h.norm()
        assert near[layer].dtype == torch.float32 and 1e-4 < error < 0.03, f"layer {layer}: {error}"
    edits = {2: lambda h: h * 0}
    assert torch.equal(half.record(z, [2], edits)[2], torch.zeros_like(exact[2]))
    state = half.state(z, 3)
    assert torch.equal(half.resume(state), half.generate(z))


def test_resume_keeps_gradients_if_asked(flow, z):
    state, weights = flow.state(z, 3), torch.ones(8, requires_grad=True)
    h = state.h.clone().requires_grad_()
    images = flow.resume(State(3, h, state.extras), {5: lambda h: h * weights[:, None, None]}, grad=True)
    found = torch.autograd.grad(images.square().sum(), [h, weights])
    x, extras = h, state.extras  # written out
    for layer in range(4, flow.n_layers + 1):
        x, extras = flow.network.advance(layer, x, extras)
        x = x * weights[:, None, None] if layer == 5 else x
    expected = torch.autograd.grad(x.square().sum(), [h, weights])
    for mine, theirs in zip(found, expected):
        assert theirs.abs().max() > 0
        close(mine / theirs.abs().max(), theirs / theirs.abs().max())
    assert not flow.resume(State(3, h, state.extras)).requires_grad


def test_a_state_under_autocast_is_float32_and_can_be_resumed_exactly():
    torch.manual_seed(0)
    styled = Flow(stylegan2.Layers(stylegan2.Generator((8, 8, 6), 5, 6, 2)), batch=4)
    z = latents(range(6), 5)
    state = styled.autocast().state(z, 3)
    assert {value.dtype for value in (state.h, *state.extras.values())} == {torch.float32} and state.extras
    exact = styled.generate(z)
    assert (styled.resume(state) - exact).norm() / exact.norm() < 0.03


def test_results_under_autocast_have_a_key_of_their_own(flow):
    assert partials.weights(flow.autocast()) != partials.weights(flow)
