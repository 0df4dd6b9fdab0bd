import numpy as np
import pytest
import torch

from helpers import concepts, correct, survey, units
from helpers.flow import Flow
from helpers.interface.tile_rows import GAP, LINE
from helpers.interface.unit_preview import TILE, selection, unit
from helpers.latents import latents
from helpers.networks import pggan
from tests.test_previews import shown, tile


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    flow = Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)))
    z = latents(range(10), 9)
    return {
        **{"flow": flow, "z": z, "images": flow.generate(z).clamp(-1, 1), "masks": torch.rand(10, 16, 16) > 0.7},
        **{"scores": {"DS": units.random_scores(flow, 1), "FD": units.random_scores(flow, 2)}},
        "top": survey.top_images(flow, z, k=4),
        **{"correct": correct, "units": units},
    }


def row(picture, number, column):
    """The tile of a row: the first one has a heading and captions, the others a heading."""
    return tile(picture, column, TILE, 2 * LINE + number * (TILE + GAP + LINE))


def test_a_unit_shows_its_images_and_what_they_are_without_it(world):
    flow, z, top, scores = world["flow"], world["z"], world["top"], world["scores"]["DS"]
    draw = unit(flow, z, scores, top, shown=3)
    picture, lines, without = draw(5, 2, "")
    best = top[5][2]
    assert np.array_equal(row(picture, 0, 0), shown(concepts.representative_image(flow, z[best], 5), TILE))
    for i in range(3):
        assert np.array_equal(row(picture, 0, 1 + i), shown(flow.generate(z[best[i : i + 1]]), TILE))
        assert np.abs(row(picture, 2, 1 + i).astype(int) - shown(without[i : i + 1], TILE)).max() == 0
    after, before = flow.generate(z[best[:3]], correct.ablate(5, [2])), flow.generate(z[best[:3]])
    torch.testing.assert_close(without, after)
    assert torch.equal(eval(lines["code"], world), after) and not torch.equal(after, before)
    place = int((scores[5] > scores[5][2]).sum()) + 1
    change = (after.clamp(-1, 1) - before.clamp(-1, 1)).abs().mean()
    said = f"layer 5, unit 2: score {scores[5][2]:.4f}, rank {place} of 8; selected: none; mean change"
    assert lines["state"] == f"{said} without this unit {change:.3f}"
    assert picture.shape[0] == 2 * LINE + 3 * TILE + 2 * (GAP + LINE)  # three rows


def test_selected_units_go_with_it(world):
    flow, z, best = world["flow"], world["z"], world["top"][5][2]
    draw = unit(flow, z, world["scores"]["DS"], world["top"], shown=3)
    _, lines, without = draw(5, 2, "5:1, 3:7, 5:2, 5:1")
    after = flow.generate(z[best[:3]], {3: correct.Zero((7,)), 5: correct.Zero((1, 2))})
    torch.testing.assert_close(without, after)
    torch.testing.assert_close(eval(lines["code"], world), after)
    assert "selected: layer 5: 1, 2; layer 3: 7; mean change without this unit and those selected" in lines["state"]


def test_a_unit_is_marked_where_it_exceeds_its_threshold(world):
    flow, z, top = world["flow"], world["z"], world["top"]
    limits = survey.thresholds(flow, z, tau=0.1)
    names = {"z": "pool", "preview": "held[:2]"}
    draw = unit(flow, z, world["scores"]["DS"], top, limits, z[:2], shown=2, ids=range(90, 100), names=names)
    picture, lines, without = draw(6, 3, "")
    active = flow.record(z[top[6][3][:1]], [6])[6][0, 3] > limits[6][3]
    changed = (row(picture, 1, 1) != row(picture, 0, 1)).any(-1)
    marked = active.repeat_interleave(TILE // 16, 0).repeat_interleave(TILE // 16, 1).numpy()
    assert active.any() and not (changed & ~marked).any() and changed[marked].mean() > 0.9
    torch.testing.assert_close(eval(lines["code"], world | {"held": z[:3]}), without)
    assert torch.equal(without, flow.generate(z[:2], correct.ablate(6, [3])))
    for i in range(2):  # before, and without the unit
        assert np.array_equal(row(picture, 2, i), shown(flow.generate(z[i : i + 1]), TILE))
        assert np.array_equal(row(picture, 3, i), shown(without[i : i + 1], TILE))


def test_selections_are_read():
    assert selection(" ") == {}
    assert selection("6:1,6:2 4:3,  6:1") == {6: [1, 2], 4: [3]}
    for wrong in ("6", "a:1", "6:", "6:-1", "6:1:2", "4:3; 6:1"):
        with pytest.raises(ValueError, match="layer:unit"):
            selection(wrong)


def test_what_does_not_fit_is_said(world):
    flow, z, ds, top = world["flow"], world["z"], world["scores"]["DS"], world["top"]
    for call, fault in (
        (lambda: unit(flow, z, ds, {1: top[1]}), "layer 2 has scores but no top images"),
        (lambda: unit(flow, z, ds, top, {}), "layer 1 has scores but no thresholds"),
        (lambda: unit(flow, z, ds, top, ids=[1]), "10 images, but 1 ids"),
        (lambda: unit(flow, z, ds, top, names={"cams": "x"}), "names knows flow, z, top, preview"),
    ):
        with pytest.raises(ValueError, match=fault):
            call()
