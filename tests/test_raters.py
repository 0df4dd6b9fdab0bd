"""The rater's view, without a kernel; the labeller's is tested with the other widgets."""

import html
import re

import pytest
import torch

from helpers import rating, widgets
from helpers.interface import blind


def text(view, name="state"):
    return html.unescape(re.sub("<[^>]*>", "", view.controls[name].value))


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_rater_saves_what_was_pressed_and_goes_on_later(images, tmp_path):
    path, ids = tmp_path / "votes.csv", [7, 1, 4, 2, 9]
    view = widgets.rater(images, {"seq": -images, "local": images * 0.5}, ids, path, "ann")
    controls = view.controls
    assert text(view) == "pair 1 of 10: left ?, right ?, better ?; 0 of 10 rated"
    assert "seq" not in text(view) and "local" not in text(view)
    first = controls["image"].value
    controls["left artifact"].click()
    controls["left better"].click()
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
        controls["key"].value = letter
        assert controls["key"].value == ""
    assert len(rating.read(path)) == 2
    controls["undo"].click()
    assert len(rating.read(path)) == 1 and text(view).startswith("pair 2 of 10")
    controls["back"].click()
    assert "better left; 1 of 10 rated" in text(view) and controls["image"].value == first
    controls["skip"].click()
    with pytest.raises(ValueError, match="the letter 'z' means nothing"):
        controls["key"].value = "z"
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
