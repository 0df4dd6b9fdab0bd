"""Measure the generator: corrected against plain, and textbook code for the same network against `Flow`."""

import torch
from torch.nn import functional as F

from benchmarks import compare, why
from helpers import correct, domains, units

CORRECTED, TEXTBOOK, SEARCHED = "<= 1.05", ">= 1.3", "<= 2"


def rows(rounds, flow=None, images=2000):
    """Yield the rows of this module; flow: default the generator of the churches."""
    flow = flow or domains.load("churches").flow
    z = torch.randn(images, flow.latent, generator=torch.Generator().manual_seed(0))
    edits = correct.sequential(units.random_scores(flow), stop_layer=min(6, flow.n_layers - 1))
    edited, plain = (lambda: flow.generate(z, edits)), (lambda: flow.generate(z))
    times = compare(edited, plain, rounds)
    apart = float((correct_by_hand(flow, z[:32], edits) - flow.generate(z[:32], edits)).abs().max())
    note = f"{len(edits)} layers, 20 % of the units; edited by hand: largest difference {apart:.0e}"
    yield "Corrected / plain generation", CORRECTED, *times, note + why(edited, times[0], CORRECTED)

    yield from shifted(rounds, flow, z)

    network = plainly(flow.network.generator)
    written, found = (lambda: textbook(network, z, flow.batch)), flow.generate(z)
    times, apart = compare(written, plain, rounds), textbook(network, z, flow.batch) - found
    share, most = float(apart.norm() / found.norm()), float(apart.abs().max())
    note = f"images differ by {share:.0e} of their norm, a pixel by {most:.0e} at most"
    yield "Generation, textbook / ours", TEXTBOOK, *times, note + why(plain, times[0], TEXTBOOK)


def shifted(rounds, flow, z):
    """Yield the rows of the shift: one amount for all, and the search of each image's smallest one.

    The brightest quarter of the images stands for the artifacts: such a judge costs nothing. Each amount that is tried
    on the way is a generation behind layer 1, so their number, which the note has, is nearly the ratio.
    """
    plain = lambda: flow.generate(z)  # noqa: E731
    bright = plain().clamp(-1, 1).mean(dim=(1, 2, 3))
    level = float(bright.quantile(0.75))
    found = correct.layer_after_layer(flow, z[bright > level], z[bright <= level], [1, 2], how="linear")
    edits = correct.shift(found, how="linear")
    moved = lambda: flow.generate(z, edits)  # noqa: E731
    times = compare(moved, plain, rounds)
    yield "Shifted / plain generation", CORRECTED, *times, "layers 1 and 2, linear" + why(moved, times[0], CORRECTED)

    judge = lambda images: images.mean(dim=(1, 2, 3)) - level  # noqa: E731
    search = lambda: correct.smallest_amount(flow, z, found, judge, how="linear")  # noqa: E731
    seen = int((~search().said.isnan()).sum())
    times = compare(search, plain, rounds)
    note = f"{seen / len(z):.2f} amounts tried per image" + why(search, times[0], SEARCHED)
    yield "Search of the smallest amount / plain generation", SEARCHED, *times, note


def correct_by_hand(flow, z, edits):
    """Generate with the edits applied between the layers, as Algorithm 1 is printed."""
    state = flow.state(z, 0)
    for layer in range(1, flow.n_layers + 1):
        state = flow.advance(state, layer)
        weights = edits[layer].weights[:, None, None] if layer in edits else 1.0
        state = type(state)(layer, state.h * weights, state.extras)
    return state.h


def plainly(generator):
    """Return the layers' weights and biases as a list, in memory as they are published: channels first."""
    count = 2 * len(generator.channels)
    layers = [getattr(generator, f"layer{i}") for i in range(count)]
    layers.append(getattr(generator, f"output{len(generator.channels) - 1}"))
    return [
        (m.weight.detach().contiguous(memory_format=torch.contiguous_format), m.bias.detach(), m.scale, m.padding)
        for m in layers
    ]


def textbook(layers, z, batch):
    """Generate with one operation per line of the PGGAN paper: weights scaled at each call, the bias added after."""
    out = []
    with torch.no_grad():
        for h in z.split(batch):
            h = h[:, :, None, None]
            for index, (weight, bias, scale, padding) in enumerate(layers):
                h = h / torch.sqrt(torch.mean(h**2, dim=1, keepdim=True) + 1e-8)
                last = index == len(layers) - 1
                if index and index % 2 == 0 and not last:
                    h = F.interpolate(h, scale_factor=2, mode="nearest")
                h = F.conv2d(h, weight * scale, padding=padding) + bias[:, None, None]
                h = h if last else F.leaky_relu(h, 0.2)
            out.append(h)
    return torch.cat(out)
