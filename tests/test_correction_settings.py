import pytest
import torch

from helpers import correct, units
from helpers.corrections.amounts import Direction
from helpers.flow import Flow
from helpers.interface.correction_settings import Given, Recipe
from helpers.interface.previews import named
from helpers.latents import latents
from helpers.networks import pggan

DAMPING, SHIFTING = ("none", "DS", "FD", "sequential", "local"), ("shift", "local shift", "latent direction")
NAMES = named(None, "flow", "z", "scores", "masks", "differences", "direction")


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    flow = Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)))
    return {
        "flow": flow,
        "z": latents(range(5), 9),
        "scores": {"DS": units.random_scores(flow, 1), "FD": units.random_scores(flow, 2)},
        "masks": torch.rand(5, 16, 16) > 0.5,
        "differences": units.differences(flow, latents(range(10, 20), 9), latents(range(20, 26), 9), [1, 4]),
        "direction": Direction(torch.nn.functional.normalize(torch.arange(9.0), dim=0)),
        "correct": correct,
        "units": units,
    }


@pytest.fixture(scope="module")
def given(world):
    return Given(*(world[name] for name in ("scores", "masks", "differences", "direction")))


def generated(world, recipe, given):
    """The fourth image, by the flow alone."""
    edits = dict(recipe.edits(given.row(3)))
    step = edits.pop(0, lambda z: z)
    return world["flow"].generate(step(world["z"][3:4]), edits)


@pytest.mark.parametrize("layer", [0, 1, 4])
@pytest.mark.parametrize("method", DAMPING + SHIFTING)
def test_the_code_repeats_the_correction(world, given, method, layer):
    if layer not in given.layers(method):
        return
    recipe, plain = Recipe(method, layer, 0.25, 0.8, 1.5), world["flow"].generate(world["z"][3:4])
    images = generated(world, recipe, given)
    assert torch.equal(eval(recipe.code(3, given, NAMES), world), images)
    same = method == "none" or (layer == 0 and method in DAMPING)
    assert torch.equal(images, plain) == same


def test_code_speaks_the_notebooks_names(world, given):
    named_here = named({"z": "held", "scores": "ranked['a']", "masks": "m", "differences": "found"}, *NAMES)
    here = {"held": world["z"], "ranked": {"a": world["scores"]}, "m": world["masks"], "found": world["differences"]}
    here |= {name: world[name] for name in ("flow", "direction", "correct", "units")}
    for method in DAMPING + SHIFTING:
        recipe = Recipe(method, 4, 0.25, 0.8, -0.5)
        assert torch.equal(eval(recipe.code(3, given, named_here), here), generated(world, recipe, given))


def test_shifts_are_those_of_correct(world, given):
    assert given.layers("shift") == given.layers("local shift") == [1, 4]
    assert given.layers("sequential") == given.layers("FD") == given.layers("none") == [0, 1, 2, 3, 4, 5, 6]
    flow, z, differences = world["flow"], world["z"][3:4], world["differences"]
    ours = generated(world, Recipe("shift", 4, 0.5, amount=2.0), given)
    theirs = flow.generate(z, correct.shift(differences.only([4]), 2.0, 0.5))
    assert torch.equal(ours, theirs) and not torch.equal(theirs, flow.generate(z))
    local = generated(world, Recipe("local shift", 4, 0.5, amount=2.0), given)
    assert torch.equal(local, flow.generate(z, correct.shift(differences.only([4]), 2.0, 0.5, world["masks"][3:4])))
    stepped = generated(world, Recipe("latent direction", amount=2.0), given)
    assert torch.equal(stepped, flow.generate(world["direction"].step(z, 2.0)))
    assert "differences.only" not in Recipe("shift", 4).code(0, Given({}, None, differences.only([4])), NAMES)


@pytest.mark.parametrize("method", SHIFTING)
def test_the_smallest_amount_is_that_of_correct(world, given, method):
    def judge(images):
        return images.mean(dim=(1, 2, 3)) + 0.1

    recipe, flow, z = Recipe(method, 1, 0.5, amount=7.0), world["flow"], world["z"][3:4]
    found = recipe.smallest(flow, z, given.row(3), judge)
    masks = world["masks"][3:4] if method == "local shift" else None
    if method == "latent direction":
        expected = correct.smallest_step(flow, z, world["direction"], judge)
    else:
        expected = correct.smallest_amount(flow, z, world["differences"].only([1]), judge, portion=0.5, masks=masks)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_edits_are_those_of_correct(given):
    scores = given.scores
    assert Recipe("none").edits(given) == {}
    ours, theirs = Recipe("sequential", 4, 0.5, 0.7).edits(given), correct.sequential(scores["DS"], 4, 0.5, 0.7)
    assert list(ours) == [1, 2, 3, 4] and all(torch.equal(ours[k].weights, theirs[k].weights) for k in ours)
    (edit,) = Recipe("FD", 3, 0.2).edits(given).values()
    assert edit.units == tuple(sorted(scores["FD"][3].argsort(descending=True)[:2].tolist()))


def test_what_is_touched_is_counted(given):
    assert [Recipe(method, 3, 0.5).count(given) for method in DAMPING] == [
        *("0 units", "5 units", "5 units", f"{6 + 6 + 5} units", f"{6 + 6 + 5} units")
    ]
    assert {Recipe(method, 0, 0.5).count(given) for method in DAMPING} == {"0 units"}
    assert Recipe("shift", 4, 0.5).count(given) == "320 of 640 units and places"  # 10 units at 8 x 8 places
    assert Recipe("latent direction").count(given) == "every unit"


def test_methods_are_there_where_they_can_be(given):
    assert given.methods == ["none", "DS", "FD", "sequential", "local", "shift", "local shift", "latent direction"]
    assert Given(given.scores).methods == ["none", "DS", "FD", "sequential"]
    assert Given({"DS": {1: torch.ones(3)}}, None, given.differences).methods == ["none", "DS", "sequential", "shift"]


def test_settings_that_are_not_used_do_not_tell_recipes_apart():
    assert Recipe("none", 3, 0.1, 0.2).essential == Recipe("none", 5, 0.4, 0.9).essential
    assert Recipe("local", 3, 0.1, 0.2).essential == Recipe("local", 3, 0.1, 0.7, 2.0).essential
    assert Recipe("DS", 3, 0.1, 0.2).essential == Recipe("DS", 3, 0.1, 0.7).essential != Recipe("FD", 3, 0.1).essential
    assert Recipe("sequential", 3, 0.1, 0.2).essential == Recipe("sequential", 3, 0.1, 0.2)
    assert Recipe("shift", 3, 0.1, 0.2).essential == Recipe("shift", 3, 0.1, 0.7).essential
    assert Recipe("shift", 3, 0.1).essential != Recipe("shift", 3, 0.1, amount=0.5).essential
    assert Recipe("latent direction", 3, 0.1).essential == Recipe("latent direction", 2, 0.7).essential


def test_words():
    assert str(Recipe()) == "sequential, stop layer 6, portion 20 %, scale 0.90"
    assert str(Recipe("local", 4, 0.075)) == "local, stop layer 4, portion 7.5 %"
    assert str(Recipe("FD", 4, 0.5)) == "top FD units of one layer to zero, layer 4, portion 50 %"
    assert str(Recipe("none")) == "no correction"
    assert str(Recipe("shift", 1, amount=-0.25)) == "shift, layer 1, portion 20 %, amount -0.25"
    assert str(Recipe("latent direction", amount=2)) == "latent direction, amount 2.00"


def test_what_cannot_be_done_is_said(given):
    with pytest.raises(ValueError, match="there is no ranking 'IoU', there is: DS, FD"):
        Recipe("IoU").edits(given)
    with pytest.raises(ValueError, match="'FD' has no scores for layer 3: choose one of 4, 5"):
        Recipe("FD", 3).edits(Given({"FD": {5: torch.ones(8), 4: torch.ones(10)}}))
    with pytest.raises(ValueError, match="there is no difference of layer 3: choose one of 1, 4"):
        Recipe("shift", 3).edits(given)
    for method in ("local", "local shift"):
        with pytest.raises(ValueError, match=f"the {method} correction needs masks"):
            Recipe(method, 1).edits(Given(given.scores, None, given.differences))
    with pytest.raises(ValueError, match="portion"):
        Recipe("sequential", 3, 1.5).edits(given)
