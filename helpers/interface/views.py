"""The parts of every widget: a frame around one picture, a view that redraws when a control moves, and controls."""

import math
import statistics
import time
from html import escape

import ipywidgets as W

from helpers.interface.history import Moves, at_rest, plain
from helpers.interface.pictures import png

NAMED = {"style": {"description_width": "90px"}, "layout": {"width": "180px"}}  # a box with its name on the left
QUICK, PAUSE = 0.15, 0.2  # seconds: a picture drawn as quickly follows a drag, a slower one waits for a pause
# Colours of its own: readable on the light and on the dark page.
ERROR = "background: #fde7e9; color: #7a0012; border-left: 4px solid #b00020; padding: 0 8px"


class Frame(W.VBox):
    """Rows of inputs above one picture and its lines of text; `shown` is what the code for this state returns."""

    def __init__(self, rows, controls, lines=("state", "code")):
        # Not stretched to the page's width, which would blur the pixels.
        self.controls = controls | {"image": W.Image(format="png", layout={"align_self": "flex-start"})}
        self.controls |= {name: W.HTML() for name in (*lines, "error")}
        self.shown = None
        below = [self.controls[name] for name in ("error", "image", *lines)]
        super().__init__([*(W.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows), *below])

    def guarded(self, action):
        """Wrap a handler: an error is written into the view and raised again."""

        def handler(*arguments):
            try:
                action(*arguments)
            except Exception as error:
                said = f"<b>Error:</b> {escape(str(error) or type(error).__name__)} (the picture is the one before)"
                self.controls["error"].value = f'<div style="{ERROR}" role="alert">{said}</div>'
                raise
            self.controls["error"].value = ""

        return handler

    def put(self, picture, lines, shown=None):
        """Show a picture (uint8 array) and its lines {name: text}, in place; a line without text is left empty."""
        self.controls["image"].value, self.shown = png(picture), shown
        for name, text in lines.items():
            text = escape(text)
            coded = f"code for this state: <code>{text}</code>" if text else ""
            self.controls[name].value = coded if name == "code" else text


class View(Frame):
    """A frame that draws anew when an input changes: draw(**values) -> (picture, lines, what is shown).

    inputs: {name: widget with a value}; undo and reset act on all of them. The picture follows a drag while it is
    drawn within QUICK seconds; one that takes longer is drawn once the drag pauses. by_id: (name of an input, ids,
    places), so that entering ids[i] into the box "id" of `more` gives that input the value places[i]; drawn at its
    place, wherever between two steps it lies. dragged: names of inputs that a slider in `more` moves.
    """

    def __init__(self, rows, inputs, draw, more=None, lines=("state", "code"), by_id=None, dragged=()):
        undo, reset = button("undo"), button("reset")
        controls = inputs | (more or {}) | {"undo": undo, "reset": reset}
        super().__init__([[*rows[0], undo, reset], *rows[1:]], controls, lines)
        exact = self._call_by_id(inputs[by_id[0]], *by_id) if by_id else dict  # first: drawing may fail
        self._draw = self.guarded(lambda values: self.put(*draw(**exact(values))))
        self._cost, self._waiting, self._paused = 0, None, at_rest(self.now, PAUSE)
        self.moves = Moves(inputs, self._follow, dragged=dragged)
        undo.on_click(self.moves.undo)
        reset.on_click(self.moves.reset)
        for widget in inputs.values():
            widget.observe(self.moves.changed, "value")
        self._follow(self.moves.values)

    def now(self):
        """Draw what still waits for a pause."""
        values, self._waiting = self._waiting, None
        if values is not None:
            began = time.perf_counter()
            self._draw(values)
            self._cost = time.perf_counter() - began

    def _follow(self, values):
        self._waiting = values
        (self._paused if self._cost > QUICK else self.now)()

    def _call_by_id(self, control, name, ids, places):
        """Tie the box "id" to a control; returns a function that puts the chosen image's place among the values."""
        box, ids, near = self.controls["id"], list(ids), 0.51 * control.step  # a slider rounds to its steps
        row = ids.index(box.value)

        def follow(*_):
            nonlocal row
            if abs(places[row] - control.value) > near:
                row = min(range(len(ids)), key=lambda i: abs(places[i] - control.value))
            box.value = ids[row]

        def go(change):
            nonlocal row
            if change["new"] == ids[row]:
                return
            if change["new"] not in ids:
                box.value = ids[row]
                some = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
                raise ValueError(f"there is no image {change['new']} here, the ids are {some}: enter one of them")
            before, row = control.value, ids.index(change["new"])
            control.value = places[row]
            if control.value == before:  # two images in one place
                self.moves.redraw(self.moves.values)

        box.observe(self.guarded(go), "value")
        control.observe(follow, "value")
        return lambda values: values | ({name: places[row]} if abs(places[row] - values[name]) <= near else {})


def pair(name, low, high, step, value):
    """Make a slider and the number box that names it; each follows the other, also during a drag."""
    kinds = (W.IntSlider, W.BoundedIntText) if isinstance(step, int) else (W.FloatSlider, W.BoundedFloatText)
    span = {"min": low, "max": high, "step": step, "value": value}
    slider = kinds[0](**span, readout=False, layout={"width": "360px"})
    box = kinds[1](**span, description=name, **NAMED)
    W.link((slider, "value"), (box, "value"), (plain, plain))  # no 0.30000000000000004 in the box
    return slider, box


def span(values):
    """Choose ends, step and middle of a slider over values: whole steps if they are whole, else 100 to 300."""
    low, high, middle = min(values), max(values), statistics.median(values)
    if all(value == int(value) for value in values):
        return int(low), int(high), 1, int(middle)
    least = (high - low) / 300 or 1
    digits = math.floor(math.log10(least))
    step = next(part * 10.0**digits for part in (1, 2, 5, 10) if part * 10.0**digits >= least)
    steps = math.floor(low / step), math.ceil(high / step), 1, round(middle / step)
    return tuple(round(count * step, max(0, -digits)) for count in steps)


def limit(controls, low, high):
    """Give sliders or boxes other ends; a value beyond them goes to the nearer one."""
    for control in controls:
        control.max = max(control.max, high)  # an end must not cross the other on the way
        control.min, control.max = low, high


def chooser(count, index, ids=None):
    """Choose one of `count` images by number, or by id: its controls by name, and their row."""
    box = W.BoundedIntText(index, min=0, max=count - 1, description="image", **NAMED)
    steps = {"previous": button("previous"), "next": button("next")}
    for move, step in zip(steps.values(), (-1, 1)):
        move.on_click(lambda _, step=step: setattr(box, "value", min(max(box.value + step, 0), count - 1)))
    named = {} if ids is None else {"id": id_box(ids[index])}
    return {"index": box} | named | steps, [box, W.Label(f"of 0 to {count - 1}"), *named.values(), *steps.values()]


def id_box(value):
    """A box for an image's id."""
    return W.IntText(value, description="id", style={"description_width": "30px"}, layout={"width": "120px"})


def menu(name, options, value):
    """A choice of named options."""
    return W.Dropdown(options=options, value=value, description=name, style=NAMED["style"])


def button(name):
    """A button as wide as its name."""
    return W.Button(description=name, layout={"width": "auto"})
