"""Survey or dissect so many churches and print the peak memory in MiB, the memory before and the seconds it took."""

import sys

from benchmarks import seconds
from benchmarks.spread import used
from helpers import checkpoints, dissection, domains, latents, store, survey


def main(images, what):
    """Print the three numbers."""
    flow = checkpoints.load_generator(store.fetch("churches/generator.safetensors"))
    z = latents.latents(range(images), flow.latent)
    work = surveyed(flow) if what == "survey" else dissected(flow, z)
    flow.generate(z[: flow.batch])
    before = used()

    took = seconds(lambda: work(z))
    print(used(), before, took)


def surveyed(flow):
    """Return the survey as a function of latents."""
    return lambda z: survey.survey(flow, z)


def dissected(flow, z):
    """Return the dissection as a function of latents, with one threshold per unit from the first 300."""
    domain = domains.load("churches")
    grid = dissection.levels(flow, z[:300], dissection.FRACTIONS[1:2])
    segment = dissection.segmenter(domain.evaluation)
    return lambda z: dissection.dissect(flow, z, segment, grid, domain.classes)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
