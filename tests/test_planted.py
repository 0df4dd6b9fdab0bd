import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from helpers import correct, domains, survey, units
from helpers.evidence import ground_truth
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from helpers.worlds import planted
from tests.networks import Canvas, tiny_generator
from tests.rounding import close

LAYER = 4  # of 6, at 8 px of 16


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()), batch=8)


@pytest.fixture(scope="module")
def z():
    return latents(range(120), 9)


def plant(flow, z, **changes):
    return planted.plant(flow, z, **({"layers": (LAYER,), "count": 2, "area": (0, 1), "strength": 20.0} | changes))


@pytest.fixture(scope="module", params=planted.KINDS)
def planting(request, flow, z):
    return plant(flow, z, kind=request.param)


@pytest.fixture(scope="module")
def fresh():
    return latents(range(500, 560), 9)


def test_images_where_nothing_fires_are_the_originals_bit_by_bit(planting, flow, fresh):
    images, originals, fires = planting.flow.generate(fresh), flow.generate(fresh), planting.fires(fresh)
    same = (images == originals).flatten(1).all(dim=1)
    assert torch.equal(same, ~fires)
    assert 5 < fires.sum() < 55


def test_fires_is_an_activation_above_its_level(planting, flow, fresh):
    h = flow.record(fresh, [LAYER])[LAYER][:, list(planting.units[LAYER])]
    expected = (h > planting.levels[LAYER][:, None, None]).flatten(1).any(dim=1)
    assert torch.equal(planting.fires(fresh), expected)
    assert torch.equal(planting.fired(survey.unit_maxima(flow, fresh)), expected)


def test_planting_is_one_convolution_with_more_inputs(planting, flow, fresh):
    part, generator = planting.flow.network.leaving[str(LAYER)], flow.network.generator
    h = flow.record(fresh, [LAYER])[LAYER]
    normalised = h / (h.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    chosen = list(planting.units[LAYER])
    gated = torch.where(h[:, chosen] > planting.levels[LAYER][:, None, None], normalised[:, chosen], 0)
    inputs = torch.cat([normalised, gated], dim=1).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    weight = torch.cat([generator.layer4.weight * generator.layer4.scale, part.weight], dim=1)
    expected = F.leaky_relu(F.conv2d(inputs, weight, generator.layer4.bias, padding=1), 0.2)
    recorded = planting.flow.record(fresh, [LAYER, LAYER + 1])
    assert torch.equal(recorded[LAYER], h)
    close(recorded[LAYER + 1], expected)


def test_defects_stay_near_the_places_that_fire(planting, flow, fresh):
    h = flow.record(fresh, [LAYER])[LAYER][:, list(planting.units[LAYER])]
    fires = (h > planting.levels[LAYER][:, None, None]).any(dim=1, keepdim=True).float()
    # Two convolutions of three pixels follow at twice the size.
    reach = F.max_pool2d(F.interpolate(fires, scale_factor=2), 5, 1, 2)[:, 0] > 0
    differs = (planting.flow.generate(fresh) != flow.generate(fresh)).any(dim=1)
    assert differs.any() and not (differs & ~reach).any()


def test_setting_the_planted_units_to_zero_removes_the_defect(planting, flow, fresh):
    edits = correct.ablate(LAYER, planting.units[LAYER])
    assert torch.equal(planting.flow.generate(fresh, edits), flow.generate(fresh, edits))


def test_all_planted_units_fire_as_often_and_together_at_the_rate(flow, z):
    for rate in (0.2, 0.5):
        planting = plant(flow, z, layers=(3, LAYER), rate=rate)
        assert planting.fires(z).float().mean().item() == pytest.approx(rate, abs=0.03)
        maxima = survey.unit_maxima(flow, z, [3, LAYER])
        counts = [
            int((maxima[layer][:, unit] > level).sum())
            for layer, chosen in planting.units.items()
            for unit, level in zip(chosen, planting.levels[layer])
        ]
        assert len(counts) == 4 and max(counts) - min(counts) <= 1
        assert all((levels >= 0).all() for levels in planting.levels.values())


def test_the_original_is_left_alone(flow, z, fresh):
    before, images = copy.deepcopy(flow.network.state_dict()), flow.generate(fresh)
    planting = plant(flow, z)
    assert planting.original is flow and torch.equal(flow.generate(fresh), images)
    assert all(torch.equal(value, before[name]) for name, value in flow.network.state_dict().items())
    mine = {value.data_ptr() for value in planting.flow.network.state_dict().values()}
    assert not mine & {value.data_ptr() for value in flow.network.state_dict().values()}


def test_the_seed_decides(flow, z, fresh):
    first, again, other = plant(flow, z), plant(flow, z), plant(flow, z, seed=1)
    assert first.units == again.units
    assert torch.equal(first.flow.generate(fresh), again.flow.generate(fresh))
    assert not torch.equal(first.flow.generate(fresh), other.flow.generate(fresh))


def test_batches_and_processes_change_nothing(planting, fresh):
    images = planting.flow.generate(fresh)
    sent = pickle.loads(pickle.dumps(planting))
    assert sent.units == planting.units and torch.equal(sent.flow.generate(fresh), images)
    alone = torch.cat([planting.flow.generate(one) for one in fresh.split(1)])
    close(alone, images)


def test_activations_may_be_taken_after_normalisation(z, fresh):
    flow = Flow(pggan.Layers(tiny_generator(), post_pn=True), batch=8)
    planting = plant(flow, z)
    same = (planting.flow.generate(fresh) == flow.generate(fresh)).flatten(1).all(dim=1)
    assert torch.equal(same, ~planting.fires(fresh)) and not same.all()
    h = planting.flow.record(fresh, [LAYER + 1])[LAYER + 1]
    assert h.square().mean(dim=1).sqrt().mean().item() == pytest.approx(1, abs=1e-3)


def test_regions_are_where_a_shown_channel_differs_by_more():
    original = torch.zeros(1, 3, 2, 2)
    image = original.clone()
    image[0, 1, 0, 0], image[0, 2, 0, 1], image[0, 0, 1, 1] = 0.5, -0.29, 3
    assert planted.regions(image, original).tolist() == [[[True, False], [False, True]]]
    assert planted.regions(image, original, level=0.2).tolist() == [[[True, True], [False, True]]]
    assert not planted.regions(image + 5, original + 1).any()  # both are white once shown
    with pytest.raises(ValueError, match="same latents"):
        planted.regions(image, original[:, :2])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layers": (9,)}, "no layer 9"),
        ({"layers": ()}, "read by a convolution"),
        ({"layers": (6,)}, "read by a convolution"),
        ({"layers": (7,)}, "read by a convolution"),
        ({"count": 11}, "has 10 units, cannot plant 11"),
        ({"count": 0}, "cannot plant 0"),
        ({"kind": "hole"}, "kind must be one of stain, texture, missing, got 'hole'"),
        ({"rate": 0.0}, "rate lies in"),
        ({"rate": 1.0}, "rate lies in"),
        ({"strength": 0.0}, "strength is positive"),
        ({"strength": float("nan")}, "strength is positive"),
        ({"strength": 1e-3}, "only 0 of layer 4's 10 units draw a local, visible defect, 2 are wanted"),
        ({"area": (2, 3)}, "only 0 of layer 4's 10 units"),
    ],
)
def test_planting_refuses(flow, z, changes, message):
    with pytest.raises(ValueError, match=message):
        plant(flow, z, **changes)


def test_only_progressive_generators_can_be_planted_in():
    flow = Flow(Canvas(3, 4))
    with pytest.raises(TypeError, match="pggan.Layers network, got Canvas"):
        planted.plant(flow, torch.randn(4, flow.latent), layers=(1,))


@pytest.fixture(scope="module")
def churches():
    return domains.load("churches")


@pytest.fixture(scope="module")
def real(churches):
    return planted.plant(churches.flow, churches.latents(domains.POOL[:200]), layers=(4,), count=4, seed=1)


def test_check_measures_fresh_images(churches, real):
    z = churches.latents(domains.POOL[400:500])
    check, fires = planted.check(real, z), real.fires(z)
    area = planted.regions(real.flow.generate(z), churches.flow.generate(z)).float().mean(dim=(1, 2))
    assert check.fires == pytest.approx(fires.float().mean().item())
    assert check.artifacts == pytest.approx((area > planted.SIZE).float().mean().item())
    assert check.area == pytest.approx(area[area > planted.SIZE].median().item())
    assert check.accepted and 0.1 < check.artifacts <= check.fires < 0.6


def test_check_refuses_what_cannot_be_seen(churches, real):
    silent = copy.deepcopy(real)
    silent.flow.network.leaving["4"].weight.zero_()
    check = planted.check(silent, churches.latents(domains.POOL[400:450]))
    assert check.fires > 0 and check.artifacts == check.area == 0 and not check.accepted


def test_exact_regions_lead_to_the_planted_units(churches, real):
    z = churches.latents(domains.POOL[500:800])
    z = z[real.fires(z)]
    regions = planted.regions(real.flow.generate(z), churches.flow.generate(z))
    shown = regions.float().mean(dim=(1, 2)) > planted.SIZE
    levels = survey.thresholds(real.flow, churches.latents(domains.POOL[:500]), layers=[4])
    scores = units.defective_scores(real.flow, z[shown], regions[shown], levels)
    assert ground_truth.average_precision(scores, real.units) > 0.6
    assert ground_truth.average_precision(units.random_scores(churches.flow, 0, [4]), real.units) < 0.3


def test_correcting_the_planted_units_approaches_the_perfect_correction(churches, real):
    z = churches.latents(domains.POOL[800:900])
    z = z[real.fires(z)]
    perfect = real.original.generate(z)
    regions = planted.regions(real.flow.generate(z), perfect)
    shown = regions.any(dim=(1, 2))
    z, perfect, regions = z[shown], perfect[shown], regions[shown]
    quality = {
        name: ground_truth.psnr(real.flow.generate(z, edits), perfect, regions).mean()
        for name, edits in (("none", None), ("planted", correct.ablate(4, real.units[4])))
    }
    assert quality["planted"] > quality["none"] + 3
    assert ground_truth.psnr(real.original.generate(z), perfect).min() == float("inf")
