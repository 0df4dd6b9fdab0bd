"""Tell artifact, normal and real images apart with one linear layer on frozen features (section 3.2)."""

import math
from typing import NamedTuple

import torch
from torch.nn import functional as F

from helpers import metrics

CLASSES = ("normal", "artifact", "real")
NORMAL, ARTIFACT, REAL = range(3)


class Head(NamedTuple):
    """A linear layer: weight (classes, D) and bias (classes,), applied to pooled features."""

    weight: torch.Tensor
    bias: torch.Tensor


def fit(features, targets, l2=1e-2, balanced=True, steps=200, classes=3):
    """Fit the linear layer by logistic regression; nothing is random.

    features: (N, D) pooled. targets: (N,) class numbers, 0 normal, 1 artifact, 2 real.
    l2: weight penalty on standardised features; it also fixes the head's gauge (softmax does not change
    when one vector is added to all rows of the weight, but the artifact logit does).
    balanced: count every class alike. classes: 2 where there are no real images. Returns a Head for raw features.
    Raises ValueError if a class has no example, for an unknown class, or for features that are not finite.
    Explained in notebook 02.
    """
    targets, counts = _checked(features, targets)
    if (counts[:classes] == 0).any() or counts[classes:].any():
        raise ValueError(f"every one of {CLASSES[:classes]} needs examples to fit, no other, got {counts.tolist()}")
    counts = counts[:classes]
    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    x = (features - mean) / std
    share = (len(targets) / (classes * counts)) if balanced else torch.ones(classes)
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, targets, weight=share) + l2 * weight.square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)
    raw = weight.detach() / std
    return Head(raw, bias.detach() - raw @ mean)


def fit_local(maps, targets, l2=0.03, temperature=1.0, steps=150):
    """Fit a linear layer that calls an image an artifact if *some* place of it looks defective.

    maps: featuremaps (N, D, h, w). targets: (N,) as for `fit`; normal and real count as "not artifact".
    Every place gets the evidence e = w . A + b, and the image's score is the smooth maximum
    T * log(mean(exp(e / T))) over its places. A large temperature T makes it their average, which is
    the paper's head; a small one looks at the strongest place only, so that the evidence of a small defect is
    not spread over the image. Not in the paper: multiple-instance learning, here for sharper masks.
    Returns a Head with the rows "not artifact" (all zero) and "artifact", to weigh maps with by `gradcam`.
    Raises ValueError as `fit` does. Explained in notebook 02.
    """
    if maps.ndim != 4 or not temperature > 0:
        raise ValueError(f"maps must be (N, D, h, w) and temperature positive, got {tuple(maps.shape)}, {temperature}")
    targets, counts = _checked(maps, targets)
    if not counts[ARTIFACT] or counts[ARTIFACT] == len(targets):
        raise ValueError(f"artifacts and other images are needed to fit, got {counts.tolist()} of {CLASSES}")
    wanted = (targets == ARTIFACT).float()
    mean, std = maps.mean(dim=(0, 2, 3)), maps.std(dim=(0, 2, 3)).clamp_min(1e-6)
    x = ((maps - mean[:, None, None]) / std[:, None, None]).flatten(2).transpose(1, 2).contiguous()
    weight, bias = torch.zeros(x.shape[2], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        score = smooth_maximum(x @ weight, temperature) + bias
        value = F.binary_cross_entropy_with_logits(score, wanted) + l2 * weight.square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)
    raw = weight.detach() / std
    offset = bias.detach() - raw @ mean
    return Head(torch.stack([torch.zeros_like(raw), raw]), torch.cat([torch.zeros(1), offset]))


def smooth_maximum(evidence, temperature=1.0):
    """Pool evidence (N, places) into scores (N,): between the mean (large temperature) and the maximum (small)."""
    return temperature * (torch.logsumexp(evidence / temperature, dim=1) - math.log(evidence.shape[1]))


def predict(head, features):
    """Return class probabilities (N, classes) for pooled features (N, D)."""
    return _logits(head, features).softmax(dim=-1)


class Report(NamedTuple):
    """How well a head does on images it has not seen."""

    confusion: torch.Tensor  # (3, 3) counts, rows are the true classes
    accuracy: float
    macro_f1: tuple  # value, low, high
    auc: tuple  # artifact against normal: value, low, high


def report(head, features, targets, seed=0):
    """Evaluate a head on held-out images: confusion matrix, accuracy, macro-F1 and artifact AUC with 95 % intervals.

    features, targets: as for `fit`. seed: of the intervals' resamples. Returns a Report.
    Raises ValueError if there is no normal or no artifact image, or as `fit` does. Explained in notebook 02.
    """
    targets, counts = _checked(features, targets)
    if not (counts[NORMAL] and counts[ARTIFACT]):
        raise ValueError(f"a report needs normal and artifact images, got {counts.tolist()} of {CLASSES}")
    guess = predict(head, features).argmax(dim=1)
    confusion = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.long)
    confusion.index_put_((targets, guess), torch.ones_like(targets), accumulate=True)
    generated = targets != REAL
    score = artifact_score(head, features)[generated]
    return Report(
        confusion,
        float((guess == targets).float().mean()),
        metrics.bootstrap(metrics.macro_f1, guess, targets, paired=True, seed=seed),
        metrics.bootstrap(metrics.auc, score, targets[generated] == ARTIFACT, paired=True, seed=seed),
    )


def artifact_score(head, features):
    """Return how much more artifact than normal each image looks: the difference of the two logits (N,)."""
    logits = _logits(head, features)
    return logits[:, ARTIFACT] - logits[:, NORMAL]


def _logits(head, features):
    if features.shape[-1] != head.weight.shape[1]:
        raise ValueError(f"this head reads {head.weight.shape[1]} features, got {features.shape[-1]}: same network?")
    return F.linear(features, *head)


def _checked(features, targets):
    """Return the targets as a tensor of class numbers, and how many there are of each class."""
    targets = torch.as_tensor(targets).long()
    if len(features) != len(targets):
        raise ValueError(f"got {len(targets)} targets for {len(features)} features: pass one per image")
    wrong = targets[(targets < 0) | (targets >= len(CLASSES))]
    if len(wrong):
        raise ValueError(f"targets are the class numbers 0 to {len(CLASSES) - 1} of {CLASSES}, got {int(wrong[0])}")
    bad = ~features.isfinite().flatten(1).all(dim=1)
    if bad.any():
        raise ValueError(f"features of example {int(bad.nonzero()[0])} are not finite: check image and network")
    return targets, targets.bincount(minlength=len(CLASSES))
