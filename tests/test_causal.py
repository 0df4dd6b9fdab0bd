import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import causal, correct
from helpers.corrections.edits import Blend
from helpers.flow import Flow
from helpers.networks.features import ResNet18

SIDE, SIZE, THING = 16, 4, 1  # pixels, places across, the concept's label


class Made(nn.Module):
    """Its causes are known: unit 0 draws the thing anywhere, unit 1 in the right half only, 2 and 3 draw colour."""

    def __init__(self):
        super().__init__()
        self.units = nn.Identity()
        half = torch.zeros(4, 1, SIZE, SIZE)
        half[0] = half[2] = half[3] = 1
        half[1, 0, :, 2:] = 1
        self.register_buffer("reach", half[:, 0])
        self.register_buffer("drawn", torch.tensor([[1.0, 1.0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))

    def forward(self, z):
        h = self.units(z.view(-1, 4, SIZE, SIZE))
        image = torch.einsum("cu,buhw->bchw", self.drawn, h * self.reach)
        return F.interpolate(image, (SIDE, SIDE), mode="nearest")


def score(images):
    """Two classes: nothing, and the thing where the first channel is above a half."""
    thing = 6 * (images[:, :1] - 0.5)
    return torch.cat([torch.zeros_like(thing), thing], dim=1)


def segment(images):
    return score(images).argmax(dim=1)


@pytest.fixture(scope="module")
def flow():
    return Flow.from_module(Made(), ["units"], 4 * SIZE * SIZE, batch=8)


@pytest.fixture(scope="module")
def z():
    """The thing is in the left half only, drawn by unit 0; the other units are noise."""
    h = 0.2 * torch.rand(24, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    h[:, 0] = 0
    h[torch.arange(24), 0, torch.arange(24) % 4, torch.arange(24) % 2] = 1.0
    return h.flatten(1)


@pytest.fixture(scope="module")
def labels(flow, z):
    return segment(flow.generate(z))


@pytest.fixture(scope="module")
def present(flow, z, labels):
    return causal.places(flow, z, 1, labels, THING)


@pytest.fixture(scope="module")
def absent(flow, z, labels):
    """Of the right half alone, so that no insertion is where an ablation is."""
    found = causal.places(flow, z, 1, labels, THING, present=False, count=300)
    return found.take(found.masks[:, :, 2:].sum(dim=(1, 2)) > 0)


VALUES = torch.tensor([1.0, 1.0, 1.0, 1.0])


def test_places_are_where_the_concept_is(present, absent, z, labels):
    assert len(present) == 24 and len(absent) > 100
    assert (present.before == 1).all() and (absent.before == 0).all()
    assert (present.below == THING).all() and (absent.below == 0).all()
    for where in (present, absent):
        block = where.masks.repeat_interleave(4, 1).repeat_interleave(4, 2).bool()
        inside = torch.stack([labels[row][part].float().mean() for row, part in zip(where.rows, block)])
        assert torch.equal(inside, where.before) and (where.masks.sum(dim=(1, 2)) == 1).all()
        assert torch.equal(where.state.h.flatten(1), z[where.rows])


def test_some_places_are_drawn_by_seed_and_by_what_is_below(flow, z, labels):
    one, same, other = (causal.places(flow, z, 1, labels, THING, False, 9, seed=s) for s in (0, 0, 1))
    assert len(one) == 9 and torch.equal(one.masks, same.masks) and not torch.equal(one.masks, other.masks)
    assert len(causal.places(flow, z, 1, labels, 0, present=False, below=THING)) == 24


def test_a_place_may_be_several_cells(flow, z, labels):
    where = causal.places(flow, z, 1, labels, THING, present=False, count=50, across=2)
    block = where.masks.repeat_interleave(4, 1).repeat_interleave(4, 2).bool()
    assert (where.masks.sum(dim=(1, 2)) == 4).all()
    assert not any(bool((labels[row][part] == THING).any()) for row, part in zip(where.rows, block))
    drawn = causal.images(flow, where, torch.tensor([1.0, 0, 0, 0]), VALUES)
    assert (causal.share(where, segment(drawn)) == 1).all()
    with pytest.raises(ValueError, match="1 to 4 cells across"):
        causal.places(flow, z, 1, labels, THING, across=5)


def test_the_objective_is_the_written_out_one_at_its_own_places(flow, present, absent):
    alpha = torch.tensor([0.3, 0.6, 0.1, 0.9], dtype=torch.float64)
    total = {}
    for name, where, put in (("insert", absent, VALUES), ("ablate", present, torch.zeros(4))):
        shares = []
        for h, mask in zip(where.state.h.double(), where.masks.double()):
            h = h.clone()
            y, x = (int(i) for i in mask.nonzero()[0])
            h[:, y, x] = h[:, y, x] * (1 - alpha) + put * alpha
            image = F.interpolate(
                torch.einsum("cu,uhw->chw", Made().drawn.double(), h * Made().reach)[None], (SIDE, SIDE), mode="nearest"
            )
            probability = torch.sigmoid(6 * (image[0, 0] - 0.5))
            shares.append(probability[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean())
        total[name] = torch.stack(shares).mean()
    expected = total["ablate"] - total["insert"] + 0.01 * (alpha**2).sum()
    found = causal.objective(flow, score, absent, present, alpha.float(), VALUES, penalty=0.01)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_the_causal_units_are_found(flow, present, absent):
    alpha, losses = causal.optimise(flow, score, absent, present, VALUES, steps=120)
    # Unit 1 draws nothing where the ablations are: only insertions read at their own places can find it.
    assert (alpha[:2] > 0.5).all() and (alpha[2:] < 0.1).all(), alpha
    assert losses[-10:].mean() < losses[:10].mean() - 0.2
    first = torch.tensor([2.0, 0, 0, 0])
    assert causal.optimise(flow, score, absent, present, VALUES, first, steps=0)[0].tolist() == [1, 0, 0, 0]


def test_a_unit_at_zero_can_come_back(flow, present, absent):
    start = torch.tensor([0.0, 0, 1, 1])
    alpha, _ = causal.optimise(flow, score, absent, present, VALUES, start, steps=120)
    assert (alpha[:2] > 0.5).all() and (alpha[2:] < 0.1).all(), alpha


def test_a_unit_that_acts_elsewhere_only_is_not_found(flow, z, labels, present):
    left = causal.places(flow, z, 1, labels, THING, present=False, count=300)
    left = left.take(left.masks[:, :, :2].sum(dim=(1, 2)) > 0)
    alpha, _ = causal.optimise(flow, score, left, present, VALUES, steps=120)
    assert alpha[0] > 0.5 and (alpha[1:] < 0.1).all(), alpha


def test_effects_of_known_causes(flow, present, absent):
    right = causal.effect(flow, segment, absent, present, torch.tensor([1.0, 0, 0, 0]), VALUES)
    assert right.ace == 1 and (right.gained == 1).all() and (right.lost == 1).all()
    half = causal.effect(flow, segment, absent, present, torch.tensor([0, 1.0, 0, 0]), VALUES)
    assert (half.gained == 1).all() and (half.lost == 0).all() and half.ace == 0
    nothing = causal.effect(flow, segment, absent, present, torch.zeros(4), VALUES)
    assert nothing.ace == -1 and not nothing.gained.any() and not nothing.lost.any()


class Doors(nn.Module):
    """Unit 0 draws a door, but only where unit 1 draws a wall."""

    def __init__(self):
        super().__init__()
        self.units = nn.Identity()

    def forward(self, z):
        door, wall = self.units(z.view(-1, 2, SIZE, SIZE)).unbind(dim=1)
        image = torch.stack([door * wall, wall, torch.zeros_like(wall)], dim=1)
        return F.interpolate(image, (SIDE, SIDE), mode="nearest")


def test_what_an_insertion_draws_depends_on_what_is_there():
    flow = Flow.from_module(Doors(), ["units"], 2 * SIZE * SIZE, batch=8)
    h = torch.zeros(6, 2, SIZE, SIZE)
    h[:, 1, 2:] = 1  # wall below, sky above
    h[:, 0, 3, 3] = 1
    segment = lambda images: (images[:, 1] > 0.5).long() + (images[:, 0] > 0.5).long()  # noqa: E731 - sky, wall, door
    labels = segment(flow.generate(h.flatten(1)))
    gained = {}
    for name, below in (("sky", 0), ("wall", 1)):
        where = causal.places(flow, h.flatten(1), 1, labels, 2, present=False, below=below)
        drawn = causal.images(flow, where, torch.tensor([1.0, 0]), torch.ones(2))
        gained[name] = (causal.share(where, segment(drawn)) - where.before).tolist()
    assert gained == {"sky": [0.0] * 48, "wall": [1.0] * 42}


def test_mean_values_are_weighted_by_the_concept(flow, z, labels):
    h = z.view(-1, 4, SIZE, SIZE).double()
    weight = F.avg_pool2d((labels == THING).double()[:, None], 4)
    expected = (h * weight).sum(dim=(0, 2, 3)) / weight.sum()
    torch.testing.assert_close(causal.mean_values(flow, z, 1, labels, THING).double(), expected, rtol=0, atol=1e-6)


def test_edits_blend_and_change_nothing_else(flow, z):
    alpha, values = torch.tensor([0.0, 0.25, 1, 0]), torch.tensor([5.0, 2, 3, 4])
    masks = torch.zeros(24, SIZE, SIZE)
    masks[:, 1, 2] = 1
    h = z.view(-1, 4, SIZE, SIZE)
    expected = h.clone()
    expected[:, 1, 1, 2] = h[:, 1, 1, 2] * 0.75 + 0.5
    expected[:, 2, 1, 2] = 3
    torch.testing.assert_close(
        flow.record(z, [1], causal.insert(1, alpha, values, masks))[1], expected, rtol=0, atol=1e-6
    )
    gone = flow.record(z, [1], causal.ablate(1, alpha))[1]
    torch.testing.assert_close(gone, h * (1 - alpha[:, None, None]), rtol=0, atol=1e-6)
    assert torch.equal(flow.generate(z, causal.insert(1, torch.zeros(4), values)), flow.generate(z))
    assert torch.equal(flow.generate(z, causal.insert(1, alpha, values, 0 * masks)), flow.generate(z))


def test_edits_are_written_and_read_back(flow, z, tmp_path):
    edits = causal.insert(1, torch.rand(4), torch.rand(4), torch.rand(24, 8, 8))
    correct.write_edits(tmp_path / "door.edits", edits, flow)
    again = correct.read_edits(tmp_path / "door.edits", flow)
    assert isinstance(again[1], Blend) and torch.equal(flow.generate(z, again), flow.generate(z, edits))


def test_the_highest_scores_are_chosen():
    assert causal.top(torch.tensor([0.1, 0.9, 0.9, 0.2]), 2).tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="cannot choose 5 of 4"):
        causal.top(torch.zeros(4), 5)


def test_bad_input_is_named(flow, z, labels, present, absent):
    with pytest.raises(ValueError, match="label 7 occurs in none"):
        causal.mean_values(flow, z, 1, labels, 7)
    with pytest.raises(ValueError, match="label 7 is present at no place of layer 1"):
        causal.places(flow, z, 1, labels, 7)
    with pytest.raises(ValueError, match="absent at no place of layer 1 on label 1"):
        causal.places(flow, z, 1, labels, THING, present=False, below=THING)
    with pytest.raises(ValueError, match="there is no layer 9"):
        causal.places(flow, z, 9, labels, THING)
    with pytest.raises(ValueError, match="label maps must be integers"):
        causal.places(flow, z, 1, labels[:3], THING)
    with pytest.raises(ValueError, match="alpha must lie in"):
        causal.insert(1, torch.full((4,), 2.0), VALUES)
    with pytest.raises(ValueError, match="number per unit"):
        causal.insert(1, torch.zeros(4), torch.zeros(5))
    for alpha, values in ((torch.zeros(4), torch.zeros(5)), (torch.zeros(5), torch.zeros(5))):
        with pytest.raises(ValueError, match="number per unit|a layer of 5 units, got 4"):
            causal.effect(flow, segment, absent, present, alpha, values)
    with pytest.raises(ValueError, match="no segment head"):
        causal.logits(ResNet18(4, "small"))
    other = causal.places(flow, z, 1, labels, 0)
    with pytest.raises(ValueError, match="one concept and layer"):
        causal.effect(flow, segment, absent, other, torch.zeros(4), VALUES)
