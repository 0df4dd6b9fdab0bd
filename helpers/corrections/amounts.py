"""Search the smallest amount of a correction at which a judge calls an image normal."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from helpers.flow import State
from helpers.latents import batches, exact

AMOUNTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)
CHUNK = 256  # images whose states are held at once


class Smallest(NamedTuple):
    """The smallest amount of each image, and what the judge said at every amount that was tried."""

    amounts: torch.Tensor  # (N,)
    said: torch.Tensor  # (N, G), NaN where an image was satisfied before


@dataclass(frozen=True)
class Direction:
    """A unit vector (D,) towards artifacts in latent space; ids: the images it was made from, or None if not known."""

    vector: torch.Tensor
    ids: frozenset | None = None

    def step(self, z, amount=1.0):
        """Move latents z (N, D) by amount, a number or (N,), against the direction."""
        amount, z = checked_amount(amount), exact(z)
        if amount.ndim and len(amount) != len(z):
            raise ValueError(f"got {len(amount)} amounts for {len(z)} latents: pass a number, or one per latent")
        return z - amount.reshape(-1, 1).to(z) * self.vector.to(z)


def latent_direction(z_artifacts, z_normals, l2=0.1):
    """Find the direction in latent space in which artifacts lie, by logistic regression -> Direction.

    z_artifacts, z_normals: latents (N, D), (M, D), each class counted alike. l2: weight penalty (shrinkage).
    Source: the quality boundary of Shen et al. 2020 ("Interpreting the latent space of GANs for semantic face
    editing"), which fits a support vector machine. Raises ValueError for an empty class or latents that are not finite.
    Explained in notebook 06.
    """
    if not len(z_artifacts) or not len(z_normals):
        raise ValueError(f"got {len(z_artifacts)} artifacts and {len(z_normals)} normals: pass at least one of each")
    z = torch.cat([exact(z_artifacts), exact(z_normals)]).double()
    if not z.isfinite().all():
        raise ValueError("latents are not finite: check them")
    truth = torch.cat([torch.ones(len(z_artifacts)), torch.zeros(len(z_normals))]).double()
    share = torch.where(truth == 1, 0.5 / len(z_artifacts), 0.5 / len(z_normals))
    weight, bias = (torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in (z.shape[1], 1))
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        apart = F.binary_cross_entropy_with_logits(z @ weight + bias, truth, weight=share, reduction="sum")
        value = apart + l2 * weight.square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)
    return Direction(F.normalize(weight.detach(), dim=0).float())


def smallest_amount(flow, z, edits, judge, grid=AMOUNTS, every=False, margin=0.0):
    """See `correct.smallest_amount`; edits: of `Shift`s with an amount per image."""
    if not edits:
        raise ValueError("got differences of no layer, pass those of at least one: see units.differences")
    grid, first, parts, z = checked_grid(grid, margin), min(edits), [], exact(z)
    for rows in batches(torch.arange(len(z)), CHUNK):
        state, own = flow.state(z[rows], first), {k: edit.take(rows, len(z)) for k, edit in edits.items()}
        parts.append(_search(_Drawn(flow, state, own), judge, len(rows), grid, every, margin))
    return Smallest(*map(torch.cat, zip(*parts)))


def smallest_step(flow, z, direction, judge, grid=AMOUNTS, every=False, margin=0.0):
    """Find the smallest step against a latent direction after which an image is called normal -> Smallest.

    direction: a `Direction`. Other arguments and errors as in `correct.smallest_amount`. Explained in notebook 06.
    """
    grid, z = checked_grid(grid, margin), exact(z)

    def draw(z):
        return lambda rows, amount: flow.generate(direction.step(z[rows], amount))

    parts = [_search(draw(part), judge, len(part), grid, every, margin) for part in batches(z, CHUNK)]
    return Smallest(*map(torch.cat, zip(*parts)))


class _Drawn:
    """Images of some rows by some amount, from the state at the first layer that is edited."""

    def __init__(self, flow, state, edits):
        self.flow, self.state, self.edits = flow, state, edits

    def __call__(self, rows, amount):
        edits = {k: edit.take(rows, len(self.state.h)).at(amount) for k, edit in self.edits.items()}
        extras = {name: value[rows] for name, value in self.state.extras.items()}
        h = edits.pop(self.state.layer)(self.state.h[rows])
        return self.flow.resume(State(self.state.layer, h, extras), edits)


def _search(draw, judge, count, grid, every, margin):
    # Untouched images need no margin: what is called normal already is left alone.
    enough = -margin * (torch.tensor(grid) > 0).float()
    said, left = torch.full((count, len(grid)), torch.nan), torch.arange(count)
    for column, amount in enumerate(grid):
        scores = torch.as_tensor(judge(draw(left, amount).clamp(-1, 1))).float().cpu()
        if scores.shape != left.shape or scores.isnan().any():
            got = f"{tuple(scores.shape)}, {int(scores.isnan().sum())} of them NaN"
            raise ValueError(f"the judge must give one score for each of {len(left)} images, got {got}")
        said[left, column] = scores
        if not every:
            left = left[scores >= enough[column]]
            if not len(left):
                break
    met = said < enough
    best = torch.where(said.isnan(), torch.inf, said).argmin(dim=1)
    found = torch.where(met.any(dim=1), met.float().argmax(dim=1), best)
    return torch.tensor(grid, dtype=torch.float32)[found], said


def checked_grid(grid, margin=0.0):
    """Return amounts as floats; raises ValueError unless they rise from 0, and for a margin below 0."""
    if not 0 <= margin < float("inf"):
        raise ValueError(f"margin is how far below 0 the judge's score must fall, 0 or more, got {margin}")
    grid = [float(amount) for amount in grid]
    if grid[:1] != [0] or any(not a < b for a, b in zip(grid, grid[1:])):
        raise ValueError(f"grid must be rising amounts from 0 on, got {grid}")
    return grid


def checked_amount(amount):
    """Return an amount, a number or (N,), as a tensor of its own; raises ValueError for anything else."""
    amount = torch.as_tensor(amount, dtype=torch.float32).clone()
    if amount.ndim > 1 or not amount.numel() or not amount.isfinite().all():
        raise ValueError(f"amount must be a finite number or a finite (N,), got shape {tuple(amount.shape)}: {amount}")
    return amount
