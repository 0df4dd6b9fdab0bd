"""Describe a correction by the settings a person moves: its edits, its words and the code that repeats it."""

import json
import math
from dataclasses import dataclass, replace

from helpers import correct

MAIN = "DS"  # the ranking behind the sequential and the local correction
STOPPED, SHIFTED, STEPPED = ("sequential", "local"), ("shift", "local shift"), "latent direction"
SETTINGS = {"none": (), "sequential": ("layer", "portion", "scale"), STEPPED: ("amount",)}
SETTINGS |= {"local": ("layer", "portion")} | dict.fromkeys(SHIFTED, ("layer", "portion", "amount"))


@dataclass(frozen=True)
class Given:
    """What corrections are made from.

    scores: {name: {layer: (U,)}}. masks: (N, H, W), for what is local. differences: {layer: (U, H, W)}, for shifts.
    direction: a `correct.Direction`, for the latent direction.
    """

    scores: dict
    masks: object = None
    differences: dict | None = None
    direction: object = None

    @property
    def methods(self):
        """Names of the corrections that can be made from it."""
        there = {"sequential": self.scores, "local": self.masks is not None, "shift": self.differences}
        there |= {"local shift": self.differences and self.masks is not None, STEPPED: self.direction is not None}
        return ["none", *self.scores, *(name for name, given in there.items() if given)]

    def layers(self, method):
        """Numbers of the layers that a method can be given, sorted; damping has 0, the identity, as well."""
        if method in SHIFTED:
            return sorted(self.differences)
        return [0, *sorted(self.scores[method if method in self.scores else MAIN])]

    def row(self, row):
        """Keep the masks of one image."""
        return self if self.masks is None else replace(self, masks=self.masks[row : row + 1])


@dataclass(frozen=True)
class Recipe:
    """A correction's settings.

    method: "none", "sequential", "local", "shift", "local shift", "latent direction", or the name of a ranking, whose
    highest units of one layer are set to zero. layer: that layer, or the stop layer; 0 is the identity. portion: share
    of a layer's units, or of its units and places, in [0, 1]. scale: lambda of the sequential correction, in [0, 1].
    amount: of a shift or of the step against the latent direction. See notebooks 05 and 06.
    """

    method: str = "sequential"
    layer: int = 6
    portion: float = 0.2
    scale: float = 0.9
    amount: float = 1.0

    @property
    def used(self):
        """Names of the settings this method reads."""
        return SETTINGS.get(self.method, ("layer", "portion"))

    @property
    def essential(self):
        """The same correction with unused settings at their defaults, so that equal ones compare equal."""
        unused = {"layer", "portion", "scale", "amount"} - set(self.used)
        return replace(self, **{name: getattr(Recipe, name) for name in unused})

    def edits(self, given):
        """Return the Edits, for the images of given.masks where it is local; layer 0 edits the latents themselves.

        Raises ValueError for an unknown method, a layer without scores or difference, or no masks for what is local.
        """
        if self.method == "none":
            return {}
        if "local" in self.method and given.masks is None:
            raise ValueError(f"the {self.method} correction needs masks, got none: pass masks or another method")
        if self.method == "sequential":
            return correct.sequential(given.scores[MAIN], self.layer, self.portion, self.scale)
        if self.method == "local":
            return correct.local(given.scores[MAIN], given.masks, self.layer, self.portion)
        if self.method in SHIFTED:
            masks = given.masks if self.method == "local shift" else None
            return correct.shift(self._difference(given), self.amount, self.portion, masks)
        if self.method == STEPPED:
            return {0: Step(given.direction, self.amount)}
        return correct.ablate(self.layer, self._top(given.scores)) if self.layer else {}

    def smallest(self, flow, z, given, judge):
        """Find the smallest amount of this shift or step at which a judge calls the images of z normal -> Smallest."""
        if self.method == STEPPED:
            return correct.smallest_step(flow, z, given.direction, judge)
        masks = given.masks if self.method == "local shift" else None
        differences = self._difference(given)
        return correct.smallest_amount(flow, z, differences, judge, portion=self.portion, masks=masks)

    def count(self, given):
        """Say how much the correction touches: "12 units"."""
        if self.method == STEPPED:
            return "every unit"
        if self.method in SHIFTED:
            all_of = self._difference(given)[self.layer].numel()
            return f"{math.floor(self.portion * all_of + 1e-9):,} of {all_of:,} units and places"
        if self.method == "none" or not self.layer:
            return "0 units"
        if self.method not in STOPPED:
            return f"{len(self._top(given.scores))} units"
        marked = correct.selected(given.scores[MAIN], range(1, self.layer + 1), self.portion)
        return f"{sum(int(units.sum()) for units in marked.values())} units"

    def code(self, row, given, names):
        """Write the call that repeats the correction of row `row` of z, under the names of `previews.named`."""
        rows, portion = f"[{row}:{row + 1}]", f"portion={self.portion:g}"
        ranking = f"{names['scores']}[{json.dumps(MAIN if self.method in STOPPED else self.method)}]"
        image, masks = f"{names['flow']}.generate({names['z']}{rows}", f"{names['masks']}{rows}"
        if self.method == STEPPED:
            return f"{names['flow']}.generate({names['direction']}.step({names['z']}{rows}, {self.amount:g}))"
        if self.method == "none" or not self.layer:
            return f"{image})"
        if self.method == "sequential":
            edits = f"correct.sequential({ranking}, stop_layer={self.layer}, {portion}, scale={self.scale:g})"
        elif self.method == "local":
            edits = f"correct.local({ranking}, {masks}, stop_layer={self.layer}, {portion})"
        elif self.method in SHIFTED:
            all_of = f"{names['differences']}" + (f".only([{self.layer}])" if len(given.differences) > 1 else "")
            where = f", masks={masks}" if self.method == "local shift" else ""
            edits = f"correct.shift({all_of}, amount={self.amount:g}, {portion}{where})"
        else:
            top = f"units.rank({ranking})[{self.layer}][:{len(self._top(given.scores))}]"
            edits = f"correct.ablate({self.layer}, {top})"
        return f"{image}, {edits})"

    def __str__(self):
        if self.method == "none":
            return "no correction"
        named = self.method if self.method in SETTINGS else f"top {self.method} units of one layer to zero"
        said = {"layer": f"{'stop layer' if self.method in STOPPED else 'layer'} {self.layer}"}
        said |= {"portion": f"portion {100 * self.portion:.3g} %", "scale": f"scale {self.scale:.2f}"}
        said["amount"] = f"amount {self.amount:.2f}"
        return ", ".join([named, *(said[name] for name in self.used)])

    def _difference(self, given):
        if self.layer not in given.differences:
            known = ", ".join(map(str, sorted(given.differences)))
            raise ValueError(f"there is no difference of layer {self.layer}: choose one of {known}")
        return given.differences.only([self.layer])

    def _top(self, scores):
        if self.method not in scores:
            raise ValueError(f"there is no ranking {self.method!r}, there is: {', '.join(scores)}")
        ranking = scores[self.method]
        if self.layer not in ranking:
            known = ", ".join(map(str, sorted(ranking)))
            raise ValueError(f"ranking {self.method!r} has no scores for layer {self.layer}: choose one of {known}")
        return correct.selected(ranking, [self.layer], self.portion)[self.layer].nonzero().flatten().tolist()


@dataclass(frozen=True)
class Step:
    """Move latents against a direction: the edit of layer 0."""

    direction: object
    amount: float

    def __call__(self, z):
        return self.direction.step(z, self.amount)
