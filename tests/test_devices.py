"""The path over a GPU, without one: on the stand-in of `elsewhere` everything gives the numbers it gives on the CPU.

The stand-in refuses what a GPU refuses, so a tensor left behind on the wrong device fails here. What it cannot show
are a GPU's own rounding and speed.
"""

import pickle
import warnings
from dataclasses import replace

import pandas
import pytest
import torch
from torch import nn

from helpers import (
    causal,
    classifier,
    concepts,
    correct,
    dissection,
    domains,
    env,
    evaluation,
    gradcam,
    rare_units,
    survey,
    units,
)
from helpers.flow import Flow, State
from helpers.latents import latents
from helpers.networks import features, pggan, stylegan2, unetgan
from tests import own_generators as own
from tests.elsewhere import THERE, Elsewhere, gpu
from tests.networks import tiny_generator
from tests.own_generators import made

N = 9


def networks(name):
    """A network as numbered layers of 16 px images, always the same; hooked ones draw noise and take a label."""
    torch.manual_seed(0)
    if name == "pggan":
        return pggan.Layers(tiny_generator())
    if name == "stylegan2":
        return stylegan2.Layers(stylegan2.Generator((8, 8, 6), 9, 6, 2))
    if name == "unetgan":
        return unetgan.Layers(unetgan.Generator((12, 10, 8), latent=9, hidden=7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "traced":
            inputs = {"styles": latents([7], 6), "flip": True}
            return Flow.from_module(made(own.Styled), ["first", "second"], 6, inputs=inputs).network
        return Flow.from_module(made(own.Noisy, "size"), ["first", "second"], 6).network


NAMES = ("pggan", "stylegan2", "unetgan", "traced", "hooked")


@pytest.fixture(params=NAMES)
def both(request):
    """The same flow on the CPU and on the stand-in, and the latents; everything that follows runs with both."""
    here = Flow(networks(request.param), batch=4)
    z = latents(range(N), here.latent)
    with torch.no_grad(), gpu() as device:
        there = Flow(networks(request.param).to(device), batch=4)
        yield here, there, z


def close(found, expected):
    """Equal numbers, in main memory."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key])
        return
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            close(one, other)
        return
    assert not isinstance(found, Elsewhere) and found.device.type == "cpu" and found.dtype == expected.dtype
    largest = float(expected.double().nan_to_num().abs().max()) if expected.numel() else 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * largest, equal_nan=True)


def masks_of(flow, count=N):
    side = flow.resolution(flow.n_layers)
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[i % 3 : 5, 1 : 4 + i % 2] = True
    return masks


# The stand-in itself


def test_the_stand_in_refuses_what_a_gpu_refuses():
    with torch.no_grad(), gpu() as device:
        there, here = torch.ones(2, 3, device=device), torch.ones(2, 3)
        assert there.device == THERE and (there + 1).device == THERE and isinstance(there[:, None] * 2.0, Elsewhere)
        for mixed in (
            lambda: there + here,
            lambda: there @ here.T,
            lambda: torch.cat([there, here]),
            lambda: torch.where(there > 0, here, there),
            lambda: here[there[0] > 0],
            lambda: nn.Linear(3, 2)(there),
        ):
            with pytest.raises(RuntimeError, match="same device|indices"):
                mixed()
        for lost in (lambda: there.numpy(), lambda: there.cpu().numpy() + there):
            with pytest.raises((RuntimeError, TypeError)):
                lost()
        assert torch.equal(there.cpu(), here) and float(there.sum()) == 6 and bool((there > 0).all())
        assert torch.equal((there * 2).to(here), here * 2) and here.to("cuda").device == THERE
        assert nn.Linear(3, 2).to(device)(there).device == THERE
        assert torch.tensor([1.5], device=device).device == THERE and torch.tensor([1.5]).device.type == "cpu"
        one = torch.ones(4, device=device)
        one[1:3] += 1
        assert one.cpu().tolist() == [1, 2, 2, 1]


# Flow


def test_generation_recording_and_states(both):
    here, there, z = both
    assert there.device == THERE and here.device.type == "cpu"
    close(there.generate(z), here.generate(z))
    layers = [1, 2, here.n_layers]
    close(there.record(z, layers), here.record(z, layers))
    for layer in (0, 1, 2):
        state = there.state(z, layer)
        close(state.h, here.state(z, layer).h)
        close(state.extras, here.state(z, layer).extras)
        close(there.resume(state), here.generate(z))
        close(there.resume(here.state(z, layer)), here.generate(z))
    further = there.advance(there.state(z, 1), 2)
    close(there.resume(State(2, 0.5 * further.h, further.extras), {here.n_layers: lambda h: -h}),
          here.resume(State(2, 0.5 * further.h, further.extras), {here.n_layers: lambda h: -h}))  # fmt: skip


def test_what_is_recorded_lands_in_memory_of_its_own(both):
    here, there, z = both
    chunks = [env.to_memory(h[1]) for _, h in there.stream(z, [1])]
    close(torch.cat([landed() for landed in chunks]), here.record(z, [1])[1])
    for _, chunk in there.stream(z, [1]):
        assert chunk[1].device == THERE  # statistics are taken where the featuremap is


def test_corrections(both):
    here, there, z = both
    scores, masks = units.random_scores(here, layers=[1, 2]), masks_of(here)
    apart = units.differences(here, z[:4], z[4:], [1, 2])
    soft = masks.float() * 0.7
    by_image = {layer: torch.rand(N, here.units(layer), generator=torch.Generator().manual_seed(1)) for layer in (1, 2)}
    for edits in (
        correct.ablate(2, [0, 3]),
        correct.sequential(scores, stop_layer=2),
        correct.local(scores, masks, stop_layer=2),
        correct.local(scores, soft, stop_layer=1),
        correct.per_image(by_image, stop_layer=2),
        correct.shift(apart),
        correct.shift(apart, torch.linspace(0, 2, N), portion=0.5, masks=soft),
        correct.shift(apart, 0.5, how="linear", places=False, clamp=True),
    ):
        close(there.generate(z, edits), here.generate(z, edits))
        close(there.resume(there.state(z, 0), edits), here.generate(z, edits))
    h = here.record(z, [2])[2]
    there_h = h.to(THERE)
    edit = correct.ablate(2, [1])[2]
    close(correct.gain(there_h, edit).cpu(), correct.gain(h, edit))


def test_differences_and_the_smallest_amount(both):
    here, there, z = both
    more = latents(range(20, 30), here.latent)
    found, expected = (units.differences(flow, z, more, [1, 2]) for flow in (there, here))
    close(dict(found), dict(expected))
    close(found.standardised(), expected.standardised())
    close(
        dict(correct.layer_after_layer(there, z, more, [1, 2])), dict(correct.layer_after_layer(here, z, more, [1, 2]))
    )

    def judge(images):
        """As a classifier does: on its own device, its answer wherever that is."""
        return images.to(THERE).mean(dim=(1, 2, 3)) - 0.01

    amounts = [correct.smallest_amount(flow, z, expected, judge) for flow in (there, here)]
    close(tuple(amounts[0]), tuple(amounts[1]))


# Surveys and scores


def test_surveys(both):
    here, there, z = both
    found, expected = (survey.survey(flow, z, tau=0.05, k=3) for flow in (there, here))
    for field in ("thresholds", "rates", "position_rates", "means", "deviations", "top"):
        close(getattr(found, field), getattr(expected, field))
    for by in ("max", "mean", "norm"):
        close(survey.unit_maxima(there, z, by=by), survey.unit_maxima(here, z, by=by))
    above = survey.thresholds(here, z, tau=0.2)
    close(survey.thresholds(there, z, tau=0.2), above)
    close(survey.activation_rates(there, z, above), survey.activation_rates(here, z, above))


def test_a_survey_in_several_passes(both, monkeypatch):
    monkeypatch.setattr(survey, "CAPACITY", 32)  # so that brackets overflow
    here, there, z = both
    close(survey.thresholds(there, z, tau=0.3, layers=[2]), survey.thresholds(here, z, tau=0.3, layers=[2]))


def test_parts_of_a_survey(both, tmp_path):
    here, there, z = both
    survey.part(there, z[:5], tmp_path / "a", tau=0.1, k=2)
    survey.part(here, z[5:], tmp_path / "b", first=5, tau=0.1, k=2)  # one machine with a GPU, one without
    found = survey.merge([tmp_path / "b", tmp_path / "a"], there, z)
    close(found.thresholds, survey.thresholds(here, z, tau=0.1))


@pytest.mark.parametrize("options", [{}, {"order": "netdissect"}, {"binarise_upsampled": 0.5}, {"reduce": "pooled"}])
def test_scores(both, options):
    here, there, z = both
    masks, levels = masks_of(here), survey.thresholds(here, z, tau=0.1)
    close(
        units.defective_scores(there, z, masks, levels, **options),
        units.defective_scores(here, z, masks, levels, **options),
    )
    if "reduce" not in options:
        close(units.ious(there, z, masks, levels, **options), units.ious(here, z, masks, levels, **options))


def test_concepts(both):
    here, there, z = both
    close(concepts.representative_image(there, z[:4], 2), concepts.representative_image(here, z[:4], 2))
    chosen, masks = list(range(here.units(1))), masks_of(here)
    assert concepts.clusters(there, z, 1, chosen, 3, masks) == concepts.clusters(here, z, 1, chosen, 3, masks)


# What units are called, how rare they are, and what they cause


def shades(images):
    """Label maps (B, R, R) of three labels, computed where the images are."""
    return (images[:, 0] > 0).long() + (images[:, 1] > 0).long()


def test_dissection(both):
    here, there, z = both
    close(dissection.levels(there, z, layers=[1, 2]), dissection.levels(here, z, layers=[1, 2]))
    grid = dissection.levels(here, z, layers=[1, 2])
    found, expected = (dissection.dissect(flow, z, shades, grid, ["dark", "grey", "bright"]) for flow in (there, here))
    for field in ("inside", "sizes", "areas"):
        close(getattr(found, field), getattr(expected, field))
    pandas.testing.assert_frame_equal(dissection.table(found), dissection.table(expected))


def test_rare_units(both):
    here, there, z = both
    rates = survey.activation_rates(here, z, layers=[1, 2], places=True)
    close(survey.activation_rates(there, z, layers=[1, 2], places=True), rates)
    neurons = rare_units.rare(rates, at_most=0.9)
    close(rare_units.active_counts(there, z, neurons), rare_units.active_counts(here, z, neurons))
    close(rare_units.overlay(there, z, neurons), rare_units.overlay(here, z, neurons))
    edits = rare_units.ablate(neurons)
    close(there.generate(z, edits), here.generate(z, edits))


def test_causes(both):
    here, there, z = both
    side = here.resolution(here.n_layers)
    labels = (torch.arange(side) >= side // 2).long().expand(N, side, side)
    places = [
        [causal.places(flow, z, 2, labels, 1, present, count=6, across=2) for present in (False, True)]
        for flow in (there, here)
    ]
    for found, expected in zip(*places):
        close((found.state.h, found.masks, found.rows, found.before), (expected.state.h, *_of(expected)))
    values = causal.mean_values(here, z, 2, labels, 1)
    close(causal.mean_values(there, z, 2, labels, 1), values)
    alpha = causal.top(values, here.units(2) // 2)
    close(causal.images(there, places[0][0], alpha, values), causal.images(here, places[1][0], alpha, values))
    for edits in (causal.insert(2, alpha, values, masks_of(here).float()), causal.ablate(2, alpha)):
        close(there.generate(z, edits), here.generate(z, edits))
    effects = [causal.effect(flow, shades, *pair, alpha, values) for flow, pair in zip((there, here), places)]
    close(tuple(effects[0]), tuple(effects[1]))

    def score(images):
        """Logits of three labels, where the images are."""
        weights = torch.linspace(-1, 1, 9, device=images.device).view(3, 3)
        return torch.einsum("lc,bchw->blhw", weights, images)

    for flow in (here, there):
        flow.network.requires_grad_(False)  # gradients of the stand-in cannot be had, what they come from can
    lost = [causal.objective(flow, score, *pair, alpha, values) for flow, pair in zip((there, here), places)]
    close(*lost)


def _of(places):
    return places.masks, places.rows, places.before


def test_directions_and_noise_in_latent_space(both):
    here, there, z = both
    more = latents(range(20, 30), here.latent)
    direction = correct.latent_direction(z, more)

    def judge(images):
        return images.to(THERE).mean(dim=(1, 2, 3)) - 0.01

    found, expected = (correct.smallest_step(flow, z, direction, judge) for flow in (there, here))
    close(tuple(found), tuple(expected))
    noise = [
        evaluation.noise_as_far(lambda z, flow=flow: flow.generate(z).flatten(1), z, 0.5, steps=3)
        for flow in (there, here)
    ]
    close(noise[0][0], noise[1][0])
    assert noise[0][1] == noise[1][1]


@pytest.mark.parametrize("branch", [True, False])
def test_a_module_with_labels(branch):
    """Whole numbers go along with the featuremaps of a module that is hooked, and of one that is traced."""
    here = Flow.from_module(made(own.Labelled, branch), ["first", "second"], 6, inputs={"y": torch.arange(N) % 4})
    z = latents(range(N), 6)
    with torch.no_grad(), gpu() as device:
        there = Flow(pickle.loads(pickle.dumps(here.network)).to(device), batch=4)
        close(there.generate(z), here.generate(z))
        close(there.resume(there.state(z, 1)), here.generate(z))
        close(there.record(z, [1, 2]), here.record(z, [1, 2]))


# A domain, from masks to distances


@pytest.fixture
def pair():
    """A whole domain on the CPU and on the stand-in."""

    def domain(device=None):
        torch.manual_seed(1)
        judged = [features.ResNet18(2, "small", classes=0).eval() for _ in range(2)]
        discriminator = pggan.Discriminator((11, 10, 8)).eval()
        flow = Flow(networks("pggan") if device is None else networks("pggan").to(device), batch=4)
        head = classifier.Head(torch.randn(3, 16), torch.randn(3))
        detector = classifier.Head(torch.stack([torch.zeros(16), torch.randn(16)]), torch.zeros(2))
        parts = [part if device is None else part.to(device) for part in (discriminator, *judged)]
        return domains.Domain(
            "tiny", flow, parts[0], parts[1], head, detector, 0.1 * torch.ones(2, 2), parts[2], _render, (), None
        )

    here = domain()
    with torch.no_grad(), gpu() as device:
        yield here, domain(device)


def _render(ids):
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (len(list(ids)), 3, 16, 16), generator=g, dtype=torch.uint8), None


def test_a_domain(pair):
    here, there = pair
    ids = range(N)
    images = here.images(ids)
    close(there.images(ids), images)
    for name in ("maps", "classify", "cams", "d_values"):
        close(getattr(there, name)(images), getattr(here, name)(images))
    close(there.masks(ids), here.masks(ids))
    company = images[:3]
    close(there.d_values(images, company), here.d_values(images, company))
    crossed = [replace(one, discriminator=_zoo(one.discriminator)) for one in (there, here)]
    close(crossed[0].d_values(images, company), crossed[1].d_values(images, company))
    close(there.evaluation.pooled(images), here.evaluation.pooled(images))


def _zoo(discriminator):
    discriminator.deviation = pggan.unbiased_deviation
    return discriminator


def test_the_classifiers_map_through_a_backward_pass_and_in_closed_form(pair):
    here, there = pair
    maps = there.maps(here.images(range(4)))
    close(gradcam.gradcam(maps, there.detector, size=16), gradcam.gradcam(maps, here.detector, size=16))
    with torch.enable_grad():
        head = classifier.fit(maps.mean(dim=(2, 3)), torch.tensor([0, 1, 2, 1]))
    assert classifier.predict(head, maps.mean(dim=(2, 3))).device.type == "cpu"


def test_samples_and_distances(pair):
    here, there = pair
    correction = lambda scores: correct.ablate(1, [0, 1])  # noqa: E731
    samples = [
        (
            evaluation.sample(one, range(N)),
            evaluation.sample(one, range(N), correction),
            evaluation.real_sample(one, range(12)),
        )
        for one in (there, here)
    ]
    for found, expected in zip(*samples):
        close(found.features, expected.features)
        close(found.images, expected.images)
    close(evaluation.moved(samples[0][0], samples[0][1]), evaluation.moved(samples[1][0], samples[1][1]))
    distances = [evaluation.Reference(real).fd(corrected) for _, corrected, real in samples]
    assert distances[0] == pytest.approx(distances[1], rel=1e-3)


def test_the_device_is_the_one_place_that_decides(monkeypatch):
    monkeypatch.delenv("HELPERS_DEVICE", raising=False)
    with gpu():
        assert env.device().type == "cuda" and env.devices()[-1] == "cuda"
        assert torch.zeros(2).to(env.device()).device == THERE
    assert env.device().type == env.devices()[-1]
