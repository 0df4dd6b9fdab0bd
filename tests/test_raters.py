"""The rater's view, without a kernel; the labeller's is tested with the other widgets."""

import html
import re

import pytest
import torch
from networks import tiny_generator

from helpers import correct, labels, rating, widgets
from helpers.flow import Flow
from helpers.interface import blind
from helpers.latents import latents
from helpers.networks import pggan


def text(view, name="state"):
    return html.unescape(re.sub("<[^>]*>", "", view.controls[name].value))


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def spied(widget, monkeypatch):
    """What is sent to a widget's view from now on."""
    sent = []
    monkeypatch.setattr(
        type(widget), "send", lambda self, content, buffers=None: self is widget and sent.append(content)
    )
    return sent


def test_rater_saves_what_was_pressed_and_goes_on_later(images, tmp_path, monkeypatch):
    path, ids = tmp_path / "votes.csv", [7, 1, 4, 2, 9]
    view = widgets.rater(images, {"seq": -images, "local": images * 0.5}, ids, path, "ann")
    controls = view.controls
    assert text(view) == "pair 1 of 10: left ?, right ?, better ?; 0 of 10 rated"
    assert "seq" not in text(view) and "local" not in text(view)
    first = controls["image"].value
    assert "Still to say: is the left image normal or an artifact? is the right image normal" in text(view, "task")
    sent = spied(controls["key"], monkeypatch)
    controls["left artifact"].click()
    assert sent == [{"do": "focus"}]  # the letters that the buttons invite must not go to JupyterLab
    controls["left better"].click()
    chosen = [name for name, button in controls.items() if getattr(button, "icon", "") == "check"]
    assert chosen == ["left artifact", "left better"] and controls[chosen[0]].button_style == "primary"
    assert "Still to say: is the right image normal or an artifact? The third" in text(view, "task")
    assert text(view).startswith("pair 1 of 10: left artifact, right ?, better left") and not path.exists()
    controls["right normal"].click()
    pair = view.session.pairs[0]
    here = blind.side(pair)
    saved = rating.read(path, ids, ["seq", "local"])
    assert [vote[:3] for vote in saved] == [(*pair, here)]
    assert saved[0].better == ("corrected" if here == "left" else "original")
    assert saved[0].label_corrected == ("artifact" if here == "left" else "normal")
    assert controls["image"].value != first and text(view).startswith("pair 2 of 10: left ?")
    for letter in "shf":
        controls["key"].value += letter
    assert len(rating.read(path)) == 2
    controls["undo"].click()
    assert len(rating.read(path)) == 1 and text(view).startswith("pair 2 of 10")
    controls["back"].click()
    assert "better left; 1 of 10 rated" in text(view) and controls["image"].value == first
    controls["skip"].click()
    with pytest.raises(ValueError, match="the letter 'z' means nothing"):
        controls["key"].value += "z"
    assert "means nothing here" in controls["error"].value
    again = widgets.rater(
        lambda ids: images[: len(ids)], {"seq": -images}, ids, path, "ann", pairs=[(7, "seq"), (2, "seq")]
    )
    assert len(again.session.pairs) == 2
    controls["export_path"].value = str(tmp_path / "out.csv")
    controls["export"].click()
    assert "1 votes are in" in text(view) and (tmp_path / "out.csv").read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="unknown image or method"):
        widgets.rater(images, {"seq": -images}, ids, path, "ann", pairs=[(7, "magic")])


def test_rater_ends_without_an_error(images, tmp_path):
    path = tmp_path / "votes.csv"
    view = widgets.rater(images, {"seq": -images}, range(5), path, "ann", pairs=[(1, "seq"), (3, "seq")])
    controls = view.controls
    controls["key"].value = "shf" + "ajd" + "asd"  # three answers more than there are questions
    assert text(view) == "finished: 2 of 2 rated" and text(view, "error") == ""
    for name in (*blind.ANSWERS, "skip", "export"):
        controls[name].click()
    assert text(view, "error") == "" and len(rating.read(path)) == 2 and "All pairs are rated" in text(view, "task")
    controls["key"].value += "b"
    assert text(view).startswith("pair 2 of 2") and controls["left better"].icon == "check"
    code = text(view, "code").removeprefix("code for this state: ")
    assert eval(code, {"rating": rating}).equals(rating.summary(rating.read(path)))


def test_the_playground_follows_its_labels(tmp_path, monkeypatch):
    flow = Flow(pggan.Layers(tiny_generator()))
    path, z = tmp_path / "labels.csv", lambda ids: latents(ids, 9)
    view = widgets.playground(flow, z, range(20), range(30, 34), path, "ann", every=4)
    controls, pictures = view.controls, []
    sent = spied(controls["key"], monkeypatch)
    controls["normal"].click()
    assert sent == [{"do": "focus"}] and text(view).startswith("image 1, 2 of 20")
    for letter in "noo":
        pictures.append(controls["image"].value)
        controls["key"].value += letter
    assert "difference of 4 labels" in text(view) and controls["image"].value != pictures[-1]
    before = controls["image"].value
    controls["amount"].value = 2.0
    assert controls["image"].value != before
    with pytest.raises(ValueError, match="means nothing"):
        controls["key"].value += "z"
    assert "means nothing here" in controls["error"].value
    controls["save"].click()
    assert "saved" in text(view) and controls["error"].value == ""
    assert (tmp_path / "ann-shift.png").exists() and torch.equal(
        flow.generate(z([30]), correct.read_edits(tmp_path / "ann-shift.safetensors", flow)),
        flow.generate(z([30]), view.ground.edits(2.0)),
    )
    assert len(labels.read(path)) == 4
