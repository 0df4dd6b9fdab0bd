"""Measure settings, and other ideas, on ids that are neither fitted on nor held out; and how many labels it takes."""

import pandas as pd
import torch

from helpers import classifier, correct, domains, env, evaluation, metrics
from tools.measure.corrections.ways import GRID, STEPS, Study, Yardstick

LABELS, DRAWS, MEASURED = (25, 50, 100, 200, 500, 1000, 1700), 10, 250


class Trial:
    """A study whose last quarter of training ids, with the tuning ids, is measured on instead of fitted on."""

    def __init__(self, name):
        domain = domains.load(name)
        train = [i for i in domain.labels.ids if i in set(domains.TRAIN)]
        fitted, rest = train[: 3 * len(train) // 4], train[3 * len(train) // 4 :]
        said = torch.tensor([int(i in set(domain.labels.artifacts)) for i in fitted])
        pooled = [net.pooled(domain.images(fitted)) for net in (domain.backbone, domain.evaluation)]
        judge, self.eye = (classifier.fit(x, said, l2, classes=2) for x, l2 in zip(pooled, (1.0, 0.3)))
        self.study, self.artifacts = Study(name, fitted, judge), domain.split([*rest, *domains.TUNE])[0]
        self.domain, self.flow, self.z = domain, domain.flow, domain.latents(self.artifacts)
        self.distance, self.rows = Yardstick(domain).distance, []
        self.before = domain.evaluation.pooled(domain.images(self.artifacts))

    def measure(self, way, images):
        """Note FD, the share called normal by a classifier on the measuring network, and how far images moved."""
        x = self.domain.evaluation.pooled(images.clamp(-1, 1))
        normal = (classifier.artifact_score(self.eye, x) < 0).float().mean()
        self.rows.append((way, self.distance(x), float(normal), float(metrics.moved(self.before, x).mean()), len(x)))

    def smallest(self, way, found, how="mean", judge=None, margin=1.0):
        judge = self.study.judge if judge is None else judge
        amount = correct.smallest_amount(self.flow, self.z, found, judge, GRID, how=how, margin=margin).amounts
        self.measure(way, self.flow.generate(self.z, correct.shift(found, amount, how=how)))

    def stepped(self, way, margin):
        found = correct.smallest_step(self.flow, self.z, self.study.direction, self.study.judge, STEPS, margin=margin)
        self.measure(way, self.flow.generate(self.study.direction.step(self.z, found.amounts)))

    @property
    def table(self):
        return pd.DataFrame(self.rows, columns=["way", "FD", "called_normal", "moved", "n"])


def choose(name):
    """Measure settings on ids that are neither fitted on nor held out -> DataFrame: way, FD, called normal, moved.

    Called normal: by a classifier on the measuring network, which no setting has seen; it stands in for a rater.
    """
    trial = Trial(name)
    study, flow, z = trial.study, trial.flow, trial.z
    trial.measure("untouched", trial.domain.images(trial.artifacts))
    for layers in ([1], [2], [1, 2]):
        for how in ("mean", "linear"):
            found, where = study.measured(layers, how), f"layer {' and '.join(map(str, layers))}, {how}"
            for amount in (1.0, 1.5):
                trial.measure(f"{where}, {amount:g}", flow.generate(z, correct.shift(found, amount, how=how)))
            for margin in (0.0, 1.0, 2.0):
                trial.smallest(f"{where}, smallest amount, margin {margin:g}", found, how, margin=margin)
    for portion in (0.1, 0.3):
        found = study.measured([1])
        trial.measure(f"layer 1, mean, 2, portion {portion:g}", flow.generate(z, correct.shift(found, 2.0, portion)))
    edits = correct.shift(study.measured([1]), 1.0, places=False)
    trial.measure("layer 1, mean, 1, per unit", flow.generate(z, edits))
    edits = correct.shift(study.measured([1]), 1.0, masks=trial.domain.masks(trial.artifacts))
    trial.measure("layer 1, mean, 1, within the masks", flow.generate(z, edits))
    others = study.measured([1], dark=not study.setting.dark)
    which = "without the dark images" if study.setting.dark else "with the dark images"
    trial.measure(f"layer 1, mean, 1, {which}", flow.generate(z, correct.shift(others)))
    both = study.measured([1, 2], "linear", normals="shifted")
    trial.measure("layer 1 and 2, linear, 1, normals shifted too", flow.generate(z, correct.shift(both, how="linear")))
    for step in (1.0, 1.5):
        trial.measure(f"latent direction, {step:g}", flow.generate(study.direction.step(z, step)))
    for margin in (0.0, 1.0):
        trial.stepped(f"latent direction, smallest, margin {margin:g}", margin)
    for stop, portion in ((1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2)):
        damped = correct.sequential(study.scores, stop, portion, 0.9)
        trial.measure(f"damping, l = {stop}, n = {portion:.0%}", flow.generate(z, damped))
    return trial.table


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
