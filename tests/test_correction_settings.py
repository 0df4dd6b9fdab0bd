import pytest
import torch

from helpers import correct, units
from helpers.flow import Flow
from helpers.interface.correction_settings import Recipe
from helpers.latents import latents
from helpers.networks import pggan

METHODS = ("none", "DS", "FD", "sequential", "local")


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    flow = Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)))
    return {
        "flow": flow,
        "z": latents(range(5), 9),
        "scores": {"DS": units.random_scores(flow, 1), "FD": units.random_scores(flow, 2)},
        "masks": torch.rand(5, 16, 16) > 0.5,
        "correct": correct,
        "units": units,
    }


@pytest.mark.parametrize("layer", [0, 1, 4])
@pytest.mark.parametrize("method", METHODS)
def test_the_code_repeats_the_correction(world, method, layer):
    recipe, flow, z = Recipe(method, layer, 0.25, 0.8), world["flow"], world["z"]
    images = flow.generate(z[3:4], recipe.edits(world["scores"], world["masks"][3:4]))
    assert torch.equal(eval(recipe.code(3, world["scores"]), world), images)
    assert torch.equal(images, flow.generate(z[3:4])) == (method == "none" or layer == 0)


def test_edits_are_those_of_correct(world):
    scores = world["scores"]
    assert Recipe("none").edits(scores) == {}
    ours, theirs = Recipe("sequential", 4, 0.5, 0.7).edits(scores), correct.sequential(scores["DS"], 4, 0.5, 0.7)
    assert list(ours) == [1, 2, 3, 4] and all(torch.equal(ours[k].weights, theirs[k].weights) for k in ours)
    (edit,) = Recipe("FD", 3, 0.2).edits(scores).values()
    assert edit.units == tuple(sorted(scores["FD"][3].argsort(descending=True)[:2].tolist()))


def test_units_are_counted(world):
    scores = world["scores"]
    assert [Recipe(method, 3, 0.5).count(scores) for method in METHODS] == [0, 5, 5, 6 + 6 + 5, 6 + 6 + 5]
    assert [Recipe(method, 0, 0.5).count(scores) for method in METHODS] == [0] * 5


def test_settings_that_are_not_used_do_not_tell_recipes_apart():
    assert Recipe("none", 3, 0.1, 0.2).essential == Recipe("none", 5, 0.4, 0.9).essential
    assert Recipe("local", 3, 0.1, 0.2).essential == Recipe("local", 3, 0.1, 0.7).essential
    assert Recipe("DS", 3, 0.1, 0.2).essential == Recipe("DS", 3, 0.1, 0.7).essential != Recipe("FD", 3, 0.1).essential
    assert Recipe("sequential", 3, 0.1, 0.2).essential == Recipe("sequential", 3, 0.1, 0.2)


def test_words():
    assert str(Recipe()) == "sequential, stop layer 6, portion 20 %, scale 0.90"
    assert str(Recipe("local", 4, 0.075)) == "local, stop layer 4, portion 7.5 %"
    assert str(Recipe("FD", 4, 0.5)) == "top FD units of one layer to zero, layer 4, portion 50 %"
    assert str(Recipe("none")) == "no correction"


def test_what_cannot_be_done_is_said(world):
    scores = world["scores"]
    with pytest.raises(ValueError, match="there is no ranking 'IoU', there is: DS, FD"):
        Recipe("IoU").edits(scores)
    with pytest.raises(ValueError, match="'FD' has no scores for layer 3: choose one of 4, 5"):
        Recipe("FD", 3).edits({"FD": {5: torch.ones(8), 4: torch.ones(10)}})
    with pytest.raises(ValueError, match="needs masks"):
        Recipe("local", 3).edits(scores)
    with pytest.raises(ValueError, match="portion"):
        Recipe("sequential", 3, 1.5).edits(scores)
