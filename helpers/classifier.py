"""Tell artifact, normal and real images apart with one linear layer on frozen features (section 3.2)."""

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


def fit(features, targets, l2=1e-2, balanced=True, steps=200):
    """Fit the linear layer by logistic regression; nothing is random.

    features: (N, D) pooled. targets: (N,) class numbers, 0 normal, 1 artifact, 2 real.
    l2: weight penalty on standardised features; it also fixes the head's gauge (softmax does not change
    when one vector is added to all rows of the weight, but the artifact logit does).
    balanced: count every class alike. Returns a Head for raw features.
    Raises ValueError if a class has no example. Explained in notebook 02.
    """
    targets = torch.as_tensor(targets).long()
    counts = targets.bincount(minlength=len(CLASSES))
    if len(features) != len(targets) or len(counts) != len(CLASSES) or (counts == 0).any():
        raise ValueError(f"every one of {CLASSES} needs examples, got {counts.tolist()} for {len(features)} features")
    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    x = (features - mean) / std
    share = (len(targets) / (len(CLASSES) * counts)) if balanced else torch.ones(len(CLASSES))
    weight = torch.zeros(len(CLASSES), x.shape[1], requires_grad=True)
    bias = torch.zeros(len(CLASSES), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, targets, weight=share) + l2 * weight.square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)
    raw = weight.detach() / std
    return Head(raw, bias.detach() - raw @ mean)


def predict(head, features):
    """Return class probabilities (N, 3) for pooled features (N, D)."""
    if features.shape[-1] != head.weight.shape[1]:
        raise ValueError(f"this head reads {head.weight.shape[1]} features, got {features.shape[-1]}: same network?")
    return F.linear(features, *head).softmax(dim=-1)


class Report(NamedTuple):
    """How well a head does on images it has not seen."""

    confusion: torch.Tensor  # (3, 3) counts, rows are the true classes
    accuracy: float
    macro_f1: tuple  # value, low, high
    auc: tuple  # artifact against normal: value, low, high


def report(head, features, targets, seed=0):
    """Evaluate a head on held-out images: confusion matrix, accuracy, macro-F1 and artifact AUC with 95 % intervals."""
    targets = torch.as_tensor(targets).long()
    probability = predict(head, features)
    guess = probability.argmax(dim=1)
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
    logits = F.linear(features, *head)
    return logits[:, ARTIFACT] - logits[:, NORMAL]
