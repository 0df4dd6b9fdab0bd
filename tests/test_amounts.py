import pytest
import torch

from helpers import correct, units
from helpers.corrections import amounts
from helpers.flow import Flow
from helpers.latents import latents
from tests.networks import Canvas
from tests.test_shift import FLOWS, close, made

N = 12
GRID = (0, 0.5, 1, 2)


@pytest.fixture(scope="module", params=FLOWS)
def flow(request):
    return made(request.param)


@pytest.fixture(scope="module")
def z(flow):
    return latents(range(N), flow.latent)


@pytest.fixture(scope="module")
def found(flow):
    return units.differences(flow, latents(range(50, 70), flow.latent), latents(range(90, 105), flow.latent), [1, 2])


class Judge:
    """Whatever it is that brightness says, counted."""

    def __init__(self, level):
        self.level, self.seen = level, 0

    def __call__(self, images):
        assert images.abs().max() <= 1
        self.seen += len(images)
        return images.mean(dim=(1, 2, 3)) - self.level


def naive(draw, grid, judge):
    said = torch.stack([judge(draw(a).clamp(-1, 1)) for a in grid], dim=1)
    first = [next((g for g, s in enumerate(row) if s < 0), int(row.argmin())) for row in said.tolist() and said]
    return torch.tensor([float(grid[g]) for g in first]), said


def halfway(draw, grid):
    """A level that some images reach at once, some on the way and some never."""
    values = torch.stack([draw(a).clamp(-1, 1).mean(dim=(1, 2, 3)) for a in grid], dim=1)
    return float(values.amin(dim=1).median())


@pytest.mark.parametrize("options", [{}, {"how": "linear", "portion": 0.5}])
def test_the_smallest_amount_is_the_first_that_satisfies_the_judge(flow, z, found, options):
    def draw(a):
        return flow.generate(z, correct.shift(found, float(a), **options))

    level = halfway(draw, GRID)
    expected, said = naive(draw, GRID, Judge(level))
    chosen, heard = correct.smallest_amount(flow, z, found, Judge(level), GRID, every=True, **options)
    assert torch.equal(chosen, expected) and heard.shape == (N, 4)
    close(heard, said)
    judge = Judge(level)
    again, partly = correct.smallest_amount(flow, z, found, judge, GRID, **options)
    assert torch.equal(again, expected)
    # No further than the first amount that does.
    tried = ~partly.isnan()
    assert judge.seen == tried.sum() < tried.numel()
    close(partly[tried], heard[tried])
    for row, amount in zip(partly, chosen):
        met = (row < 0).nonzero().flatten().tolist()
        assert met in ([], [GRID.index(amount)])
    images = flow.generate(z, correct.shift(found, chosen, **options))
    close(Judge(level)(images.clamp(-1, 1)), heard[torch.arange(N), [GRID.index(a) for a in chosen]])


def test_what_is_called_normal_stays_and_what_never_is_gets_the_best(flow, z, found):
    fine, said = correct.smallest_amount(flow, z, found, Judge(5), GRID)
    assert (fine == 0).all() and said[:, 1:].isnan().all() and (said[:, 0] < 0).all()
    never, said = correct.smallest_amount(flow, z, found, Judge(-5), GRID)
    assert torch.equal(never, torch.tensor(GRID)[said.argmin(dim=1)]) and not said.isnan().any()
    assert torch.equal(flow.generate(z, correct.shift(found, fine)), flow.generate(z))


def test_masks_stay_with_their_images(flow, z, found):
    masks = torch.zeros(N, 8, 8)
    masks[::2] = 1
    chosen, said = correct.smallest_amount(flow, z, found, Judge(-5), GRID, masks=masks)
    assert (said[1::2] == said[1::2, :1]).all()
    whole = correct.smallest_amount(flow, z, found, Judge(-5), GRID)
    close(said[::2], whole.said[::2])


def test_large_sets_come_in_chunks(flow, z, found, monkeypatch):
    level = halfway(lambda a: flow.generate(z, correct.shift(found, float(a))), GRID)
    whole = correct.smallest_amount(flow, z, found, Judge(level), GRID)
    steps = correct.smallest_step(flow, z, correct.latent_direction(z[:6], z[6:]), Judge(level), GRID)
    monkeypatch.setattr(amounts, "CHUNK", 5)
    parts = correct.smallest_amount(flow, z, found, Judge(level), GRID)
    assert torch.equal(parts.amounts, whole.amounts)
    close(parts.said.nan_to_num(9), whole.said.nan_to_num(9))
    again = correct.smallest_step(flow, z, correct.latent_direction(z[:6], z[6:]), Judge(level), GRID)
    assert torch.equal(again.amounts, steps.amounts)


def test_layers_up_to_the_edited_one_are_computed_once(flow, z, found, monkeypatch):
    advance, called = type(flow.network).advance, []

    def counted(self, layer, h, extras):
        called.append((layer, len(h)))
        return advance(self, layer, h, extras)

    monkeypatch.setattr(type(flow.network), "advance", counted)
    second = {2: found[2]}
    correct.smallest_amount(flow, z, second, Judge(-5), GRID)
    images = {k: sum(n for layer, n in called if layer == k) for k in range(1, flow.n_layers + 1)}
    assert images == {k: N if k <= 2 else len(GRID) * N for k in images}


def test_a_latent_step_obeys_the_same_rule(flow, z):
    direction = correct.latent_direction(z[:6], z[6:])

    def draw(a):
        return flow.generate(z - a * direction.vector)

    level = halfway(draw, GRID)
    expected, said = naive(draw, GRID, Judge(level))
    chosen, heard = correct.smallest_step(flow, z, direction, Judge(level), GRID, every=True)
    assert torch.equal(chosen, expected)
    close(heard, said)
    close(flow.generate(direction.step(z, chosen)), torch.cat([draw(a)[i : i + 1] for i, a in enumerate(chosen)]))


def test_a_margin_asks_more_of_shifted_images_only(flow, z, found):
    def draw(a):
        return flow.generate(z, correct.shift(found, a))

    level = halfway(draw, GRID)
    _, said = naive(draw, GRID, Judge(level))
    margin = float(said.abs().median())
    enough = said < torch.tensor([0.0, *[-margin] * (len(GRID) - 1)])
    expected = torch.where(enough.any(dim=1), enough.float().argmax(dim=1), said.argmin(dim=1))
    chosen, heard = correct.smallest_amount(flow, z, found, Judge(level), GRID, margin=margin)
    assert torch.equal(chosen, torch.tensor(GRID)[expected])
    fine = said[:, 0] < 0
    assert fine.any() and not chosen[fine].any()  # what is called normal already is left alone
    for call in (
        lambda: correct.smallest_amount(flow, z, found, Judge(0), margin=-1),
        lambda: correct.smallest_step(flow, z, correct.latent_direction(z, z + 1), Judge(0), margin=float("nan")),
    ):
        with pytest.raises(ValueError, match="margin is how far below 0"):
            call()


def test_bad_judges_and_grids_are_refused(flow, z, found):
    for judge in (
        lambda x: torch.zeros(len(x), 2),
        lambda x: torch.zeros(1),
        lambda x: torch.full((len(x),), torch.nan),
    ):
        with pytest.raises(ValueError, match="the judge must give one score for each of 12 images"):
            correct.smallest_amount(flow, z, found, judge)
    for grid in ((), (0.5, 1), (0, 1, 1), (0, 2, 1), (0, float("nan"))):
        for call in (
            lambda g: correct.smallest_amount(flow, z, found, Judge(0), g),
            lambda g: correct.smallest_step(flow, z, correct.latent_direction(z, z + 1), Judge(0), g),
        ):
            with pytest.raises(ValueError, match="grid must be rising amounts from 0 on"):
                call(grid)
    with pytest.raises(ValueError, match="differences of no layer"):
        correct.smallest_amount(flow, z, {}, Judge(0))


# The latent direction


def test_the_direction_is_that_of_a_penalised_logistic_regression():
    g = torch.Generator().manual_seed(0)
    truth = torch.tensor([2.0, -1, 0.5, 0, 0], dtype=torch.float64)
    z = torch.randn(400, 5, generator=g, dtype=torch.float64)
    broken = torch.rand(400, generator=g) < (z @ truth).sigmoid()
    found = correct.latent_direction(z[broken].float(), z[~broken].float(), l2=0.05).vector
    # Newton's method, written out.
    x = torch.cat([torch.cat([z[broken], z[~broken]]).float().double(), torch.ones(400, 1)], dim=1)
    y = torch.cat([torch.ones(int(broken.sum())), torch.zeros(int((~broken).sum()))]).double()
    share = torch.where(y == 1, 0.5 / y.sum(), 0.5 / (1 - y).sum())
    penalty = torch.diag(torch.tensor([0.05] * 5 + [0.0])).double()
    w = torch.zeros(6).double()
    for _ in range(30):
        p = (x @ w).sigmoid()
        gradient = x.T @ (share * (p - y)) + penalty @ w
        w = w - torch.linalg.solve(x.T @ (x * (share * p * (1 - p))[:, None]) + penalty, gradient)
    torch.testing.assert_close(found.double(), w[:5] / w[:5].norm(), rtol=0, atol=1e-4)
    assert found.norm() == pytest.approx(1, abs=1e-6) and found.double() @ (truth / truth.norm()) > 0.95


def test_steps_are_per_latent_and_bad_input_is_refused():
    direction = correct.latent_direction(torch.ones(3, 4) * torch.tensor([1.0, 0, 0, 0]), torch.zeros(2, 4))
    torch.testing.assert_close(direction.vector, torch.tensor([1.0, 0, 0, 0]))
    z = torch.zeros(2, 4)
    assert torch.equal(direction.step(z, torch.tensor([0.0, 2.0])), torch.tensor([[0.0, 0, 0, 0], [-2, 0, 0, 0]]))
    assert torch.equal(direction.step(z, 0), z) and direction.ids is None
    with pytest.raises(ValueError, match="got 3 amounts for 2 latents"):
        direction.step(z, torch.ones(3))
    with pytest.raises(ValueError, match="at least one of each"):
        correct.latent_direction(z[:0], z)
    with pytest.raises(ValueError, match="not finite"):
        correct.latent_direction(z, z * torch.nan)


def test_a_defect_of_one_size_needs_the_amount_of_that_size():
    flow, g = Flow(Canvas(2, 2)), torch.Generator().manual_seed(0)
    broken = 0.1 * torch.randn(20, 2, 2, 2, generator=g)
    sizes = torch.tensor([0.0, 0.2, 0.4, 0.8]).repeat(5)
    broken[:, 0] = sizes[:, None, None]
    d = {1: torch.zeros(2, 2, 2)}
    d[1][0] = 0.4
    found = correct.smallest_amount(flow, broken.flatten(1), d, lambda x: x.mean(dim=(1, 2, 3)) - 0.01)
    assert found.amounts.tolist() == (sizes / 0.4).tolist()


def test_a_margin_asks_for_more_of_a_defect_to_go():
    flow, broken = Flow(Canvas(2, 2)), torch.zeros(3, 2, 2, 2)
    broken[:, 0] = torch.tensor([-0.1, 0.11, 0.41])[:, None, None]
    d = {1: torch.zeros(2, 2, 2)}
    d[1][0] = 0.4

    def found(margin):
        judge = lambda x: x.mean(dim=(1, 2, 3))  # noqa: E731
        return correct.smallest_amount(flow, broken.flatten(1), d, judge, margin=margin, clamp=False).amounts.tolist()

    assert found(0) == [0, 0.5, 1.25]
    assert found(0.35) == [0, 1.25, 2]
