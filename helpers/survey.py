"""Gather statistics of every unit over many generations in one streaming pass of bounded memory.

A pass cuts the latents into shards, turns each into small statistics and merges these, so that the
built-in `map`, a process pool's or a cluster's give the same numbers. Explained in notebook 03.

What all of these functions take: layers are numbers, by default all but the image. map: the built-in map, another
function like it, an Executor of concurrent.futures, an ipyparallel client or view, or a dask client, see `engines`.
resume: a folder in which each finished shard is kept, so that a survey that was killed goes on with the next one.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from helpers import store
from helpers.streaming import partials, shards
from helpers.streaming.quantiles import Tail
from helpers.streaming.shards import check_finite  # noqa: F401 - also what scores check with
from helpers.streaming.statistics import Moments, Rate, Rows, Several, Top, reduction

SHARD = 1024  # images per unit of work handed to `map`
WIDTH, CAPACITY = 16.0, 2**19  # of the brackets around a layer's thresholds, see `quantiles.Tail`
PASSES = 64  # each halves at least what is sought, unless activations differ from pass to pass


@dataclass(frozen=True)
class Survey:
    """What is known of all units after one pass; every field but the last is a dict by layer.

    thresholds: (U,), as of `thresholds`; a constant unit's is its value, and its deviation 0. rates: (U,), the share
    of images and positions in which the unit is active, and position_rates: (U, H, W), of images alone. top: (U, k)
    row numbers, as of `top_images`. means and deviations (standard deviations, divided by the count): (U,).
    images: how many were surveyed.
    """

    thresholds: dict
    rates: dict
    position_rates: dict
    top: dict
    means: dict
    deviations: dict
    images: int


def survey(flow, z, tau=0.005, k=20, above=None, by="max", layers=None, map=map, resume=None):
    """Gather all statistics of all units in one pass over the latents z (N, D).

    tau, layers: as in `thresholds`. above: as in `activation_rates`. k, by: as in `top_images`. map, resume: see the
    module. Returns a Survey. Raises ValueError as these functions do.
    """
    asked = _asked(flow, tau, k, above, by, layers)
    _check_k(k, len(z))
    whole = _gather(flow, z, partial(_everything, **asked), map, resume)
    return _surveyed(whole, asked, flow, z, map, resume)


def part(flow, z, file, first=0, tau=0.005, k=20, above=None, by="max", layers=None, map=map, resume=None):
    """Survey some of the images and save what is known of them, for `merge`: one machine does this, others the rest.

    z: latents (N, D) of these images alone. file: where to save. first: the number of the first of them, counted over
    all machines. The others are those of `survey`, and must be the same everywhere.
    """
    asked = _asked(flow, tau, k, above, by, layers)
    done = _gather(flow, z, partial(_everything, **asked), map, resume, first)
    done.weights = partials.weights(flow)
    store.write(Path(file), {"asked": asked, "marks": partials.marks(z), **done.packed()})


def merge(files, flow=None, z=None, map=map, resume=None):
    """Merge what `part` saved, in any order, into a Survey, as if one machine had done everything.

    flow, z: the generator and the latents of all parts, in order, by which thresholds are looked for again where the
    parts do not tell them; with many images this is so in large layers. map, resume: see the module.
    Raises ValueError where parts have images in common, leave some out, or differ in weights or in what was asked,
    or where they do not tell, and OSError or ValueError for a file that is missing or damaged.
    """
    files = [Path(file) for file in files]
    if not files:
        raise ValueError("there is nothing to merge, got no files: pass those that `survey.part` saved")
    asked, marks = store.read(files[0])["asked"], {}

    def saved_parts():
        for file in files:
            saved = store.read(file)
            for name, value in saved["asked"].items():
                if store.content(value) != store.content(asked[name]):
                    raise ValueError(f"{file.name} was made with another {name} than {files[0].name}: survey it again")
            marks[file.name] = saved["marks"]
            yield partials.unpacked(saved, partial(_everything, **asked), file.name)

    whole = partials.merged(saved_parts())
    partials.check_repeats(marks)
    _check_k(asked["k"], whole.stop - whole.start)
    every = np.sort(np.concatenate(list(marks.values())))
    if flow is not None and (
        partials.weights(flow) != whole.weights or z is None or not np.array_equal(partials.marks(z), every)
    ):
        raise ValueError("generator or latents are not those of the parts: pass the same weights and all latents")
    return _surveyed(whole, asked, flow, z, map, resume)


def thresholds(flow, z, tau=0.005, layers=None, map=map, resume=None):
    """Find each unit's threshold T_u with P(A_u > T_u) = tau over all images and positions (section 3.2).

    z: latents (N, D). tau: share of activations above the threshold, in (0, 1).
    Returns {layer: (U,)}, equal to torch.quantile(activations, 1 - tau) over everything at once; the threshold of a
    constant unit is its value. Raises ValueError for tau out of range, no images, or activations that are not finite.
    """
    _check_tau(tau)
    asked = {"units": _units(flow, layers), "tau": tau, "width": WIDTH, "capacity": CAPACITY}
    return _found(_gather(flow, z, partial(_tails, **asked), map, resume).stats, asked, flow, z, map, resume)


def _found(tails, asked, flow, z, map, resume):
    """Return the thresholds, from further passes where the first could not tell."""
    found, left = {layer: tail.quantile() for layer, tail in sorted(tails.items())}, PASSES
    while missed := {layer: levels.isnan() for layer, levels in found.items() if levels.isnan().any()}:
        if flow is None:
            raise ValueError(
                f"the parts alone do not tell the thresholds of layer {min(missed)}: hand `merge` the generator and "
                "all latents, too, so that it can look again"
            )
        if not (left := left - 1):
            raise ValueError(f"layer {min(missed)} differs from pass to pass: use one machine, and all images in order")
        asked = {name: asked[name] for name in ("tau", "width", "capacity")}
        asked["units"] = {layer: len(units) for layer, units in missed.items()}
        asked["bounds"] = {layer: tails[layer].sought(units.numpy()) for layer, units in missed.items()}
        tails = _gather(flow, z, partial(_tails, **asked), map, resume).stats
        found |= {layer: tails[layer].quantile().where(units, found[layer]) for layer, units in missed.items()}
    return found


def activation_rates(flow, z, above=None, layers=None, map=map, resume=None, places=False):
    """Measure the share of positions and images in which each unit is active: {layer: (U,)} in [0, 1].

    above: {layer: (U,)} of thresholds, or None for 0 (the sign that the leaky ReLU keeps). layers: default all that
    `above` has. places: the share of images at each place, (U, H, W). ValueError if `above` lacks a layer or a unit.
    """
    found = _gather(flow, z, partial(_rates, _levels(flow, above, above if layers is None else layers)), map, resume)
    return {layer: rate.by_position() if places else rate.value() for layer, rate in found.stats.items()}


def unit_maxima(flow, z, layers=None, by="max", map=map, resume=None):
    """Measure how strongly each image activates each unit.

    by: "max" (spatial maximum, what GAN Dissection ranks by), "mean" or "norm" (Euclidean, over positions).
    Returns {layer: (N, U)}.
    """
    make = partial(_maxima, _layers(flow, layers), reduction(by))
    return {layer: rows.value() for layer, rows in _gather(flow, z, make, map, resume).stats.items()}


def top_images(flow, z, k=20, layers=None, by="max", map=map, resume=None):
    """Find the k images that activate each unit most (section 3.3), strongest first, ties by position in z.

    Returns {layer: (U, k)} of row numbers of z. Raises ValueError if there are fewer than k images.
    """
    _check_k(k, len(z))
    make = partial(_tops, _layers(flow, layers), reduction(by), k)
    return {layer: top.rows for layer, top in _gather(flow, z, make, map, resume).stats.items()}


def _gather(flow, z, make, map, resume, first=0):
    return shards.gather(flow, z, make, map, SHARD, resume, first)


def _asked(flow, tau, k, above, by, layers):
    """Check what a survey is asked for and return it as plain values, which can be saved and sent."""
    _check_tau(tau)
    reduction(by)
    units = _units(flow, layers)
    tails = {"units": units, "tau": tau, "width": WIDTH, "capacity": CAPACITY}
    return tails | {"k": k, "above": _levels(flow, above, units), "by": by}


def _surveyed(whole, asked, flow, z, map, resume):
    """Turn what was gathered into a Survey, with further passes for thresholds, if there is a flow for them."""
    stats = dict(sorted(whole.stats.items()))
    found = _found({layer: several["tail"] for layer, several in stats.items()}, asked, flow, z, map, resume)
    moments = {layer: several["moments"].value() for layer, several in stats.items()}
    return Survey(
        thresholds=found,
        rates={layer: several["rate"].value() for layer, several in stats.items()},
        position_rates={layer: several["rate"].by_position() for layer, several in stats.items()},
        top={layer: several["top"].rows for layer, several in stats.items()},
        means={layer: mean for layer, (mean, _) in moments.items()},
        deviations={layer: deviation for layer, (_, deviation) in moments.items()},
        images=whole.stop - whole.start,
    )


def _layers(flow, layers):
    layers = [flow.checked(layer) for layer in (flow.layers if layers is None else layers)]
    if not layers:
        raise ValueError("a survey needs at least one layer, got none: pass layer numbers, or layers=None for all")
    return layers


def _units(flow, layers):
    return {layer: flow.units(layer) for layer in _layers(flow, layers)}


def _levels(flow, above, layers):
    layers = _layers(flow, layers)
    above = {layer: torch.zeros(flow.units(layer)) for layer in layers} if above is None else above
    for layer in layers:
        if layer not in above or len(above[layer]) != flow.units(layer):
            raise ValueError(f"layer {layer} has {flow.units(layer)} units, `above` has not one level each for them")
    return {layer: above[layer] for layer in layers}


def _check_tau(tau):
    if not 0 < tau < 1:
        raise ValueError(f"tau is the share of activations above the threshold and lies in (0, 1), got {tau}")


def _check_k(k, images):
    if images and not 0 < k <= images:
        raise ValueError(f"cannot pick the top {k} of {images} images: choose k between 1 and {images}")


def _tails(units, tau, width, capacity, bounds=None):
    return {layer: Tail(tau, count, width, capacity, **(bounds or {}).get(layer, {})) for layer, count in units.items()}


def _rates(above):
    return {layer: Rate(level) for layer, level in above.items()}


def _maxima(layers, reduce):
    return {layer: Rows(reduce) for layer in layers}


def _tops(layers, reduce, k):
    return {layer: Top(reduce, k) for layer in layers}


def _everything(units, tau, width, capacity, k, above, by):
    return {
        layer: Several(
            tail=Tail(tau, count, width, capacity),
            rate=Rate(above[layer]),
            top=Top(reduction(by), k),
            moments=Moments(count),
        )
        for layer, count in units.items()
    }
