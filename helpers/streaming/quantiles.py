"""Find an upper quantile of each unit exactly, in bounded memory: what `survey.thresholds` needs.

The activations of one unit on the number line, and its bracket (low, high] around the rank of the quantile:

          dropped        low           kept          high       counted
    ----------------------(===========================]---------------------> activation
                                       ^ quantile

It is known how many activations there are and counted how many lie above, and so the rank of each that is kept. With
more images the quantile's rank can be foretold better, and the bracket narrows as 1 / sqrt(images), see `brackets`:

    32 images             (===========================]
    512 images                     (======]
    8,192 images                      (=]

What would still not fit is joined into bins, of which only the counts are kept, see `bins`:

    each by itself        (   . ...   .. .: .  . .    ]
    in bins               (  3 |   2   |  4  |   2    ]

At the end a quantile is known exactly, or to lie in a bin, or to lie beside the bracket, where later images were unlike
earlier ones. Then another pass over the same images is told the total count and between which bounds to look:

    another pass                      (=]      around the quantile for certain, and narrowed by its exact rank
"""

import math
from dataclasses import fields, replace

import numpy as np
import torch

from helpers.streaming import bins, brackets
from helpers.streaming.bins import Bins, Packed
from helpers.streaming.brackets import Brackets

GROUP = 8  # positions above each other that are first looked at as one, by their largest activation
TIES = 8  # a level met more often than this is counted as it comes: a constant unit would fill its bracket otherwise
LEAST = 0.3  # of the room a bracket asks for: with less it would rather join its values


def peaks(h):
    """Find the largest activation of every few positions of a column: (B, U, H, W) -> (B * H / few, W * U).

    One pass at the speed of memory, after which a look at an eighth of the data finds what lies above a level.
    """
    return _groups(h).amax(dim=1)


class Tail:
    """Each unit's upper `tau` quantile over any number of images, whose activations are finite.

    width: the bracket asks for room, in rank, of width / sqrt(images) times tau on either side, for images to come that
    are unlike those before. capacity: how many activations, or bins of them, all brackets keep (or 510 bins a unit, one
    for each power of 2); an eighth more may gather in between. low, high, total: see `sought`.
    """

    def __init__(self, tau, units, width, capacity, low=-np.inf, high=np.inf, total=None):
        self.tau, self.width, self.capacity, self.total = tau, width, max(capacity, 8 * units), total
        self.count, self.images = 0, 0  # of activations of a unit, and of images
        self.brackets = brackets.between(*(np.full(units, end, np.float32) for end in (low, high)))
        self.parts, self.full = [Bins(np.zeros(0, np.int64))], 0  # what is kept, and how many before it is narrowed

    def update(self, h, start, peaks):
        """Take in a featuremap (B, U, H, W) and its `peaks`."""
        units, first = h.shape[1], self.images == 0
        self.count, self.images = self.count + h.numel() // units, self.images + len(h)
        if first and (most := math.ceil(self._ranks()[0])) < peaks.numel() // units:
            least = peaks.view(-1, units).topk(most, dim=0, sorted=False).values.amin(dim=0)  # `most` or more reach it
            below = bins.key(np.arange(units), least.cpu().numpy()) - 1
            self.brackets = replace(self.brackets, low=np.maximum(self.brackets.low, below))
        low = torch.from_numpy(bins.value(self.brackets.low)).to(h.device)
        hit, values = _above(_groups(h), peaks, low)
        over = values > bins.value(self.brackets.high)[hit]
        self.parts.append(Bins(bins.key(hit[~over], values[~over])))
        above = self.brackets.above + np.bincount(hit[over], minlength=units)
        self.brackets = replace(self.brackets, above=above, at_low=self.brackets.at_low + self._ties(h, low))
        self._bound()

    def merge(self, other):
        """Take in the tail of other images of the same units; returns itself."""
        self.count, self.images = self.count + other.count, self.images + other.images
        self.parts = [*self.parts, *other.parts]
        self.brackets = brackets.merged(self.brackets, other.brackets, max(part.shift for part in self.parts))
        self._bound()
        return self

    def state(self):
        """Return what was gathered as {name: array or number}, without what the bracket no longer needs."""
        self._settle()
        kept = {name: part for name, part in vars(self.parts[0]).items() if part is not None}
        return {"count": self.count, "images": self.images} | vars(self.brackets) | kept

    def restore(self, state):
        """Take over what another tail of the same make had gathered; returns itself."""
        self.count, self.images = state["count"], state["images"]
        self.brackets = Brackets(**{field.name: state[field.name] for field in fields(Brackets)})
        kept = Packed(state["held"], state["steps"], state.get("counts"), state["shift"])
        self.parts, self.full = [kept], len(kept) + min(len(kept), self.capacity // 8)
        return self

    def quantile(self):
        """Interpolate between the order statistics around rank (count - 1) * (1 - tau): (U,), NaN if not known yet."""
        rank, pair = (self.count - 1) * (1 - self.tau), self._pair()
        values = torch.from_numpy(np.stack([bins.value(last) for _, last in pair])).double()
        found = torch.lerp(*values, rank - math.floor(rank)).float()
        known = np.logical_and(*(last - before == 1 for before, last in pair))
        return found.where(torch.from_numpy(known), torch.nan)

    def sought(self, units):
        """Return what a tail of another pass is given to find the quantiles of some units, bool (U,).

        These lie in (low, high], both (U,), which for the other units is empty. total: the count of activations.
        """
        (before, _), (_, last) = self._pair()
        before = np.where(last > before, before, bins.alike(len(last), -np.inf))  # where rounding moved it below
        low, high = (np.where(units, bins.value(end), np.float32(np.inf)) for end in (before, last))
        return {"low": low, "high": high, "total": self.count}

    def _pair(self):
        """Return `around` of the two order statistics."""
        seen, rank = self._settle(), math.floor((self.count - 1) * (1 - self.tau))
        return [brackets.around(self.brackets, seen, self.count - r) for r in (rank, min(rank + 1, self.count - 1))]

    def _ties(self, h, low):
        """Count what equals low in a featuremap, for units of which that was met often: (U,), 0 for the others."""
        ties = np.zeros(len(low), np.int64)
        often = np.flatnonzero(self.brackets.at_low > TIES)
        if len(often):
            columns = torch.from_numpy(often).to(h.device)
            ties[often] = (h[:, columns] == low[columns, None, None]).sum(dim=(0, 2, 3)).cpu().numpy()
        return ties

    def _ranks(self):
        """How many activations the bracket's low and its high end are to leave above them."""
        if self.total is not None:  # whatever has so many above it already lies too low
            return self.total - math.floor((self.total - 1) * (1 - self.tau)), 0
        room = self.count * min(self.tau, 1 - self.tau) * self.width / math.sqrt(self.images)
        fits = self.capacity / (2 * len(self.brackets.low)) - 4
        room = 2 + (fits if LEAST * room < fits < room else room)
        return self.count * self.tau + room, self.count * self.tau - room

    def _bound(self):
        """Narrow the bracket once enough has gathered in it, and join what is still too much."""
        if sum(map(len, self.parts)) <= self.full:
            return
        self._settle()
        while len(kept := self.parts[0]) > self.capacity and kept.shift < bins.COARSEST:
            more = max(1, (len(kept) // self.capacity).bit_length() - 1)
            self._settle(0 if kept.counts is None else min(bins.COARSEST, kept.shift + more))
        self.full = len(kept) + min(len(kept), self.capacity // 8)

    def _settle(self, shift=None):
        """Narrow the bracket as far as the images seen allow; returns all that was in it. shift: as of `gathered`."""
        seen, self.parts = bins.gathered(self.parts, self.brackets.high, shift), []  # not held twice from here on
        self.brackets, kept = brackets.narrowed(self.brackets, seen, *self._ranks(), self.total is not None)
        self.parts = [kept]
        return seen


def _groups(h):
    """Cut a featuremap into columns of a few positions: (B, U, H, W) -> (B * H / few, few, W * U)."""
    rows = h.permute(0, 2, 3, 1).flatten(2)  # a view where h is channels-last
    return rows.reshape(-1, math.gcd(GROUP, h.shape[2]), rows.shape[2])


def _above(groups, peaks, low):
    """Find the activations above their unit's level: NumPy arrays of unit numbers and activations, in no order."""
    units = len(low)
    mask = peaks > low.repeat(peaks.shape[1] // units)
    if groups.device.type == "cpu":  # where NumPy finds and picks few among many far faster
        groups, mask, low = groups.numpy(), mask.numpy(), low.numpy()
    group, column = _set(mask)
    unit, values = column % units, groups[group, :, column]
    hit, place = _set(values > low[unit][:, None])
    return [torch.as_tensor(part).cpu().numpy() for part in (unit[hit], values[hit, place])]


def _set(mask):
    """Return the rows and the columns that are set in a mask, of NumPy or torch."""
    if isinstance(mask, np.ndarray):
        return np.divmod(np.flatnonzero(mask), mask.shape[1])
    return mask.nonzero().unbind(dim=1)
