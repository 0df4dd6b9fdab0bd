"""Survey so many churches and print the peak memory in MiB, the memory before the survey and the seconds it took."""

import sys

from benchmarks import seconds
from benchmarks.spread import used
from helpers import checkpoints, latents, store, survey


def main(images):
    """Print the three numbers."""
    flow = checkpoints.load_generator(store.fetch("churches/generator.safetensors"))
    z = latents.latents(range(images), flow.latent)
    flow.generate(z[: flow.batch])
    before = used()

    took = seconds(lambda: survey.survey(flow, z))
    print(used(), before, took)


if __name__ == "__main__":
    main(int(sys.argv[1]))
