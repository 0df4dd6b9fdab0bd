"""Correct held-out artifacts of any embedded domain in several ways: choose, measure, lay out for blind raters.

    python -m tools.measure.corrections churches table    # writes data/churches/corrections.csv, minutes
    python -m tools.measure.corrections faces choose      # data/faces/choice.csv: settings, on ids not held out
    python -m tools.measure.corrections churches labels   # data/churches/labels_needed.csv: how many it takes
    python -m tools.measure.corrections faces sheets --out SHEETS --key KEYS    # pictures and pairs, for raters

Differences, scores and the latent direction come from `domains.TRAIN`. `choose` fits them on the first three quarters
of these ids and measures on artifacts of the rest and of `domains.TUNE`. Afterwards: tools.build.manifest DOMAIN.
"""

import argparse
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from helpers import classifier, correct, domains, env, evaluation, metrics, store, survey, units
from tools.label import picture_sheets

GRID, STEPS = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3), (0, 0.5, 1, 1.5, 2, 2.5, 3, 4)
ARTIFACTS, NORMALS = 200, 100  # pictures of each that raters see
LABELS, DRAWS, MEASURED = (25, 50, 100, 200, 500, 1000, 1700), 10, 250
SMALLEST = "shift, smallest amount"
VOTED = ("original", "damping, tuned", "shift", SMALLEST, "latent direction, smallest")


class Setting(NamedTuple):
    """What `choose` chose for a domain."""

    layers: tuple = (1, 2)  # shifted one after the other
    amount: float = 1.0
    how: str = "linear"
    margin: float = 1.0  # how far below 0 the judge's score must fall
    damped: tuple = (1, 0.1, 0.9)  # stop layer, portion and scale of the best damping
    step: float = 1.0  # against the latent direction
    dark: bool = False  # whether dark images are among those that are compared


SETTINGS = {name: Setting() for name in domains.EMBEDDED}
SETTINGS["faces"] = Setting((1,), 1.5, damped=(1, 0.2, 0.9), step=1.5, dark=True)


class Study:
    """The ways of correcting images, made from training ids: each is a function of ids -> images (N, 3, R, R)."""

    def __init__(self, name, train=domains.TRAIN, head=None):
        self.domain, self.setting = domains.load(name), SETTINGS[name]
        known = set(self.domain.labels.ids)
        self.train = [i for i in train if i in known]
        self.head = self.domain.head if head is None else head

    def measured(self, layers, how="mean"):
        """Measure differences, layer after layer where there are several."""
        options = {"dark": self.setting.dark}
        if len(layers) > 1:
            options |= {"make": correct.layer_after_layer, "how": how}
        return evaluation.differences(self.domain, self.train, layers, **options)

    @cached_property
    def difference(self):
        return self.measured(self.setting.layers, self.setting.how)

    @cached_property
    def direction(self):
        return evaluation.latent_direction(self.domain, self.train, dark=self.setting.dark)

    @cached_property
    def scores(self):
        domain, artifacts = self.domain, self.domain.split(self.train)[0]
        layers = [k for k in domain.flow.layers if k <= 6]
        levels = survey.thresholds(domain.flow, domain.latents(domains.POOL[:2000]), layers=layers)
        return units.defective_scores(domain.flow, domain.latents(artifacts), domain.masks(artifacts), levels)

    def judge(self, images, margin=None):
        """Score images by the classifier, below 0 for those that are clearly normal."""
        score = classifier.artifact_score(self.head, self.domain.backbone.pooled(images))
        return score + (self.setting.margin if margin is None else margin)

    def amounts(self, ids, **options):
        """Search the smallest amount of the shift for each image."""
        z, how = self.domain.latents(ids), self.setting.how
        return correct.smallest_amount(self.domain.flow, z, self.difference, self.judge, GRID, how=how).amounts

    def steps(self, ids):
        """Search the smallest step against the latent direction for each image."""
        z = self.domain.latents(ids)
        return correct.smallest_step(self.domain.flow, z, self.direction, self.judge, STEPS).amounts

    def shifted(self, ids, amount, masks=None):
        return self.domain.images(ids, correct.shift(self.difference, amount, masks=masks, how=self.setting.how))

    def stepped(self, ids, amount):
        return self.domain.flow.generate(self.direction.step(self.domain.latents(ids), amount)).clamp(-1, 1)

    @property
    def ways(self):
        """{name: function of ids -> images}."""
        last, setting = max(self.scores), self.setting
        return {
            "original": self.domain.images,
            "damping, the paper's setting": lambda ids: self.domain.images(ids, correct.sequential(self.scores, last)),
            "damping, tuned": lambda ids: self.domain.images(ids, correct.sequential(self.scores, *setting.damped)),
            "shift": lambda ids: self.shifted(ids, setting.amount),
            "shift, local": lambda ids: self.shifted(ids, setting.amount, self.domain.masks(ids)),
            SMALLEST: lambda ids: self.shifted(ids, self.amounts(ids)),
            "latent direction": lambda ids: self.stepped(ids, setting.step),
            "latent direction, smallest": lambda ids: self.stepped(ids, self.steps(ids)),
        }


class Yardstick:
    """Measures sets of corrected images against the domain's reference, on the network that only measures."""

    def __init__(self, domain, count=2000):
        self.domain, images = domain, domain.reference(count)
        self.reference, self.bright = domain.evaluation.pooled(images), None
        self.distance, self.realism = metrics.frechet_to(self.reference), metrics.realism_to(self.reference)
        if domain.has("render"):
            self.bright = metrics.frechet_to(self.reference[images.mean(dim=(1, 2, 3)) >= evaluation.DARK])

    def rows(self, way, images, before=None, dark=None, resamples=200):
        """Yield (way, measure, value, low, high, n) of images; before: features of the same ones uncorrected."""
        x = self.domain.evaluation.pooled(images)
        yield way, "FD", *metrics.bootstrap(self.distance, x, n=resamples), len(x)
        if self.bright is not None and dark is not None:
            lit = x[~dark]
            yield way, "FD, bright", *metrics.bootstrap(self.bright, lit, n=resamples), len(lit)
        both = metrics.prdc(self.reference[: 2 * len(x)], x)
        yield from ((way, name, getattr(both, name), None, None, len(x)) for name in both._fields)
        yield way, "realism", *metrics.bootstrap(torch.median, self.realism(x), n=resamples), len(x)
        yield way, "kernel distance", metrics.kernel_distance(x, self.reference), None, None, len(x)
        if before is not None:
            yield way, "moved", *metrics.bootstrap(torch.mean, metrics.moved(before, x), n=resamples), len(x)


def table(study):
    """Measure every way on all held-out artifacts -> DataFrame: way, measure, value, low, high, n."""
    domain, stick = study.domain, Yardstick(study.domain)
    artifacts, normals = domain.split(domains.TEST)
    evaluation.check_splits(train=study.train, test=[*artifacts, *normals])
    images, as_many = domain.images(artifacts), domain.images(normals[: len(artifacts)])
    dark, before = (images.mean(dim=(1, 2, 3)) < evaluation.DARK), domain.evaluation.pooled(images)
    rows = [*stick.rows("normals, as many", as_many, None, as_many.mean(dim=(1, 2, 3)) < evaluation.DARK)]
    far = None
    for name, way in env.progress(study.ways.items(), "ways"):
        found = images if name == "original" else way(artifacts)
        rows.extend(stick.rows(name, found, before, dark))
        if name == SMALLEST:
            far = float(metrics.moved(before, domain.evaluation.pooled(found)).mean())
    z, _ = evaluation.noise_as_far(
        lambda z: domain.evaluation.pooled(domain.flow.generate(z).clamp(-1, 1)), domain.latents(artifacts), far
    )
    rows.extend(stick.rows("noise that moves as far", domain.flow.generate(z).clamp(-1, 1), before, dark))
    changed = (study.amounts(normals) > 0).float()
    rows.append((SMALLEST, "normals touched", *metrics.bootstrap(torch.mean, changed), len(normals)))
    return pd.DataFrame(rows, columns=["way", "measure", "value", "low", "high", "n"])


def choose(name):
    """Measure settings on ids that are neither fitted on nor held out -> DataFrame: way, FD, called normal, moved.

    Called normal: by a classifier on the measuring network, which no setting has seen; it stands in for a rater.
    """
    domain = domains.load(name)
    train = [i for i in domain.labels.ids if i in set(domains.TRAIN)]
    fitted, rest = train[: 3 * len(train) // 4], train[3 * len(train) // 4 :]
    said = torch.tensor([int(i in set(domain.labels.artifacts)) for i in fitted])
    pooled = [net.pooled(domain.images(fitted)) for net in (domain.backbone, domain.evaluation)]
    judge, eye = (classifier.fit(x, said, l2, classes=2) for x, l2 in zip(pooled, (1.0, 0.3)))
    study, artifacts = Study(name, fitted, judge), domain.split([*rest, *domains.TUNE])[0]
    z, flow, distance = domain.latents(artifacts), domain.flow, Yardstick(domain).distance
    before, rows = domain.evaluation.pooled(domain.images(artifacts)), []

    def measure(way, images):
        x = domain.evaluation.pooled(images.clamp(-1, 1))
        normal = (classifier.artifact_score(eye, x) < 0).float().mean()
        rows.append((way, distance(x), float(normal), float(metrics.moved(before, x).mean()), len(x)))

    measure("untouched", domain.images(artifacts))
    for layers in ([1], [2], [1, 2]):
        for how in ("mean", "linear"):
            found = study.measured(layers, how)
            for amount in (1.0, 1.5):
                edits = correct.shift(found, amount, how=how)
                measure(f"layer {' and '.join(map(str, layers))}, {how}, {amount:g}", flow.generate(z, edits))
            for margin in (0.0, 1.0):
                given = lambda x, margin=margin: study.judge(x, margin)  # noqa: E731
                amount = correct.smallest_amount(flow, z, found, given, GRID, how=how).amounts
                edits = correct.shift(found, amount, how=how)
                way = f"layer {' and '.join(map(str, layers))}, {how}, smallest amount, margin {margin:g}"
                measure(way, flow.generate(z, edits))
    for portion in (0.1, 0.3):
        found = study.measured([1])
        measure(f"layer 1, mean, 2, portion {portion:g}", flow.generate(z, correct.shift(found, 2.0, portion)))
    measure("layer 1, mean, 1, per unit", flow.generate(z, correct.shift(study.measured([1]), 1.0, places=False)))
    for step in (1.0, 1.5):
        measure(f"latent direction, {step:g}", flow.generate(study.direction.step(z, step)))
    for margin in (0.0, 1.0):
        given = lambda x, margin=margin: study.judge(x, margin)  # noqa: E731
        steps = correct.smallest_step(flow, z, study.direction, given, STEPS).amounts
        measure(f"latent direction, smallest, margin {margin:g}", flow.generate(study.direction.step(z, steps)))
    for stop, portion in ((1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2)):
        damped = correct.sequential(study.scores, stop, portion, 0.9)
        measure(f"damping, l = {stop}, n = {portion:.0%}", flow.generate(z, damped))
    return pd.DataFrame(rows, columns=["way", "FD", "called_normal", "moved", "n"])


def labels_needed(name):
    """Measure the shift of layer 1 with fewer labels -> DataFrame: labels, draw, FD."""
    study, rows = Study(name), []
    domain, stick = study.domain, Yardstick(study.domain)
    z = domain.latents(domain.split(domains.TEST)[0][:MEASURED])
    broken, fine = domain.split(study.train)
    if not study.setting.dark:
        broken, fine = evaluation.bright(domain, broken), evaluation.bright(domain, fine)
    h = {i: h for i, h in zip([*broken, *fine], domain.flow.record(domain.latents([*broken, *fine]), [1])[1].double())}
    for count in env.progress(LABELS, "labels"):
        for draw in range(DRAWS if count < len(h) else 1):
            order = torch.randperm(len(h), generator=torch.Generator().manual_seed(draw))[:count].tolist()
            ids = [[*broken, *fine][k] for k in order]
            parts = [torch.stack([h[i] for i in ids if (i in set(broken)) == bad]) for bad in (True, False)]
            edits = correct.shift({1: (parts[0].mean(dim=0) - parts[1].mean(dim=0)).float()}, study.setting.amount)
            found = domain.evaluation.pooled(domain.flow.generate(z, edits).clamp(-1, 1))
            rows.append((min(count, len(h)), draw, stick.distance(found), len(z)))
    return pd.DataFrame(rows, columns=["labels", "draw", "FD", "n"])


def sheets(study, out, keys, seed=3):
    """Write the sheets of single pictures and of pairs, and their keys."""
    artifacts, normals = study.domain.split(domains.TEST)
    artifacts, normals = artifacts[:ARTIFACTS], normals[:NORMALS]
    ways, amounts = study.ways, {}

    def smallest(ids):
        missing = [i for i in ids if i not in amounts]
        if missing:
            amounts.update(zip(missing, study.amounts(missing).tolist()))
        return study.shifted(ids, torch.tensor([amounts[i] for i in ids]))

    ways = {name: ways[name] for name in VOTED} | {SMALLEST: smallest}
    shown = [(i, name) for name in VOTED for i in artifacts]
    shown += [(i, name) for name in ("original", SMALLEST) for i in normals]
    keys.mkdir(parents=True, exist_ok=True)
    picture_sheets.make_pictures(out / "pictures", keys / "pictures.csv", ways, shown, seed)
    pairs = [(i, SMALLEST) for i in artifacts]
    picture_sheets.make_pairs(
        out / "pairs", keys / "pairs.csv", ways["original"], {SMALLEST: ways[SMALLEST]}, pairs, seed
    )


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("domain", choices=SETTINGS)
    p.add_argument("what", choices=("table", "choose", "labels", "sheets"))
    p.add_argument("--out", type=Path, help="folder of the sheets")
    p.add_argument("--key", type=Path, help="another folder, for the keys that no rater may see")
    a = p.parse_args(words)
    if a.what == "sheets":
        if a.out is None or a.key is None:
            p.error("sheets need --out and --key")
        return sheets(Study(a.domain), a.out, a.key)
    made = {"table": lambda: table(Study(a.domain)), "choose": lambda: choose(a.domain)}
    made["labels"] = lambda: labels_needed(a.domain)
    file = {"table": "corrections", "choose": "choice", "labels": "labels_needed"}[a.what]
    found = made[a.what]()
    found.round(5).to_csv(store.data_root() / a.domain / f"{file}.csv", index=False)
    print(found.to_string())


if __name__ == "__main__":
    main()
