"""Find an upper quantile of each unit exactly, in one pass of bounded memory: what `survey.thresholds` needs.

A quantile needs no activation that lies clearly above or below it: those are counted, and only what falls into a
bracket around it is kept. The bracket narrows as images come; at the end it is known whether it held the quantile.
"""

import math

import numpy as np
import torch

GROUP = 8  # positions above each other that are first looked at as one, by their largest activation
TIES = 8  # a level met more often than this is counted as it comes: a constant unit would fill its bracket otherwise


def peaks(h):
    """Find the largest activation of every few positions of a column: (B, U, H, W) -> (B * H / few, W * U).

    One pass at the speed of memory, after which a look at an eighth of the data finds what lies above a level.
    """
    return _groups(h).amax(dim=1)


class Tail:
    """Each unit's bracket around its upper `tau` quantile: the activations in it, and how many lie above.

    width: the bracket leaves room, in rank, of width / sqrt(images) times tau on either side for images to come that
    are unlike those before. Where that was too little `quantile` says so.
    """

    def __init__(self, tau, units, width):
        self.tau, self.width, self.count, self.images = tau, width, 0, 0
        self.low, self.high = np.full(units, -np.inf, np.float32), np.full(units, np.inf, np.float32)
        # Activations > high, those == low (at least so many), and those between as keys: see `_key`.
        self.above, self.at_low, self.parts, self.full = np.zeros(units, np.int64), np.zeros(units, np.int64), [], 0

    def update(self, h, start, peaks):
        """Take in a featuremap (B, U, H, W) and its `peaks`."""
        units, first = h.shape[1], self.images == 0
        self.count, self.images = self.count + h.numel() // units, self.images + len(h)
        if first and (most := math.ceil(self._ranks()[0])) < peaks.numel() // units:
            low = peaks.view(-1, units).topk(most, dim=0, sorted=False).values.amin(dim=0)  # `most` or more reach it
            self.low = np.nextafter(low.cpu().numpy(), np.float32(-np.inf))
        low = torch.from_numpy(self.low).to(h.device)
        units, values = _above(_groups(h), peaks, low)
        over = values > self.high[units]
        self.above += np.bincount(units[over], minlength=len(self.above))
        self.parts.append(_key(units[~over], values[~over]))
        tied = np.flatnonzero(self.at_low > TIES)
        if len(tied):
            columns = torch.from_numpy(tied).to(h.device)
            self.at_low[tied] += (h[:, columns] == low[columns, None, None]).sum(dim=(0, 2, 3)).cpu().numpy()
        if sum(map(len, self.parts)) > self.full:
            self.full = 2 * len(self._narrowed())

    def merge(self, other):
        """Take in the tail of other images of the same units."""
        self.count, self.images = self.count + other.count, self.images + other.images
        low = np.maximum(self.low, other.low)
        self.at_low = np.where(self.low == low, self.at_low, 0) + np.where(other.low == low, other.at_low, 0)
        self.low, self.high = low, np.minimum(self.high, other.high)
        self.above, self.parts = self.above + other.above, self.parts + other.parts
        if sum(map(len, self.parts)) > self.full:
            self.full = 2 * len(self._narrowed())
        return self

    def state(self):
        """Return what was gathered as {name: array or number}, without what the bracket no longer needs."""
        keys = self._narrowed()
        held = np.bincount((keys + 2**31) >> 32, minlength=len(self.low))
        state = {name: getattr(self, name) for name in ("count", "images", "low", "high", "above", "at_low")}
        return state | {"held": held, "values": _value(keys, np.arange(len(keys)))}

    def restore(self, state):
        """Take over what another tail of the same make had gathered; returns itself."""
        state = dict(state)
        units = np.repeat(np.arange(len(self.low)), state.pop("held"))
        self.parts = [_key(units, state.pop("values"))]
        vars(self).update(state, full=2 * len(units))
        return self

    def quantile(self):
        """Interpolate linearly between the two order statistics around rank (count - 1) * (1 - tau).

        Returns (U,) and whether it is exact, bool (U,): false where the bracket did not hold it.
        """
        keys = self._narrowed()
        start, stop = (
            np.searchsorted(keys, _key(np.arange(len(self.low)), end), "right") for end in (self.low, self.high)
        )
        rank = (self.count - 1) * (1 - self.tau)
        pair, exact = [], True
        for place in (math.floor(rank), min(math.floor(rank) + 1, self.count - 1)):
            below_top = self.count - place - self.above  # 1 is the largest of the bracket
            inside = (0 < below_top) & (below_top <= stop - start)
            pair.append(np.where(inside, _value(keys, stop - below_top), self.low))
            exact &= inside | ((below_top > stop - start) & (below_top <= stop - start + self.at_low))
        pair = torch.from_numpy(np.stack(pair)).double()
        return torch.lerp(*pair, rank - math.floor(rank)).float(), torch.from_numpy(exact)

    def _ranks(self):
        """How many activations the bracket's low and its high end are to leave above them."""
        room = self.count * min(self.tau, 1 - self.tau) * self.width / math.sqrt(self.images) + 2
        return self.count * self.tau + room, self.count * self.tau - room

    def _narrowed(self):
        """Draw the bracket together as far as the images seen allow; returns the keys left in it, sorted."""
        keys, units = np.sort(np.concatenate(self.parts)), np.arange(len(self.low))
        last = np.searchsorted(keys, _key(units, np.float32(np.inf)), "right")
        start, stop = (np.searchsorted(keys, _key(units, end), "right") for end in (self.low, self.high))
        above, low = self.above + last - stop, self.low
        most, least = (np.floor(rank - above).astype(np.int64) for rank in self._ranks())
        within = [(place > 0) & (place <= stop - start) for place in (most, least)]
        self.low = np.where(within[0], _value(keys, stop - most), self.low)
        self.high = np.where(within[1], _value(keys, stop - least), self.high)
        start, stop = (np.searchsorted(keys, _key(units, end), "right") for end in (self.low, self.high))
        self.above = self.above + last - stop
        self.at_low = np.where(self.low == low, self.at_low, 0) + start - np.searchsorted(keys, _key(units, self.low))
        owner = np.repeat(units, np.diff(last, prepend=0))
        place = np.arange(len(keys))
        self.parts = [keys[(place >= start[owner]) & (place < stop[owner])]]
        return self.parts[0]


def _groups(h):
    """Cut a featuremap into columns of a few positions: (B, U, H, W) -> (B * H / few, few, W * U)."""
    rows = h.permute(0, 2, 3, 1).flatten(2)  # a view where h is channels-last
    return rows.reshape(-1, math.gcd(GROUP, h.shape[2]), rows.shape[2])


def _above(groups, peaks, low):
    """Find the activations above their unit's level: NumPy arrays of unit numbers and activations, in no order."""
    wide, units = peaks.shape[1], len(low)
    hit = _places(peaks > low.repeat(wide // units))
    values = groups[hit // wide, :, hit % wide]
    unit = hit % units
    inside = _places(values > low[unit][:, None])
    return unit[inside // groups.shape[1]].cpu().numpy(), values.flatten()[inside].cpu().numpy()


def _places(mask):
    """Return the flat places that are set in a mask."""
    if mask.device.type == "cpu":  # where NumPy finds few set entries among many far faster
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero()[:, 0]


def _key(units, values):
    """Join unit numbers and float32 values into int64 numbers that sort by unit, then by value."""
    bits = (values + np.float32(0)).view(np.int32)  # adding 0 makes one of the two zeros
    return (units.astype(np.int64) << 32) + (bits ^ (bits >> 31 & 0x7FFFFFFF))


def _value(keys, places):
    """Read the values of keys at places; what it returns for a place outside means nothing."""
    if not len(keys):
        return np.zeros(len(places), np.float32)
    bits = keys[places.clip(0, len(keys) - 1)].astype(np.int32)  # the lower half, as it was
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).view(np.float32)
