"""Estimate the paper's sizes from counted work: python -m benchmarks.scale prints the tables of docs/scale.md.

Arithmetic and memory traffic are counted operation by operation on networks without data; only the speed of the GPU
is assumed.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from helpers import survey
from helpers.networks import pggan
from helpers.streaming import quantiles

PAPER = {256: (512, 512, 512, 512, 256, 128, 64), 1024: (512, 512, 512, 512, 256, 128, 64, 32, 16)}
IMAGES, TAU = 200_000, 0.005
ARITHMETIC, TRAFFIC = 10e12, 1.0e12  # assumed to be sustained: operations and bytes a second, in float32
HOST = 0.3e-9  # seconds per activation to find, count and sort what lies in the brackets, as profiled on our processor
VIEWS = ("view", "unsqueeze", "slice", "detach", "permute", "expand")


class Traffic(TorchDispatchMode):
    """Count the bytes that operations read and write."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not any(view in str(function) for view in VIEWS):
            parts = [part for part in tree_leaves((args, kwargs, out)) if isinstance(part, torch.Tensor)]
            self.bytes += sum(part.numel() * part.element_size() for part in parts)
        return out


def counted(channels, batch=32):
    """Count per image: (floating-point operations, bytes moved, activations of each layer but the image)."""
    with torch.device("meta"), torch.no_grad():
        layers, z = pggan.Layers(pggan.Generator(channels, channels[0])), torch.zeros(batch, channels[0])

        def run():
            h, extras, sizes = z, {}, []
            for layer in range(1, layers.n_layers + 1):
                h, extras = layers.advance(layer, h, extras)
                sizes.append(h[0].numel())
            return sizes[:-1]

        with FlopCounterMode(display=False) as work:
            sizes = run()
        with Traffic() as traffic:
            run()
    return work.get_total_flops() / batch, traffic.bytes / batch, sizes


def bracket(activations, images=IMAGES, tau=TAU, width=survey.WIDTH, capacity=survey.CAPACITY):
    """Return the bytes of a layer's brackets after so many images, and whether they take a second pass.

    Up to the capacity they hold 2 * width / sqrt(images) * tau of all activations, 4 bytes each; far beyond it, bins
    of 12 bytes.
    """
    asked = 2 * width * tau * activations * images**0.5
    second = quantiles.LEAST * asked > capacity
    return (12 * capacity if second else 4 * min(asked, capacity)), second


def tables():
    """Lay the estimates out as two Markdown tables."""
    yield "| 200,000 images | operations | memory traffic | activations | generation | on 8 | thresholds | on 8 |"
    yield "|---|---|---|---|---|---|---|---|"
    for pixels, channels in PAPER.items():
        work, traffic, sizes = counted(channels)
        hours = IMAGES * (work / ARITHMETIC + traffic / TRAFFIC) / 3600, IMAGES * sum(sizes) * HOST / 3600
        work, traffic, size = f"{work / 1e9:.1f} GFLOP", f"{traffic / 1e9:.2f} GB", f"{sum(sizes) / 1e6:.1f} million"
        times = " | ".join(f"{part:.2f} h | {60 * part / 8:.1f} min" for part in hours)
        yield f"| {pixels} px | {work} | {traffic} | {size} | {times} |"
    yield ""
    yield "| brackets of the thresholds after 200,000 images | layers 1 to 6 | all layers | layers with a second pass |"
    yield "|---|---|---|---|"
    for pixels, channels in PAPER.items():
        sizes = counted(channels)[2]
        taken, second = zip(*map(bracket, sizes))
        few, every = (f"{sum(part) / 2**20:.0f} MiB" for part in (taken[:6], taken))
        yield f"| {pixels} px | {few} | {every} | {sum(second)} of {len(sizes)} |"


if __name__ == "__main__":
    print("\n".join(tables()))
