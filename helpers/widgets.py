"""Move what the notebooks explain: ipywidgets around `previews`, `labelling` and `blind`, which know nothing of them.

Each view is a `W.VBox` whose `controls` holds every part by its name. Setting a control's value redraws the picture
in place, with or without a kernel. An error is shown in the view and raised as well.
"""

import ipywidgets as W
import torch

from helpers.interface import previews
from helpers.interface.correction_settings import Recipe
from helpers.interface.previews import started
from helpers.interface.raters import labeller, rater  # noqa: F401
from helpers.interface.views import NAMED, View, button, chooser, menu, pair
from helpers.units import rank


class UnitView(View):
    """The view of `unit_browser`; `selection` is what was picked: {layer: [unit numbers]}."""

    selection = property(lambda self: previews.selection(self.controls["selected"].value))


def corrector(flow, z, scores, masks=None, captions=None, realism=None, d_values=None, start=None):
    """Correct one image at a time: original, corrected, change and mask, with realism and D-value live.

    z: latents (N, D). scores: {"DS": {layer: (U,)}, ...}; "DS" drives the sequential and the local correction, and
    every ranking is a method that sets its highest units of one layer to zero. masks: (N, H, W), bool or in [0, 1].
    captions: a short text per image. realism, d_values: functions of images (N, 3, R, R) in [-1, 1] -> (N,).
    start: first values of index, method, layer, portion and scale. A move costs only the layers it changes.
    Raises ValueError for scores without "DS", and for other numbers of masks or captions. See notebook 05.
    """
    measures = {name: f for name, f in (("realism", realism), ("D-value", d_values)) if f is not None}
    draw = previews.correction(flow, z, scores, masks, captions, measures)
    deepest = max(layer for ranking in scores.values() for layer in ranking)
    first = started(start, index=0, method="sequential", layer=min(6, deepest), portion=0.2, scale=0.9)
    methods = ["none", *scores, "sequential", *(["local"] if masks is not None else [])]
    method = menu("method", [(f"{m}: one layer to zero" if m in scores else m, m) for m in methods], first["method"])
    sliders, boxes = {}, {}
    for name, high, step in (("layer", deepest, 1), ("portion", 1.0, 0.01), ("scale", 1.0, 0.01)):
        sliders[name], boxes[f"{name}_box"] = pair(name, 0 * step, high, step, first[name])

    def enable(*_):  # what a method does not read cannot be moved
        for name, slider in sliders.items():
            slider.disabled = boxes[f"{name}_box"].disabled = name not in Recipe(method.value).used
        boxes["layer_box"].description = "layer" if method.value in scores else "stop layer"

    method.observe(enable, "value")
    enable()
    choice, row = chooser(len(z), first["index"])
    rows = [row, [method], *([boxes[f"{name}_box"], slider] for name, slider in sliders.items())]
    inputs = {"index": choice["index"], "method": method} | sliders
    return View(rows, inputs, draw, choice | boxes, ("state", "numbers", "code"))


def mask_explorer(images, cams, captions=None, start=None):
    """Look at masks and their level: image, heat, and the area from the level up, one image at a time.

    images: (N, 3, R, R). cams: (N, R, R) in [0, 1], or {name: such maps} to compare. captions: a text per image.
    start: first values of index, level and source. Raises ValueError for maps of another number. See notebook 02.
    """
    cams = cams if isinstance(cams, dict) else {"heat": cams}
    draw, first = previews.masking(images, cams, captions), started(start, index=0, level=0.5, source=next(iter(cams)))
    choice, row = chooser(len(images), first["index"])
    slider, box = pair("level", 0.0, 1.0, 0.05, first["level"])
    source = menu("source", list(cams), first["source"])
    inputs = {"index": choice["index"], "level": slider, "source": source}
    rows = [row, [box, slider], *([[source]] if len(cams) > 1 else [])]
    return View(rows, inputs, draw, choice | {"level_box": box})


def unit_browser(flow, z, scores, top, thresholds=None, preview=None, shown=5, start=None):
    """Look at what units draw, pick the bad ones by eye, and see images without them.

    z: latents (N, D). scores: {layer: (U,)}. top: {layer: (U, k)}, rows of z from `survey.top_images`.
    thresholds: {layer: (U,)}, to show where a unit is active instead of its heat. preview: latents (n, D) to correct,
    by default the unit's own top images. shown: images a row. start: first values of layer, unit and selected
    ("layer:unit, ..."). Raises ValueError for a scored layer without top images. See notebook 04.
    """
    draw, orders = previews.unit(flow, z, scores, top, thresholds, preview, shown), rank(scores)
    here = (start or {}).get("layer", 6 if 6 in scores else max(scores))
    first = started(start, layer=here, unit=int(orders[here][0]), selected="")
    layer, most = menu("layer", sorted(scores), here), max(map(len, orders.values()))
    unit = W.BoundedIntText(first["unit"], min=0, max=len(orders[here]) - 1, description="unit", **NAMED)
    slider, box = pair("rank", 1, len(orders[here]), 1, 1)
    picked = W.Text(first["selected"], description="selected", placeholder="6:12, 4:3", continuous_update=False)
    picked.style.description_width, picked.layout.width = "90px", "544px"
    pick = button("select / drop this unit")

    def follow(*_):
        slider.value = int((orders[layer.value] == unit.value).nonzero()) + 1

    def enter(*_):  # a layer begins with its highest unit
        order = orders[layer.value]
        with view.moves.held():
            for count in (most, len(order)):  # room for either layer's numbers first
                slider.max = box.max = count
                unit.max, unit.value = count - 1, int(order[0])
            follow()

    def toggle(_):
        words, name = picked.value.replace(",", " ").split(), f"{layer.value}:{unit.value}"
        picked.value = ", ".join([word for word in words if word != name] + ([] if name in words else [name]))

    follow()
    layer.observe(enter, "value")  # before the view's own, which then has nothing left to draw
    rows, more = [[layer, unit], [box, slider], [picked, pick]], {"rank": slider, "rank_box": box, "select": pick}
    view = UnitView(rows, {"layer": layer, "unit": unit, "selected": picked}, draw, more)
    unit.observe(follow, "value")
    slider.observe(lambda change: setattr(unit, "value", int(orders[layer.value][change["new"] - 1])), "value")
    pick.on_click(toggle)
    return view


def axis_browser(values, images, labels=None, ids=None, name="D-value", shown=8, start=None):
    """Slide along an axis of images, such as the D-value, and see the ones nearest to the slider.

    values: (N,), finite. images: (N, 3, R, R), or a function of a list of ids; ids: N of them, by default 0..N-1.
    labels: a short text per image. start: {"value": where the slider stands first}. Raises ValueError for another
    number of images, labels or ids, and for values that are not finite. See notebook 01.
    """
    draw, values = previews.axis(values, images, labels, ids, name, shown), torch.as_tensor(values).float()
    low, high, middle = float(values.min()), float(values.max()), float(values.median())
    slider, box = pair(name, low, high, max((high - low) / 200, 1e-6), started(start, value=middle)["value"])
    return View([[box, slider]], {"value": slider}, draw, {"value_box": box})
