"""Measure the survey's time against plain generation."""

import torch

from benchmarks import compare, met, why
from helpers import domains, latents, survey, units
from helpers.streaming.quantiles import peaks

PASS, SCORES = "<= 1.15", "<= 1.5"
ARTIFACTS = 400
NOTE = "thresholds, rates per unit and per position, top images, moments"


def rows(rounds, flow=None, images=2000, z_artifact=None, masks=None):
    """Yield the rows of this module; flow, z_artifact, masks: default the churches and their labelled artifacts."""
    if flow is None:
        domain = domains.load("churches")
        ids, flow = domain.split(domains.TRAIN)[0][:ARTIFACTS], domain.flow
        z_artifact, masks = domain.latents(ids), domain.masks(ids)
    z = latents.latents(range(domains.POOL.start, domains.POOL.start + images), flow.latent)
    plain, thresholds = (lambda: flow.generate(z)), (lambda: survey.thresholds(flow, z))
    yield over_generation(rounds, flow, z, plain, thresholds)
    yield (
        "The whole survey in one pass / generation",
        None,
        *compare(lambda: survey.survey(flow, z), plain, rounds),
        NOTE,
    )

    def scores():
        units.defective_scores(flow, z_artifact, masks, survey.thresholds(flow, z))

    times = compare(scores, plain, rounds)
    name = f"Defective scores of all layers, {images:,} images and {len(masks)} artifacts / generation"
    yield name, SCORES, *times, why(scores, times[0], SCORES).removeprefix("; ")


def over_generation(rounds, flow, z, plain, thresholds):
    """Compare the thresholds of all layers with generation alone."""
    times, few = compare(thresholds, plain, rounds), z[:100]
    found = survey.thresholds(flow, few)
    apart = max(float((found[layer] - by_sorting(flow, few, layer)).abs().max()) for layer in flow.layers)
    note = f"from torch.quantile, {len(few)} images: largest difference {apart:.0e}"
    if met(times[0], PASS) is False:
        least = compare(lambda: read(flow, z), plain, rounds)[0]
        note += f"; {least:.2f} is what generating and one look at every activation take, without a threshold"
    name = f"Thresholds of all layers, {len(z):,} images / generation"
    return name, PASS, *times, note + why(thresholds, times[0], PASS)


def read(flow, z):
    """Generate all layers but the image and look at each activation once, which no survey can do without."""
    for _, recorded in flow.stream(z, flow.layers):
        for h in recorded.values():
            peaks(h)


def by_sorting(flow, z, layer, tau=0.005):
    """Return a layer's thresholds from all its activations at once."""
    h = flow.record(z, [layer])[layer]
    return torch.stack([torch.quantile(unit.flatten(), 1 - tau) for unit in h.unbind(dim=1)])
