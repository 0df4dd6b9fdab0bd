import numpy as np
import pytest
import torch

from helpers import concepts, correct, gradcam, survey, units
from helpers.flow import Flow
from helpers.interface import previews
from helpers.interface.tile_rows import GAP, LINE, difference, fitted
from helpers.latents import latents
from helpers.networks import pggan


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    flow = Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)))
    z = latents(range(10), 9)
    return {
        **{"flow": flow, "z": z, "images": flow.generate(z).clamp(-1, 1), "masks": torch.rand(10, 16, 16) > 0.7},
        **{"scores": {"DS": units.random_scores(flow, 1), "FD": units.random_scores(flow, 2)}, "torch": torch},
        **{"top": survey.top_images(flow, z, k=4), "cams": torch.rand(10, 16, 16), "values": torch.randn(10)},
        **{"correct": correct, "units": units, "concepts": concepts, "gradcam": gradcam},
    }


def tile(picture, column, size=192, top=LINE):
    x = column * (size + GAP)
    return picture[top : top + size, x : x + size]


def shown(images, size=192):
    return fitted(images, size)[0]


@pytest.mark.parametrize("method", ["none", "DS", "FD", "sequential", "local"])
def test_a_correction_shows_what_its_code_computes(world, method):
    draw = previews.correction(world["flow"], world["z"], world["scores"], world["masks"])
    picture, lines = draw(3, method, 4, 0.5, 0.8)
    before, after = world["images"][3:4], eval(lines["code"], world).clamp(-1, 1)
    assert np.array_equal(tile(picture, 0), shown(before))
    # Computed in other steps, a colour may round to its neighbour.
    assert np.abs(tile(picture, 1).astype(int) - shown(after)).max() <= 1
    assert np.abs(tile(picture, 2).astype(int) - shown(difference(before, after))).max() <= 2
    assert f"mean change {(after - before).abs().mean():.3f}" in lines["numbers"]
    assert "mask: " not in lines["state"] and lines["state"].startswith("image 3; ")


def test_a_correction_measures_before_and_after_once_each(world):
    seen = []

    def brightness(images):
        seen.append(len(images))
        return images.mean(dim=(1, 2, 3))

    draw = previews.correction(*(world[name] for name in ("flow", "z", "scores")), measures={"light": brightness})
    _, lines = draw(2, "sequential", 3, 0.5, 0.9)
    old, new = world["images"][2].mean(), eval(lines["code"], world).clamp(-1, 1).mean()
    assert f"light {old:.3f} → {new:.3f}; mean change" in lines["numbers"] and seen == [1, 1]
    assert "computed layers 2 to 7" in lines["numbers"]
    for _ in range(2):
        lines = draw(2, "sequential", 4, 0.5, 0.9)[1]
    assert "computed no layer" in lines["numbers"] and len(seen) == 3
    draw(2, "local" if world["masks"] is None else "none", 4, 0.5, 0.9)
    draw(2, "none", 2, 0.1, 0.1)
    assert len(seen) == 3


def test_a_mask_has_the_area_its_level_gives(world):
    cams = {"one": world["cams"], "two": world["cams"].square()}
    draw = previews.masking(world["images"], cams, [f"id {i}" for i in range(10)])
    picture, lines = draw(4, 0.6, "two")
    area, mean = (cams["two"][4] >= 0.6).float().mean(), (cams["two"] >= 0.6).float().mean()
    said = f"image 4: id 4; two from level 0.60 up: mask {area:.1%} of it (mean of all 10 images {mean:.1%})"
    assert lines["state"] == said
    assert torch.equal(eval(lines["code"], world | {"cams": cams}), cams["two"][4:5] >= 0.6)
    assert np.array_equal(tile(picture, 0), shown(world["images"][4:5]))
    empty = previews.masking(world["images"], {"none": torch.zeros(10, 16, 16)})(0, 0.0, "none")[1]
    assert "mask empty" in empty["state"]


def test_a_unit_shows_its_images_and_what_it_leaves(world):
    flow, z, top = world["flow"], world["z"], world["top"]
    scores = world["scores"]["DS"]
    draw = previews.unit(flow, z, scores, top, shown=3)
    picture, lines = draw(5, 2, "5:1, 3:7, 5:4, 5:1")
    code = lines["code"].split("; ")
    best = top[5][2]
    second = 2 * LINE
    assert np.array_equal(tile(picture, 0, 128, second), shown(eval(code[0], world), 128))
    for i in range(3):
        assert np.array_equal(tile(picture, 1 + i, 128, second), shown(flow.generate(z[best[i : i + 1]]), 128))
    after = flow.generate(z[best[:3]], {3: correct.Zero((7,)), 5: correct.Zero((1, 4))})
    torch.testing.assert_close(eval(code[1], world), after)
    bottom = picture.shape[0] - 128
    for i in range(3):
        drawn = tile(picture, 1 + i, 128, bottom).astype(int)
        assert np.abs(drawn - shown(after[i : i + 1], 128)).max() <= 1
    place = int((scores[5] > scores[5][2]).sum()) + 1
    assert lines["state"].startswith(f"layer 5, unit 2: score {scores[5][2]:.4f}, rank {place} of 8; selected: ")
    assert "selected: layer 5: 1, 4; layer 3: 7; mean change" in lines["state"]
    assert "; " not in draw(5, 2, "")[1]["code"]


def test_a_unit_is_marked_where_it_exceeds_its_threshold(world):
    flow, z, top = world["flow"], world["z"], world["top"]
    limits = survey.thresholds(flow, z, tau=0.1)
    plain = previews.unit(flow, z, world["scores"]["DS"], top, limits, preview=z[:2], shown=2)
    picture, lines = plain(6, 3, "6:3")
    second = 2 * LINE + 128 + GAP + LINE
    active = flow.record(z[top[6][3][:1]], [6])[6][0, 3] > limits[6][3]
    changed = (tile(picture, 1, 128, second) != tile(picture, 1, 128, 2 * LINE)).any(-1)
    marked = active.repeat_interleave(128 // 16, 0).repeat_interleave(128 // 16, 1).numpy()
    assert active.any() and not (changed & ~marked).any() and changed[marked].mean() > 0.9
    assert "flow.generate(preview[:2], {**correct.ablate(6, [3])})" in lines["code"]


def test_the_axis_shows_the_nearest_in_order(world):
    values, kinds = world["values"], ["artifact", "normal"] * 5
    draw = previews.axis(values, world["images"], kinds, ids=range(100, 110), shown=5)
    picture, lines = draw(0.3)
    near = sorted(sorted(range(10), key=lambda i: abs(values[i] - 0.3))[:5], key=lambda i: values[i])
    for column, i in enumerate(near[:4]):
        assert np.array_equal(tile(picture, column), shown(world["images"][i : i + 1]))
    assert np.array_equal(tile(picture, 0, top=2 * LINE + 192 + GAP), shown(world["images"][near[4]][None]))
    assert set(eval(lines["code"], world).tolist()) == set(near)
    artifacts = sum(kinds[i] == "artifact" for i in near)
    assert f"artifact {artifacts}; normal {5 - artifacts}" in lines["state"]
    asked = []
    by_id = previews.axis(values, lambda ids: asked.append(ids) or world["images"][: len(ids)], ids=range(100, 110))
    by_id(float(values[3]))
    assert len(asked) == 1 and len(asked[0]) == 8 and 103 in asked[0]


def test_selections_are_read():
    assert previews.selection(" ") == {}
    assert previews.selection("6:1,6:2 4:3,  6:1") == {6: [1, 2], 4: [3]}
    for wrong in ("6", "a:1", "6:", "6:-1", "6:1:2", "4:3; 6:1"):
        with pytest.raises(ValueError, match="layer:unit"):
            previews.selection(wrong)


def test_what_does_not_fit_is_said(world):
    flow, z, images, cams = (world[name] for name in ("flow", "z", "images", "cams"))
    ds = world["scores"]["DS"]
    for call, fault in (
        (lambda: previews.correction(flow, z, ds), "scores must be"),
        (lambda: previews.correction(flow, z, world["scores"], cams[:3]), "10 images, but 3 masks"),
        (lambda: previews.correction(flow, z, world["scores"], None, ["a"]), "10 images, but 1 captions"),
        (lambda: previews.masking(images, {"x": cams[:4]}), "10 images, but 4 maps of 'x'"),
        (lambda: previews.unit(flow, z, ds, {1: world["top"][1]}), "layer 2 has scores but no top images"),
        (lambda: previews.unit(flow, z, ds, world["top"], {}), "layer 1 has scores but no thresholds"),
        (lambda: previews.axis(torch.tensor([]), images), "at least one, got 0"),
        (lambda: previews.axis(torch.tensor([torch.nan]), images), "finite"),
        (lambda: previews.axis(world["values"][:5], images), "10 images, but 5 ids"),
        (lambda: previews.axis(world["values"], images, ["x"]), "10 images, but 1 labels"),
        (lambda: previews.started({"stop": 1}, layer=2), "start knows layer, got stop"),
    ):
        with pytest.raises(ValueError, match=fault):
            call()
