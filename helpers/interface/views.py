"""The parts of every widget: a frame around one picture, a view that redraws when a control moves, and controls."""

from html import escape

import ipywidgets as W

from helpers.interface.history import Moves
from helpers.interface.pictures import png

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
        undo, reset = button("undo"), button("reset")
        controls = inputs | (more or {}) | {"undo": undo, "reset": reset}
        super().__init__([[*rows[0], undo, reset], *rows[1:]], controls, lines)
        self.moves = Moves(inputs, self.guarded(lambda values: self.put(*draw(**values))))
        undo.on_click(self.moves.undo)
        reset.on_click(self.moves.reset)
        for widget in inputs.values():
            widget.observe(self.moves.changed, "value")
        self.moves.redraw(self.moves.values)


def pair(name, low, high, step, value):
    """Make a slider and the number box that names it; each follows the other."""
    kinds = (W.IntSlider, W.BoundedIntText) if isinstance(step, int) else (W.FloatSlider, W.BoundedFloatText)
    span = {"min": low, "max": high, "step": step, "value": value}
    slider = kinds[0](**span, continuous_update=False, readout=False, layout={"width": "360px"})
    box = kinds[1](**span, description=name, **NAMED)
    W.link((slider, "value"), (box, "value"))
    return slider, box


def chooser(count, index):
    """Choose one of `count` images: its controls by name, and their row."""
    box = W.BoundedIntText(index, min=0, max=count - 1, description="image", **NAMED)
    steps = {"previous": button("previous"), "next": button("next")}
    for move, step in zip(steps.values(), (-1, 1)):
        move.on_click(lambda _, step=step: setattr(box, "value", min(max(box.value + step, 0), count - 1)))
    return {"index": box} | steps, [box, *steps.values(), W.Label(f"0 to {count - 1}")]


def menu(name, options, value):
    """A choice of named options."""
    return W.Dropdown(options=options, value=value, description=name, style=NAMED["style"])


def button(name):
    """A button as wide as its name."""
    return W.Button(description=name, layout={"width": "auto"})
