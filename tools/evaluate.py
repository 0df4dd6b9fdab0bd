"""Evaluate all corrections and store the results that notebook 06 reads: python -m tools.evaluate [PART ...].

Ranked is on TRAIN, settings are chosen on TUNE, and what is reported is measured once on TEST (`domains`). Results are
tidy CSV files in data/churches/evaluation: grid, table and parts, nights, portions, options, agreement, classifier.
Every finished row is saved at once and not computed again, unless weights, labels or feature networks have changed.
Afterwards: python -m tools.manifest churches evaluation/table.csv ...
"""

import argparse
import functools
import json

import pandas as pd
import torch
from scipy.stats import spearmanr

from helpers import (
    classifier,
    correct,
    domains,
    env,
    evaluation,
    gradcam,
    labels,
    metrics,
    pggan,
    rating,
    store,
    survey,
    units,
)
from helpers.flow import Flow, State

FOLDER = store.data_root() / "churches" / "evaluation"
INPUTS = ("generator", "backbone", "evaluation", "heads")  # with the labels, all that results depend on
LAYERS, LAYER = range(1, 9), 6  # ranked; of the single-layer corrections
STOP, PORTION, SCALE = 6, 0.2, 0.9  # the paper's setting
STOPS, PORTIONS, OTHER_SCALES = (1, 2, 3, 4, 6), (0.05, 0.1, 0.2, 0.4), (0.0, 0.5)
PSIS, AMOUNTS = (0.5, 0.6, 0.7, 0.8, 0.9), (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
COUNTS = (2, 5, 10, 20, 40, 64)
DRAWS, POOL, REAL, RESAMPLES = 20, 2000, 2000, 100
SHOWN = ("wall", "roof", "window", "door", "tree", "cross", "path")


class Results:
    """A tidy CSV that grows row by row and knows which rows it has."""

    def __init__(self, name, keys):
        self.path, self.keys = FOLDER / f"{name}.csv", list(keys)
        self.table = read(name) if self.path.exists() else pd.DataFrame()

    def __contains__(self, key):
        if self.table.empty:
            return False
        return any(tuple(row) == tuple(key) for row in self.table[self.keys].itertuples(index=False))

    def add(self, key, rows):
        """Save rows, each a dict, under one key."""
        new = pd.DataFrame([dict(zip(self.keys, key)) | row for row in rows])
        self.table = new if self.table.empty else pd.concat([self.table, new], ignore_index=True)
        store.replace(self.path, self.table.round(5).to_csv(index=False).encode())


def read(name):
    """Read a stored table."""
    return pd.read_csv(FOLDER / f"{name}.csv")


def inputs():
    """Return the checksums that results depend on, from the manifest."""
    entries = json.loads((store.data_root() / "churches" / store.MANIFEST).read_text(encoding="utf-8"))
    files = [f"{name}.safetensors" for name in INPUTS] + ["labels.csv", "second_pass.csv"]
    return {name: entries[name]["sha256"][:16] for name in files}


def spread(ids, count):
    """Take so many ids, evenly spread over all of them."""
    count = min(count, len(ids))
    return [ids[n * len(ids) // count] for n in range(count)]


def damped_noise(z, amount, seed=0):
    """Move latents at random: what a correction is compared with that knows nothing."""
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
    return (1 - amount**2) ** 0.5 * z + amount * noise


class Towards:
    """Draw a featuremap towards the mean one, which is the truncation trick for a generator that normalises z."""

    def __init__(self, mean, psi):
        self.mean, self.psi = mean, psi

    def __call__(self, h):
        return self.mean.to(h) + self.psi * (h - self.mean.to(h))


class Study:
    """What all parts share, computed when first asked for."""

    def __init__(self):
        self.domain = domains.load("churches")
        self.flow = self.domain.flow
        evaluation.check_splits(train=domains.TRAIN, tune=domains.TUNE, test=domains.TEST, pool=domains.POOL)
        self.tune, self.tune_normals = self.domain.split(domains.TUNE)
        self.test, normals = self.domain.split(domains.TEST)
        self.normals = spread(normals, len(self.test))
        self.masks = functools.cache(self.domain.masks)
        self.plain = functools.cache(lambda group: evaluation.sample(self.domain, getattr(self, group)))
        self.pixels = functools.cache(lambda group: evaluation.parts(self.domain, self.plain(group).images))

    @functools.cached_property
    def thresholds(self):
        return survey.thresholds(self.flow, self.domain.latents(domains.POOL[:POOL]), layers=LAYERS)

    @functools.cached_property
    def ds(self):
        return evaluation.ranked(self.domain, domains.TRAIN, self.thresholds)

    @functools.cached_property
    def on_normals(self):
        """What the same recipe gives to training images without a defect."""
        ids = spread(self.domain.split(domains.TRAIN)[1], len(self.domain.split(domains.TRAIN)[0]))
        z, masks = self.domain.latents(ids), self.domain.masks(ids)
        return units.defective_scores(self.flow, z, masks, self.thresholds)

    @functools.cached_property
    def contrast(self):
        return evaluation.Scores({k: s - self.on_normals[k] for k, s in self.ds.items()}, self.ds.ids)

    @functools.cached_property
    def fd_ranked(self):
        """FD ranking on the backbone's features, so that the evaluation network takes no part."""
        z = self.domain.latents(domains.POOL[:POOL])
        found = torch.cat([self.domain.backbone.pooled(self.flow.generate(part).clamp(-1, 1)) for part in z.split(256)])
        real = self.domain.backbone.pooled(self.domain.real(domains.REAL_TRAIN))
        return evaluation.Scores(
            units.fd_scores(survey.top_images(self.flow, z, POOL // 20, LAYERS), found, real), domains.POOL[:POOL]
        )

    @functools.cached_property
    def reference(self):
        return evaluation.Reference(evaluation.real_sample(self.domain, domains.REAL_REFERENCE[:REAL]))

    @functools.cached_property
    def floor(self):
        """As many real images as there are test artifacts, other ones than the reference's."""
        return evaluation.real_sample(self.domain, domains.REAL_TEST[: len(self.test)])

    @functools.cached_property
    def mean(self):
        """The mean featuremap of layer 1."""
        return self.flow.record(self.domain.latents(domains.POOL[:POOL]), [1])[1].mean(dim=0)

    def corrected(self, ids, way, tuned=False, in_sample=False):
        """Sample ids under a way of correcting: a Way."""
        z = damped_noise(self.domain.latents(ids), way.noise) if way.noise else None
        correction = (lambda scores: way.make(scores, tuple(ids))) if way.make else None
        tuned_on = domains.TUNE if tuned else ()
        return evaluation.sample(self.domain, ids, correction, way.scores, tuned_on, in_sample, z=z)


class Way:
    """A way of correcting: make(scores, ids) -> Edits, from scores; or noise on the latents."""

    def __init__(self, make=None, scores=None, noise=0.0):
        self.make, self.scores, self.noise = make, scores, noise


def sequential(scores, *setting, **options):
    return Way(lambda s, ids: correct.sequential(s, *setting, **options), scores)


def local(study, *setting):
    return Way(lambda s, ids: correct.local(s, study.masks(ids), *setting), study.ds)


def single(scores, count):
    return Way(lambda s, ids: correct.ablate(LAYER, units.rank(s)[LAYER][:count].tolist()), scores)


def grid(study):
    """Every setting on the tuning split: what it does to artifacts, and what it does to normals (Figure 12, Pareto)."""
    results = Results("grid", ("method", "stop_layer", "portion", "scale"))
    settings = [("sequential", k, n, SCALE) for k in STOPS for n in PORTIONS]
    settings += [("sequential", k, n, s) for k in STOPS for n in PORTIONS[1:3] for s in OTHER_SCALES]
    settings += [("contrast", k, n, SCALE) for k in STOPS[:2] for n in PORTIONS]
    settings += [("local", k, n, 0) for k in (1, 2, 4, 6) for n in PORTIONS[1:]]
    settings += [("truncation", 1, psi, 0) for psi in PSIS] + [("noise", 0, a, 0) for a in AMOUNTS]
    for key in env.progress([("untouched", 0, 0, 0), *settings], "grid"):
        if key not in results:
            method, *setting = key
            results.add(key, [tuned_row(study, way(study, method, *setting))])
    return results.table


def way(study, method, stop, portion, scale):
    """Return the Way of a row of the grid."""
    if method == "truncation":
        return Way(lambda s, ids: {1: Towards(study.mean, portion)})
    if method == "noise":
        return Way(noise=portion)
    if method == "local":
        return local(study, stop, portion)
    if method == "untouched":
        return Way()
    return sequential(study.ds if method == "sequential" else study.contrast, stop, portion, scale)


def tuned_row(study, how):
    """Measure a way on the tuning split."""
    bad, good = (study.corrected(ids, how) for ids in (study.tune, study.tune_normals))
    plain, calm = study.plain("tune"), study.plain("tune_normals")
    return {
        "fd": study.reference.fd(bad),
        "fd_bright": study.reference.fd(bad.take(~plain.dark)),
        "realism": float(study.reference.realism(bad).median()),
        "fd_normals": study.reference.fd(good),
        "moved_artifacts": float(evaluation.moved(plain, bad).mean()),
        "moved_normals": float(evaluation.moved(calm, good).mean()),
        "dark": float(bad.dark.float().mean()),
    }


def chosen(table, method):
    """Choose a method's setting: the lowest FD of corrected artifacts plus what normals' FD gains by the correction.

    table: the grid. Returns (stop_layer, portion, scale). For "noise": the amount that moves artifacts as far as the
    chosen sequential correction does.
    """
    rows = table[table.method == method]
    if method == "noise":
        tuned = dict(zip(("stop_layer", "portion", "scale"), chosen(table, "sequential")))
        goal = table[(table.method == "sequential") & (table[list(tuned)] == list(tuned.values())).all(axis=1)]
        best = (rows.moved_artifacts - goal.moved_artifacts.iloc[0]).abs().idxmin()
    else:
        harm = (rows.fd_normals - table[table.method == "untouched"].fd_normals.iloc[0]).clip(lower=0)
        best = (rows.fd + harm).idxmin()
    found = rows.loc[best]
    return int(found.stop_layer), float(found.portion), float(found.scale)


def ways(study):
    """Name the ways of correcting of the table: {row: (Way, whether its settings were tuned)}."""
    settings = grid(study)
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
        "truncation, tuned": (way(study, "truncation", *drawn), True),
        "noise, moved as far as tuned": (way(study, "noise", *shaken), True),
    }


def table(study):
    """The table of all corrections on held-out images, and the parts they lose (Table 2, Figure 16)."""
    results, losses = Results("table", ("row", "protocol")), Results("parts", ("row", "group"))
    todo = ways(study)
    for name, (how, tuned) in env.progress(todo.items(), "table", len(todo)):
        if (name, "held-out") not in results:
            bad, good = study.corrected(study.test, how, tuned), study.corrected(study.normals, how, tuned)
            for group, found in (("artifacts", bad), ("normals", good)):
                if name.startswith(("sequential", "local", "truncation", "noise")) and (name, group) not in losses:
                    losses.add((name, group), lost_parts(study, group, found))
            results.add((name, "held-out"), measured(study, "artifacts", bad) + measured(study, "normals", good))
        if name.startswith(("untouched", "DS, ", "sequential")) and (name, "in-sample") not in results:
            used = spread(study.domain.split(domains.TRAIN)[0], len(study.test))
            found = study.corrected(used, how, tuned, in_sample=True)
            results.add((name, "in-sample"), distances(study, "artifacts", found, len(used)))
    for name, make in (("random, 20 % of layer 6", random_single), ("random units, tuned setting", random_tuned)):
        if (name, "held-out") not in results:
            results.add((name, "held-out"), make(study))
    others = {
        "fresh generations": lambda: evaluation.sample(study.domain, domains.POOL[-len(study.test) :]),
        "real images, the floor": lambda: study.floor,
    }
    for name, make in others.items():
        if (name, "held-out") not in results:
            results.add((name, "held-out"), distances(study, "artifacts", make(), len(study.test)))
    return results.table


def line(group, n, measure, interval):
    """Lay out one figure."""
    value, low, high = interval
    return {"group": group, "n": n, "measure": measure, "value": value, "low": low, "high": high}


def distances(study, group, found, n):
    """Lay out a sample's distances to real images."""
    other = study.floor if len(found) == len(study.floor) and found is not study.floor else None
    quality = study.reference.quality(found, RESAMPLES, other)
    return [line(group, n, measure, interval) for measure, interval in quality.items()]


def measured(study, group, found):
    """Lay out what a correction did to held-out artifacts or normals."""
    before, n = study.plain("test" if group == "artifacts" else "normals"), len(found)
    out = distances(study, group, found, n)
    out.append(line(group, n, "change of FD", study.reference.change(found, before, RESAMPLES)))
    out.append(line(group, n, "moved", metrics.bootstrap(torch.mean, evaluation.moved(before, found))))
    out.append(line(group, n, "dark", share(found.dark)))
    masks = study.masks(found.ids)
    for name, where in (("inside", masks), ("outside", ~masks)):
        change = evaluation.pixel_change(before, found, where)
        change = change[~change.isnan()]
        out.append(line(group, len(change), f"change {name} the mask", metrics.bootstrap(torch.mean, change)))
    return out


def share(marks):
    """Share of images with Wilson's interval."""
    value = float(marks.double().mean())
    return value, *rating.wilson(value, len(marks))


def lost_parts(study, group, found):
    """Count the semantic parts that a correction removes, by class."""
    before = study.pixels("test" if group == "artifacts" else "normals")
    after = evaluation.parts(study.domain, found.images)
    there, gone = evaluation.lost(before, after)
    rows = []
    for name in SHOWN:
        k = study.domain.classes.index(name)
        n = int(there[:, k].sum())
        value, low, high = share(gone[there[:, k], k]) if n else (float("nan"),) * 3
        area = float(after[:, k].sum() / before[:, k].sum().clamp_min(1))
        rows.append(
            {
                "part": name,
                "there": n,
                "lost": int(gone[:, k].sum()),
                "share": value,
                "low": low,
                "high": high,
                "area": area,
            }
        )
    return rows


def spanned(values):
    """Mean and range of draws."""
    return sum(values) / len(values), min(values), max(values)


def random_single(study):
    """Set random units of one layer to zero, in many draws; layers up to it are the same for all."""
    h, count = study.flow.state(study.domain.latents(study.test), LAYER).h, int(PORTION * study.flow.units(LAYER))
    return [
        line(
            "artifacts",
            len(study.test),
            "FD, range of draws",
            spanned([at_layer(study, h, s, count) for s in range(DRAWS)]),
        )
    ]


def at_layer(study, h, ranking, count):
    """FD after setting the top units of layer LAYER to zero; a ranking given by number is a random one."""
    scores = units.random_scores(study.flow, ranking, [LAYER]) if isinstance(ranking, int) else ranking
    edit = correct.ablate(LAYER, units.rank(scores)[LAYER][:count].tolist())[LAYER]
    images = study.flow.resume(State(LAYER, edit(h))).clamp(-1, 1)
    return study.reference.fd_of(study.domain.evaluation.pooled(images))


def random_tuned(study):
    """The tuned setting with random units: does it matter which?"""
    setting, out = chosen(grid(study), "sequential"), []
    for group, ids in (("artifacts", study.test), ("normals", study.normals)):
        values = []
        for seed in range(DRAWS if group == "artifacts" else DRAWS // 4):
            how = sequential(evaluation.Scores(units.random_scores(study.flow, seed, LAYERS), ()), *setting)
            values.append(study.reference.fd(study.corrected(ids, how, tuned=True)))
        out.append(line(group, len(ids), "FD, range of draws", spanned(values)))
    return out


def nights(study):
    """What remains of the gain on held-out artifacts that were bright before, against bright real images alone."""
    results, real = Results("nights", ("row",)), evaluation.real_sample(study.domain, domains.REAL_REFERENCE[:REAL])
    reference, before = evaluation.Reference(real.take(~real.dark)), study.plain("test")
    bright = ~before.dark
    for name, (how, tuned) in ways(study).items():
        if name.startswith(("untouched", "DS, ", "FD")) or "paper" in name or (name,) in results:
            continue
        found = study.corrected(study.test, how, tuned).take(bright)
        fd = metrics.bootstrap(reference.fd_of, found.features, n=RESAMPLES)
        change = reference.change(found, before.take(bright), RESAMPLES)
        rows = [
            line("artifacts", len(found), "FD, bright", fd),
            line("artifacts", len(found), "change of FD, bright", change),
        ]
        results.add((name,), [*rows, line("artifacts", len(found), "dark", share(found.dark))])
    return results.table


def portions(study):
    """FD of held-out artifacts against the number of units of layer 6 set to zero (Figure 11)."""
    results = Results("portions", ("ranking", "units"))
    h = study.flow.state(study.domain.latents(study.test), LAYER).h
    for count in env.progress(COUNTS, "portions"):
        for name, scores in (("DS", study.ds), ("FD", study.fd_ranked)):
            if (name, count) not in results:
                evaluation.protocol(scores.ids, study.test)
                results.add(
                    (name, count),
                    [{"fd": at_layer(study, h, scores, count), "low": float("nan"), "high": float("nan")}],
                )
        if ("random", count) not in results:
            values = spanned([at_layer(study, h, seed, count) for seed in range(5)])
            results.add(("random", count), [dict(zip(("fd", "low", "high"), values))])
    return results.table


def options(study):
    """How much METHOD's choices matter: rank correlation with the default, and FD on the tuning split."""
    results, setting = Results("options", ("option",)), chosen(grid(study), "sequential")
    ids = spread(study.domain.split(domains.TRAIN)[0], 400)
    z, masks = study.domain.latents(ids), study.domain.masks(ids)
    layers = {k: study.thresholds[k] for k in range(1, STOP + 1)}
    order = torch.randperm(len(masks), generator=torch.Generator().manual_seed(0))
    behind = Flow(pggan.Layers(study.flow.network.generator, post_pn=True))
    pool = study.domain.latents(domains.POOL[:POOL])

    def scores(masks=masks, levels=layers, flow=study.flow, **asked):
        return units.defective_scores(flow, z, masks, levels, **asked)

    def plain_masks():
        images = study.domain.images(ids)
        return gradcam.binary_mask(gradcam.gradcam(study.domain.maps(images), study.domain.head))

    default = scores()
    variants = {
        "default": lambda: default,
        "threshold after upsampling": lambda: scores(order="netdissect"),
        "upsampled map binary at 0.5": lambda: scores(binarise_upsampled=0.5),
        "IoU of sums": lambda: scores(reduce="pooled"),
        "mask level 0.3": lambda: scores(study.domain.masks(ids, 0.3)),
        "mask level 0.7": lambda: scores(study.domain.masks(ids, 0.7)),
        "masks by the paper's GradCAM": lambda: scores(plain_masks()),
        "masks of other artifacts": lambda: scores(masks[order]),
        "threshold share 0.02": lambda: scores(levels=survey.thresholds(study.flow, pool, 0.02, list(layers))),
        "after pixel normalisation": lambda: scores(
            levels=survey.thresholds(behind, pool, layers=list(layers)), flow=behind
        ),
        "random units": lambda: units.random_scores(study.flow, 0, list(layers)),
    }
    edited = {"normalise by the maximum": "max", "normalise over all layers": "global", "raw scores": "none"}
    for name in env.progress([*variants, *edited, "one layer more (inclusive loop)"], "options"):
        if (name,) in results:
            continue
        found = variants[name]() if name in variants else default
        asked = {"normalise": edited[name]} if name in edited else {}
        asked |= {"inclusive_loop": True} if "inclusive" in name else {}
        rho = [float(spearmanr(found[k], default[k]).statistic) for k in layers]
        row = {"rho_layer_1": rho[0], "rho_layer_6": rho[-1], "rho_mean": sum(rho) / len(rho)}
        for where, values in (("tuned", setting), ("paper", (STOP, PORTION, SCALE))):
            if asked.get("inclusive_loop") and where == "paper":
                found = study.ds
            how = sequential(evaluation.Scores(found, ids), *values, **asked)
            row[f"fd_{where}"] = study.reference.fd(study.corrected(study.tune, how))
            row[f"fd_normals_{where}"] = study.reference.fd(study.corrected(study.tune_normals, how))
        results.add((name,), [row])
    return results.table


def agreement(study):
    """How far two raters agree on class, by split, and on each type."""
    results = Results("agreement", ("split", "type"))
    second = labels.read(store.fetch("churches/second_pass.csv"))
    splits = {"all": set(second.ids), "train": domains.TRAIN, "tune": domains.TUNE, "test": domains.TEST}
    for split, ids in splits.items():
        one, two = ({r["id"]: r for r in t.rows if r["id"] in set(ids)} for t in (study.domain.labels, second))
        both = [i for i in two if i in one]
        for kind in ("class", *(labels.TYPES if split == "all" else ())):
            if (split, kind) in results or len(both) < 2:
                continue
            pair = [
                torch.tensor(
                    [(t[i]["type"] == kind) if kind != "class" else t[i]["label"] == "artifact" for i in both]
                ).long()
                for t in (one, two)
            ]
            first, other = pair
            row = {
                "n": len(both),
                "first": int(first.sum()),
                "second": int(other.sum()),
                "agree": float((first == other).float().mean()),
            }
            kappa = (
                metrics.bootstrap(rating.cohen, *pair, paired=True)
                if row["first"] and row["second"]
                else (float("nan"),) * 3
            )
            results.add((split, kind), [row | dict(zip(("kappa", "low", "high"), kappa))])
    return results.table


def classifiers(study):
    """The classifier as shipped, and what was tried beside it: macro-F1 of three classes on held-out images."""
    results, domain = Results("classifier", ("features",)), study.domain

    def described(images):
        with torch.no_grad():
            levels = [
                [
                    (m.mean((2, 3)), m.std((2, 3)))
                    for m in domain.backbone.all_maps(domain.backbone.prepare(part)).values()
                ]
                for part in images.split(256)
            ]
        return torch.cat([torch.cat([value for pair in part for value in pair], dim=1) for part in levels])

    def split(ids, real):
        images = torch.cat([domain.images(ids), domain.real(real)])
        bad = set(domain.labels.artifacts)
        return described(images), torch.tensor([int(i in bad) for i in ids] + [classifier.REAL] * len(real))

    if ("mean and deviation of four stages",) in results:
        return results.table
    x, y = split(domains.TRAIN, domains.REAL_TRAIN)
    tested, truth = split(domains.TEST, domains.REAL_TEST)
    width = domain.backbone.units
    last = slice(x.shape[1] - 2 * width, x.shape[1] - width)
    results.add(("mean of the last stage, as shipped",), [judged(domain.head, tested[:, last], truth)])
    head = classifier.fit(x, y)
    results.add(("mean and deviation of four stages",), [judged(head, tested, truth)])
    return results.table


def judged(head, x, truth):
    """Lay out a head's report."""
    found = classifier.report(head, x, truth)
    figures = dict(zip(("macro_f1", "low", "high"), found.macro_f1))
    return {"n": len(x)} | figures | dict(zip(("auc", "auc_low", "auc_high"), found.auc))


PARTS = {
    "grid": grid,
    "table": table,
    "nights": nights,
    "portions": portions,
    "options": options,
    "agreement": agreement,
    "classifier": classifiers,
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    a = p.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    state = FOLDER / "inputs.json"
    if not state.exists() or json.loads(state.read_text(encoding="utf-8")) != inputs():
        for old in FOLDER.glob("*.csv"):
            old.unlink()
        store.replace(state, (json.dumps(inputs(), indent=1) + "\n").encode())
    study = Study()
    for name in a.parts or PARTS:
        PARTS[name](study)
        print(f"{name}: done")


if __name__ == "__main__":
    main()
