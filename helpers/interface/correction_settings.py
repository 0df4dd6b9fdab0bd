"""Describe a correction by the settings a person moves: its edits, its words and the code that repeats it."""

from dataclasses import dataclass, replace

from helpers import correct

MAIN = "DS"  # the ranking behind the sequential and the local correction


@dataclass(frozen=True)
class Recipe:
    """A correction's settings.

    method: "none", "sequential", "local", or the name of a ranking, whose highest units of one layer are set to
    zero. layer: that layer, or the stop layer; 0 is the identity. portion: share of a layer's units, in [0, 1].
    scale: lambda of the sequential correction, in [0, 1]. See notebook 05.
    """

    method: str = "sequential"
    layer: int = 6
    portion: float = 0.2
    scale: float = 0.9

    @property
    def used(self):
        """Names of the settings this method reads."""
        return {"none": (), "sequential": ("layer", "portion", "scale")}.get(self.method, ("layer", "portion"))

    @property
    def essential(self):
        """The same correction with unused settings at their defaults, so that equal ones compare equal."""
        unused = {"layer", "portion", "scale"} - set(self.used)
        return replace(self, **{name: getattr(Recipe, name) for name in unused})

    def edits(self, scores, masks=None):
        """Return the Edits: scores {name: {layer: (U,)}}, masks (N, H, W) of the images to correct, for "local".

        Raises ValueError for an unknown method, a layer without scores, or "local" without masks.
        """
        if self.method == "none":
            return {}
        if self.method == "sequential":
            return correct.sequential(scores[MAIN], self.layer, self.portion, self.scale)
        if self.method == "local":
            if masks is None:
                raise ValueError("the local correction needs masks, got none: pass masks or choose another method")
            return correct.local(scores[MAIN], masks, self.layer, self.portion)
        return correct.ablate(self.layer, self._top(scores)) if self.layer else {}

    def count(self, scores):
        """Count the units the correction touches."""
        if self.method == "none" or not self.layer:
            return 0
        if self.method not in ("sequential", "local"):
            return len(self._top(scores))
        marked = correct.selected(scores[MAIN], range(1, self.layer + 1), self.portion)
        return sum(int(units.sum()) for units in marked.values())

    def code(self, row, scores):
        """Write the call that repeats the correction of row `row` of z."""
        rows, portion = f"z[{row}:{row + 1}]", f"portion={self.portion:g}"
        ranking = f'scores["{MAIN if self.method in ("sequential", "local") else self.method}"]'
        if self.method == "none" or not self.layer:
            return f"flow.generate({rows})"
        if self.method == "sequential":
            edits = f"correct.sequential({ranking}, stop_layer={self.layer}, {portion}, scale={self.scale:g})"
        elif self.method == "local":
            edits = f"correct.local({ranking}, masks[{row}:{row + 1}], stop_layer={self.layer}, {portion})"
        else:
            top = f"units.rank({ranking})[{self.layer}][:{self.count(scores)}]"
            edits = f"correct.ablate({self.layer}, {top})"
        return f"flow.generate({rows}, {edits})"

    def __str__(self):
        if self.method == "none":
            return "no correction"
        named = (
            self.method if self.method in ("sequential", "local") else f"top {self.method} units of one layer to zero"
        )
        parts = [named, f"{'stop layer' if self.method in ('sequential', 'local') else 'layer'} {self.layer}"]
        parts.append(f"portion {100 * self.portion:.3g} %")
        return ", ".join(parts + ([f"scale {self.scale:.2f}"] if "scale" in self.used else []))

    def _top(self, scores):
        if self.method not in scores:
            raise ValueError(f"there is no ranking {self.method!r}, there is: {', '.join(scores)}")
        ranking = scores[self.method]
        if self.layer not in ranking:
            known = ", ".join(map(str, sorted(ranking)))
            raise ValueError(f"ranking {self.method!r} has no scores for layer {self.layer}: choose one of {known}")
        return correct.selected(ranking, [self.layer], self.portion)[self.layer].nonzero().flatten().tolist()
