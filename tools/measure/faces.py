"""Correct held-out faces in several ways: measure them, and lay them out for blind raters.

    python -m tools.measure.faces table                              # writes data/faces/corrections.csv, minutes
    python -m tools.measure.faces sheets --out SHEETS --key KEYS     # single pictures and pairs, for two raters
    python -m tools.build.manifest faces

    python -m tools.measure.faces choose                             # writes data/faces/choice.csv, minutes

Differences, scores and the latent direction come from `domains.TRAIN`. `choose` is how the settings were chosen: on 183
artifacts of the last 300 training ids and of the tuning ids, everything else fitted on the first 1,400 training ids.
"""

import argparse
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch

from helpers import classifier, correct, domains, env, evaluation, metrics, store, survey, units
from tools.label import picture_sheets

AMOUNT, HOW, MARGIN = 1.5, "linear", 1.0  # of the shift of layer 1; how far below 0 the judge's score must fall
GRID, STEPS = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3), (0, 0.5, 1, 1.5, 2, 2.5, 3, 4)
DAMPED = 1, 0.2, 0.9  # stop layer, portion and scale of the best damping
ARTIFACTS, NORMALS = 200, 100  # pictures of each that raters see


class Study:
    """The ways of correcting faces, made from training ids: each is a function of ids -> images (N, 3, 64, 64)."""

    def __init__(self, train=domains.TRAIN, head=None):
        self.domain, self.train, self.head = domains.load("faces"), train, head
        self.head = self.domain.head if head is None else head

    @cached_property
    def difference(self):
        return evaluation.differences(self.domain, self.train, [1], dark=True)

    @cached_property
    def direction(self):
        return evaluation.latent_direction(self.domain, self.train, dark=True)

    @cached_property
    def scores(self):
        domain = self.domain
        artifacts = domain.split(self.train)[0]
        levels = survey.thresholds(domain.flow, domain.latents(domains.POOL[:2000]), layers=[1, 2, 3, 4])
        return units.defective_scores(domain.flow, domain.latents(artifacts), domain.masks(artifacts), levels)

    def judge(self, images):
        """Score images by the classifier, below 0 for clearly normal."""
        return classifier.artifact_score(self.head, self.domain.backbone.pooled(images)) + MARGIN

    def amounts(self, ids):
        """Search the smallest amount of the shift for each image."""
        z = self.domain.latents(ids)
        return correct.smallest_amount(self.domain.flow, z, self.difference, self.judge, GRID, how=HOW).amounts

    def steps(self, ids):
        """Search the smallest step against the latent direction for each image."""
        return correct.smallest_step(self.domain.flow, self.domain.latents(ids), self.direction, self.judge, STEPS)[0]

    @property
    def ways(self):
        """{name: function of ids -> images}."""
        domain = self.domain

        def drawn(edits):
            return lambda ids: domain.images(ids, edits(ids))

        def stepped(amount):
            z = domain.latents
            return lambda ids: domain.flow.generate(self.direction.step(z(ids), amount(ids))).clamp(-1, 1)

        return {
            "original": domain.images,
            "damping, the paper's setting": drawn(lambda ids: correct.sequential(self.scores, 4)),
            "damping, best": drawn(lambda ids: correct.sequential(self.scores, *DAMPED)),
            "shift": drawn(lambda ids: correct.shift(self.difference, AMOUNT, how=HOW)),
            "shift, smallest amount": drawn(lambda ids: correct.shift(self.difference, self.amounts(ids), how=HOW)),
            "latent direction": stepped(lambda ids: 1.5),
            "latent direction, smallest": stepped(self.steps),
        }


VOTED = ("original", "damping, best", "shift", "shift, smallest amount", "latent direction, smallest")


def table(study):
    """Measure every way on all held-out artifacts -> DataFrame: way, measure, value, low, high, n."""
    domain = study.domain
    artifacts, normals = domain.split(domains.TEST)
    reference = domain.evaluation.pooled(domain.reference())
    distance, realism = metrics.frechet_to(reference), metrics.realism_to(reference)
    before, rows = domain.evaluation.pooled(domain.images(artifacts)), []

    def measure(name, x, moved=None):
        fd = metrics.bootstrap(distance, x, n=200)
        both = metrics.prdc(reference, x)
        rows.append((name, "FD", *fd, len(x)))
        rows.extend((name, part, getattr(both, part), None, None, len(x)) for part in both._fields)
        rows.append((name, "median realism", *metrics.bootstrap(torch.median, realism(x), n=200), len(x)))
        if moved is not None:
            rows.append((name, "moved", *metrics.bootstrap(torch.mean, moved, n=200), len(x)))

    measure("normals, as many", domain.evaluation.pooled(domain.images(normals[: len(artifacts)])))
    for name, way in env.progress(study.ways.items(), "ways"):
        x = before if name == "original" else domain.evaluation.pooled(way(artifacts))
        measure(name, x, metrics.moved(before, x))
    z, amount = evaluation.noise_as_far(
        lambda z: domain.evaluation.pooled(domain.flow.generate(z)),
        domain.latents(artifacts),
        float(metrics.moved(before, domain.evaluation.pooled(study.ways["shift, smallest amount"](artifacts))).mean()),
    )
    noisy = domain.evaluation.pooled(domain.flow.generate(z))
    measure("noise that moves as far", noisy, metrics.moved(before, noisy))
    touched = (study.amounts(normals) > 0).float()
    rows.append(("shift, smallest amount", "normals touched", *metrics.bootstrap(torch.mean, touched), len(normals)))
    return pd.DataFrame(rows, columns=["way", "measure", "value", "low", "high", "n"])


def choose():
    """Measure settings on ids that are neither fitted on nor held out -> DataFrame: way, FD, called normal, moved.

    Called normal: by a classifier on the measuring network, which no setting has seen; it stands in for a rater.
    """
    domain = domains.load("faces")
    labelled = [i for i in domain.labels.ids if i in set(domains.TRAIN)]
    fitted, ids = labelled[:1400], [*labelled[1400:], *domains.TUNE]
    said = torch.tensor([int(i in set(domain.labels.artifacts)) for i in fitted])
    pooled = [net.pooled(domain.images(fitted)) for net in (domain.backbone, domain.evaluation)]
    judge, eye = (classifier.fit(x, said, l2, classes=2) for x, l2 in zip(pooled, (1.0, 0.3)))
    study, artifacts = Study(fitted, judge), domain.split(ids)[0]
    z, flow = domain.latents(artifacts), domain.flow
    distance = metrics.frechet_to(domain.evaluation.pooled(domain.reference()))
    before, rows = domain.evaluation.pooled(domain.images(artifacts)), []

    def measure(name, images):
        x = domain.evaluation.pooled(images.clamp(-1, 1))
        normal = (classifier.artifact_score(eye, x) < 0).float().mean()
        rows.append((name, distance(x), float(normal), float(metrics.moved(before, x).mean())))

    measure("untouched", domain.images(artifacts))
    chain = correct.layer_after_layer(flow, *map(domain.latents, domain.split(fitted)), [1, 2], how="linear")
    found = {"layer 1": study.difference, "layers 1 and 2, one after the other": chain}
    found["layer 2"] = evaluation.differences(domain, fitted, [2], dark=True)
    for name, difference in found.items():
        for how in ("mean", "linear"):
            for amount in (1.0, 1.5, 2.0):
                measure(f"{name}, {how}, {amount:g}", flow.generate(z, correct.shift(difference, amount, how=how)))
    for step in (1.0, 1.5, 2.0):
        measure(f"latent direction, {step:g}", flow.generate(study.direction.step(z, step)))
    for portion in (0.1, 0.2, 0.4):
        for stop in (1, 2):
            damped = correct.sequential(study.scores, stop, portion, 0.9)
            measure(f"damping, l = {stop}, n = {portion:.0%}", flow.generate(z, damped))
    for margin in (0.0, 0.5, 1.0):
        given = lambda x, margin=margin: study.judge(x) - MARGIN + margin  # noqa: E731
        for how in ("mean", "linear"):
            amount = correct.smallest_amount(flow, z, study.difference, given, GRID, how=how).amounts
            edits = correct.shift(study.difference, amount, how=how)
            measure(f"layer 1, {how}, smallest amount, margin {margin:g}", flow.generate(z, edits))
        steps = correct.smallest_step(flow, z, study.direction, given, STEPS).amounts
        measure(f"latent direction, smallest, margin {margin:g}", flow.generate(study.direction.step(z, steps)))
    return pd.DataFrame(rows, columns=["way", "FD", "called_normal", "moved"])


def sheets(study, out, keys, seed=3):
    """Write the sheets of single pictures and of pairs, and their keys."""
    artifacts, normals = study.domain.split(domains.TEST)
    artifacts, normals = artifacts[:ARTIFACTS], normals[:NORMALS]
    ways = study.ways
    shown = [(i, name) for name in VOTED for i in artifacts]
    shown += [(i, name) for name in ("original", "shift, smallest amount") for i in normals]
    keys.mkdir(parents=True, exist_ok=True)
    picture_sheets.make_pictures(out / "pictures", keys / "pictures.csv", {n: ways[n] for n in VOTED}, shown, seed)
    pairs = [(i, "shift, smallest amount") for i in artifacts]
    corrected = {"shift, smallest amount": ways["shift, smallest amount"]}
    picture_sheets.make_pairs(out / "pairs", keys / "pairs.csv", ways["original"], corrected, pairs, seed)


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("table", help="measure every way on the held-out artifacts")
    s = commands.add_parser("sheets", help="lay out pictures and pairs for blind raters")
    s.add_argument("--out", type=Path, required=True, help="folder of the sheets")
    s.add_argument("--key", type=Path, required=True, help="another folder, for the keys that no rater may see")
    commands.add_parser("choose", help="measure settings on ids that are not held out")
    a = p.parse_args(words)
    if a.command == "choose":
        found = choose()
        found.round(4).to_csv(store.data_root() / "faces" / "choice.csv", index=False)
        return print(found.round(3).to_string())
    if a.command == "sheets":
        return sheets(Study(), a.out, a.key)
    found = table(Study())
    found.round(5).to_csv(store.data_root() / "faces" / "corrections.csv", index=False)
    print(found.pivot_table(index="way", columns="measure", values="value", sort=False).round(3))


if __name__ == "__main__":
    main()
