import pytest
import torch
from torch import nn

from helpers import correct, units
from helpers.corrections.amounts import Direction
from helpers.flow import Flow
from helpers.interface.correction_settings import Step
from helpers.interface.incremental import Replay
from helpers.latents import latents
from helpers.networks import pggan

LAST = 7


class Skipping(nn.Module):
    """A generator whose later layers need more than the featuremap: a running sum of the early ones."""

    latent, n_layers = 3, 4

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(self.n_layers, 3, 3))

    def advance(self, layer, h, extras):
        h = h[:, :, None, None] if layer == 1 else h
        h = torch.einsum("uv,bvhw->buhw", self.weight[layer - 1], h)
        skip = h + extras.get("skip", 0)
        return (torch.tanh(skip) if layer == self.n_layers else h), {"skip": skip}


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(0)
    return Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)))


@pytest.fixture(scope="module")
def z():
    return latents(range(6), 9)


@pytest.fixture
def replay(flow, z):
    return Replay(flow, z)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=3e-5)


def test_images_equal_generating_them_anew(flow, z, replay):
    scores, masks = units.random_scores(flow), torch.rand(6, 16, 16)
    rows = [4, 1]
    for edits in (
        None,
        {},
        correct.sequential(scores, 4, 0.5, 0.9),
        correct.sequential(scores, 6, 0.5, 0.9),
        correct.sequential(scores, 3, 0.25, 0.1),
        correct.ablate(5, [0, 3]),
        correct.local(scores, masks[rows], 4, 0.5),
        {LAST: lambda h: h + 1},
        {2: lambda h: h * 2},
        None,
    ):
        close(replay.images(rows, edits), flow.generate(z[rows], edits))
        close(replay.images([3], {}), flow.generate(z[3:4]))


def test_a_change_costs_only_the_layers_it_reaches(flow, replay):
    def cost(*settings):
        replay.images([0], correct.sequential(units.random_scores(flow), *settings))
        return replay.computed

    assert cost(3, 0.5, 0.9) == [1, 2, 3, 4, 5, 6, 7]
    assert cost(3, 0.5, 0.9) == []
    assert cost(4, 0.5, 0.9) == [5, 6, 7]  # layer 4 is the same until its own edit
    assert cost(5, 0.5, 0.9) == [6, 7]
    assert cost(3, 0.5, 0.9) == []
    assert cost(3, 0.51, 0.9) == []  # as many units as with 0.5
    assert cost(3, 0.5, 0.8) == [2, 3, 4, 5, 6, 7]  # layer 1 is the same until its own edit
    replay.images([0], correct.ablate(5, [1]))
    assert replay.computed == [2, 3, 4, 5, 6, 7]
    replay.images([0], correct.ablate(5, [1, 2]))
    assert replay.computed == [6, 7]
    replay.images([0, 1], correct.ablate(5, [1, 2]))
    assert replay.computed == [1, 2, 3, 4, 5, 6, 7]


def test_functions_are_the_same_only_as_themselves(flow, z, replay):
    double, triple = (lambda h: 2 * h), (lambda h: 3 * h)
    close(replay.images([0], {3: double}), flow.generate(z[:1], {3: double}))
    close(replay.images([0], {3: triple}), flow.generate(z[:1], {3: triple}))
    replay.images([0], {3: double})
    assert replay.computed == []


def test_latents_are_edited_as_layer_0(flow, z, replay):
    direction = Direction(torch.nn.functional.normalize(torch.arange(9.0), dim=0))
    for amount in (0.0, 0.5, 2.0, 0.5):
        found = replay.images([2, 4], {0: Step(direction, amount)})
        close(found, flow.generate(direction.step(z[[2, 4]], amount)))
    assert replay.computed == []
    both = {0: Step(direction, 0.5), 3: correct.Zero((1,))}
    close(replay.images([2, 4], both), flow.generate(direction.step(z[[2, 4]], 0.5), correct.ablate(3, [1])))
    assert replay.computed == [4, 5, 6, 7]


def test_a_shift_costs_the_layers_behind_it(flow, z, replay):
    layers = {2: torch.randn(12, 4, 4), 5: torch.randn(8, 16, 16)}
    replay.images([1])
    for layer, amount, cost in ((2, 1.0, 5), (2, 1.05, 5), (2, -1.0, 5), (5, 1.0, 2), (5, 2.0, 2), (2, 1.05, 0)):
        edits = correct.shift({layer: layers[layer]}, amount)
        close(replay.images([1], edits), flow.generate(z[1:2], edits))
        assert len(replay.computed) == cost


def test_masks_of_equal_size_and_other_content_are_told_apart(flow, z, replay):
    scores = units.random_scores(flow)
    for masks in (torch.zeros(1, 16, 16), torch.ones(1, 16, 16)):
        edits = correct.local(scores, masks, 4, 0.5)
        close(replay.images([2], edits), flow.generate(z[2:3], edits))


def test_chained_edits_are_known_by_their_content(flow, z, replay):
    def edits(units):
        return correct.chained(correct.ablate(2, [0]), correct.ablate(2, units))

    replay.images([1], edits([1]))
    assert torch.equal(replay.images([1], edits([1])), flow.generate(z[1:2], edits([1]))) and replay.computed == []
    assert torch.equal(replay.images([1], edits([3])), flow.generate(z[1:2], edits([3])))
    assert replay.computed == list(range(3, LAST + 1))


def test_what_later_layers_need_is_kept(z):
    torch.manual_seed(0)
    flow = Flow(Skipping())
    replay = Replay(flow, z[:, :3])
    for layer in (3, 2, 1, 3):
        edits = {layer: correct.Scale(torch.tensor([0.0, 0.5, 1.0]))}
        close(replay.images([5, 0], edits), flow.generate(z[[5, 0], :3], edits))


def test_memory_is_bounded_and_the_oldest_goes_first(flow, z):
    size = 4 * sum(flow.units(layer) * flow.resolution(layer) ** 2 for layer in range(1, LAST + 1))
    replay = Replay(flow, z, budget=2 * size)
    for row in (0, 1, 0, 2):
        close(replay.images([row]), flow.generate(z[row : row + 1]))
        assert replay._bytes <= 2 * size
    replay.images([0])
    assert replay.computed == []
    replay.images([1])
    assert replay.computed == [1, 2, 3, 4, 5, 6, 7]
    tight = Replay(flow, z, budget=1)
    close(tight.images([3]), flow.generate(z[3:4]))


def test_nothing_is_changed_by_an_edit(flow, z, replay):
    before = replay.images([0]).clone()
    replay.images([0], {2: correct.Scale(torch.zeros(12))})
    assert torch.equal(replay.images([0]), before)


def test_unknown_layers_rows_and_misfit_edits_are_refused(flow, replay):
    with pytest.raises(ValueError, match="there is no layer 9"):
        replay.images([0], {9: torch.relu})
    with pytest.raises(IndexError):
        replay.images([6])
    with pytest.raises(ValueError, match="units"):
        replay.images([0], {3: correct.Scale(torch.ones(5))})
    with pytest.raises(ValueError, match="mask"):
        replay.images([0, 1], correct.local(units.random_scores(flow), torch.ones(1, 16, 16), 3))
    close(replay.images([0]), flow.generate(replay.z[:1]))
