"""Read the code that the views in a notebook's kernel print, run it there, and compare it with what they show.

`ask(client, "from tests import view_probe; print(view_probe.report(globals()))")` gives it as JSON.
"""

import copy
import gc
import html
import json
import re
import tempfile
from pathlib import Path

import ipywidgets as W
import torch

from helpers.interface.views import Frame, View


def report(namespace):
    """Move every view about -> JSON: for each of them a list of [printed code, what is wrong with it or ""]."""
    frames = [one for one in gc.get_objects() if issubclass(type(one), Frame)]  # isinstance would ask proxies
    return json.dumps([list((lines if isinstance(one, View) else answers)(one, dict(namespace))) for one in frames])


def lines(view, namespace):
    """Yield the code and its fault for each state of a view."""
    for _ in states(view):
        code = html.unescape(re.sub("^[^<]*<code>|</code>$", "", view.controls["code"].value))
        yield code, fault(code, namespace, view.shown)


def answers(view, namespace):
    """Yield the code and its fault for a person's answers, given to a copy of the session that saves elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        trial, compared = copy.deepcopy(view.session), hasattr(view.session, "pairs")
        trial.path, trial.current = Path(folder) / "it's a trial.csv", (trial.pairs if compared else trial.ids)[0]
        (trial.voted if compared else trial.labelled).clear()
        for action in ("left normal", "right normal", "same") if compared else ("normal",):
            trial.do(action)
        yield trial.code, fault(trial.code, namespace)


def fault(code, namespace, shown=None):
    """Say what is wrong with a line of code: its error, or that it gives something else than is shown (if given)."""
    try:
        found = eval(code, namespace)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if shown is None:
        return ""
    try:  # computed in other steps and batches
        torch.testing.assert_close(found, shown, rtol=0, atol=1e-4 * float(shown.float().abs().max()))
    except AssertionError as error:
        return str(error).splitlines()[0]
    return ""


def states(view):
    """Move the inputs of a view about, and stop at each state: every choice of a menu, every slider and box once."""
    yield
    inputs = list(view.moves.controls.values())
    choices = [(menu, option) for menu in inputs if isinstance(menu, W.Dropdown) for _, option in pairs(menu)]
    for menu, option in choices or [(None, None)]:
        if menu is not None:
            menu.value = option
            view.now()
            yield
        for one in inputs:
            if hasattr(one, "max") and not one.disabled:
                far = one.min + (one.max - one.min) * (0.7 if one.value < (one.min + one.max) / 2 else 0.3)
                one.value = type(one.value)(far)
                view.now()
                yield
    if "dab" in view.controls:
        with tempfile.TemporaryDirectory() as folder:
            view.controls["path"].value = f"{folder}/it's painted.safetensors"
            for name in ("dab", "save"):
                view.controls[name].click()
            view.now()
            yield
        view.moves.undo()  # what it reads is gone
    if "select" in view.controls:
        view.controls["select"].click()
        view.now()
        yield


def pairs(menu):
    """The options of a menu as (name, value)."""
    return [option if isinstance(option, tuple) else (option, option) for option in menu.options]
