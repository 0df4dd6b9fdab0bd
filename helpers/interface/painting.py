"""Paint with units on images and see what the generator makes of it: what `widgets.painter` computes and draws."""

import time
from functools import lru_cache
from pathlib import Path

import torch

from helpers import correct
from helpers.interface.incremental import Replay
from helpers.interface.pictures import tint
from helpers.interface.previews import Drawing, as_bytes, captioned, named
from helpers.interface.strokes import DRAW, MEND, REMOVE, Loaded, Stroke, area, covered, edits, pooled
from helpers.interface.tile_rows import GAP, panel
from helpers.interface.unit_preview import selection
from helpers.units import rank

OWN = "own units"  # the set that a person writes down
TILE = 384  # pixels: two side by side fit a page


class Painting:
    """What can be painted on, and by which units; strokes belong to a row of z and are kept by whoever asks.

    Arguments as in `widgets.painter`; `sets` is {name: {layer: [unit, ...]}}, the highest first, and `ways` what can be
    done. Raises ValueError for a set without units, units that a layer does not have, and nothing to paint by.
    """

    def __init__(self, flow, z, sets=None, values=None, differences=None, captions=None, ids=None, names=None):
        self.flow, self.z, self.values, self.differences = flow, z, values, differences
        self.caption, self.known, self.ids = captioned(len(z), captions, ids), named(names, "flow", "z"), ids
        self.sets = {name: _ordered(flow, name, each) for name, each in (sets or {}).items()}
        if self.sets and values is None:
            raise ValueError("to draw units needs values: pass survey.thresholds(flow, z, tau=0.01), 0.99 quantiles")
        if not (self.sets or values or differences):
            raise ValueError("there is nothing to paint by: pass sets and values, or differences")
        self.ways = [way for way, there in ((DRAW, values), (REMOVE, True), (MEND, differences)) if there]
        self.side, self._replay, self._files = flow.resolution(flow.n_layers), Replay(flow, z), {}
        self._owners = {}  # {file: row of the image whose edits it holds}
        self._edits = lru_cache(maxsize=64)(lambda stroke: edits(stroke, flow, values, differences))

    def stroke(self, how, name, layer, n, own, size, strength, points):
        """Return the stroke that the settings describe.

        how: one of `ways`. name: of a set, of which the n highest units of a layer are taken, or "own units", the ones
        written in `own` as "layer:unit, ...". Raises ValueError for a set or layer that is not there, and for units
        that are none; whether the stroke does anything, `edits` tells.
        """
        if how == MEND:
            return Stroke(how, "", (), tuple(points), size, strength)
        if name == OWN:
            chosen = {k: _checked(self.flow, k, units) for k, units in selection(own).items()}
        else:
            chosen = {layer: self.units(name, layer)[:n]}
        chosen = tuple((k, tuple(units)) for k, units in sorted(chosen.items()))
        return Stroke(how, name, chosen, tuple(points), size, strength)

    def units(self, name, layer):
        """Return the units of a set in a layer, the highest first; ValueError if there are none."""
        if name not in self.sets:
            raise ValueError(f"there are no units called {name!r}, there are: {', '.join(self.sets) or 'none'}, {OWN}")
        if layer not in self.sets[name]:
            known = ", ".join(map(str, sorted(self.sets[name])))
            raise ValueError(f"{name!r} has no units of layer {layer}: choose one of layers {known}")
        return self.sets[name][layer]

    def edits(self, strokes):
        """Compose strokes, and what was loaded, in their order: Edits for one image."""
        return correct.chained(*(item.edits if isinstance(item, Loaded) else self._edits(item) for item in strokes))

    def images(self, index, strokes=()):
        """Generate one image with strokes on it, from the first layer that a stroke edits on: (1, C, R, R)."""
        return self._replay.images([index], self.edits(strokes))

    def mask(self, strokes):
        """Mark what strokes cover: (R, R) bool, or None where a loaded file edits everywhere."""
        found = torch.zeros(self.side, self.side, dtype=torch.bool)
        for item in strokes:
            here = area(item.edits, self.side) if isinstance(item, Loaded) else _under(item, self.side)
            if here is None:
                return None
            found |= here
        return found

    def draw(self, index, strokes):
        """Draw an image with the brush's mask, and what the strokes make of it.

        strokes: ((row, Stroke or Loaded), ...) of any rows; those of row `index` count.
        """
        mine, began = _of(index, strokes), time.perf_counter()
        before, shown = self.images(index).clamp(-1, 1), self.images(index, mine)
        layers, after, mask = self._replay.computed, shown.clamp(-1, 1), self.mask(mine)
        tiles = [tint(before, mask[None], outline=True) if mask is not None and mask.any() else as_bytes(before)]
        captions = ["before, with the brush", "after: paint on either"]
        picture = panel([("", torch.cat([*tiles, as_bytes(after)]), captions)], TILE)
        state = f"{self.caption(index)}; {len(mine)} stroke{'s' * (len(mine) != 1)}"
        state += f", the last: {mine[-1]}" if mine else ": paint with the mouse, or by x and y"
        path = self._files.get((index, mine))
        state += f"; saved in {path}" if path else "; not saved" if mine else ""
        numbers = ["the brush covers the whole image" if mask is None else f"{int(mask.sum())} pixels covered"]
        numbers += [self._places(mine[-1])] if mine and isinstance(mine[-1], Stroke) and mine[-1].chosen else []
        numbers.append(f"mean change {(after - before).abs().mean():.3f}")
        cost = f"layers {layers[0]} to {layers[-1]}" if layers else "no layer"
        numbers.append(f"computed {cost}, drawn in {1000 * (time.perf_counter() - began):.0f} ms")
        lines = {"state": state, "numbers": "; ".join(numbers), "code": self._code(index, mine, path)}
        return Drawing(picture, lines, shown)

    def save(self, path, index, strokes):
        """Write the edits of one image to a file for `correct.read_edits`, and return its path.

        Raises ValueError where nothing is painted, and for a file that was there already, which stays as it is unless
        it was written or loaded here for the same image; OSError where it cannot be written.
        """
        mine, path = _of(index, strokes), Path(path)
        if not mine:
            raise ValueError(f"nothing is painted on {self.caption(index)}: paint first")
        if path.exists() and self._owners.get(path.resolve()) != index:
            raise ValueError(
                f"{path} is there already, and not of this painting: choose another name, or load it first"
            )
        correct.write_edits(path, self.edits(mine), self.flow)
        self._files = {state: file for state, file in self._files.items() if file != path}
        self._files[index, mine], self._owners[path.resolve()] = path, index
        return path

    def load(self, path, index):
        """Read edits of one image, or of all, to be painted over: `Loaded`.

        Raises FileNotFoundError, and ValueError for a file of another generator or of several images.
        """
        path = Path(path)
        found = Loaded(correct.read_edits(path, self.flow), path)
        try:
            self.images(index, (found,))
        except ValueError as error:
            raise ValueError(f"{path.name} cannot be painted on one image: {error}") from None
        self._files[index, (found,)], self._owners[path.resolve()] = path, index
        return found

    def spot(self, x, y, height, tile=None):
        """Find the pixel of the image under a pixel of the picture: (tile, (x, y)), or None beside both tiles.

        height: of the picture. tile: which of the two is painted on, from where the brush may leave it.
        """
        size = TILE // self.side * self.side or TILE  # see `tile_rows.fitted`
        tile = int(x >= size + GAP / 2) if tile is None else tile
        at = [int((value * self.side) // size) for value in (x - tile * (size + GAP), y - (height - size))]
        return (tile, tuple(at)) if tile in (0, 1) else None

    @property
    def most(self):
        """How many units the largest set has in a layer, 0 without sets."""
        return max((len(units) for layers in self.sets.values() for units in layers.values()), default=0)

    def inside(self, spot):
        """Whether a pixel lies in the image."""
        return all(0 <= value < self.side for value in spot)

    def _places(self, stroke):
        here = [(k, pooled(_under(stroke, self.side), self.flow.shape(k)[1:])) for k, _ in stroke.chosen]
        said = [f"{int((m > 0).sum())} of {m.numel()} places of layer {k}" for k, m in here]
        return f"the last stroke reaches {', '.join(said)}"

    def _code(self, index, mine, path):
        start = f"{self.known['flow']}.generate({self.known['z']}[{index}:{index + 1}]"
        if not mine:
            return f"{start})"
        return f"{start}, correct.read_edits({str(path)!r}, {self.known['flow']}))" if path else ""


def _of(index, strokes):
    return tuple(item for row, item in strokes if row == index)


@lru_cache(maxsize=64)
def _under(stroke, side):
    return covered(stroke.points, stroke.size, side)


def _ordered(flow, name, each):
    """Bring {layer: scores (U,) or unit numbers} to {layer: [unit, ...]}, the highest score first."""
    found = {}
    for layer, given in each.items():
        scored = isinstance(given, torch.Tensor) and given.is_floating_point()
        if scored and tuple(given.shape) != (flow.units(layer),):
            raise ValueError(f"{name!r} has scores {tuple(given.shape)}, layer {layer} has {flow.units(layer)} units")
        units = rank({layer: given})[layer].tolist() if scored else [int(u) for u in given]
        if not units:
            raise ValueError(f"{name!r} has no unit in layer {layer}: name at least one, or leave the layer out")
        found[layer] = _checked(flow, layer, units)
    if not found:
        raise ValueError(f"{name!r} has no units: name some, {{layer: [unit, ...]}}, or leave it out")
    return found


def _checked(flow, layer, units):
    wrong = [unit for unit in units if not 0 <= unit < flow.units(layer)]
    if wrong or len(set(units)) < len(units):
        raise ValueError(f"layer {layer} has different units 0 to {flow.units(layer) - 1}, got {wrong or units}")
    return list(units)
