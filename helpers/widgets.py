"""Move what the notebooks explain: ipywidgets around `previews` and `labelling`, which know nothing of them.

Each view is a `W.VBox` whose `controls` holds every part by its name. Setting a control's value redraws the picture
in place, with or without a kernel. An error is shown in the view and raised as well.
"""

from html import escape

import ipywidgets as W
import torch

from helpers import labels, previews
from helpers.labelling import Session
from helpers.moves import Moves, at_rest
from helpers.pictures import png
from helpers.previews import started
from helpers.recipes import Recipe
from helpers.units import rank

NAMED = {"style": {"description_width": "90px"}, "layout": {"width": "180px"}}  # a box with its name on the left


class Frame(W.VBox):
    """Rows of inputs above one picture and its lines of text."""

    def __init__(self, rows, controls, lines=("state", "code")):
        # Not stretched to the page's width, which would blur the pixels.
        self.controls = controls | {"image": W.Image(format="png", layout={"align_self": "flex-start"})}
        self.controls |= {name: W.HTML() for name in (*lines, "error")}
        below = [self.controls[name] for name in ("error", "image", *lines)]
        super().__init__([*(W.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows), *below])

    def guarded(self, action):
        """Wrap a handler: an error is written into the view and raised again."""

        def handler(*arguments):
            try:
                action(*arguments)
            except Exception as error:
                said = f"<b>Error:</b> {escape(str(error) or type(error).__name__)} (the picture is the one before)"
                self.controls["error"].value = f'<span style="color: #b00020" role="alert">{said}</span>'
                raise
            self.controls["error"].value = ""

        return handler

    def put(self, picture, lines):
        """Show a picture (uint8 array) and its lines {name: text}, in place."""
        self.controls["image"].value = png(picture)
        for name, text in lines.items():
            text = escape(text)
            self.controls[name].value = f"code for this state: <code>{text}</code>" if name == "code" else text


class View(Frame):
    """A frame that draws anew when an input changes: draw(**values) -> (picture, lines).

    inputs: {name: widget with a value}; undo and reset act on all of them.
    """

    def __init__(self, rows, inputs, draw, more=None, lines=("state", "code")):
        undo, reset = _button("undo"), _button("reset")
        controls = inputs | (more or {}) | {"undo": undo, "reset": reset}
        super().__init__([[*rows[0], undo, reset], *rows[1:]], controls, lines)
        self.moves = Moves(inputs, self.guarded(lambda values: self.put(*draw(**values))))
        undo.on_click(self.moves.undo)
        reset.on_click(self.moves.reset)
        for widget in inputs.values():
            widget.observe(self.moves.changed, "value")
        self.moves.redraw(self.moves.values)


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
    method = _menu("method", [(f"{m}: one layer to zero" if m in scores else m, m) for m in methods], first["method"])
    sliders, boxes = {}, {}
    for name, high, step in (("layer", deepest, 1), ("portion", 1.0, 0.01), ("scale", 1.0, 0.01)):
        sliders[name], boxes[f"{name}_box"] = _pair(name, 0 * step, high, step, first[name])

    def enable(*_):  # what a method does not read cannot be moved
        for name, slider in sliders.items():
            slider.disabled = boxes[f"{name}_box"].disabled = name not in Recipe(method.value).used
        boxes["layer_box"].description = "layer" if method.value in scores else "stop layer"

    method.observe(enable, "value")
    enable()
    choice, row = _chooser(len(z), first["index"])
    rows = [row, [method], *([boxes[f"{name}_box"], slider] for name, slider in sliders.items())]
    inputs = {"index": choice["index"], "method": method} | sliders
    return View(rows, inputs, draw, choice | boxes, ("state", "numbers", "code"))


def labeller(images, ids, path, rater, types=labels.TYPES, extra=None):
    """Label generations one by one, by button or letter; each label is in the file before the next image comes.

    images: (N, 3, R, R) in the order of ids, or a function of a list of ids. path: label CSV, made or resumed.
    rater: who labels. types: artifact types offered. extra: further columns, such as {"pass": "2"}.
    The view's `session` is a `labelling.Session`, which says what is refused. See notebook 02.
    """
    session = Session(ids, path, rater, types, extra)
    draw = previews.generation(session, images)
    buttons = {name: _button(f"{name} [{key}]") for key, name in session.keys.items()}
    letter, target, export = W.Text(description="type a letter", **NAMED), W.Text(), _button("export CSV")
    target.description, target.value = "export to", f"{session.path.with_suffix('')}-{session.rater}.csv"
    target.style.description_width, target.layout.width = "90px", "480px"
    rows = [[buttons[name] for name in names] for names in (("normal", *session.types), ("undo", "back", "skip"))]
    controls = buttons | {"key": letter, "export_path": target, "export": export}
    view = Frame([rows[0], [letter, *rows[1]], [target, export]], controls)
    view.session = session

    def act(does, argument):
        try:
            does(argument)
        finally:
            view.put(*draw())  # of several letters, the ones before a wrong one count

    # Emptied only once the typist pauses: letters on their way to a box that is emptied would be lost.
    empty = at_rest(lambda: setattr(letter, "value", ""))

    def typed(change):
        if change["new"]:
            empty()
            view.guarded(act)(session.type, change["new"])

    for name in buttons:
        buttons[name].on_click(lambda _, name=name: view.guarded(act)(session.do, name))
    note = "; {} labels are in {}".format
    export.on_click(view.guarded(lambda _: view.put(*draw(note(session.export(target.value), target.value)))))
    letter.observe(typed, "value")
    view.put(*draw())
    return view


def mask_explorer(images, cams, captions=None, start=None):
    """Look at masks and their level: image, heat, and the area from the level up, one image at a time.

    images: (N, 3, R, R). cams: (N, R, R) in [0, 1], or {name: such maps} to compare. captions: a text per image.
    start: first values of index, level and source. Raises ValueError for maps of another number. See notebook 02.
    """
    cams = cams if isinstance(cams, dict) else {"heat": cams}
    draw, first = previews.masking(images, cams, captions), started(start, index=0, level=0.5, source=next(iter(cams)))
    choice, row = _chooser(len(images), first["index"])
    slider, box = _pair("level", 0.0, 1.0, 0.05, first["level"])
    source = _menu("source", list(cams), first["source"])
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
    layer, most = _menu("layer", sorted(scores), here), max(map(len, orders.values()))
    unit = W.BoundedIntText(first["unit"], min=0, max=len(orders[here]) - 1, description="unit", **NAMED)
    slider, box = _pair("rank", 1, len(orders[here]), 1, 1)
    picked = W.Text(first["selected"], description="selected", placeholder="6:12, 4:3", continuous_update=False)
    picked.style.description_width, picked.layout.width = "90px", "544px"
    pick = _button("select / drop this unit")

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
    slider, box = _pair(name, low, high, max((high - low) / 200, 1e-6), started(start, value=middle)["value"])
    return View([[box, slider]], {"value": slider}, draw, {"value_box": box})


def _pair(name, low, high, step, value):
    """A slider and the number box that names it; each follows the other."""
    kinds = (W.IntSlider, W.BoundedIntText) if isinstance(step, int) else (W.FloatSlider, W.BoundedFloatText)
    span = {"min": low, "max": high, "step": step, "value": value}
    slider = kinds[0](**span, continuous_update=False, readout=False, layout={"width": "360px"})
    box = kinds[1](**span, description=name, **NAMED)
    W.link((slider, "value"), (box, "value"))
    return slider, box


def _chooser(count, index):
    """Choose one of `count` images: its controls by name, and their row."""
    box = W.BoundedIntText(index, min=0, max=count - 1, description="image", **NAMED)
    steps = {"previous": _button("previous"), "next": _button("next")}
    for button, step in zip(steps.values(), (-1, 1)):
        button.on_click(lambda _, step=step: setattr(box, "value", min(max(box.value + step, 0), count - 1)))
    return {"index": box} | steps, [box, *steps.values(), W.Label(f"0 to {count - 1}")]


def _menu(name, options, value):
    return W.Dropdown(options=options, value=value, description=name, style=NAMED["style"])


def _button(name):
    return W.Button(description=name, layout={"width": "auto"})
