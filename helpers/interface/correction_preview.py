"""Compute and draw one image before and after a correction: what `widgets.corrector` shows."""

import time
from functools import lru_cache

import torch

from helpers import correct
from helpers.interface.correction_settings import MAIN, Recipe
from helpers.interface.incremental import Replay
from helpers.interface.pictures import tint
from helpers.interface.previews import Drawing, as_bytes, captioned, named, same_count
from helpers.interface.tile_rows import difference, panel


def correction(flow, z, given, captions=None, measures=None, ids=None, names=None):
    """Prepare draw(index, method, layer, portion, scale, amount): original, corrected, difference, mask of one image.

    z, captions, ids, names: as in `widgets.corrector`. given: a `correction_settings.Given`. measures: {name: function
    of images -> (N,)}, shown before and after. Raises ValueError for scores without "DS", for other numbers of masks,
    captions or ids, and for differences that are not of `units.differences`.
    """
    if not isinstance(given.scores.get(MAIN), dict):
        raise ValueError(f'scores must be {{"{MAIN}": {{layer: (U,)}}, ...}}, got {list(given.scores)}: name them')
    if not hasattr(given.differences or {}, "only") and given.differences is not None:
        raise ValueError("differences must be what units.differences returns, with the deviations: pass that")
    same_count(len(z), masks=given.masks)
    caption, measures, replay = captioned(len(z), captions, ids), measures or {}, Replay(flow, z)
    known, none = named(names, "flow", "z", "scores", "masks", "differences", "direction"), Recipe("none").essential

    def images(index, recipe):
        return replay.images([index], recipe.edits(given.row(index)))

    @lru_cache(maxsize=1024)
    def measured(index, recipe):
        image = images(index, recipe).clamp(-1, 1)
        return {name: float(measure(image)[0]) for name, measure in measures.items()}

    def draw(index, method, layer, portion, scale, amount=1.0):
        began, recipe = time.perf_counter(), Recipe(method, layer, portion, scale, amount).essential
        before, shown = images(index, none).clamp(-1, 1), images(index, recipe)
        layers, old, new = replay.computed, measured(index, none), measured(index, recipe)
        after = shown.clamp(-1, 1)
        tiles = [as_bytes(before), as_bytes(after), difference(before, after)]
        said = [caption(index), "corrected", "red lighter, blue darker"]
        if given.masks is not None:
            tiles.append(tint(before, given.masks[index : index + 1], outline=True))
            said.append(f"mask: {given.masks[index].float().mean():.1%} of the image")
        picture = panel([("", torch.cat(tiles), said)])
        numbers = [f"{name} {old[name]:.3f} → {new[name]:.3f}" for name in measures]
        numbers.append(f"mean change {(after - before).abs().mean():.3f}")
        cost = "no layer" if not layers else f"layers {layers[0]} to {layers[-1]}"
        cost = f"layer {layers[0]}" if len(layers) == 1 else cost
        numbers.append(f"computed {cost} in {1000 * (time.perf_counter() - began):.0f} ms")
        lines = {"state": f"{caption(index)}; {recipe}: {recipe.count(given)}", "numbers": "; ".join(numbers)}
        return Drawing(picture, lines | {"code": recipe.code(index, given, known)}, shown)

    return draw


def smallest(flow, z, given, judge, index, recipe):
    """Find the smallest amount of a shift at which a judge calls one image normal -> (amount, words on the way)."""
    found = recipe.smallest(flow, z[index : index + 1], given.row(index), judge)
    amount, said = float(found.amounts[0]), found.said[0].tolist()
    way = [f"{score:+.2f} at {tried:g}" for tried, score in zip(correct.AMOUNTS, said) if score == score]
    if said[0] < 0:
        end = "it is normal to the classifier as it is, so nothing is done"
    elif min(score for score in said if score == score) < 0:
        end = f"so {amount:g} is the smallest amount at which it calls the image normal"
    else:
        end = f"so it is normal at none; {amount:g} comes nearest"
    return amount, f"the classifier said {', '.join(way)} (below 0 is normal): {end}"
