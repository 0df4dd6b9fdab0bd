"""Measure the survey: its time against plain generation, its memory against the number of images, two workers."""

import multiprocessing
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks import compare, why
from helpers import domains, survey, units

PASS, SCORES, MEMORY = "<= 1.15", "<= 1.5", "<= 1.05"
ARTIFACTS = 400
NOTE = "thresholds, rates per unit and per position, top images, moments"


def rows(rounds, flow=None, images=2000, z_artifact=None, masks=None, sizes=(2000, 20_000), spread=2048):
    """Yield the rows of this module; flow, z_artifact, masks: default the churches and their labelled artifacts."""
    if flow is None:
        domain = domains.load("churches")
        ids, flow = domain.split(domains.TRAIN)[0][:ARTIFACTS], domain.flow
        z_artifact, masks = domain.latents(ids), domain.masks(ids)
    z = torch.randn(images, flow.latent, generator=torch.Generator().manual_seed(0))
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
    yield memory(sizes)
    yield workers(rounds, flow, spread)


def over_generation(rounds, flow, z, plain, thresholds):
    """Compare the thresholds of all layers with generation alone."""
    times, few = compare(thresholds, plain, rounds), z[:100]
    found = survey.thresholds(flow, few)
    apart = max(float((found[layer] - by_sorting(flow, few, layer)).abs().max()) for layer in flow.layers)
    note = f"from torch.quantile, {len(few)} images: largest difference {apart:.0e}"
    name = f"Thresholds of all layers, {len(z):,} images / generation"
    return name, PASS, *times, note + why(thresholds, times[0], PASS)


def by_sorting(flow, z, layer, tau=0.005):
    """Return a layer's thresholds from all its activations at once."""
    h = flow.record(z, [layer])[layer]
    return torch.stack([torch.quantile(unit.flatten(), 1 - tau) for unit in h.unbind(dim=1)])


def memory(sizes):
    """Compare the peak memory of two processes that differ in the number of images only."""
    small, large = (peak(images) for images in sizes)
    note = f"peak memory {small[0]:.0f} and {large[0]:.0f} MiB, before the survey {small[1]:.0f} and {large[1]:.0f} MiB"
    name = f"Survey of {sizes[1]:,} / of {sizes[0]:,} images: memory"
    return name, MEMORY, large[0] / small[0], large[2], small[2], note


def peak(images):
    """Survey so many generations in a process of their own: MiB at its peak, MiB before, and seconds."""
    run = subprocess.run([sys.executable, "-m", "benchmarks.peak", str(images)], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the process that measures memory failed: {run.stderr.strip()[-500:]}")
    return tuple(map(float, run.stdout.split()))


def used():
    """Return the most memory this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def workers(rounds, flow, images):
    """Compare one process with two, each with one thread."""
    z, found = torch.randn(images, flow.latent, generator=torch.Generator().manual_seed(1)), {}
    threads, spawn = torch.get_num_threads(), multiprocessing.get_context("spawn")
    torch.set_num_threads(1)
    try:
        with ProcessPoolExecutor(2, spawn, torch.set_num_threads, (1,)) as pool:
            alone = lambda: found.update(one=survey.thresholds(flow, z))  # noqa: E731
            shared = lambda: found.update(two=survey.thresholds(flow, z, map=pool.map))  # noqa: E731
            shared()  # starts the processes
            times = compare(alone, shared, rounds)
    finally:
        torch.set_num_threads(threads)
    apart = max(float((found["one"][layer] - found["two"][layer]).abs().max()) for layer in flow.layers)
    note = f"{images:,} images in shards of {survey.SHARD:,}; largest difference {apart:.0e}"
    return "Thresholds, one process / two, one thread each", None, *times, note
