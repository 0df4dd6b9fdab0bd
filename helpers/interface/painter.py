"""Let a person paint on an image with units: ipywidgets around `painting`, and the mouse by ipyevents."""

import ipywidgets as W
import traitlets

from helpers.interface.history import paced
from helpers.interface.painting import OWN, Painting
from helpers.interface.previews import started
from helpers.interface.strokes import MEND
from helpers.interface.views import NAMED, View, button, chooser, limit, menu, pair

WATCHED = ["mousedown", "mousemove", "mouseup", "mouseleave"]
EVERY = 30  # milliseconds between two moves of the mouse that the browser reports
MISSING = "; without the mouse, which needs ipyevents (pip install ipyevents, then reload the page): use x, y and dab"
NO_SETS = "; no concepts or other sets of units were given: write units down as layer:unit"
SETTINGS = ("how", "set", "layer", "units", "own", "size", "strength")


class Strokes(traitlets.HasTraits):
    """What was painted, as a control that can be undone: ((row of the image, stroke), ...)."""

    value = traitlets.Tuple()


def painter(
    flow, z, sets=None, values=None, differences=None, *, captions=None, ids=None, path="painted.safetensors",
    start=None, names=None,
):  # fmt: skip
    """Paint on images with units: draw or remove what a set of units makes, or mend what is broken, under a brush.

    z: latents (N, D). sets: {name: {layer: scores (U,) or [unit, ...]}}, such as {"tree": dissection.scores(agreement,
    "tree")}; the n highest of one layer are painted with, or units that the person writes down. values: {layer: (U,)},
    what "draw" brings units to: survey.thresholds(flow, z, tau=0.01), their 0.99 quantiles; "remove" brings them to 0.
    differences, of `units.differences`, offer "mend here", the shift of all their layers under the brush. captions and
    ids: a text and a number per image. path: where the edits of the image at hand are saved, for `correct.read_edits`.
    start: first values of index, how, set, layer, units, own, size and strength. names: of flow and z.
    The view's `edits` are those of the image at hand. A stroke costs only the layers behind the one it edits.
    Raises ValueError for sets without units or of others, other numbers of captions or ids, and nothing to paint by.
    Source: Bau et al. 2019, GANPaint. See notebook 10.
    """
    return PainterView(Painting(flow, z, sets, values, differences, captions, ids, names), path, start)


class PainterView(View):
    """The view of `painter`: `painting` is what it computes with, `edits` what is painted on the image at hand."""

    edits = property(lambda self: self.painting.edits([item for row, item in self.strokes.value if row == self.index]))
    index = property(lambda self: self.controls["index"].value)

    def __init__(self, painting, path, start=None):
        self.painting, self.strokes, self._points, self._tile = painting, Strokes(), [], 0
        first, side = _first(painting, start), painting.side
        choice, row = chooser(len(painting.z), first["index"], painting.ids)
        boxes, held = {}, {"how": menu("brush", painting.ways, first["how"])}
        held["set"] = menu("units of", [*painting.sets, OWN], first["set"])
        held["layer"] = W.Dropdown(
            options=self._layers(first["set"]), value=first["layer"], description="layer", **NAMED
        )
        held["own"] = W.Text(first["own"], description=OWN, placeholder="6:12, 4:3", continuous_update=False)
        held["own"].style.description_width = "90px"
        spans = {
            "units": (1, max(painting.most, 1), 1),
            "size": (1, max(side // 2, 1), 1),
            "strength": (0.0, 1.0, 0.05),
        }
        for name, limits in spans.items():
            held[name], boxes[f"{name}_box"] = pair(name, *limits, first[name])
        spot = {name: W.BoundedIntText(side // 2, min=0, max=side - 1, description=name, **NAMED) for name in "xy"}
        target = W.Text(str(path), description="file", style=NAMED["style"], layout={"width": "480px"})
        pressed = {name: button(name) for name in ("dab", "clear", "redo", "save", "load")}
        rows = [row, [held[name] for name in ("how", "set", "layer", "own")]]
        rows += [[boxes[f"{name}_box"], held[name]] for name in spans]
        rows += [[*spot.values(), *(pressed[name] for name in ("dab", "clear", "redo"))]]
        rows += [[target, pressed["save"], pressed["load"]]]
        more = choice | held | boxes | spot | pressed | {"path": target}
        inputs, ids = {"index": choice["index"], "strokes": self.strokes}, painting.ids
        by_id = ids and ("index", ids, range(len(ids)))
        super().__init__(rows, inputs, painting.draw, more, ("state", "brush", "numbers", "code"), by_id)
        self._preview, self._event = paced(self._follow_brush), _mouse(self)
        for name in ("how", "set", "layer"):
            held[name].observe(self._settle, "value")
        for name in SETTINGS:
            held[name].observe(self.guarded(self._say), "value")
        for name, action in (("dab", self._dab), ("clear", self._clear), ("save", self._save), ("load", self._load)):
            pressed[name].on_click(self.guarded(action))
        pressed["redo"].on_click(self.moves.redo)
        self._settle()
        self._say()

    def put(self, picture, lines, shown=None):
        """See `Frame`; the picture's height is what the mouse's place is measured by."""
        self._height = len(picture)
        super().put(picture, lines, shown)

    def heard(self, event):
        """Take what ipyevents reports of the mouse over the picture: a stroke begins, goes on, or ends."""
        held, place = event.get("buttons", 0) & 1, (event["dataX"], event["dataY"], self._height)
        if event["event"] == "mousedown" and held:
            found = self.painting.spot(*place)
            if found and self.painting.inside(found[1]):
                self._tile, self._points = found[0], [found[1]]
                self._preview()
        elif self._points and event["event"] == "mousemove" and held:
            _, at = self.painting.spot(*place, self._tile)
            if at != self._points[-1]:
                self._points.append(at)
                self._preview()
        elif self._points:  # the button is up, or the mouse has left the picture
            done, self._points = self._points, []
            self.guarded(self._add)(done)

    def _stroke(self, points):
        return self.painting.stroke(*(self.controls[name].value for name in SETTINGS), points)

    def _add(self, points):
        stroke = self._stroke(points)
        self.painting.edits([stroke])  # refused before anything is kept
        self.strokes.value = (*self.strokes.value, (self.index, stroke))

    def _follow_brush(self):
        if self._points:  # else the stroke has ended; guarded, that would take its error away
            self.guarded(self._draw_partial)()

    def _draw_partial(self):
        """Draw the stroke that the mouse is at, before it is kept."""
        points, self._points = self._points, []  # an error ends it
        partial = (self.index, self._stroke(points))
        self.put(*self.painting.draw(self.index, (*self.strokes.value, partial)))
        self._points = points

    def _dab(self, _):
        self._add([(self.controls["x"].value, self.controls["y"].value)])

    def _clear(self, _):
        self.strokes.value = self._others

    def _save(self, _):
        self.painting.save(self.controls["path"].value, self.index, self.strokes.value)
        self.put(*self.painting.draw(self.index, self.strokes.value))

    def _load(self, _):
        found = self.painting.load(self.controls["path"].value, self.index)
        self.strokes.value = (*self._others, (self.index, found))

    @property
    def _others(self):
        return tuple(each for each in self.strokes.value if each[0] != self.index)

    def _layers(self, name):
        return sorted(self.painting.sets.get(name, ()))

    def _settle(self, *_):
        """Offer the layers of the set, and as many units as it has there; what the brush does not read is disabled."""
        controls, known = self.controls, self._layers(self.controls["set"].value)
        layer, mends = controls["layer"], controls["how"].value == MEND
        if list(layer.options) != known:
            kept = layer.value or 4
            layer.options = known
            layer.value = min(known, key=lambda k: abs(k - kept), default=None)
        if known:
            most = len(self.painting.units(controls["set"].value, layer.value))
            limit((controls["units"], controls["units_box"]), 1, most)
        controls["set"].disabled, controls["own"].disabled = mends, mends or bool(known)
        for name in ("layer", "units", "units_box"):
            controls[name].disabled = mends or not known

    def _say(self, *_):
        lacking = "" if self.painting.sets else NO_SETS
        missing = "" if self._event else MISSING
        self.controls["brush"].value = f"the next stroke: {self._stroke(())}{lacking}{missing}"


def _first(painting, start):
    """Return the first values; ValueError for a set, layer or way that is not there."""
    first = {"index": 0, "how": painting.ways[0], "set": next(iter(painting.sets), OWN), "layer": None, "units": 20}
    first = started(start, **first, own="", size=max(1, painting.side // 8), strength=1.0)
    if first["how"] not in painting.ways:
        raise ValueError(f"there is no brush {first['how']!r} here, there are: {', '.join(painting.ways)}")
    if first["set"] != OWN:
        layers = painting.sets.get(first["set"], {})
        if first["layer"] is None and layers:
            first["layer"] = 4 if 4 in layers else min(layers)  # as the authors
        painting.units(first["set"], first["layer"])
    return first


def _mouse(view):
    """Report the mouse over a view's picture to its `heard`; None where ipyevents is missing."""
    try:
        from ipyevents import Event
    except ImportError:
        return None
    image, event = view.controls["image"], {"wait": EVERY, "throttle_or_debounce": "throttle"}
    event = Event(source=image, watched_events=WATCHED, prevent_default_action=True, **event)
    event.on_dom_event(view.heard)
    return event
