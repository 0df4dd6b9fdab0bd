"""Move what the notebooks explain: ipywidgets around `interface`, whose previews and sessions know nothing of them.

Each view is a `W.VBox` whose `controls` holds every part by its name. Setting a control's value redraws the picture
in place, with or without a kernel. An error is shown in the view and raised as well. Each view prints the code that
gives what it shows; `names` says under which expressions the notebook knows what the view was given, such as
{"z": "z_held"}, where these are not the parameters' own names. `shown` holds what that code evaluates to.
"""

import ipywidgets as W
import torch

from helpers.interface import correction_preview, previews, unit_preview
from helpers.interface.correction_settings import MAIN, STOPPED, Given, Recipe
from helpers.interface.painter import painter  # noqa: F401
from helpers.interface.previews import started
from helpers.interface.raters import labeller, playground, rater  # noqa: F401
from helpers.interface.views import NAMED, View, button, chooser, id_box, limit, menu, pair, span
from helpers.units import rank


class UnitView(View):
    """The view of `unit_browser`; `selection` is what was picked: {layer: [unit numbers]}."""

    selection = property(lambda self: unit_preview.selection(self.controls["selected"].value))


def corrector(
    flow, z, scores, masks=None, captions=None, realism=None, d_values=None, start=None, *, differences=None,
    direction=None, judge=None, ids=None, names=None,
):  # fmt: skip
    """Correct one image at a time: original, corrected, change and mask, with realism and D-value live.

    z: latents (N, D). scores: {"DS": {layer: (U,)}, ...}; "DS" drives the sequential and the local correction, and
    every ranking is a method that sets its highest units of one layer to zero. masks: (N, H, W), bool or in [0, 1].
    captions: a short text per image. realism, d_values: functions of images (N, 3, R, R) in [-1, 1] -> (N,).
    start: first values of index, method, layer, portion, scale and amount. differences, of `units.differences`, offer
    the shift of one layer; direction, of `correct.latent_direction`, the step against it. judge: as realism, below 0
    for normal; a button then finds the smallest amount that satisfies it. ids: of the images, to call them by.
    names: of flow, z, scores, masks, differences and direction. A move costs only the layers it changes.
    Raises ValueError for scores without "DS", and for other numbers of masks, captions or ids. See notebooks 05 and 06.
    """
    given = Given(scores, None if masks is None else torch.as_tensor(masks), differences, direction)
    measures = {"artifact score": judge, "realism": realism, "D-value": d_values}
    measures = {name: measure for name, measure in measures.items() if measure is not None}
    draw = correction_preview.correction(flow, z, given, captions, measures, ids, names)
    first = {"index": 0, "method": "sequential", "layer": min(6, max(scores[MAIN])), "portion": 0.2, "scale": 0.9}
    first = started(start, **first, amount=1.0)
    titles = [(f"{name}: one layer to zero" if name in scores else name, name) for name in given.methods]
    method, sliders, boxes = menu("method", titles, first["method"]), {}, {}
    spans = {"layer": (0, flow.n_layers, 1), "portion": (0.0, 1.0, 0.01), "scale": (0.0, 1.0, 0.01)}
    amounts = differences is not None or direction is not None
    for name, limits in (spans | ({"amount": (-1.0, 3.0, 0.05)} if amounts else {})).items():
        sliders[name], boxes[f"{name}_box"] = pair(name, *limits, first[name])
    (choice, row), smallest = chooser(len(z), first["index"], ids), button("smallest amount")
    inputs, by_id = {"index": choice["index"], "method": method} | sliders, ids and ("index", ids, range(len(ids)))
    rows = [row, [method], *([boxes[f"{name}_box"], slider] for name, slider in sliders.items())]
    found = amounts and judge is not None
    if found:
        rows[-1].append(smallest)

    def settle(*_):  # the layers are those the method knows; what it does not read cannot be moved
        layers, used, at = given.layers(method.value), Recipe(method.value).used, sliders["layer"].value
        for name, slider in sliders.items():
            slider.disabled = boxes[f"{name}_box"].disabled = name not in used
        smallest.disabled = "amount" not in used
        boxes["layer_box"].description = "stop layer" if method.value in (*STOPPED, "none") else "layer"
        limit((sliders["layer"], boxes["layer_box"]), layers[0], layers[-1])
        sliders["layer"].value = min(layers, key=lambda layer: abs(layer - at))

    def switch(_):
        with view.moves.held():
            settle()

    def find(_):
        recipe = Recipe(**{name: inputs[name].value for name in ("method", *sliders)})
        amount, said = correction_preview.smallest(flow, z, given, judge, choice["index"].value, recipe)
        sliders["amount"].value, view.controls["way"].value = amount, said

    settle()
    method.observe(switch, "value")  # before the view's own, which then has nothing left to draw
    more = choice | boxes | ({"smallest": smallest} if found else {})
    view = View(rows, inputs, draw, more, ("state", "numbers", "way", "code"), by_id)
    for name in ("index", "method", "layer", "portion"):  # another search
        inputs[name].observe(lambda _: setattr(view.controls["way"], "value", ""), "value")
    smallest.on_click(view.guarded(find))
    return view


def mask_explorer(images, cams, captions=None, start=None, ids=None, names=None):
    """Look at masks and their level: image, heat, and the area from the level up, one image at a time.

    images: (N, 3, R, R). cams: (N, R, R) in [0, 1], or {name: such maps} to compare. captions: a text per image.
    start: first values of index, level and source. ids: of the images, to call them by. names: of cams.
    Raises ValueError for maps of another number. See notebook 02.
    """
    cams = cams if isinstance(cams, dict) else {"heat": cams}
    draw = previews.masking(images, cams, captions, ids, names)
    first = started(start, index=0, level=0.5, source=next(iter(cams)))
    choice, row = chooser(len(images), first["index"], ids)
    slider, box = pair("level", 0.0, 1.0, 0.05, first["level"])
    source = menu("source", list(cams), first["source"])
    inputs = {"index": choice["index"], "level": slider, "source": source}
    rows = [row, [box, slider], *([[source]] if len(cams) > 1 else [])]
    by_id = ids and ("index", ids, range(len(ids)))
    return View(rows, inputs, draw, choice | {"level_box": box}, by_id=by_id)


def unit_browser(flow, z, scores, top, thresholds=None, preview=None, shown=5, start=None, ids=None, names=None):
    """Look at what units draw, see images without them, and pick the bad ones by eye.

    z: latents (N, D). scores: {layer: (U,)}. top: {layer: (U, k)}, rows of z from `survey.top_images`.
    thresholds: {layer: (U,)}, to show where a unit is active instead of its heat. preview: latents (n, D) to take
    units out of, by default the unit's own top images. shown: images a row. start: first values of layer, unit and
    selected ("layer:unit, ..."). ids: of the images of z. names: of flow, z, top and preview.
    Raises ValueError for a scored layer without top images. See notebook 04.
    """
    draw, orders = unit_preview.unit(flow, z, scores, top, thresholds, preview, shown, ids, names), rank(scores)
    here = (start or {}).get("layer", 6 if 6 in scores else max(scores))
    first = started(start, layer=here, unit=int(orders[here][0]), selected="")
    layer = menu("layer", sorted(scores), here)
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
            limit((slider, box), 1, len(order))
            limit((unit,), 0, len(order) - 1)
            unit.value = int(order[0])
            follow()

    def toggle(_):
        words, name = picked.value.replace(",", " ").split(), f"{layer.value}:{unit.value}"
        picked.value = ", ".join([word for word in words if word != name] + ([] if name in words else [name]))

    follow()
    layer.observe(enter, "value")  # before the view's own, which then has nothing left to draw
    rows, more = [[layer, unit], [box, slider], [picked, pick]], {"rank": slider, "rank_box": box, "select": pick}
    view = UnitView(rows, {"layer": layer, "unit": unit, "selected": picked}, draw, more, dragged=["unit"])
    unit.observe(follow, "value")
    slider.observe(lambda change: setattr(unit, "value", int(orders[layer.value][change["new"] - 1])), "value")
    pick.on_click(toggle)
    return view


def axis_browser(values, images, labels=None, ids=None, name="D-value", shown=8, start=None, names=None):
    """Slide along an axis of images, such as the D-value, and see the ones nearest to the slider.

    values: (N,), finite. images: (N, 3, R, R), or a function of a list of ids; ids: N of them, by default 0..N-1.
    labels: a short text per image. start: {"value": where the slider stands first}. names: of images.
    Raises ValueError for another number of images, labels or ids, and for values that are not finite. See notebook 01.
    """
    draw = previews.axis(values, images, labels, ids, name, shown, names)
    values = torch.as_tensor(values).flatten().tolist()
    low, high, step, middle = span(values)
    slider, box = pair(name, low, high, step, started(start, value=middle)["value"])
    called = None if ids is None or values == [float(i) for i in ids] else [int(i) for i in ids]
    row, more = [box, slider], {"value_box": box}
    if called:  # else the slider's own box takes the number
        more["id"] = id_box(called[min(range(len(values)), key=lambda i: abs(values[i] - slider.value))])
        row.append(more["id"])
    return View([row], {"value": slider}, draw, more, by_id=called and ("value", called, values))
