import errno
import pathlib

import numpy as np
import pytest
import torch

from helpers import correct
from helpers.flow import Flow
from helpers.interface.painting import OWN, TILE, Painting
from helpers.interface.strokes import DRAW, MEND, REMOVE
from helpers.interface.tile_rows import GAP
from helpers.networks import pggan
from tests.networks import paintable, tiny_generator
from tests.rounding import close

LINE = [(2, 3), (9, 3), (9, 12)]


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
def painting(flow, z, given):
    return Painting(flow, z, **given)


def stroke(painting, how=DRAW, name="door", layer=2, n=3, own="", size=3, strength=1.0, points=LINE):
    return painting.stroke(how, name, layer, n, own, size, strength, points)


def test_units_are_the_highest_of_a_set_or_written_down(painting):
    assert painting.ways == [DRAW, REMOVE, MEND] and painting.most == 12
    assert stroke(painting).chosen == ((2, (11, 10, 9)),)
    assert stroke(painting, layer=4, n=4).chosen == ((4, (2, 5, 8, 1)),)  # ties by number
    assert stroke(painting, name="mine", layer=4, n=9).chosen == ((4, (7, 1)),)
    assert stroke(painting, name=OWN, own="4:3, 2:1 4:0").chosen == ((2, (1,)), (4, (3, 0)))
    assert stroke(painting, MEND).chosen == ()


def test_pictures_follow_the_strokes_from_the_edited_layer_on(painting, flow, z):
    one, two = stroke(painting), stroke(painting, REMOVE, layer=4, points=[(12, 12)])
    edits = correct.chained(painting.edits([one]), painting.edits([two]))
    drawn = painting.draw(1, ((1, one), (0, two)))  # that of another image does not count
    close(drawn.shown, flow.generate(z[1:2], painting.edits([one])))
    assert f"computed layers 3 to {flow.n_layers}, " in drawn.lines["numbers"]
    drawn = painting.draw(1, ((1, one), (1, two)))
    close(drawn.shown, flow.generate(z[1:2], edits))
    assert f"computed layers 5 to {flow.n_layers}, " in drawn.lines["numbers"]
    assert "66 pixels covered; the last stroke reaches 4 of 64 places of layer 4;" in drawn.lines["numbers"]
    assert drawn.lines["state"].startswith(
        "image 1; 2 strokes, the last: remove 3 units of layer 4 (door), brush 3 px, strength 1.00"
    )
    again = painting.draw(1, ((1, one),))
    close(again.shown, flow.generate(z[1:2], painting.edits([one])))
    assert "computed no layer" in again.lines["numbers"]
    close(painting.draw(1, ()).shown, flow.generate(z[1:2]))


def test_the_picture_has_the_brush_on_the_left_and_the_result_on_the_right(painting):
    one = stroke(painting, size=1, points=[(5, 6)])
    plain, drawn = painting.draw(0, ()).picture, painting.draw(0, ((0, one),))
    top, zoom = len(plain) - TILE, TILE // 16
    left, right = plain[top:, :TILE].astype(int), plain[top:, TILE + GAP : 2 * TILE + GAP]
    assert np.array_equal(left, right)
    changed = np.abs(drawn.picture[top:, :TILE] - left).max(axis=2)[zoom // 2 :: zoom, zoom // 2 :: zoom] > 0
    assert changed.sum() == 1 and changed[6, 5]
    after = ((drawn.shown.clamp(-1, 1)[0].permute(1, 2, 0) + 1) * 127.5).round().int().numpy()
    found = drawn.picture[top:, TILE + GAP : 2 * TILE + GAP][zoom // 2 :: zoom, zoom // 2 :: zoom]
    assert np.abs(found - after).max() <= 1


def test_a_place_in_the_picture_is_a_pixel_of_the_image(painting):
    height = TILE + 21
    assert painting.spot(0, 21, height) == (0, (0, 0)) and painting.spot(TILE - 1, height - 1, height) == (0, (15, 15))
    assert painting.spot(TILE + GAP, 21 + 24, height) == (1, (0, 1))
    assert painting.spot(23, 44, height) == (0, (0, 0)) and painting.spot(24, 45, height) == (0, (1, 1))
    assert not painting.inside(painting.spot(5, 20, height)[1])  # the caption
    assert painting.spot(TILE + GAP + 5, 45, height, tile=0) == (0, (16, 1))  # the brush went on beyond its tile
    assert not painting.inside(painting.spot(2 * TILE + GAP + 1, 45, height)[1])


@pytest.mark.parametrize("how", [DRAW, REMOVE, MEND])
def test_saved_edits_read_back_give_the_same_picture(painting, flow, z, tmp_path, how):
    path, mine = (
        tmp_path / "some where" / "it's.safetensors",
        ((2, stroke(painting)), (2, stroke(painting, how, layer=4))),
    )
    shown = painting.draw(2, mine).shown
    assert painting.draw(2, mine).lines["code"] == "" and "; not saved" in painting.draw(2, mine).lines["state"]
    assert painting.save(path, 2, mine) == path
    lines = painting.draw(2, mine).lines
    assert f"; saved in {path}" in lines["state"]
    found = eval(lines["code"], {"flow": flow, "z": z, "correct": correct})
    close(found, shown)
    assert not torch.equal(found, flow.generate(z[2:3]))
    assert painting.draw(2, mine[:1]).lines["code"] == ""
    painting.save(path, 2, mine[:1])  # its own file
    assert painting.draw(2, mine).lines["code"] == "" != painting.draw(2, mine[:1]).lines["code"]


def test_what_was_saved_is_loaded_and_painted_over(painting, flow, z, given, tmp_path):
    path, mine = tmp_path / "a.safetensors", ((2, stroke(painting)),)
    painting.save(path, 2, mine)
    fresh = Painting(flow, z, **given)
    loaded = fresh.load(path, 2)
    drawn = fresh.draw(2, ((2, loaded),))
    close(drawn.shown, painting.draw(2, mine).shown)
    assert "1 stroke, the last: a.safetensors, layer 2; saved in " in drawn.lines["state"]
    close(eval(drawn.lines["code"], {"flow": flow, "z": z, "correct": correct}), drawn.shown)
    over = stroke(fresh, REMOVE, layer=2, points=[(15, 0)])
    both = fresh.draw(2, ((2, loaded), (2, over)))
    close(both.shown, flow.generate(z[2:3], correct.chained(loaded.edits, fresh.edits([over]))))
    fresh.save(path, 2, ((2, loaded), (2, over)))  # it was loaded here, so it is its own
    close(flow.generate(z[2:3], correct.read_edits(path, flow)), both.shown)


def test_a_correction_of_all_images_can_be_painted_over(painting, flow, z, given, tmp_path):
    correct.write_edits(tmp_path / "shift.safetensors", correct.shift(given["differences"]), flow)
    loaded = painting.load(tmp_path / "shift.safetensors", 0)
    drawn = painting.draw(0, ((0, loaded),))
    assert "the brush covers the whole image" in drawn.lines["numbers"]
    close(drawn.shown, flow.generate(z[:1], correct.shift(given["differences"])))


def test_nothing_is_lost_where_saving_or_loading_fails(painting, flow, z, tmp_path, monkeypatch):
    path, mine = tmp_path / "a.safetensors", ((0, stroke(painting)),)
    with pytest.raises(ValueError, match="nothing is painted on image 1"):
        painting.save(path, 1, mine)
    path.write_text("a letter")
    with pytest.raises(ValueError, match="a.safetensors is there already, and not of this painting"):
        painting.save(path, 0, mine)
    with pytest.raises(ValueError, match="damaged or holds no edits"):
        painting.load(path, 0)
    assert path.read_text() == "a letter"
    path = tmp_path / "b.safetensors"
    painting.save(path, 0, mine)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="there already"):
        painting.save(path, 3, ((3, mine[0][1]),))  # the edits of another image

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    more = (*mine, (0, stroke(painting, REMOVE)))
    with pytest.raises(OSError, match="cannot write .*b.safetensors .No space left on device.: free space"):
        painting.save(path, 0, more)
    monkeypatch.undo()
    assert path.read_bytes() == before and "; not saved" in painting.draw(0, more).lines["state"]
    other = tiny_generator()
    with torch.no_grad():
        other.layer0.weight[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match="made for another generator"):
        Painting(Flow(pggan.Layers(other)), z, values=painting.values).load(path, 0)
    masks = torch.ones(6, 16, 16)
    correct.write_edits(tmp_path / "six.safetensors", correct.local({1: torch.arange(12.0)}, masks, 1), flow)
    with pytest.raises(ValueError, match="six.safetensors cannot be painted on one image: .*masks for 6 images"):
        painting.load(tmp_path / "six.safetensors", 0)


def test_what_does_not_fit_is_named(painting, flow, z, given):
    for wrong, said in (
        ({"sets": {"door": {2: torch.arange(5.0)}}}, r"scores \(5,\), layer 2 has 12 units"),
        ({"sets": {"door": {2: [40]}}}, r"layer 2 has different units 0 to 11, got \[40\]"),
        ({"sets": {"door": {2: [3, 3]}}}, r"different units 0 to 11, got \[3, 3\]"),
        ({"sets": {"door": {2: []}}}, "'door' has no unit in layer 2: name at least one"),
        ({"sets": {"door": {}}}, "'door' has no units"),
        ({"sets": {"door": {40: [1]}}}, "no layer 40"),
        ({"values": None}, "to draw units needs values"),
        ({"captions": ["one"]}, "6 images, but 1 captions"),
        ({"names": {"w": "z"}}, "names knows flow, z"),
    ):
        with pytest.raises(ValueError, match=said):
            Painting(flow, z, **(given | wrong))
    with pytest.raises(ValueError, match="nothing to paint by"):
        Painting(flow, z)
    with pytest.raises(ValueError, match="no units called 'dragon', there are: door, mine, own units"):
        stroke(painting, name="dragon")
    with pytest.raises(ValueError, match="'mine' has no units of layer 2: choose one of layers 4"):
        stroke(painting, name="mine")
    with pytest.raises(ValueError, match="written layer:unit"):
        stroke(painting, name=OWN, own="seven")
    with pytest.raises(ValueError, match=r"layer 4 has different units 0 to 9, got \[10\]"):
        stroke(painting, name=OWN, own="4:10")
    with pytest.raises(ValueError, match="no unit is chosen"):
        painting.edits([stroke(painting, name=OWN)])
    only = Painting(flow, z, differences=given["differences"])
    assert only.ways == [REMOVE, MEND] and only.most == 0
