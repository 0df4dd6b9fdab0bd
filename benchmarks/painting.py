"""Measure how quickly a picture follows the brush of `widgets.painter`, against the 300 ms that were set."""

import statistics
from functools import partial

import torch

from benchmarks import seconds, why
from helpers import domains, survey, units, widgets

ALLOWED, GOAL, MOVES = 0.3, ">= 1", 20  # seconds; the moves of one drag


def rows(rounds, flow=None):
    """Yield the rows of this module; flow: default the generator of the churches."""
    flow = flow or domains.load("churches").flow
    z = torch.randn(40, flow.latent, generator=torch.Generator().manual_seed(0))
    differences = units.differences(flow, z[:20], z[20:], [1])
    view = widgets.painter(flow, z, {"any": units.random_scores(flow)}, survey.thresholds(flow, z, 0.01), differences)
    for how, layer in (("draw", 1), ("draw", 4), ("mend here", 1)):
        followed = [taken for row in range(rounds) for taken in drag(view, how, layer, row)]
        taken = statistics.median(followed)
        what = f"20 units of layer {layer}" if how == "draw" else f"the shift of layer {layer}"
        note = f"{len(followed)} moves in {rounds} drags, generated, drawn and encoded; "
        note += f"the slowest {1000 * max(followed):.0f} ms"
        note += why(partial(drag, view, how, layer, rounds), ALLOWED / taken, GOAL)
        yield f"300 ms / a move of the brush, {what}", GOAL, ALLOWED / taken, ALLOWED, taken, note


def drag(view, how, layer, row):
    """Drag the brush along a row of the image: [seconds of each move, in which the stroke gets longer]."""
    along = [tuple((4 + x, 8 + row) for x in range(end + 1)) for end in range(MOVES)]
    strokes = [view.painting.stroke(how, "any", layer, 20, "", 8, 1.0, points) for points in along]
    return [seconds(partial(_follow, view, stroke)) for stroke in strokes]


def _follow(view, stroke):
    view.put(*view.painting.draw(0, ((0, stroke),)))
