"""The views, without a kernel: setting a control's value is what a person's move does."""

import asyncio
import html
import io
import re

import ipywidgets as W
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import correct, gradcam, labels, survey, units, widgets
from helpers.corrections.amounts import Direction
from helpers.flow import Flow
from helpers.interface import views
from helpers.latents import latents
from helpers.networks import pggan

METHODS = ["none", "DS", "FD", "sequential", "local"]
SHIFTING = ["shift", "local shift", "latent direction"]


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


def run(view, given):
    """What the view's code evaluates to, compared with what it says that it shows."""
    code = text(view, "code").removeprefix("code for this state: ")
    found = eval(code, {"correct": correct, "units": units, "gradcam": gradcam} | given)
    torch.testing.assert_close(view.shown, found, rtol=0, atol=1e-4 * float(found.float().abs().max()))
    return found


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
        after = run(corrector, {"flow": flow, "z": z, "scores": scores} | _masks())
        drawn = picture(corrector)[-192:, 200:392].astype(int)  # the second tile
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
    controls["scale"].value = 0.1 + 0.2
    assert controls["scale_box"].value == 0.3  # not 0.30000000000000004
    for name in ("layer", "portion", "scale"):
        assert controls[name].continuous_update and controls[f"{name}_box"].description


def drawn(view):
    """Count a view's drawings from now on."""
    counted, put = [], view.put
    view.put = lambda *given: (counted.append(1), put(*given))
    return counted


def test_a_quick_picture_follows_a_drag_and_a_slow_one_its_end(corrector, monkeypatch):
    controls, count = corrector.controls, drawn(corrector)
    clock = iter(range(1000))  # each look at the clock is a second after the one before

    async def drag(values):
        for value in values:
            controls["portion"].value = value
            await asyncio.sleep(0)
            assert controls["portion_box"].value == value  # the box follows in any case
        return len(count)

    async def drag_and_rest(values):
        before = await drag(values)
        await asyncio.sleep(1)
        return before

    monkeypatch.setattr(views, "QUICK", 1e9)
    assert asyncio.run(drag_and_rest((0.3, 0.35, 0.4))) == 3 == len(count)
    monkeypatch.setattr(views, "QUICK", 0.5)
    monkeypatch.setattr(views.time, "perf_counter", lambda: float(next(clock)))
    assert asyncio.run(drag_and_rest((0.45, 0.5, 0.55, 0.6))) == 4  # the first one shows that it is slow
    assert len(count) == 5 and "portion 60 %" in text(corrector)
    controls["undo"].click()
    assert "portion 45 %" not in text(corrector) and "portion 40 %" in text(corrector)  # a drag is one move
    controls["portion"].value = 0.7
    assert "portion 70 %" in text(corrector)  # where no loop runs, there is nothing to wait for


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
    with pytest.raises(ValueError, match="start knows index, method, layer, portion, scale, amount, got stop_layer"):
        widgets.corrector(flow, z, scores, start={"stop_layer": 3})
    with pytest.raises(ValueError, match="scores must be"):
        widgets.corrector(flow, z, scores["DS"])


def test_images_are_called_by_id(flow, z, scores, images):
    ids = [40, 7, 900, 3, 11, 12, 13, 14]
    view = widgets.corrector(flow, z, scores, captions=["artifact"] * 8, ids=ids, start={"index": 2})
    masks = widgets.mask_explorer(images, torch.rand(8, 16, 16), ids=ids, start={"index": 2})
    for one in (view, masks):
        controls = one.controls
        assert controls["id"].value == 900 and text(one).startswith("id 900")
        controls["id"].value = 7
        assert controls["index"].value == 1 and text(one).startswith("id 7")
        controls["next"].click()
        controls["next"].click()
        assert controls["id"].value == 3
        with pytest.raises(ValueError, match="no image 5 here, the ids are 40, 7, 900, 3, 11, ...: enter one of them"):
            controls["id"].value = 5
        assert "no image 5 here" in text(one, "error") and controls["id"].value == 3 and text(one).startswith("id 3")
        controls["undo"].click()
        assert controls["id"].value == 900 and text(one, "error") == ""
    assert text(view).startswith("id 900: artifact; ")
    with pytest.raises(ValueError, match="got 8 ids, 1 of them different"):
        widgets.corrector(flow, z, scores, ids=[1] * 8)


@pytest.fixture
def shifter(flow, z, scores):
    differences = units.differences(flow, latents(range(20, 30), 9), latents(range(40, 60), 9), [2, 4])
    direction = Direction(torch.nn.functional.normalize(torch.arange(9.0), dim=0))
    seen = []

    def judge(images):
        seen.append(len(images))
        return torch.full((len(images),), 3.5 - len(seen))  # below 0 from the fourth time on

    given = {"differences": differences, "direction": direction, "judge": judge}
    view = widgets.corrector(flow, z, scores, _masks()["masks"], **given, start={"method": "shift", "amount": 0.5})
    view.seen, view.given = seen, given | {"flow": flow, "z": z, "scores": scores} | _masks()
    return view


def test_a_corrector_shifts(shifter):
    controls = shifter.controls
    assert [value for _, value in controls["method"].options] == METHODS[:3] + ["sequential", "local"] + SHIFTING
    assert (controls["amount"].min, controls["amount"].max, controls["layer"].value) == (-1, 3, 4)  # the nearest to 6
    assert (controls["layer"].min, controls["layer"].max) == (2, 4)
    assert text(shifter).startswith("image 0; shift, layer 4, portion 20 %, amount 0.50: 128 of 640 units and places")
    seen = {controls["image"].value}
    for name, value, said in (
        ("amount", -1.0, "amount -1.00"),
        ("amount", 3.0, "amount 3.00"),
        ("portion", 1.0, "portion 100 %"),
        ("layer", 2, "shift, layer 2, "),
        ("method", "local shift", "local shift, layer 2"),
        ("method", "latent direction", "latent direction, amount 3.00: every unit"),
        ("index", 3, "image 3; latent direction"),
    ):
        controls[name].value = value
        assert said in text(shifter) and "artifact score" in text(shifter, "numbers")
        run(shifter, shifter.given)
        seen.add(controls["image"].value)
    assert len(seen) == 8
    assert controls["layer"].disabled and not controls["amount"].disabled and not controls["smallest"].disabled
    controls["method"].value = "sequential"
    assert controls["amount"].disabled and controls["smallest"].disabled and controls["layer"].max == 6
    controls["layer"].value = 6
    controls["method"].value = "shift"
    assert controls["layer"].value == 4
    controls["undo"].click()  # of the method, with the layer it brought about
    assert (controls["method"].value, controls["layer"].value) == ("sequential", 6)


def test_a_layer_without_a_difference_is_named(shifter):
    with pytest.raises(ValueError, match="there is no difference of layer 3: choose one of 2, 4"):
        shifter.controls["layer"].value = 3
    assert "choose one of 2, 4" in text(shifter, "error")


@pytest.mark.parametrize("method", SHIFTING)
def test_the_smallest_amount_moves_the_slider_and_says_why(shifter, method):
    controls = shifter.controls
    controls["method"].value = method
    shifter.seen.clear()
    controls["smallest"].click()
    assert controls["amount"].value == controls["amount_box"].value == 0.75 and f"{method}, " in text(shifter)
    assert "amount 0.75" in text(shifter) and "amount=0.75" in text(shifter, "code") or method == SHIFTING[2]
    said = "the classifier said +2.50 at 0, +1.50 at 0.25, +0.50 at 0.5, -0.50 at 0.75 (below 0 is normal): so 0.75 is"
    assert text(shifter, "way").startswith(said)
    run(shifter, shifter.given)
    controls["amount"].value = 1.0
    assert text(shifter, "way")  # it still holds
    controls["undo"].click()
    controls["undo"].click()
    assert controls["amount"].value == 0.5
    controls["index"].value = 1
    assert not text(shifter, "way")


def test_methods_are_absent_where_they_are_not_given(flow, z, scores, shifter):
    view = widgets.corrector(flow, z, scores, direction=shifter.given["direction"])
    assert [value for _, value in view.controls["method"].options] == ["none", "DS", "FD", "sequential", SHIFTING[2]]
    assert "amount" in view.controls and "smallest" not in view.controls  # nobody judges
    plain = widgets.corrector(flow, z, scores, judge=shifter.given["judge"])
    assert "amount" not in plain.controls and "smallest" not in plain.controls
    assert "artifact score" in text(plain, "numbers")
    with pytest.raises(ValueError, match="what units.differences returns"):
        widgets.corrector(flow, z, scores, differences={1: torch.ones(12, 4, 4)})


def test_a_search_that_fails_says_so(flow, z, scores, shifter):
    wrong = shifter.given | {"judge": lambda images: torch.full((len(images),), torch.nan)}
    view = widgets.corrector(
        flow, z, scores, **{k: wrong[k] for k in ("differences", "judge")}, start={"method": "shift"}
    )
    (search,) = handlers(view.controls["smallest"])
    with pytest.raises(ValueError, match="the judge must give one score"):
        search(None)
    assert "the judge must give one score" in text(view, "error")


def test_labeller_writes_what_was_pressed(images, tmp_path):
    path = tmp_path / "labels.csv"
    view = widgets.labeller(images, [7, 1, 4, 2, 9, 3, 8, 5], path, "ann")
    controls = view.controls
    assert text(view).startswith("image 7, 1 of 8, no label yet; 0 of 8 labelled (normal 0, outline 0")
    first = controls["image"].value
    assert text(view, "task").startswith("Is this image normal?")
    controls["stain"].click()
    assert labels.read(path).rows == [{"id": 7, "label": "artifact", "type": "stain", "rater": "ann"}]
    assert controls["image"].value != first and text(view).startswith("image 1, 2 of 8")
    for letter in "nnko":
        controls["key"].value += letter
    assert labels.read(path).ids == [7, 1, 4, 9] and labels.read(path).types == ["stain", "", "", "outline"]
    controls["undo"].click()
    controls["key"].value += "u"
    assert labels.read(path).ids == [7, 1] and text(view).startswith("image 4, 3 of 8, no label yet; 2 of 8")
    controls["back"].click()
    controls["back"].click()
    assert text(view).startswith("image 7, 1 of 8, stain") and controls["image"].value == first
    assert [name for name, one in controls.items() if getattr(one, "icon", "") == "check"] == ["stain"]
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
    view.controls["key"].value = "nqn"
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
    assert "gradcam.binary_mask(cams['squared'][6:7], level=0.8)" in text(view, "code")
    assert torch.equal(run(view, {"cams": cams}), cams["squared"][6:7] >= 0.8)
    controls["reset"].click()
    assert "plain from level 0.30" in text(view)
    single = widgets.mask_explorer(images, cams["plain"])
    assert "gradcam.binary_mask(cams[0:1], level=0.5)" in text(single, "code")


@pytest.fixture
def browser(flow, z, scores):
    view = widgets.unit_browser(flow, z, scores["DS"], survey.top_images(flow, z, k=4), start={"layer": 2})
    view.drawn = drawn(view)
    return view


def test_unit_browser_finds_units_by_rank_and_by_number(browser, scores):
    controls, order = browser.controls, units.rank(scores["DS"])
    assert (controls["unit"].value, controls["rank"].value) == (int(order[2][0]), 1)
    controls["rank"].value = 3
    assert controls["unit"].value == int(order[2][2]) and "rank 3 of 12" in text(browser)
    controls["unit"].value = int(order[2][11])
    assert controls["rank_box"].value == 12 and "rank 12 of 12" in text(browser)
    assert len(browser.drawn) == 2  # one picture a move
    for layer in (6, 1, 5):
        controls["layer"].value = layer
        assert (controls["unit"].value, controls["rank"].value) == (int(order[layer][0]), 1)
        assert controls["rank"].max == len(order[layer]) == controls["unit"].max + 1
        assert text(browser).startswith(f"layer {layer}, unit {order[layer][0]}: score 0.")
    assert len(browser.drawn) == 5
    controls["undo"].click()
    controls["undo"].click()
    controls["undo"].click()
    assert (controls["layer"].value, controls["unit"].value) == (2, int(order[2][11]))
    assert len(browser.drawn) == 8 and text(browser).startswith(f"layer 2, unit {order[2][11]}: ")


def test_unit_browser_selects(browser, scores):
    controls, top = browser.controls, int(units.rank(scores["DS"])[2][0])
    assert browser.selection == {} and "selected: none; mean change without this unit 0." in text(browser)
    assert f"correct.ablate(2, [{top}]))" in text(browser, "code")  # without having been picked
    before = controls["image"].value
    controls["select"].click()
    assert browser.selection == {2: [top]} and controls["image"].value != before  # its heading
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
    assert torch.equal(run(view, {"images": images}), images[5:])
    controls["undo"].click()
    assert controls["image"].value == before and "id" not in controls


def test_an_axis_has_round_steps_and_calls_images_by_id(images):
    values = [-3.123, 2.9, 0.4567, 1, 2, 3, 4, 5]
    view = widgets.axis_browser(values, lambda ids: images[[i - 90 for i in ids]], ids=range(90, 98), shown=2)
    value, box = view.controls["value"], view.controls["value_box"]
    assert (value.min, value.max, value.step) == (-3.15, 5, 0.05) and value.value == box.value == 2.45
    view.controls["id"].value = 92
    assert value.value == pytest.approx(0.4567) and "92" in text(view, "code")
    assert view.controls["value_box"].value == pytest.approx(0.4567)
    before = view.controls["image"].value
    value.value = 0.45  # where a slider of such steps goes by itself
    assert view.controls["id"].value == 92 and view.controls["image"].value == before
    assert text(view).startswith("D-value 0.46: the 2 nearest")
    value.value = 4.9
    assert view.controls["id"].value == 97
    with pytest.raises(ValueError, match="there is no image 5 here"):
        view.controls["id"].value = 5
    crowd = widgets.axis_browser([0.0, 0.101, 0.102, 0.102, 10.0, 9, 8, 7], images, ids=range(90, 98), shown=1)
    for called in (92, 93, 91):  # closer to each other than a step, or in one place
        crowd.controls["id"].value = called
        assert crowd.controls["id"].value == called
        assert torch.equal(crowd.shown, images[[min(called, 92) - 90]])


def test_an_axis_of_ids_goes_by_whole_ids(images):
    view = widgets.axis_browser(torch.arange(8).float(), images, name="image id")
    value = view.controls["value"]
    assert isinstance(value, W.IntSlider) and (value.min, value.max, value.step) == (0, 7, 1) and value.value in (3, 4)
    assert "id" not in view.controls and text(view).startswith(f"image id {value.value}: ")


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.37, 0.37], (0, 1, 1, 0)),
        ([0.001, 0.0023], (0.001, 0.002305, 5e-6, 0.00165)),
        ([1e6 + 0.25, 1e6 + 3], (1e6 + 0.25, 1e6 + 3, 0.01, 1e6 + 1.62)),
        ([-12345.6, 9.1], (-12350, 50, 50, -6150)),
        ([3, 8, 5], (3, 8, 1, 5)),
    ],
)
def test_spans_hold_their_values_in_round_steps(values, expected):
    low, high, *_ = found = views.span(values)
    assert found == pytest.approx(expected) and low <= min(values) and high >= max(values)
