"""Measure the dissection's time against plain generation, and its memory against the number of images."""

from torch.utils.flop_counter import FlopCounterMode

from benchmarks import compare, why
from benchmarks.spread import MEMORY, peak
from helpers import dissection, domains, latents

GOAL, LEVELS = "<= 2", 300  # images that thresholds are taken from


def rows(rounds, flow=None, segment=None, concepts=None, images=500, sizes=(1000, 10_000)):
    """Yield the rows of this module; flow, segment, concepts: default the churches, and what they are segmented into.

    sizes: images of the two processes whose memory is compared; None leaves that out.
    """
    if flow is None:
        domain = domains.load("churches")
        flow, concepts = domain.flow, domain.classes
        segment = dissection.segmenter(domain.evaluation)
    z = latents.latents(range(domains.POOL.start, domains.POOL.start + images), flow.latent)
    grid = dissection.levels(flow, z[:LEVELS])
    plain, drawn = (lambda: flow.generate(z)), flow.generate(z)
    label = lambda: [segment(part) for part in drawn.split(flow.batch)]  # noqa: E731
    alone = compare(label, plain, rounds)
    work = [operations(function) for function in (label, plain)]
    note = f"{work[0] / len(z) / 1e9:.2f} and {work[1] / len(z) / 1e9:.2f} GFLOP an image"
    yield "Segmentation alone / generation", None, *alone, note
    for what, levels in (("one threshold", {k: part[1] for k, part in grid.items()}), ("eight thresholds", grid)):
        whole = lambda levels=levels: dissection.dissect(flow, z, segment, levels, concepts)  # noqa: E731
        times = compare(whole, plain, rounds)
        name = f"Dissection of all units, {what} each, {images:,} images / generation"
        yield name, GOAL, *times, why(whole, times[0], GOAL).removeprefix("; ")
    if sizes:
        yield memory(sizes)


def operations(function):
    """Count the floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def memory(sizes):
    """Compare the peak memory of two processes that differ in the number of images only."""
    small, large = (peak(images, "dissection") for images in sizes)
    note = f"one round; peak memory {small[0]:.0f} and {large[0]:.0f} MiB, "
    note += (
        f"of which the dissection adds {small[0] - small[1]:.0f} and {large[0] - large[1]:.0f} to networks and latents"
    )
    name = f"Dissection of {sizes[1]:,} / of {sizes[0]:,} images: memory"
    return name, MEMORY, large[0] / small[0], large[2], small[2], note
