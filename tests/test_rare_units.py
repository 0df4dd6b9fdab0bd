import pickle

import pytest
import torch
from torch import nn

from helpers import correct, domains, evaluation, rare_units, survey
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from tests.networks import Canvas, tiny_generator
from tests.rounding import close

LAYERS = (1, 4)  # not neighbours, and of different sizes: a mix-up by position would not go unnoticed
N = 40


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()), batch=7)


@pytest.fixture(scope="module")
def z():
    return latents(range(N), 9)


@pytest.fixture(scope="module")
def rates(flow, z):
    return survey.activation_rates(flow, z, layers=LAYERS, places=True)


@pytest.fixture(scope="module")
def neurons(rates):
    return rare_units.rare(rates, 0.6)


class Steps(nn.Module):
    """A generator written by hand: layer 1 is z in two units of 1x2 places, each layer behind it takes 1 off."""

    latent, n_layers = 8, 4

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))

    def advance(self, layer, h, extras):
        return (h.view(-1, 2, 2, 2) if layer == 1 else h - 1 + self.zero), extras


def test_rates_at_each_place_are_those_of_the_survey(flow, z, rates):
    recorded = flow.record(z, LAYERS)
    whole = survey.survey(flow, z, k=3, layers=LAYERS)
    assert list(rates) == list(LAYERS)
    for layer in LAYERS:
        expected = (recorded[layer] > 0).double().mean(dim=0)
        torch.testing.assert_close(rates[layer].double(), expected, rtol=0, atol=1.01 / N)
        assert torch.equal(rates[layer], whole.position_rates[layer])
        unit = survey.activation_rates(flow, z, layers=[layer])[layer]
        close(rates[layer].double().mean(dim=(1, 2)), unit)


def test_rare_is_active_in_some_images_and_at_most_in_that_share():
    rates = {3: torch.tensor([[[0.0, 0.1], [0.3, 0.31]], [[1.0, 0.0], [0.2, 0.5]]])}
    found = rare_units.rare(rates, 0.3)
    assert found[3].tolist() == [[[False, True], [True, False]], [[False, False], [True, False]]]
    assert rare_units.RATE == 0.3 and torch.equal(rare_units.rare(rates)[3], found[3])
    assert rare_units.unit_shares(found)[3].tolist() == [0.5, 0.25]


def test_layers_go_by_number(flow, z, rates):
    both, one = rare_units.rare(rates, 0.6), rare_units.rare(rates, 0.6, layers=[4])
    assert list(one) == [4] and torch.equal(one[4], both[4]) and tuple(one[4].shape) == flow.shape(4)
    backwards = rare_units.artifact_scores(flow, z, {4: both[4], 1: both[1]})
    assert torch.equal(backwards, rare_units.artifact_scores(flow, z, both))
    alone = rare_units.active_counts(flow, z, one)
    assert torch.equal(alone[4], rare_units.active_counts(flow, z, both)[4])


def test_scores_count_active_rare_neurons(flow, z, neurons):
    recorded = flow.record(z, LAYERS)
    expected, shares = torch.zeros(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    for n in range(N):
        for layer in LAYERS:
            marked = neurons[layer].numpy()
            count = sum(float(v) > 0 for v in recorded[layer][n].numpy()[marked])
            expected[n] += count
            shares[n] += count / marked.sum() / len(LAYERS)
    found = rare_units.artifact_scores(flow, z, neurons)
    assert found.dtype == torch.float64 and found.std() > 0
    # Where an activation is 0 up to rounding, one neuron more or less may count.
    assert (found - expected).abs().max() <= 2 and (found - expected).abs().sum() <= 4
    by_layer = rare_units.artifact_scores(flow, z, neurons, normalise="layer")
    assert by_layer.min() >= 0 and by_layer.max() <= 1
    least = min(int(marked.sum()) for marked in neurons.values())
    assert (by_layer - shares).abs().max() <= 2 / least


def test_scores_by_hand():
    flow = Flow(Steps())
    z = torch.tensor([[2.0, -1, 0, 0.5, 1, 1, -2, 3], [0.0, 0, 0, 0, 0, 0, 0, 0]])
    first, third = torch.zeros(2, 2, 2, dtype=torch.bool), torch.zeros(2, 2, 2, dtype=torch.bool)
    first[0], third[1, 1, 1] = True, True
    marked = {1: first, 3: third}
    counts = rare_units.active_counts(flow, z, marked)
    assert counts[1].tolist() == [2, 0] and counts[3].tolist() == [1, 0]
    assert rare_units.artifact_scores(flow, z, marked).tolist() == [3, 0]
    assert rare_units.artifact_scores(flow, z, marked, normalise="layer").tolist() == [(2 / 4 + 1) / 2, 0]


def test_scores_depend_on_neither_batch_nor_order(z, neurons):
    one = Flow(pggan.Layers(tiny_generator()), batch=N)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    scores = [rare_units.artifact_scores(Flow(pggan.Layers(tiny_generator()), batch=b), z, neurons) for b in (1, 7)]
    for found in (*scores, rare_units.artifact_scores(one, z[order], neurons)[order.argsort()]):
        assert (found - rare_units.artifact_scores(one, z, neurons)).abs().max() <= 1
    assert len(rare_units.artifact_scores(one, z[:0], neurons)) == 0


def test_the_ablation_silences_what_is_positive_and_nothing_else(flow, z, neurons):
    h = torch.tensor([[[[2.0, -1.0], [3.0, 0.5]]]])
    edit = rare_units.ablate({1: torch.tensor([[[True, True], [False, False]]])})[1]
    assert edit(h).tolist() == [[[[0.0, -1.0], [3.0, 0.5]]]] and h[0, 0, 0, 0] == 2
    assert torch.equal(edit(edit(h)), edit(h))
    edits = rare_units.ablate(neurons)
    after = flow.record(z, LAYERS, edits)
    assert rare_units.active_counts(flow, z, neurons)[4].sum() > 0
    for layer in LAYERS:
        assert after[layer][:, neurons[layer]].max() <= 0 and after[layer][:, neurons[layer]].min() < 0
    before = flow.record(z, [1])[1]
    assert torch.equal(after[1][:, ~neurons[1]], before[:, ~neurons[1]])


def test_the_ablation_is_sequential(flow, z, neurons):
    """Each layer is computed from the one before as already ablated, written out."""
    h = z
    with torch.no_grad():
        for layer in range(1, flow.n_layers + 1):
            h, _ = flow.network.advance(layer, h, {})
            if layer in neurons:
                h = h.clone()
                for place in neurons[layer].nonzero().tolist():
                    value = h[(slice(None), *place)]
                    h[(slice(None), *place)] = torch.where(value > 0, torch.zeros(()), value)
    close(flow.generate(z, rare_units.ablate(neurons)), h)


def test_no_neuron_is_the_identity_and_ids_are_kept(flow, z):
    none = {1: torch.zeros(flow.shape(1), dtype=torch.bool)}
    edits = rare_units.ablate(none, ids=[1, 2])
    assert torch.equal(flow.generate(z, edits), flow.generate(z)) and edits.ids == [1, 2]


def test_edits_can_be_pickled_and_saved(flow, z, neurons, tmp_path):
    edits = rare_units.ablate(neurons, ids=range(5))
    expected = flow.generate(z[:3], edits)
    assert torch.equal(flow.generate(z[:3], pickle.loads(pickle.dumps(edits))), expected)
    correct.write_edits(tmp_path / "rare.safetensors", edits, flow)
    found = correct.read_edits(tmp_path / "rare.safetensors", flow)
    assert torch.equal(flow.generate(z[:3], found), expected) and found.ids == frozenset(range(5))


def test_an_evaluation_refuses_images_that_the_rates_come_from():
    domain = domains.load("churches")
    marked = {1: torch.zeros(domain.flow.shape(1), dtype=torch.bool)}
    with pytest.raises(ValueError, match="made from 1 id"):
        evaluation.sample(domain, [10, 11], lambda _: rare_units.ablate(marked, ids=[11]))


def test_the_overlay_averages_what_is_silenced_over_units_and_layers():
    flow = Flow(Steps())
    z = torch.tensor([[2.0, -1, 3, 0.5, 9, 9, -2, 3]])
    every = torch.ones(2, 2, 2, dtype=torch.bool)
    # Layer 1 silences seven of eight; nothing is left above 0 for layer 2.
    heat = rare_units.overlay(flow, z, {1: every})
    expected = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]])
    close(heat, expected)
    close(rare_units.overlay(flow, z, {1: every, 2: every}), expected / 2)
    # Alone, layer 2 silences what is above 1 in layer 1.
    close(rare_units.overlay(flow, z, {2: every}), torch.tensor([[[1.0, 0.5], [0.5, 0.5]]]))


def test_the_overlay_is_upsampled_with_half_pixel_centres(flow, z, neurons):
    heat = rare_units.overlay(flow, z[:9], neurons)
    side = flow.resolution(flow.n_layers)
    assert heat.shape == (9, side, side) and heat.min() >= 0 and heat.max() <= 1
    edits = rare_units.ablate(neurons)
    first = (flow.record(z[:9], [1])[1] > 0) & neurons[1]
    fourth = (flow.record(z[:9], [4], {1: edits[1]})[4] > 0) & neurons[4]
    expected = sum(
        nn.functional.interpolate(part.double().mean(dim=1)[:, None], size=(side, side), mode="bilinear")[:, 0]
        for part in (first, fourth)
    )
    assert (heat - expected / 2).abs().max() <= 0.5 / 8 + 1e-6  # one of at least 8 units, where rounding decides
    assert (heat - expected / 2).abs().mean() < 1e-3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"at_most": 0}, "lies in"),
        ({"at_most": 1.2}, "lies in"),
        ({"layers": [1, 3]}, "layer 3 has no rates"),
        ({"layers": []}, "no layers"),
        ({"at_most": 0.001}, "no neuron of layer 1 has a rate up to 0.001"),
        ({"rates": {1: torch.rand(5)}}, r"needs rates \(U, H, W\)"),
        ({"rates": {1: torch.full((2, 2, 2), 1.5)}}, r"in \[0, 1\]"),
        ({"rates": {1: torch.full((2, 2, 2), torch.nan)}}, r"in \[0, 1\]"),
        ({"rates": {1: torch.zeros(2, 2, 2)}}, "all its neurons are dead"),
    ],
)
def test_bad_rates_and_thresholds(rates, change, said):
    with pytest.raises(ValueError, match=said):
        rare_units.rare(**{"rates": rates, **change})


def test_neurons_of_another_layer_are_refused(flow, z, neurons):
    swapped = {1: neurons[4], 4: neurons[1]}
    for use in (rare_units.active_counts, rare_units.artifact_scores, rare_units.overlay):
        with pytest.raises(ValueError, match="another layer or generator"):
            use(flow, z, swapped)
        with pytest.raises(ValueError, match="no layer"):
            use(flow, z, {})
    with pytest.raises(ValueError, match="take its own layer"):
        flow.generate(z, rare_units.ablate(swapped))
    with pytest.raises(ValueError, match="bool"):
        rare_units.ablate({1: torch.ones(2, 2, 2)})
    with pytest.raises(ValueError, match="bool"):
        rare_units.ablate({1: torch.ones(2, dtype=torch.bool)})
    with pytest.raises(ValueError, match="'none' or 'layer'"):
        rare_units.artifact_scores(flow, z, neurons, normalise="max")


def test_a_layer_that_is_not_there(z):
    flow = Flow(Canvas(3, 4))
    with pytest.raises(ValueError, match="there is no layer 9"):
        rare_units.active_counts(flow, torch.zeros(2, 48), {9: torch.ones(3, 4, 4, dtype=torch.bool)})


def test_as_many_others_are_other_neurons_that_fire_as_often(rates):
    marked = rare_units.rare(rates, 0.3)
    one, two, again = (rare_units.as_many_others(rates, marked, seed) for seed in (0, 1, 0))
    for layer in LAYERS:
        assert one[layer].shape == marked[layer].shape and not (one[layer] & marked[layer]).any()
        assert (one[layer] != two[layer]).any() and torch.equal(one[layer], again[layer])
        wanted, got = (float(rates[layer][which].sum()) for which in (marked[layer], one[layer]))
        assert wanted - 1 <= got <= wanted + 1e-3
