"""The table of all corrections on held-out images, the parts they lose, and the same without the nights."""

import functools

from helpers import domains, env, evaluation, metrics, rare_units, units
from tools.measure.evaluate.grid import chosen
from tools.measure.evaluate.portions import at_layer, state
from tools.measure.evaluate.results import read
from tools.measure.evaluate.rows import BEFORE, distances, line, lost_parts, measured, share, spanned
from tools.measure.evaluate.settings import DRAWS, LAYER, LAYERS, PORTION, RESAMPLES, SCALE, STOP
from tools.measure.evaluate.study import spread
from tools.measure.evaluate.ways import Way, local, sequential, single, way


@functools.cache
def ways(study):
    """Name the ways of correcting of the table: {row: (Way, whether its settings were tuned)}."""
    settings = read("grid")
    tuned, near, mixed, drawn, shaken = (
        chosen(settings, method) for method in ("sequential", "local", "contrast", "truncation", "noise")
    )
    portion = int(PORTION * study.flow.units(LAYER))
    return {
        "untouched": (Way(), False),
        "FD-ranked, 20 units of layer 6": (single(study.fd_ranked, 20), False),
        "FD-ranked, 20 % of layer 6": (single(study.fd_ranked, portion), False),
        "DS, 20 units of layer 6": (single(study.ds, 20), False),
        "DS, 20 % of layer 6": (single(study.ds, portion), False),
        "sequential, paper's setting": (sequential(study.ds, STOP, PORTION, SCALE), False),
        "sequential, tuned": (sequential(study.ds, *tuned), True),
        "local, paper's setting": (local(study, STOP, PORTION), False),
        "local, tuned": (local(study, *near[:2]), True),
        "DS minus score on normals, tuned": (sequential(study.contrast, *mixed), True),
        "rare neurons of layers 2, 4 and 6": (Way(lambda s, ids: rare_units.ablate(study.rare)), False),
        "truncation, tuned": (way(study, "truncation", *drawn), True),
        "noise, moved as far as tuned": (way(study, "noise", *shaken), True),
    }


@functools.cache
def mended(study, name):
    """The held-out artifacts under a way of the table, which two parts look at."""
    return study.corrected(study.test, *ways(study)[name])


def table(study):
    """The table of all corrections on held-out images, and the parts they lose (Table 2, Figure 16)."""
    rows, losses, todo = [], [], ways(study)

    def add(name, protocol, found):
        rows.extend({"row": name, "protocol": protocol} | row for row in found)

    for name, (how, tuned) in env.progress(todo.items(), "table", len(todo)):
        samples = {"artifacts": mended(study, name), "normals": study.corrected(study.normals, how, tuned)}
        for group, found in samples.items():
            add(name, "held-out", measured(study, group, found))
            if name.startswith(("sequential", "local", "truncation", "noise")):
                losses += [{"row": name, "group": group} | row for row in lost_parts(study, group, found)]
        if name.startswith(("untouched", "DS, ", "sequential")):
            used = spread(study.domain.split(domains.TRAIN)[0], len(study.test))
            add(name, "in-sample", distances(study, "artifacts", study.corrected(used, how, tuned, in_sample=True)))
    add("random, 20 % of layer 6", "held-out", random_single(study))
    add("random units, tuned setting", "held-out", random_tuned(study))
    fresh = evaluation.sample(study.domain, domains.POOL[-len(study.test) :])
    add("fresh generations", "held-out", distances(study, "artifacts", fresh))
    add("real images, the floor", "held-out", distances(study, "artifacts", study.floor))
    return {"table": rows, "parts": losses}


def random_single(study):
    """Set random units of one layer to zero, in many draws; layers up to it are the same for all."""
    h, count = state(study), int(PORTION * study.flow.units(LAYER))
    values = [at_layer(study, h, seed, count) for seed in env.progress(range(DRAWS), "random units of a layer")]
    return [line("artifacts", len(study.test), "FD, range of draws", spanned(values))]


def random_tuned(study):
    """The tuned setting with random units: does it matter which?"""
    setting, out = chosen(read("grid"), "sequential"), []
    for group, count in (("artifacts", DRAWS), ("normals", DRAWS // 4)):
        ids, values = getattr(study, BEFORE[group]), []
        for seed in env.progress(range(count), f"random units, {group}"):
            how = sequential(evaluation.Scores(units.random_scores(study.flow, seed, LAYERS), ()), *setting)
            values.append(study.reference.fd(study.corrected(ids, how, tuned=True)))
        out.append(line(group, len(ids), "FD, range of draws", spanned(values)))
    return out


def nights(study):
    """What remains of the gain on held-out artifacts that were bright before, against bright real images alone."""
    reference, before = evaluation.Reference(study.real.take(~study.real.dark)), study.plain("test")
    bright, rows = ~before.dark, []
    for name in env.progress([name for name, (_, tuned) in ways(study).items() if tuned], "nights"):
        found = mended(study, name).take(bright)
        fd = metrics.bootstrap(reference.fd_of, found.features, n=RESAMPLES)
        change = reference.change(found, before.take(bright), RESAMPLES)
        intervals = {"FD, bright": fd, "change of FD, bright": change, "dark": share(found.dark)}
        rows += [{"row": name} | line("artifacts", len(found), key, value) for key, value in intervals.items()]
    return {"nights": rows}
