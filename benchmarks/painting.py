"""Measure how quickly a picture follows the brush of `widgets.painter`, against the 300 ms that were set."""

import statistics

import torch

from benchmarks import seconds, why
from helpers import domains, survey, units, widgets

ALLOWED, GOAL, MOVES = 0.3, ">= 1", 20  # seconds; the moves of one drag


def rows(rounds, flow=None):
    """Yield the rows of this module; flow: default the generator of the churches."""
    flow = flow or domains.load("churches").flow
    z = torch.randn(40, flow.latent, generator=torch.Generator().manual_seed(0))
    layers = [layer for layer in (1, 4) if layer in flow.layers]
    differences = units.differences(flow, z[:20], z[20:], [1])
    view = widgets.painter(flow, z, {"any": units.random_scores(flow)}, survey.thresholds(flow, z, 0.01), differences)
    for how, layer in [*(("draw", layer) for layer in layers), ("mend here", 1)]:
        followed = []

        def drag(row, how=how, layer=layer, followed=followed):
            for end in range(MOVES):
                points = tuple((4 + x, 8 + row) for x in range(end + 1))
                stroke = view.painting.stroke(how, "any", layer, 20, "", 8, 1.0, points)
                followed.append(seconds(lambda stroke=stroke: view.put(*view.painting.draw(0, ((0, stroke),)))))

        for row in range(rounds):
            drag(row)
        taken = statistics.median(followed)
        what = f"20 units of layer {layer}" if how == "draw" else f"the shift of layer {layer}"
        note = f"{len(followed)} moves in {rounds} drags, the slowest {1000 * max(followed):.0f} ms; generated, drawn and encoded"
        note += why(lambda drag=drag: drag(rounds), ALLOWED / taken, GOAL)
        yield f"300 ms / a move of the brush, {what}", GOAL, ALLOWED / taken, ALLOWED, taken, note
