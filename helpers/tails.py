"""Keep the largest activations of each unit, exactly and in bounded memory: what `survey.thresholds` needs."""

import math

import numpy as np
import torch


class Tail:
    """The `keep` largest activations of each unit: all that an upper quantile needs, exactly."""

    def __init__(self, keep):
        self.keep, self.count, self.parts, self.low = keep, 0, [], None

    def update(self, h, start):
        flat = h.permute(0, 2, 3, 1).flatten(0, 2)  # a view where h is channels-last
        self.count += len(flat)
        self._add(flat.T if self.low is None else _columns_above(flat, self.low))

    def merge(self, other):
        self.count += other.count
        self._add(other.values())
        return self

    def _add(self, values):
        self.parts.append(values)
        if sum(part.shape[1] for part in self.parts) >= 2 * self.keep:
            self.low = self.values().amin(dim=1)

    def values(self):
        """Cut down to the largest `keep` (all, while there are fewer): (U, keep)."""
        joined = torch.cat(self.parts, dim=1)
        self.parts = [joined.topk(min(self.keep, joined.shape[1]), dim=1, sorted=False).values]
        return self.parts[0]

    def quantile(self, tau):
        """Interpolate linearly between the two order statistics around rank (count - 1) * (1 - tau)."""
        rank = (self.count - 1) * (1 - tau)
        ascending = self.values().sort(dim=1).values.double()
        low = math.floor(rank)
        first = low - (self.count - ascending.shape[1])
        pair = ascending[:, first : first + 2]
        return torch.lerp(pair[:, 0], pair[:, -1], rank - low).float().cpu()


def _columns_above(flat, low):
    """Collect what exceeds `low` in each column of (M, U) as rows (U, most), padded with -inf."""
    found, units, order = _sorted_places(flat > low)
    values = flat.flatten()[found][order]  # first in the order of memory, then by unit
    units = units[order]
    counts = units.bincount(minlength=flat.shape[1])
    place = torch.arange(len(units), device=flat.device) - (counts.cumsum(0) - counts)[units]
    out = flat.new_full((flat.shape[1], int(counts.max())), -torch.inf)
    out[units, place] = values
    return out


def _sorted_places(mask):
    """Return the flat places set in a mask (M, U), their columns, and the order that sorts these."""
    if mask.device.type != "cpu":
        found = mask.flatten().nonzero()[:, 0]
        units = found % mask.shape[1]
        return found, units, units.argsort(stable=True)
    # On a CPU, NumPy finds few set entries among many far faster, eight at a time, and sorts short integers by radix.
    flat = mask.numpy().reshape(-1)
    if len(flat) % 8:
        found = np.flatnonzero(flat)
    else:
        words = np.flatnonzero(flat.view(np.uint64))
        inside = np.flatnonzero(flat.reshape(-1, 8)[words])
        found = 8 * words[inside >> 3] + (inside & 7)
    units = (found % mask.shape[1]).astype(np.uint16)
    order = units.argsort(kind="stable")
    return torch.from_numpy(found), torch.from_numpy(units.astype(np.int64)), torch.from_numpy(order)
