"""Views of masks, of an axis and of labelling, without widgets; corrections and units have files of their own."""

import ast

import numpy as np
import pytest
import torch

from helpers import gradcam, labels, rating
from helpers.interface import blind, labelling, previews
from helpers.interface.tile_rows import GAP, LINE, fitted


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    given = {"images": torch.rand(10, 3, 16, 16) * 2 - 1, "cams": torch.rand(10, 16, 16), "values": torch.randn(10)}
    return given | {"gradcam": gradcam, "labels": labels, "rating": rating}


def tile(picture, column, size=192, top=LINE):
    x = column * (size + GAP)
    return picture[top : top + size, x : x + size]


def shown(images, size=192):
    return fitted(images, size)[0]


def test_a_mask_has_the_area_its_level_gives(world):
    cams = {"one": world["cams"], "it's two": world["cams"].square()}
    draw = previews.masking(world["images"], cams, [f"no {i}" for i in range(10)])
    picture, lines, found = draw(4, 0.6, "it's two")
    area, mean = (cams["it's two"][4] >= 0.6).float().mean(), (cams["it's two"] >= 0.6).float().mean()
    said = f"image 4: no 4; it's two from level 0.60 up: mask {area:.1%} of it (mean of all 10 images {mean:.1%})"
    assert lines["state"] == said
    assert torch.equal(found, cams["it's two"][4:5] >= 0.6)
    assert torch.equal(eval(lines["code"], world | {"cams": cams}), found)
    assert np.array_equal(tile(picture, 0), shown(world["images"][4:5]))
    empty = previews.masking(world["images"], {"none": torch.zeros(10, 16, 16)})(0, 0.0, "none")[1]
    assert "mask empty" in empty["state"]
    renamed = previews.masking(world["images"], cams, ids=range(50, 60), names={"cams": "all['maps'] | {}"})
    _, lines, found = renamed(4, 0.6, "one")
    assert lines["state"].startswith("id 54; one from level 0.60")
    assert torch.equal(eval(lines["code"], world | {"all": {"maps": cams}}), found)


def test_the_axis_shows_the_nearest_in_order(world):
    values, kinds = world["values"], ["artifact", "normal"] * 5
    draw = previews.axis(values, world["images"], kinds, ids=range(100, 110), shown=5)
    picture, lines, found = draw(0.3)
    near = sorted(sorted(range(10), key=lambda i: abs(values[i] - 0.3))[:5], key=lambda i: values[i])
    head = (len(picture) - 2 * 192 - GAP) // 2  # its captions are of one or two lines
    assert head in (LINE, 2 * LINE)
    for column, i in enumerate(near[:4]):
        assert np.array_equal(tile(picture, column, top=head), shown(world["images"][i : i + 1]))
    assert np.array_equal(tile(picture, 0, top=2 * head + 192 + GAP), shown(world["images"][near[4]][None]))
    assert torch.equal(found, world["images"][near]) and torch.equal(eval(lines["code"], world), found)
    artifacts = sum(kinds[i] == "artifact" for i in near)
    assert f"artifact {artifacts}; normal {5 - artifacts}" in lines["state"]
    asked = []

    def by_id(ids):
        asked.append(ids)
        return world["images"][[i - 100 for i in ids]]

    draw = previews.axis(values, by_id, ids=range(100, 110), names={"images": "domain.images"})
    _, lines, found = draw(float(values[3]))
    assert len(asked) == 1 and len(asked[0]) == 8 and 103 in asked[0]
    domain = type("Domain", (), {"images": staticmethod(by_id)})
    assert torch.equal(eval(lines["code"], {"domain": domain}), found)


def test_an_axis_of_ids_counts_in_whole_numbers(world):
    draw = previews.axis(range(10), world["images"], name="image id", shown=3)
    assert draw(4)[1]["state"] == "image id 4: the 3 nearest of 10 images, 3 to 5"
    assert previews.axis(world["values"], world["images"], shown=2)(0)[1]["state"].startswith("D-value 0.00: the 2 ")


def test_labels_and_votes_are_read_by_their_code(world, tmp_path):
    path = tmp_path / "it's mine.csv"
    session = labelling.Session(range(4), path, "ann", extra={"pass": "2"})
    draw = previews.generation(session, world["images"][:4])
    assert draw()[1]["code"] == ""  # there is nothing to read yet
    labelling.Session(range(4), path, "bob", extra={"pass": "2"}).label("normal")
    for kind in ("stain", "normal", "other"):
        session.do(kind)
        found = eval(draw()[1]["code"], world)
        assert {row["id"]: row["type"] or "normal" for row in found.rows} == session.labelled
        assert set(found.raters) == {"ann"}
    votes = tmp_path / "votes.csv"
    session = blind.Session([(1, "seq"), (2, "seq")], votes, "ann")
    draw = blind.comparison(session, world["images"], {"seq": -world["images"]}, range(10))
    assert draw()[1]["code"] == ""
    for action in ("left artifact", "right artifact", "same"):
        session.do(action)
    assert eval(draw()[1]["code"], world).equals(rating.summary(rating.read(votes)))
    session.undo()
    assert draw()[1]["code"] == ""


def test_names_are_expressions():
    assert previews.named(None, "z", "masks") == {"z": "z", "masks": "masks"}
    given = {"z": "domain.latents(ids)", "masks": "a + b"}
    assert previews.named(given, "z", "masks", "flow") == given | {"flow": "flow", "masks": "(a + b)"}
    for wrong, said in (({"x": "y"}, "names knows z, masks, got x"), ({"z": "z ="}, "an expression of the notebook")):
        with pytest.raises(ValueError, match=said):
            previews.named(wrong, "z", "masks")
    ast.parse(previews.named({"z": "lambda: 1"}, "z")["z"] + "[0]", mode="eval")


def test_what_does_not_fit_is_said(world):
    images, cams = world["images"], world["cams"]
    for call, fault in (
        (lambda: previews.masking(images, {"x": cams[:4]}), "10 images, but 4 maps of 'x'"),
        (lambda: previews.masking(images, {"x": cams}, ids=range(4)), "10 images, but 4 ids"),
        (lambda: previews.masking(images, {"x": cams}, ids=[1] * 10), "got 10 ids, 1 of them different"),
        (lambda: previews.axis(torch.tensor([]), images), "at least one, got 0"),
        (lambda: previews.axis(torch.tensor([torch.nan]), images), "finite"),
        (lambda: previews.axis(world["values"][:5], images), "10 images, but 5 ids"),
        (lambda: previews.axis(world["values"], images, ["x"]), "10 images, but 1 labels"),
        (lambda: previews.started({"stop": 1}, layer=2), "start knows layer, got stop"),
    ):
        with pytest.raises(ValueError, match=fault):
            call()
