"""Measure the survey's memory against the number of images, and one process against two."""

import multiprocessing
import re
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks import compare, met
from helpers import domains, survey

MEMORY = "<= 1.05"


def rows(rounds, flow=None, sizes=(2000, 20_000), spread=2048):
    """Yield the rows of this module; flow: default the generator of the churches."""
    yield memory(sizes)
    yield workers(rounds, flow or domains.load("churches").flow, spread)


def memory(sizes):
    """Compare the peak memory of two processes that differ in the number of images only."""
    small, large = (peak(images) for images in sizes)
    note = f"peak memory {small[0]:.0f} and {large[0]:.0f} MiB, before the survey {small[1]:.0f} and {large[1]:.0f} MiB"
    if met(large[0] / small[0], MEMORY) is False:
        note += "; the brackets grow up to their capacity and no further, see scale.md"
    name = f"Survey of {sizes[1]:,} / of {sizes[0]:,} images: memory"
    return name, MEMORY, large[0] / small[0], large[2], small[2], note


def peak(images, what="survey"):
    """Survey, or dissect, so many generations in a process of their own: MiB at its peak, MiB before, and seconds."""
    run = subprocess.run([sys.executable, "-m", "benchmarks.peak", str(images), what], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the process that measures memory failed: {run.stderr.strip()[-500:]}")
    return tuple(map(float, run.stdout.split()))


def used():
    """Return the most memory this process has held, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux hands the parent's peak on to a new process in `ru_maxrss`, but not here
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2**10
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
