import numpy as np
import pytest
import torch

from helpers import correct, units
from helpers.corrections.amounts import Direction
from helpers.flow import Flow
from helpers.interface.correction_preview import correction, smallest
from helpers.interface.correction_settings import Given, Recipe
from helpers.interface.tile_rows import LINE, difference
from helpers.latents import latents
from helpers.networks import pggan
from tests.test_previews import shown, tile

METHODS = ["none", "DS", "FD", "sequential", "local", "shift", "local shift", "latent direction"]


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    flow = Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)))
    z = latents(range(10), 9)
    return {
        **{"flow": flow, "z": z, "images": flow.generate(z).clamp(-1, 1), "masks": torch.rand(10, 16, 16) > 0.7},
        **{"scores": {"DS": units.random_scores(flow, 1), "FD": units.random_scores(flow, 2)}},
        "differences": units.differences(flow, latents(range(20, 30), 9), latents(range(40, 60), 9), [2, 4]),
        "direction": Direction(torch.nn.functional.normalize(torch.arange(9.0), dim=0)),
        **{"correct": correct, "units": units},
    }


@pytest.fixture(scope="module")
def given(world):
    return Given(*(world[name] for name in ("scores", "masks", "differences", "direction")))


@pytest.mark.parametrize("method", METHODS)
def test_a_correction_shows_what_its_code_computes(world, given, method):
    draw = correction(world["flow"], world["z"], given)
    picture, lines, found = draw(3, method, 4, 0.5, 0.8, 1.5)
    after = eval(lines["code"], world)
    torch.testing.assert_close(found, after, rtol=0, atol=1e-4 * float(after.abs().max()))  # computed in other steps
    before, after, head = world["images"][3:4], after.clamp(-1, 1), LINE
    assert np.array_equal(tile(picture, 0, top=head), shown(before))
    # Computed in other steps, a colour may round to its neighbour.
    assert np.abs(tile(picture, 1, top=head).astype(int) - shown(after)).max() <= 1
    assert np.abs(tile(picture, 2, top=head).astype(int) - shown(difference(before, after))).max() <= 2
    assert f"mean change {(after - before).abs().mean():.3f}" in lines["numbers"]
    assert "mask: " not in lines["state"] and lines["state"].startswith("image 3; ")


def test_a_correction_measures_before_and_after_once_each(world, given):
    seen = []

    def brightness(images):
        seen.append(len(images))
        return images.mean(dim=(1, 2, 3))

    draw = correction(world["flow"], world["z"], given, measures={"light": brightness})
    _, lines, after = draw(2, "sequential", 3, 0.5, 0.9)
    old, new = world["images"][2].mean(), after.clamp(-1, 1).mean()
    assert f"light {old:.3f} → {new:.3f}; mean change" in lines["numbers"] and seen == [1, 1]
    assert "computed layers 2 to 7" in lines["numbers"]
    for _ in range(2):
        lines = draw(2, "sequential", 4, 0.5, 0.9).lines
    assert "computed no layer" in lines["numbers"] and len(seen) == 3
    draw(2, "none", 4, 0.5, 0.9)
    draw(2, "none", 2, 0.1, 0.1)
    assert len(seen) == 3
    assert "computed layers 5 to 7" in draw(2, "shift", 4, 0.5, 0.9, 1.0).lines["numbers"]  # layer 4 is known
    assert "computed layers 5 to 7" in draw(2, "shift", 4, 0.5, 0.9, 1.05).lines["numbers"]


def test_images_are_called_by_what_they_are(world):
    plain = Given(world["scores"])
    kinds = ["normal"] * 10
    for captions, ids, said in (
        (None, None, "image 3;"),
        (kinds, None, "image 3: normal;"),
        (None, range(40, 50), "id 43;"),
        (kinds, range(40, 50), "id 43: normal;"),
    ):
        lines = correction(world["flow"], world["z"], plain, captions, ids=ids)(3, "none", 0, 0, 0).lines
        assert lines["state"].startswith(said)


def test_the_smallest_amount_says_what_the_judge_thought(world, given):
    flow, z, recipe = world["flow"], world["z"], Recipe("shift", 2, 1.0)
    marks = [flow.generate(z[3:4], correct.shift(given.differences.only([2]), a)).clamp(-1, 1) for a in correct.AMOUNTS]

    def judge(falls):
        """A judge whose score is +1, and -1 from the amount on at which the image is `marks[falls]`."""
        near = lambda image: min(range(len(marks)), key=lambda g: float((marks[g] - image).abs().max()))  # noqa: E731
        return lambda images: torch.tensor([1.0 if near(image[None]) < falls else -1.0 for image in images])

    amount, said = smallest(flow, z, given, judge(2), 3, recipe)
    assert amount == correct.AMOUNTS[2] == 0.5
    assert said.startswith("the classifier said +1.00 at 0, +1.00 at 0.25, -1.00 at 0.5 (below 0 is normal): so 0.5 is")
    amount, said = smallest(flow, z, given, judge(0), 3, recipe)
    assert amount == 0 and "said -1.00 at 0 (below" in said and said.endswith("so nothing is done")
    amount, said = smallest(flow, z, given, judge(99), 3, recipe)
    assert amount == 0 and "+1.00 at 2.5" in said and said.endswith("so it is normal at none; 0 comes nearest")


def test_what_does_not_fit_is_said(world):
    flow, z, scores, masks = (world[name] for name in ("flow", "z", "scores", "masks"))
    for arguments, fault in (
        ((Given(scores["DS"]),), "scores must be"),
        ((Given(scores, masks[:3]),), "10 images, but 3 masks"),
        ((Given(scores), ["a"]), "10 images, but 1 captions"),
        ((Given(scores), None, None, [1, 2]), "10 images, but 2 ids"),
        ((Given(scores, None, {1: torch.ones(12, 4, 4)}),), "what units.differences returns"),
        ((Given(scores), None, None, None, {"images": "x"}), "names knows flow, z, scores"),
    ):
        with pytest.raises(ValueError, match=fault):
            correction(flow, z, *arguments)
