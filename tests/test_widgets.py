"""The views, without a kernel: setting a control's value is what a person's move does."""

import html
import io
import re

import ipywidgets as W
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import correct, labels, survey, units, widgets
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan

METHODS = ["none", "DS", "FD", "sequential", "local"]


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(0)
    return Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)))


@pytest.fixture(scope="module")
def z():
    return latents(range(8), 9)


@pytest.fixture(scope="module")
def images(flow, z):
    return flow.generate(z).clamp(-1, 1)


@pytest.fixture(scope="module")
def scores(flow):
    return {"DS": units.random_scores(flow, 1), "FD": units.random_scores(flow, 2)}


@pytest.fixture
def corrector(flow, z, scores):
    masks = torch.zeros(8, 16, 16, dtype=torch.bool)
    masks[:, 4:9, 4:9] = True

    def realism(images):
        if torch.equal(images, flow.generate(z[5:6]).clamp(-1, 1)):
            raise ArithmeticError("image 5 is <forbidden>")
        return images.mean(dim=(1, 2, 3))

    return widgets.corrector(
        flow, z, scores, masks, [f"id {i}" for i in range(8)], realism, lambda images: images.std(dim=(1, 2, 3))
    )


def text(view, name="state"):
    return html.unescape(re.sub("<[^>]*>", "", view.controls[name].value))


def picture(view):
    return np.asarray(Image.open(io.BytesIO(view.controls["image"].value)))


def handlers(button):
    """A button's handlers; its `click` would swallow their errors."""
    return button._click_handlers.callbacks


def test_picture_and_lines_follow_the_controls(corrector, flow, z, scores):
    controls = corrector.controls
    assert isinstance(corrector, W.VBox) and isinstance(controls["image"], W.Image)
    assert text(corrector) == "image 0: id 0; sequential, stop layer 6, portion 20 %, scale 0.90: 10 units"
    seen = {controls["image"].value}
    for name, value, said in (
        ("portion", 0.5, "portion 50 %"),
        ("layer", 4, "stop layer 4"),
        ("scale", 0.25, "scale 0.25"),
        ("method", "local", "local, stop layer 4, portion 50 %: 22 units"),
        ("method", "FD", "top FD units of one layer to zero, layer 4, portion 50 %: 5 units"),
        ("index", 2, "image 2: id 2; top FD"),
        ("method", "none", "no correction: 0 units"),
    ):
        before = controls["image"].value
        controls[name].value = value
        assert controls["image"].value != before and said in text(corrector)
        seen.add(controls["image"].value)
        code = text(corrector, "code").removeprefix("code for this state: ")
        after = eval(code, {"flow": flow, "z": z, "scores": scores, "correct": correct, "units": units} | _masks())
        drawn = picture(corrector)[20 : 20 + 192, 200:392].astype(int)  # the second tile
        wanted = ((after.clamp(-1, 1)[0].permute(1, 2, 0) + 1) * 127.5).round().int().numpy()
        assert np.abs(drawn[6::12, 6::12] - wanted).max() <= 1
    assert len(seen) == 8
    assert "realism " in text(corrector, "numbers") and "D-value " in text(corrector, "numbers")


def _masks():
    masks = torch.zeros(8, 16, 16, dtype=torch.bool)
    masks[:, 4:9, 4:9] = True
    return {"masks": masks}


def test_sliders_and_number_boxes_are_one(corrector):
    controls = corrector.controls
    controls["portion_box"].value = 0.35
    assert controls["portion"].value == 0.35 and "portion 35 %" in text(corrector)
    controls["layer"].value = 2
    assert controls["layer_box"].value == 2
    for name in ("layer", "portion", "scale"):
        assert controls[name].continuous_update is False and controls[f"{name}_box"].description


def test_what_a_method_does_not_use_cannot_be_moved(corrector):
    controls, off = corrector.controls, {}
    for method in METHODS:
        controls["method"].value = method
        off[method] = [name for name in ("layer", "portion", "scale") if controls[name].disabled]
        assert controls["layer_box"].description == ("layer" if method in ("DS", "FD") else "stop layer")
    assert off == {
        **{"none": ["layer", "portion", "scale"], "DS": ["scale"], "FD": ["scale"], "local": ["scale"]},
        "sequential": [],
    }
    assert [value for _, value in controls["method"].options] == METHODS


def test_a_move_costs_only_the_layers_it_changes(corrector):
    assert "; computed layers 2 to 7 in " in text(corrector, "numbers")  # layer 1 was known: the original needs it
    for layer, cost in ((4, "layers 6 to 7"), (5, "layer 7"), (4, "no layer"), (6, "no layer")):
        corrector.controls["layer"].value = layer
        assert f"; computed {cost} in " in text(corrector, "numbers")


def test_undo_reset_and_choosing_images(corrector):
    controls = corrector.controls
    first, start = controls["image"].value, text(corrector)
    controls["next"].click()
    controls["next"].click()
    controls["previous"].click()
    assert controls["index"].value == 1 and text(corrector).startswith("image 1: id 1; ")
    controls["portion"].value = 0.4
    controls["undo"].click()
    assert controls["portion"].value == 0.2 and text(corrector).startswith("image 1: id 1; ")
    controls["reset"].click()
    assert text(corrector) == start and controls["image"].value == first
    controls["previous"].click()  # there is none before the first
    assert controls["index"].value == 0
    controls["undo"].click()
    assert text(corrector).startswith("image 1: id 1; ")


def test_errors_are_shown_and_raised_and_go_away(corrector):
    controls = corrector.controls
    before = controls["image"].value, text(corrector)
    assert controls["error"].value == ""
    with pytest.raises(ArithmeticError, match="forbidden"):
        controls["index"].value = 5
    assert "image 5 is &lt;forbidden&gt;" in controls["error"].value and 'role="alert"' in controls["error"].value
    assert (controls["image"].value, text(corrector)) == before
    controls["index"].value = 4
    assert controls["error"].value == "" and text(corrector).startswith("image 4")


def test_a_corrector_starts_where_it_is_told(flow, z, scores):
    view = widgets.corrector(flow, z, scores, start={"index": 3, "method": "DS", "layer": 2, "portion": 0.25})
    assert text(view) == "image 3; top DS units of one layer to zero, layer 2, portion 25 %: 3 units"
    assert "local" not in dict(view.controls["method"].options).values() and "realism" not in text(view, "numbers")
    few = widgets.corrector(flow, z, {"DS": {1: torch.rand(12), 2: torch.rand(12)}})
    assert few.controls["layer"].max == 2 and "stop layer 2" in text(few)
    with pytest.raises(ValueError, match="start knows index, method, layer, portion, scale, got stop_layer"):
        widgets.corrector(flow, z, scores, start={"stop_layer": 3})
    with pytest.raises(ValueError, match="scores must be"):
        widgets.corrector(flow, z, scores["DS"])


def test_labeller_writes_what_was_pressed(images, tmp_path):
    path = tmp_path / "labels.csv"
    view = widgets.labeller(images, [7, 1, 4, 2, 9, 3, 8, 5], path, "ann")
    controls = view.controls
    assert text(view).startswith("image 7, 1 of 8, no label yet; 0 of 8 labelled (normal 0, outline 0")
    first = controls["image"].value
    controls["stain"].click()
    assert labels.read(path).rows == [{"id": 7, "label": "artifact", "type": "stain", "rater": "ann"}]
    assert controls["image"].value != first and text(view).startswith("image 1, 2 of 8")
    for letter in "nnko":
        controls["key"].value = letter
        assert controls["key"].value == ""
    assert labels.read(path).ids == [7, 1, 4, 9] and labels.read(path).types == ["stain", "", "", "outline"]
    controls["undo"].click()
    controls["key"].value = "u"
    assert labels.read(path).ids == [7, 1] and text(view).startswith("image 4, 3 of 8, no label yet; 2 of 8")
    controls["back"].click()
    controls["back"].click()
    assert text(view).startswith("image 7, 1 of 8, stain") and controls["image"].value == first
    controls["other"].click()
    controls["skip"].click()
    again = widgets.labeller(lambda ids: images[: len(ids)], [7, 1, 4], path, "ann")
    assert text(again).startswith("image 4, 3 of 3, no label yet; 2 of 3 labelled (normal 1, outline 0")
    again.controls["normal"].click()
    assert text(again).startswith("finished: 3 of 3 labelled") and again.session.current is None
    again.controls["export_path"].value = str(tmp_path / "out.csv")
    again.controls["export"].click()
    assert "3 labels are in" in text(again) and labels.read(tmp_path / "out.csv").rows == labels.read(path).rows


def test_labeller_shows_its_errors(images, tmp_path):
    view = widgets.labeller(images, range(8), tmp_path / "labels.csv", "ann")
    with pytest.raises(ValueError, match="means nothing here"):
        view.controls["key"].value = "nq"
    assert "the letter 'q' means nothing here" in text(view, "error") and text(view).startswith("image 1, 2 of 8")
    view.controls["key"].value = "n"
    assert text(view, "error") == "" and len(labels.read(tmp_path / "labels.csv")) == 2
    (undo,) = handlers(view.controls["undo"])
    undo(None)
    undo(None)
    with pytest.raises(ValueError, match="nothing to undo"):
        undo(None)
    assert "nothing to undo" in text(view, "error")
    (export,) = handlers(view.controls["export"])
    with pytest.raises(ValueError, match="no label to export"):
        export(None)


def test_mask_explorer(images):
    cams = {"plain": torch.rand(8, 16, 16), "squared": torch.rand(8, 16, 16).square()}
    view = widgets.mask_explorer(images, cams, [f"id {i}" for i in range(8)], start={"level": 0.3})
    controls = view.controls
    for name, value in (("level", 0.8), ("source", "squared"), ("index", 6)):
        before = controls["image"].value
        controls[name].value = value
        assert controls["image"].value != before
    area = (cams["squared"][6] >= 0.8).float().mean()
    assert f"image 6: id 6; squared from level 0.80 up: mask {area:.1%}" in text(view)
    assert 'gradcam.binary_mask(cams["squared"][6:7], level=0.8)' in text(view, "code")
    controls["reset"].click()
    assert "plain from level 0.30" in text(view)
    single = widgets.mask_explorer(images, cams["plain"])
    assert "gradcam.binary_mask(cams[0:1], level=0.5)" in text(single, "code")


@pytest.fixture
def browser(flow, z, scores, monkeypatch):
    drawn = []
    prepare = widgets.previews.unit

    def counted(*arguments):
        draw = prepare(*arguments)
        return lambda **values: drawn.append(values) or draw(**values)

    monkeypatch.setattr(widgets.previews, "unit", counted)
    view = widgets.unit_browser(flow, z, scores["DS"], survey.top_images(flow, z, k=4), start={"layer": 2})
    view.drawn = drawn
    return view


def test_unit_browser_finds_units_by_rank_and_by_number(browser, scores):
    controls, order = browser.controls, units.rank(scores["DS"])
    assert (controls["unit"].value, controls["rank"].value) == (int(order[2][0]), 1)
    controls["rank"].value = 3
    assert controls["unit"].value == int(order[2][2]) and "rank 3 of 12" in text(browser)
    controls["unit"].value = int(order[2][11])
    assert controls["rank_box"].value == 12 and "rank 12 of 12" in text(browser)
    assert len(browser.drawn) == 3  # one picture a move
    for layer in (6, 1, 5):
        controls["layer"].value = layer
        assert (controls["unit"].value, controls["rank"].value) == (int(order[layer][0]), 1)
        assert controls["rank"].max == len(order[layer]) == controls["unit"].max + 1
        assert text(browser).startswith(f"layer {layer}, unit {order[layer][0]}: score 0.")
    assert len(browser.drawn) == 6
    controls["undo"].click()
    controls["undo"].click()
    controls["undo"].click()
    assert (controls["layer"].value, controls["unit"].value) == (2, int(order[2][11]))
    assert len(browser.drawn) == 9 and text(browser).startswith(f"layer 2, unit {order[2][11]}: ")


def test_unit_browser_selects(browser, scores):
    controls, top = browser.controls, int(units.rank(scores["DS"])[2][0])
    assert browser.selection == {} and "selected: none; mean change without them 0.000" in text(browser)
    before = controls["image"].value
    controls["select"].click()
    assert browser.selection == {2: [top]} and controls["image"].value != before
    controls["selected"].value = controls["selected"].value + " 5:3 5:1"
    assert browser.selection == {2: [top], 5: [3, 1]}
    assert f"**correct.ablate(2, [{top}]), **correct.ablate(5, [3, 1])" in text(browser, "code")
    controls["select"].click()  # once more drops it
    assert browser.selection == {5: [3, 1]}
    controls["undo"].click()
    controls["undo"].click()
    assert browser.selection == {2: [top]}
    controls["reset"].click()
    assert browser.selection == {} and controls["image"].value == before
    for wrong, said in (
        ("x", "are written layer:unit"),
        ("5:99", "there is no unit 99"),
        ("9:1", "there is no layer 9"),
    ):
        with pytest.raises(ValueError, match=said):
            controls["selected"].value = wrong
        assert said in text(browser, "error")
        controls["undo"].click()
        assert text(browser, "error") == ""


def test_axis_browser(images):
    values = torch.linspace(-2, 2, 8)
    view = widgets.axis_browser(values, images, ["normal", "artifact"] * 4, shown=3)
    controls = view.controls
    assert (controls["value"].min, controls["value"].max) == (-2, 2)
    before = controls["image"].value
    controls["value_box"].value = 1.9
    assert controls["value"].value == 1.9 and controls["image"].value != before
    assert text(view) == "D-value 1.90: the 3 nearest of 8 images, 0.86 to 2.00; artifact 2; normal 1"
    controls["undo"].click()
    assert controls["image"].value == before
