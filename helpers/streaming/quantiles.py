"""Find an upper quantile of each unit exactly, in bounded memory: what `survey.thresholds` needs.

What lies clearly above or below a quantile is counted, and only what falls into a bracket around it is kept. The
bracket narrows as images come. What would still not fit is joined into bins and counted, and the end says between
which bounds another pass finds, for certain, what this one could not tell.
"""

import math

import numpy as np
import torch

GROUP = 8  # positions above each other that are first looked at as one, by their largest activation
TIES = 8  # a level met more often than this is counted as it comes: a constant unit would fill its bracket otherwise
LEAST = 0.3  # of the room a bracket asks for: with less it would rather join its values
INF = np.float32(np.inf)
COARSEST = 23  # bits of a key that can be dropped: below them lie the exponents, and infinity


def peaks(h):
    """Find the largest activation of every few positions of a column: (B, U, H, W) -> (B * H / few, W * U).

    One pass at the speed of memory, after which a look at an eighth of the data finds what lies above a level.
    """
    return _groups(h).amax(dim=1)


class Tail:
    """Each unit's bracket around its upper `tau` quantile: the activations in it, and how many lie above.

    width: the bracket asks for room, in rank, of width / sqrt(images) times tau on either side, for images to come that
    are unlike those before. capacity: how many activations, or bins of them, all brackets keep (or 510 bins a unit, one
    for each power of 2); an eighth more may gather in between. low, high, total: see `sought`.
    """

    def __init__(self, tau, units, width, capacity, low=-np.inf, high=np.inf, total=None):
        self.tau, self.width, self.capacity, self.total = tau, width, max(capacity, 8 * units), total
        self.count, self.images, self.full = 0, 0, 0
        self.joined, self.shift = False, 0  # whether keys are joined, and in how many bits those of a bin differ
        self.low, self.high = (np.broadcast_to(np.float32(end), units).copy() for end in (low, high))
        self.first = _key(np.arange(units), self.low)  # in another pass: what is sought lies above, for certain
        # Activations > high, those == low (at least so many), and those between, as keys, see `_key`, and how many
        # each stands for: the last key of a bin for all of it, or None, each for itself.
        self.above, self.at_low = np.zeros(units, np.int64), np.zeros(units, np.int64)
        self.parts = [(np.zeros(0, np.int64), None)]

    def update(self, h, start, peaks):
        """Take in a featuremap (B, U, H, W) and its `peaks`."""
        units, first = h.shape[1], self.images == 0
        self.count, self.images = self.count + h.numel() // units, self.images + len(h)
        if first and (most := math.ceil(self._ranks()[0])) < peaks.numel() // units:
            low = peaks.view(-1, units).topk(most, dim=0, sorted=False).values.amin(dim=0)  # `most` or more reach it
            self.low = np.maximum(self.low, np.nextafter(low.cpu().numpy(), np.float32(-np.inf)))
        low = torch.from_numpy(self.low).to(h.device)
        units, values = _above(_groups(h), peaks, low)
        over = values > self.high[units]
        self.above += np.bincount(units[over], minlength=len(self.above))
        self.parts.append((_key(units[~over], values[~over]), None))
        tied = np.flatnonzero(self.at_low > TIES)
        if len(tied):
            columns = torch.from_numpy(tied).to(h.device)
            self.at_low[tied] += (h[:, columns] == low[columns, None, None]).sum(dim=(0, 2, 3)).cpu().numpy()
        self._bound()

    def merge(self, other):
        """Take in the tail of other images of the same units."""
        self.count, self.images = self.count + other.count, self.images + other.images
        self.above, self.first = self.above + other.above, np.maximum(self.first, other.first)
        self.parts = self.parts + other.parts
        self.joined, self.shift = self.joined or other.joined, max(self.shift, other.shift)
        low, high = np.maximum(self.low, other.low), np.minimum(self.high, other.high)
        first, last = (_key(np.arange(len(low)), end) for end in (low, high))
        # A bin that only one of them knows whole is left out.
        high = np.where(self.high == other.high, high, _value(self._begin(last + 1) - 1))
        apart = low > high  # what lies between such brackets was counted by neither: nothing is known of these units
        low = np.where(self.low == other.low, low, np.fmin(_value(self._end(first)), high))
        self.at_low = np.where(self.low == low, self.at_low, 0) + np.where(other.low == low, other.at_low, 0)
        self.low, self.high = (np.where(apart, INF, end) for end in (low, high))
        self.above[apart], self.at_low[apart] = 0, 0
        self._bound()
        return self

    def state(self):
        """Return what was gathered as {name: array or number}, without what the bracket no longer needs."""
        keys, counts = self._narrowed()
        names = ("count", "images", "joined", "shift", "first", "low", "high", "above", "at_low")
        kept = {"held": np.bincount(_unit(keys), minlength=len(self.low)), "values": _value(keys)}
        return {name: getattr(self, name) for name in names} | kept | ({} if counts is None else {"counts": counts})

    def restore(self, state):
        """Take over what another tail of the same make had gathered; returns itself."""
        state = dict(state)
        units = np.repeat(np.arange(len(self.low)), state.pop("held"))
        self.parts = [(_key(units, state.pop("values")), state.pop("counts", None))]
        vars(self).update(state, full=len(units) + min(len(units), self.capacity // 8))
        return self

    def quantile(self):
        """Interpolate between the order statistics around rank (count - 1) * (1 - tau): (U,), NaN if not known yet."""
        rank, pair = (self.count - 1) * (1 - self.tau), [*self._pair()]
        values = torch.from_numpy(np.stack([_value(last) for _, last in pair])).double()
        found = torch.lerp(*values, rank - math.floor(rank)).float()
        known = np.logical_and(*(last - before == 1 for before, last in pair))
        return found.where(torch.from_numpy(known), torch.nan)

    def sought(self, units):
        """Return what a tail of another pass is given to find the quantiles of some units, bool (U,)."""
        (before, _), (_, last) = self._pair()
        before = np.where(last > before, before, _key(np.arange(len(last)), -INF))  # where rounding moved it below
        low, high = (np.where(units, _value(end), INF) for end in (before, last))
        return {"low": low, "high": high, "total": self.count}

    def _pair(self):
        """Yield for the two order statistics, as keys: the last one before what it can be, and the last it can be."""
        keys, counts = self._narrowed()
        low, high, last = (_key(np.arange(len(self.low)), end) for end in (self.low, self.high, INF))
        start, stop = (_before(counts, np.searchsorted(keys, end, "right")) for end in (low, high))
        rank = math.floor((self.count - 1) * (1 - self.tau))
        for place in (rank, min(rank + 1, self.count - 1)):
            place = self.count - place - self.above  # from the top: 1 is the largest of the bracket
            end = _at(keys, counts, stop - place)
            cases = [place <= 0, place <= stop - start, place <= stop - start + self.at_low]
            before = np.select(cases, [high, np.maximum(self._begin(end) - 1, low), low - 1], self.first)
            yield before, np.select(cases, [last, end, low], low)

    def _ranks(self):
        """How many activations the bracket's low and its high end are to leave above them."""
        if self.total is not None:  # whatever has so many above it already lies too low
            return self.total - math.floor((self.total - 1) * (1 - self.tau)), 0
        room = self.count * min(self.tau, 1 - self.tau) * self.width / math.sqrt(self.images)
        fits = self.capacity / (2 * len(self.low)) - 4
        room = 2 + (fits if LEAST * room < fits < room else room)
        return self.count * self.tau + room, self.count * self.tau - room

    def _bound(self):
        """Narrow the bracket once enough has gathered in it, and join what is still too much."""
        if sum(len(keys) for keys, _ in self.parts) > self.full:
            held = len(self._narrowed()[0])
            while held > self.capacity and self.shift < COARSEST:
                more = max(1, (held // self.capacity).bit_length() - 1) if self.joined else 0
                self.shift = min(COARSEST, self.shift + more)
                self.joined = True
                held = len(self._narrowed()[0])
            self.full = held + min(held, self.capacity // 8)

    def _narrowed(self):
        """Draw the bracket together as far as the images seen allow; returns the keys left in it and their counts."""
        keys, counts = self._sorted()
        units = np.arange(len(self.low))
        start, stop, last = (_places(keys, units, end) for end in (self.low, self.high, INF))
        top, all_above = _before(counts, stop), _before(counts, last)
        above, size, low = self.above + all_above - top, top - _before(counts, start), self.low
        most, least = (np.floor(rank - above).astype(np.int64) for rank in self._ranks())
        ends = [_at(keys, counts, top - place) for place in (most, least)]
        if self.shift:  # keep this bin whole
            ends[0] = self._begin(ends[0]) - 1
        within = [(place > 0) & (place <= size) for place in (most, least)]
        self.low = np.where(within[0], np.maximum(_value(ends[0]), low), low)
        if self.total is not None:
            self.first = np.where(within[0], np.maximum(self.first, _key(units, self.low) - 1), self.first)
        self.high = np.where(within[1], _value(ends[1]), self.high)
        start, stop = (_places(keys, units, end) for end in (self.low, self.high))
        self.above = self.above + all_above - _before(counts, stop)
        at_low = 0 if self.shift else _before(counts, start) - _before(counts, _places(keys, units, self.low, "left"))
        self.at_low = np.where(self.low == low, self.at_low, 0) + at_low
        self.parts = [tuple(part if part is None else _cut(part, start, stop) for part in (keys, counts))]
        return self.parts[0]

    def _sorted(self):
        """Return the keys in order, each bin once, with how many values each stands for."""
        keys = np.concatenate([keys for keys, _ in self.parts])
        if not self.joined:
            keys.sort()
            return keys, None
        counts = np.concatenate([np.ones(len(keys), np.int64) if some is None else some for keys, some in self.parts])
        high = _key(np.arange(len(self.low)), self.high)[_unit(keys)]
        end = self._end(keys)
        keys, place = np.unique(np.where(keys <= high, np.minimum(end, high), end), return_inverse=True)
        return keys, np.bincount(place, counts, len(keys)).astype(np.int64)

    def _begin(self, keys):
        """Return the first keys of bins."""
        return keys >> self.shift << self.shift

    def _end(self, keys):
        """Return the last keys of bins."""
        return keys | (1 << self.shift) - 1


def _groups(h):
    """Cut a featuremap into columns of a few positions: (B, U, H, W) -> (B * H / few, few, W * U)."""
    rows = h.permute(0, 2, 3, 1).flatten(2)  # a view where h is channels-last
    return rows.reshape(-1, math.gcd(GROUP, h.shape[2]), rows.shape[2])


def _above(groups, peaks, low):
    """Find the activations above their unit's level: NumPy arrays of unit numbers and activations, in no order."""
    wide, units = peaks.shape[1], len(low)
    hit = _set(peaks > low.repeat(wide // units))
    values = groups[hit // wide, :, hit % wide]
    unit = hit % units
    inside = _set(values > low[unit][:, None])
    return unit[inside // groups.shape[1]].cpu().numpy(), values.flatten()[inside].cpu().numpy()


def _set(mask):
    """Return the flat places that are set in a mask."""
    if mask.device.type == "cpu":  # where NumPy finds few set entries among many far faster
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero()[:, 0]


def _key(units, values):
    """Join unit numbers and float32 values into int64 numbers that sort by unit, then by value."""
    bits = (values + np.float32(0)).view(np.int32)  # adding 0 makes one of the two zeros
    return (units.astype(np.int64) << 32) + (bits ^ (bits >> 31 & 0x7FFFFFFF))


def _value(keys):
    """Return the values of keys."""
    bits = (keys - (keys & 0xFFFFFFFF == 0xFFFFFFFF)).astype(np.int32)  # no key has the bits of -0: take the one before
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).view(np.float32)


def _unit(keys):
    """Return the units of keys."""
    return (keys + 2**31) >> 32


def _places(keys, units, values, side="right"):
    """Return how many of the keys lie before each unit's value, or at it."""
    return np.searchsorted(keys, _key(units, values), side)


def _before(counts, places):
    """Return how many values the keys before some places stand for."""
    return places if counts is None else np.append(0, counts.cumsum())[places]


def _at(keys, counts, places):
    """Return the keys that stand for the values at some places; what it returns for a place outside means nothing."""
    places = places if counts is None else counts.cumsum().searchsorted(places, "right")
    return keys[places.clip(0, len(keys) - 1)] if len(keys) else np.zeros_like(places)


def _cut(part, start, stop):
    """Return what lies within any of the slices start:stop."""
    return np.concatenate([part[begin:end] for begin, end in zip(start, stop)])
