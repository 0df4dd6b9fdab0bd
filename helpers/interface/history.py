"""Follow how controls are moved: one redraw for each change, undo and reset, what to do once they rest."""

import asyncio
import time
from contextlib import contextmanager


class Moves:
    """The history of some controls, which are anything with a `value`.

    controls: {name: control}. redraw: called with {name: value} after each change; its errors are passed on, and
    the change stays, so that undo leads back from it. Changes of one slider, or of another control in `dragged`, with
    less than `pause` seconds between them are a drag, and one move to undo.
    """

    def __init__(self, controls, redraw, pause=0.6, dragged=()):
        self.controls, self.redraw, self._past, self._held = controls, redraw, [], False
        self._undone = []
        self.dragged = {name for name in controls if getattr(controls[name], "continuous_update", False)} | set(dragged)
        self._first = self._now = self.values
        self._moving = None  # the name of the control that is being dragged
        self._rest = at_rest(lambda: setattr(self, "_moving", None), pause)

    @property
    def values(self):
        """The controls' values by name, without the rounding noise of a float slider."""
        return {name: plain(control.value) for name, control in self.controls.items()}

    def changed(self, *_, forget=False):
        """Redraw if a value is another than before; forget=True keeps the change out of undo."""
        values = self.values
        if self._held or values == self._now:
            return
        moved = [name for name in values if values[name] != self._now[name]]
        drag = moved[0] if moved[1:] == [] and moved[0] in self.dragged and not forget else None
        if not forget and (drag is None or drag != self._moving):
            self._past.append(self._now)
        if not forget:
            self._undone.clear()
        self._now, self._moving = values, drag
        self._rest()
        self.redraw(values)

    @contextmanager
    def held(self, forget=False):
        """Redraw once, at the end, however many values change inside."""
        self._held, before = True, self._held
        try:
            yield
        finally:
            self._held = before
        self.changed(forget=forget)

    def set(self, values, forget=False):
        """Set several controls: {name: value}."""
        with self.held(forget):
            for name, value in values.items():
                self.controls[name].value = value

    def undo(self, *_):
        """Take the latest change back; without one, do nothing."""
        if self._past:
            self._undone.append(self._now)
            self.set(self._past.pop(), forget=True)

    def redo(self, *_):
        """Do again what was undone last, unless something else was done since; without it, do nothing."""
        if self._undone:
            self._past.append(self._now)
            self.set(self._undone.pop(), forget=True)

    def reset(self, *_):
        """Go back to the first values; undo takes that back as well."""
        self._moving = None
        self.set(self._first)


def at_rest(action, seconds=1.0):
    """Return a function to call at each move; `action` follows when it was not called for so many seconds.

    Where no event loop runs, so outside a kernel, `action` follows at once.
    """
    timer = None

    def moved():
        nonlocal timer
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return action()
        if timer is not None:
            timer.cancel()
        timer = loop.call_later(seconds, action)

    return moved


def paced(action):
    """Return a function to call at each move; `action` follows so often that half of the time stays free for moves.

    Where no event loop runs, so outside a kernel, `action` follows at once.
    """
    timer, cost = None, 0.0

    def run():
        nonlocal timer, cost
        timer, began = None, time.perf_counter()
        try:
            action()
        finally:
            cost = time.perf_counter() - began

    def moved():
        nonlocal timer
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return run()
        if timer is None:
            timer = loop.call_later(cost, run)

    return moved


def plain(value):
    """Return a number without the rounding noise of a float slider, or any other value as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
