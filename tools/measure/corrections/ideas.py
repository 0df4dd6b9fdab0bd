"""Other ideas than one difference, measured as the settings are: per type, per cluster, of neighbours, along a line."""

import torch
from scipy.cluster.vq import kmeans2

from helpers import classifier, correct, evaluation, units
from tools.measure.corrections.choices import Trial
from tools.measure.corrections.ways import GRID

AMOUNTS, CLUSTERS, SHRINKAGE = (1.0, 1.5), (2, 4, 8), (0.01, 0.1, 0.5)
NEAREST = (30, 50, 100)
FEW = 30  # artifacts of a type, below which it has no difference of its own


def ideas(name):
    """Measure what might do better than one difference -> DataFrame as of `choices.choose`. All in layer 1."""
    trial = Trial(name)
    study, domain = trial.study, trial.domain
    broken, fine = domain.split(study.train)
    if not study.setting.dark:
        broken, fine = evaluation.bright(domain, broken), evaluation.bright(domain, fine)
    h, g = (trial.flow.record(domain.latents(ids), [1])[1].float() for ids in (broken, fine))
    mean, normal = h.mean(dim=0), g.mean(dim=0)
    own = trial.flow.record(trial.z, [1])[1].float()
    plain = {1: mean - normal}
    trial.measure("untouched", domain.images(trial.artifacts))
    for amount in AMOUNTS:
        trial.measure(f"one difference, {amount:g}", trial.flow.generate(trial.z, correct.shift(plain, amount)))
    trial.smallest("one difference, smallest", plain)
    x, seen = (domain.backbone.pooled(domain.images(ids)) for ids in (broken, trial.artifacts))
    kinds = _numbers(dict(zip(domain.labels.ids, domain.labels.types)), broken)
    heads = [classifier.fit(x, (kinds == k).long(), 1.0, classes=2) for k in range(int(kinds.max()) + 1)]
    kind = torch.stack([classifier.artifact_score(head, seen) for head in heads]).argmax(dim=0)
    _apart(trial, "per type, as predicted", h, normal, kinds, kind)
    middle, spread = x.mean(dim=0), x.std(dim=0)
    for count in CLUSTERS:
        centres, place = kmeans2(((x - middle) / spread).numpy(), count, minit="++", seed=0)
        near = torch.cdist((seen - middle) / spread, torch.tensor(centres).float()).argmin(dim=1)
        _apart(trial, f"per cluster of {count}", h, normal, torch.from_numpy(place).long(), near)
    features = seen, x, domain.backbone.pooled(domain.images(fine))
    for k in NEAREST:
        found = units.nearest_differences(trial.flow, domain.latents(broken), domain.latents(fine), [1], features, k)
        for amount in AMOUNTS:
            images = trial.flow.generate(trial.z, correct.shift(found, amount))
            trial.measure(f"nearest {k} of each, {amount:g}", images)
        trial.smallest(f"nearest {k} of each, smallest", found)
    for share in SHRINKAGE:
        _along(trial, f"discriminant, shrinkage {share:g}", h, g, own, share)
    # How far along the difference each image lies says how much it gets, without a judge.
    d = (mean - normal).flatten()
    for amount in AMOUNTS:
        far = ((own - normal).flatten(1) @ d / d.dot(d)).clamp_min(0)
        edits = correct.shift(plain, amount * far)
        trial.measure(f"as far as each lies along it, {amount:g}", trial.flow.generate(trial.z, edits))
    truth = torch.tensor([1] * len(h) + [0] * len(g))
    _by_layer(trial, plain, own, classifier.fit(torch.cat([h, g]).flatten(1), truth, 1.0, classes=2))
    return trial.table


def _numbers(types, ids):
    """Number the types of artifacts: (N,); those that are too rare for a difference of their own share one number."""
    named = [types[i] for i in ids]
    large = sorted(kind for kind in set(named) if named.count(kind) >= FEW)
    return torch.tensor([large.index(kind) if kind in large else len(large) for kind in named]).unique(
        return_inverse=True
    )[1]


def _apart(trial, way, h, normal, groups, own):
    """Shift each image by the difference of its own group."""
    for amount in AMOUNTS:
        images = torch.empty(len(own), *trial.flow.generate(trial.z[:1]).shape[1:])
        for group in own.unique().tolist():
            rows = own == group
            found = {1: h[groups == group].mean(dim=0) - normal}
            images[rows] = trial.flow.generate(trial.z[rows], correct.shift(found, amount))
        trial.measure(f"{way}, {amount:g}", images)


def _along(trial, way, h, g, own, share):
    """Shift along Fisher's discriminant (S + shrinkage)^-1 D, as far as the means lie apart along it."""
    x, y = h.flatten(1).double(), g.flatten(1).double()
    d = x.mean(dim=0) - y.mean(dim=0)
    centred = torch.cat([x - x.mean(dim=0), y - y.mean(dim=0)])
    cov = centred.T @ centred / len(centred)
    cov = (1 - share) * cov + share * cov.trace() / len(cov) * torch.eye(len(cov), dtype=torch.float64)
    w = torch.linalg.solve(cov, d)
    found = {1: (w * (w @ d) / (w @ w)).reshape(own.shape[1:]).float()}
    for amount in AMOUNTS:
        trial.measure(f"{way}, {amount:g}", trial.flow.generate(trial.z, correct.shift(found, amount)))
    trial.smallest(f"{way}, smallest", found)


def _by_layer(trial, found, own, head):
    """Take the smallest amount at which a classifier that sees layer 1, and no image, calls it normal."""
    said = [classifier.artifact_score(head, correct.shift(found, a)[1](own).flatten(1)) for a in GRID]
    enough = torch.stack(said, dim=1) < torch.tensor([0.0] + [-1.0] * (len(GRID) - 1))
    enough[:, -1] = True
    amounts = torch.tensor(GRID)[enough.float().argmax(dim=1)]
    trial.measure("judged in layer 1, smallest", trial.flow.generate(trial.z, correct.shift(found, amounts)))
