"""Ask what units cause: take them out where a concept is, put them in where it is not, and look (GAN Dissection).

Source: Bau et al. 2019, section 3.2. An intervention replaces units at one place of a layer, x <- x (1 - a) + r a; its
effect is the share of the pixels of that place which a segmentation calls the concept. Explained in notebook 10.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from helpers.corrections.edits import Blend, Edits
from helpers.dissection import checked_labels
from helpers.flow import State
from helpers.latents import exact

PRESENT = 0.5  # share of a place's pixels from which the concept counts as present there


@dataclass(frozen=True)
class Places:
    """Single places to intervene at, M of them, each with the flow of its image up to the layer that is edited.

    state: of the M images. masks: (M, h, w), 1 at the place, a square of cells. rows: (M,) of z. before: (M,) in
    [0, 1], how much of the place is the concept. below: (M,), the label of most of its pixels. concept: its label.
    """

    state: State
    masks: torch.Tensor
    rows: torch.Tensor
    before: torch.Tensor
    below: torch.Tensor
    concept: int

    def __len__(self):
        return len(self.rows)

    def take(self, which):
        """Return some of the places, by numbers or a mask."""
        extras = {name: value[which] for name, value in self.state.extras.items()}
        state = State(self.state.layer, self.state.h[which], extras)
        cut = (part[which] for part in (self.masks, self.rows, self.before, self.below))
        return Places(state, *cut, self.concept)


class Effect(NamedTuple):
    """Shares of the concept at the places, one per place: after inserting and after ablating, and before either."""

    inserted: torch.Tensor
    ablated: torch.Tensor
    absent: torch.Tensor
    present: torch.Tensor

    @property
    def ace(self):
        """The average causal effect E[s(insert)] - E[s(ablate)]; of no unit it is E[absent] - E[present]."""
        return float(self.inserted.mean() - self.ablated.mean())

    @property
    def gained(self):
        """What inserting adds where the concept was absent: (M,)."""
        return self.inserted - self.absent

    @property
    def lost(self):
        """What ablating takes away where the concept was present: (M',)."""
        return self.present - self.ablated


def ablate(layer, alpha, masks=None):
    """Fade units out: x <- x (1 - alpha mask). alpha: (U,) in [0, 1]; masks: (N, H, W), None is everywhere -> Edits."""
    return insert(layer, alpha, torch.zeros_like(alpha), masks)


def insert(layer, alpha, values, masks=None):
    """Bring units to values (U,): x <- x (1 - alpha mask) + values alpha mask; the rest as in `ablate` -> Edits.

    Raises ValueError for alpha or masks outside [0, 1], or values that do not fit alpha.
    """
    for name, part in (("alpha", alpha), ("masks", masks)):
        if part is not None and not (part.min() >= 0 and part.max() <= 1):
            raise ValueError(f"{name} must lie in [0, 1], got {float(part.min()):.3g} to {float(part.max()):.3g}")
    if alpha.ndim != 1 or alpha.shape != values.shape:
        raise ValueError(f"alpha and values have a number per unit, got {tuple(alpha.shape)} and {tuple(values.shape)}")
    return Edits({layer: Blend(alpha, values, masks)})


def top(scores, n):
    """Choose the n units of the highest scores (U,), ties by number: alpha (U,), 1 for these and 0 for the others."""
    if not 0 <= n <= len(scores):
        raise ValueError(f"cannot choose {n} of {len(scores)} units: choose from 0 to {len(scores)}")
    return torch.zeros(len(scores)).index_fill(0, scores.argsort(descending=True, stable=True)[:n].to("cpu"), 1.0)


def mean_values(flow, z, layer, labels, concept):
    """Average the units over the places where a concept is, each weighted by how much of it is there: (U,).

    labels: (N, R, R) of the images of z; concept: its label. Raises ValueError if it occurs nowhere.
    """
    masks = _checked(flow, z, labels) == concept
    if not masks.any():
        raise ValueError(f"label {concept} occurs in none of the {len(z)} images: take more, or another concept")
    total, weight = 0, 0
    for rows, recorded in flow.stream(z, [layer]):
        h = recorded[layer].double()
        shares = F.adaptive_avg_pool2d(masks[rows, None].to(h), h.shape[-2:])
        total, weight = total + (h * shares).sum(dim=(0, 2, 3)), weight + shares.sum()
    return (total / weight).float().cpu()


def places(flow, z, layer, labels, concept, present=True, count=200, below=None, across=1, seed=0):
    """Draw places of a layer at random where a concept is present, or absent.

    z: latents (N, D). labels: label maps (N, R, R) of their images. concept: its label. present: True, where it has
    half of the place's pixels or more; False, where it has none. below: only where most pixels have this label.
    count: how many at most. across: a place is a square of so many cells of the featuremap.
    Returns `Places`. Raises ValueError if there is no such place.
    """
    size = flow.shape(layer)[1:]
    if not 0 < across <= min(size):
        raise ValueError(f"places are 1 to {min(size)} cells across in layer {layer}, got {across}")
    _checked(flow, z, labels)
    one_hot = F.one_hot(labels, max(int(labels.max()), concept) + 1).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(F.adaptive_avg_pool2d(one_hot, size), across, stride=1).transpose(0, 1)  # by corner
    most = shares.argmax(dim=0)
    found = shares[concept] >= PRESENT if present else shares[concept] == 0
    if below is not None:
        found &= most == below
    spots = found.nonzero()
    if not len(spots):
        where = "" if below is None else f" on label {below}"
        raise ValueError(
            f"label {concept} is {'present' if present else 'absent'} at no place of layer {layer}{where} in these "
            f"{len(z)} images: take more images, another concept, or a layer with smaller places"
        )
    spots = spots[torch.randperm(len(spots), generator=torch.Generator().manual_seed(seed))[:count]]
    rows, y, x = spots.unbind(dim=1)
    masks = torch.zeros(len(rows), *size)
    for mask, above, left in zip(masks, y.tolist(), x.tolist()):
        mask[above : above + across, left : left + across] = 1
    state = flow.state(exact(z)[rows], layer)
    return Places(state, masks, rows, shares[concept][rows, y, x], most[rows, y, x], concept)


def images(flow, where, alpha, values=None, grad=False):
    """Draw the images with an intervention at their places: values (U,) put in, None takes out -> (M, C, R, R).

    grad: keep gradients of alpha and values.
    """
    state, values = where.state, torch.zeros_like(alpha) if values is None else values
    edit = insert(state.layer, alpha, values, where.masks)[state.layer]
    return flow.resume(State(state.layer, edit(state.h), state.extras), grad=grad)


def share(where, labels):
    """Measure how much of each place label maps (M, R, R) call the concept: (M,) in [0, 1]."""
    return _at((labels == where.concept).float(), where.masks)


def effect(flow, segment, absent, present, alpha, values):
    """Measure what units cause: put them in where the concept is absent, take them out where it is present -> `Effect`.

    segment: images -> label maps. absent, present: `Places` of one concept and layer. alpha: (U,), values: (U,).
    """
    _check_pair(absent, present)
    after = []
    for where, put in ((absent, values), (present, None)):
        drawn = images(flow, where, alpha, put)
        after.append(share(where, checked_labels(segment(drawn), drawn)))
    return Effect(*after, absent.before, present.before)


def logits(network):
    """Make the function images -> logits (B, C, R, R), with gradients, of a network with a segmentation head.

    Raises ValueError for a network without one.
    """
    head = network.head("segment")
    return lambda pictures: head(network.all_maps(network.prepare(pictures)))


def objective(flow, score, absent, present, alpha, values, penalty=0.005):
    """Compute what `optimise` makes small: E[s(ablate)] - E[s(insert)] + penalty |alpha|^2, with gradients.

    Each share is read where its own intervention is: insertions at the absent places, ablations at the present ones.
    s is the mean probability of the concept over the place's pixels; other arguments as of `optimise`.
    """
    found = []
    for where, put in ((absent, values), (present, None)):
        drawn = images(flow, where, alpha, put, grad=True)
        found.append(_at(score(drawn).softmax(dim=1)[:, where.concept], where.masks).mean())
    return found[1] - found[0] + penalty * alpha.square().sum().to(found[0].device)


def optimise(flow, score, absent, present, values, start=None, penalty=0.005, rate=0.05, steps=60, batch=16, seed=0):
    """Find by Adam how far to replace each unit for the largest effect: (alpha (U,) in [0, 1], losses (steps,)).

    score: images -> logits (B, C, R, R) with gradients, see `logits`. absent, present: `Places` of one concept and
    layer; each step draws `batch` of both. values: (U,). start: scores (U,) such as IoUs, brought to a largest of 1;
    None starts at 0.5. penalty: of the squared alpha, which keeps idle units out. rate: of Adam.
    Raises ValueError for places of different concepts or layers.
    """
    _check_pair(absent, present)
    start = torch.full_like(values, 0.5) if start is None else start / start.max().clamp_min(1e-12)
    alpha, losses = start.clone().float().clamp(0, 1).requires_grad_(), []
    adam, generator = torch.optim.Adam([alpha], lr=rate), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        drawn = [w.take(torch.randperm(len(w), generator=generator)[:batch]) for w in (absent, present)]
        with torch.enable_grad():
            loss = objective(flow, score, *drawn, alpha, values, penalty)
            (alpha.grad,) = torch.autograd.grad(loss, [alpha])
        adam.step()
        with torch.no_grad():
            alpha.clamp_(0, 1)
        losses.append(float(loss.detach()))
    return alpha.detach(), torch.tensor(losses)


def _at(values, masks):
    """Average values (M, R, R) over the pixels of each one's place, masks (M, h, w) of 0 and 1: (M,)."""
    masks = masks.to(values)
    pooled = F.adaptive_avg_pool2d(values[:, None], masks.shape[1:])[:, 0]
    return (pooled * masks).sum(dim=(1, 2)) / masks.sum(dim=(1, 2))


def _checked(flow, z, labels):
    side = flow.resolution(flow.n_layers)
    return checked_labels(labels, torch.empty(len(z), 1, side, side, device="meta"))


def _check_pair(absent, present):
    if absent.concept != present.concept or absent.state.layer != present.state.layer:
        raise ValueError(
            f"places must be of one concept and layer, got labels {absent.concept} and {present.concept}, "
            f"layers {absent.state.layer} and {present.state.layer}"
        )
