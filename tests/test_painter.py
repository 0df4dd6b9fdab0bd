"""The painter's view, without a kernel: what ipyevents would report of the mouse goes to `heard`."""

import asyncio
import errno
import html
import io
import pathlib
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import correct, dissection, domains, survey, units, widgets
from helpers.flow import Flow
from helpers.interface.painter import WATCHED
from helpers.interface.painting import OWN, TILE
from helpers.interface.strokes import covered
from helpers.interface.tile_rows import GAP
from helpers.networks import pggan
from helpers.weights import packages
from tests.networks import paintable, tiny_generator
from tests.rounding import close


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()))


@pytest.fixture(scope="module")
def z():
    return torch.randn(6, 9, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def given(flow, z):
    return paintable(flow, z)


@pytest.fixture
def view(flow, z, given, tmp_path):
    return widgets.painter(flow, z, **given, ids=range(500, 506), path=tmp_path / "a.safetensors", start={"units": 3})


def text(view, name="state"):
    return html.unescape(re.sub("<[^>]*>", "", view.controls[name].value))


def picture(view):
    return np.asarray(Image.open(io.BytesIO(view.controls["image"].value)))


def mouse(view, kind, pixel, tile=0, held=1):
    """The mouse at a pixel of the image, in one of the two tiles."""
    zoom = TILE // 16
    x, y = (zoom * at + zoom // 2 for at in pixel)
    view.heard(
        {"event": kind, "dataX": x + tile * (TILE + GAP), "dataY": len(picture(view)) - TILE + y, "buttons": held}
    )


def drag(view, *pixels, tile=0):
    mouse(view, "mousemove", pixels[0], tile, held=0)
    mouse(view, "mousedown", pixels[0], tile)
    for pixel in pixels[1:]:
        mouse(view, "mousemove", pixel, tile)
    mouse(view, "mouseup", pixels[-1], tile, held=0)


def handlers(button):
    """A button's handlers; its `click` would swallow their errors."""
    return button._click_handlers.callbacks


def press(view, name):
    for handler in handlers(view.controls[name]):
        handler(view.controls[name])


@pytest.mark.parametrize("tile", [0, 1])
def test_a_drag_is_one_stroke_and_the_picture_follows_it(view, flow, z, tile):
    plain = picture(view)
    assert text(view).startswith("id 500; 0 strokes")
    mouse(view, "mousedown", (2, 3), tile)
    first = picture(view)
    assert not np.array_equal(first, plain) and view.strokes.value == ()  # seen before the button is up
    mouse(view, "mousemove", (9, 3), tile)
    assert not np.array_equal(picture(view), first)
    mouse(view, "mousemove", (9, 3), tile)
    mouse(view, "mousemove", (9, 12), tile)
    during = picture(view)
    mouse(view, "mouseup", (9, 12), tile, held=0)
    ((row, stroke),) = view.strokes.value
    assert (row, stroke.points, stroke.size, stroke.chosen) == (0, ((2, 3), (9, 3), (9, 12)), 2, ((4, (2, 5, 8)),))
    assert np.array_equal(picture(view), during)
    assert f"{int(covered(stroke.points, 2, 16).sum())} pixels covered" in text(view, "numbers")
    close(view.shown, flow.generate(z[:1], view.edits))
    mouse(view, "mousemove", (1, 1), tile, held=0)  # only passing by
    assert len(view.strokes.value) == 1


def test_a_stroke_may_leave_its_tile_and_ends_with_the_button_or_the_picture(view):
    for end in ({"kind": "mouseleave"}, {"kind": "mousemove", "held": 0}):
        mouse(view, "mousedown", (14, 3))
        mouse(view, "mousemove", (18, 3))  # over the other tile
        mouse(view, pixel=(30, 3), **end)
        assert view.strokes.value[-1][1].points == ((14, 3), (18, 3))
        mouse(view, "mousemove", (3, 3))  # comes back with the button down, after the end
    assert len(view.strokes.value) == 2
    mouse(view, "mousedown", (3, -1))  # the caption
    mouse(view, "mouseup", (3, 3), held=0)
    mouse(view, "mousedown", (3, 3), held=2)  # the right button
    mouse(view, "mouseup", (3, 3), held=0)
    assert len(view.strokes.value) == 2


def test_undo_and_redo_restore_bit_for_bit(view):
    states = [(picture(view), view.shown.clone(), text(view))]
    for brush, points in (("draw", [(2, 3), (9, 9)]), ("remove", [(4, 4)]), ("mend here", [(12, 2), (2, 12)])):
        view.controls["how"].value = brush
        drag(view, *points)
        states.append((picture(view), view.shown.clone(), text(view)))
    for name, wanted in (
        ("undo", (2, 1, 0, 0)),
        ("redo", (1, 2, 3, 3)),
        ("undo", (2,)),
        ("clear", (0,)),
        ("undo", (2,)),
    ):
        for number in wanted:
            press(view, name)
            pixels, shown, said = states[number]
            assert np.array_equal(picture(view), pixels) and torch.equal(view.shown, shown)
            assert text(view).startswith(said.partition("; saved")[0].partition("; not")[0])
    press(view, "reset")
    assert torch.equal(view.shown, states[0][1])
    press(view, "undo")
    assert torch.equal(view.shown, states[2][1])


def test_each_image_keeps_its_strokes(view, flow, z):
    drag(view, (2, 3))
    painted = view.shown
    view.controls["id"].value = 503
    close(view.shown, flow.generate(z[3:4]))
    assert view.edits == {}
    drag(view, (5, 5))
    press(view, "clear")
    close(view.shown, flow.generate(z[3:4]))
    view.controls["index"].value = 0
    assert torch.equal(view.shown, painted) and len(view.strokes.value) == 1


def test_the_brush_by_the_keyboard_does_what_the_mouse_does(view):
    view.controls["x"].value, view.controls["y"].value = 6, 11
    press(view, "dab")
    dabbed = view.strokes.value
    press(view, "undo")
    drag(view, (6, 11))
    assert view.strokes.value == dabbed


def test_settings_are_those_of_the_next_stroke(view):
    controls = view.controls
    assert text(view, "brush") == "the next stroke: draw 3 units of layer 4 (door), brush 2 px, strength 1.00"
    controls["layer"].value = 2
    controls["units_box"].value = 12
    controls["strength"].value, controls["size"].value = 0.5, 5
    assert text(view, "brush") == "the next stroke: draw 12 units of layer 2 (door), brush 5 px, strength 0.50"
    controls["set"].value = "mine"
    assert controls["layer"].options == (4,) and (controls["units"].value, controls["units"].max) == (2, 2)
    assert controls["own"].disabled and not controls["layer"].disabled
    controls["set"].value = OWN
    assert not controls["own"].disabled and controls["layer"].disabled and controls["units_box"].disabled
    controls["own"].value = "2:3, 4:1"
    assert text(view, "brush").startswith("the next stroke: draw 2 units of layer 2, 4 (own units)")
    drag(view, (3, 3))
    assert view.strokes.value[0][1].chosen == ((2, (3,)), (4, (1,)))
    controls["how"].value = "mend here"
    assert controls["own"].disabled and controls["set"].disabled
    assert text(view, "brush") == "the next stroke: mend here, brush 5 px, strength 0.50"
    controls["how"].value, controls["set"].value = "remove", "door"
    assert controls["layer"].options == (2, 4) and not controls["layer"].disabled
    assert view.moves.values["strokes"] == view.strokes.value and len(view.strokes.value) == 1


def test_saving_and_loading_by_button(view, flow, z, given, tmp_path):
    drag(view, (2, 3), (9, 9))
    shown = view.shown
    assert text(view, "code") == "" and "; not saved" in text(view)
    press(view, "save")
    code = text(view, "code").removeprefix("code for this state: ")
    close(eval(code, {"flow": flow, "z": z, "correct": correct}), shown)
    assert f"saved in {tmp_path / 'a.safetensors'}" in text(view)
    press(view, "undo")
    assert text(view, "code") == "code for this state: flow.generate(z[0:1])"
    press(view, "load")
    assert torch.equal(view.shown, shown) and "the last: a.safetensors" in text(view)
    press(view, "undo")
    assert view.edits == {}
    fresh = widgets.painter(flow, z, **given, path=tmp_path / "a.safetensors")
    press(fresh, "load")
    assert torch.equal(fresh.shown, shown)


def test_errors_are_seen_raised_and_lose_nothing(view, tmp_path, monkeypatch):
    drag(view, (2, 3), (9, 9))
    kept, pixels = view.strokes.value, picture(view)
    controls = view.controls

    def refused(error, said, action, *arguments):
        with pytest.raises(error, match=said):
            action(view, *arguments)
        assert re.search(said, text(view, "error")) and 'role="alert"' in controls["error"].value
        assert view.strokes.value == kept and np.array_equal(picture(view), pixels)

    controls["set"].value = OWN
    refused(ValueError, "no unit is chosen", drag, (3, 3))
    refused(ValueError, "no unit is chosen", press, "dab")
    with pytest.raises(ValueError, match="written layer:unit"):
        controls["own"].value = "seven"
    refused(ValueError, "written layer:unit", drag, (3, 3))
    with pytest.raises(ValueError, match="there is no image 7 here"):
        controls["id"].value = 7
    controls["own"].value = "5:1"  # a layer without values
    refused(ValueError, "to draw needs values of layer 5", drag, (3, 3))
    controls["set"].value = "door"
    assert text(view, "error") == ""
    controls["path"].value = str(tmp_path / "none.safetensors")
    refused(FileNotFoundError, "there is no file of edits", press, "load")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    refused(OSError, "No space left on device", press, "save")
    assert not (tmp_path / "none.safetensors").exists()
    monkeypatch.undo()
    press(view, "save")
    assert text(view, "error") == "" and (tmp_path / "none.safetensors").exists()


def test_an_error_stays_until_something_is_done(view):
    view.controls["set"].value = OWN

    async def by_the_loop():  # as in a kernel: the preview is due only when the stroke has ended
        mouse(view, "mousedown", (3, 3))
        mouse(view, "mousemove", (4, 4))
        with pytest.raises(ValueError, match="no unit is chosen"):
            mouse(view, "mouseup", (4, 4), held=0)
        await asyncio.sleep(0.3)
        mouse(view, "mousemove", (5, 5), held=0)

    asyncio.run(by_the_loop())
    assert "no unit is chosen" in text(view, "error") and view.strokes.value == ()
    with pytest.raises(ValueError, match="no unit is chosen"):
        mouse(view, "mousedown", (3, 3))
    mouse(view, "mousemove", (4, 4))
    mouse(view, "mouseup", (4, 4), held=0)
    assert "no unit is chosen" in text(view, "error") and view.strokes.value == ()
    view.controls["own"].value = "2:1"
    assert text(view, "error") == ""


def test_first_values(flow, z, given):
    view = widgets.painter(flow, z, **given)
    controls = view.controls
    settled = [controls[name].value for name in ("how", "set", "layer", "units", "size", "strength")]
    assert settled == ["draw", "door", 4, 10, 2, 1.0]  # 20 units, of 10
    start = {"how": "remove", "set": "door", "layer": 2, "units": 5, "size": 4, "strength": 0.5, "index": 3}
    view = widgets.painter(flow, z, **given, start=start)
    assert {name: view.controls[name].value for name in start} == start
    view = widgets.painter(flow, z, differences=given["differences"], start={"how": "mend here"})
    drag(view, (5, 5))
    assert list(view.edits) == [1]
    for wrong, said in (
        ({"set": "dragon"}, "no units called 'dragon', there are: door, mine, own units"),
        ({"layer": 9}, "'door' has no units of layer 9: choose one of layers 2, 4"),
        ({"how": "paint"}, "no brush 'paint' here, there are: draw, remove, mend here"),
        ({"colour": "red"}, "start knows index, how, set"),
    ):
        with pytest.raises(ValueError, match=said):
            widgets.painter(flow, z, **given, start=wrong)
    with pytest.raises(ValueError, match="nothing to paint by"):
        widgets.painter(flow, z)


def test_the_mouse_is_listened_to_or_its_lack_is_said(view, flow, z, given, monkeypatch):
    event = view._event
    assert event.source is view.controls["image"] and event.watched_events == WATCHED and event.prevent_default_action
    (handler,) = event._dom_handlers.callbacks
    handler({"event": "mousedown", "dataX": 100, "dataY": 100, "buttons": 1})
    handler({"event": "mouseup", "dataX": 100, "dataY": 100, "buttons": 0})
    assert len(view.strokes.value) == 1
    monkeypatch.setitem(sys.modules, "ipyevents", None)
    without = widgets.painter(flow, z, **given)
    assert "needs ipyevents (pip install ipyevents, then reload the page): use x, y and dab" in text(without, "brush")
    press(without, "dab")
    assert len(without.strokes.value) == 1


def test_the_faces_are_painted_by_unit_sets_and_mended_but_have_no_concepts(tmp_path):
    lacking = packages.lacking()
    if lacking:
        pytest.skip(lacking)
    domain = domains.load("faces")
    flow, z = domain.flow, domain.latents(range(8))
    values = survey.thresholds(flow, z, tau=0.01, layers=[2, 3])
    with pytest.raises(ValueError, match="no segmentation head, so there are no concepts here: choose units by other"):
        dissection.segmenter(domain.evaluation)
    view = widgets.painter(flow, z, {name: {} for name in domain.classes}, values)
    assert view.controls["set"].value == OWN and "no concepts or other sets" in text(view, "brush")
    differences = units.differences(flow, z[:4], z[4:], [1])
    view = widgets.painter(flow, z, {"random": units.random_scores(flow, 0, [2, 3])}, values, differences)
    view.controls["x"].value, view.controls["y"].value = 20, 30
    press(view, "dab")
    view.controls["how"].value = "mend here"
    press(view, "dab")
    assert list(view.edits) == [1, 2] and not torch.equal(view.shown, flow.generate(z[:1]))
    close(view.shown, flow.generate(z[:1], view.edits))
