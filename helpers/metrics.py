"""Compare sets of images by their features, with the uncertainty of every figure.

Features are (N, D) tensors of any frozen network. On features other than the standard Inception's the Fréchet
distance is not the FID: print "FD", the network's name and both n. Everything is computed in float64, pairwise
distances in chunks of `CHUNK` rows, and no result depends on the chunk. Explained in notebook 05.
"""

from functools import partial
from typing import NamedTuple

import torch

from helpers.evidence.frechet import checked, frechet_distance, frechet_distances, frechet_to, same_width  # noqa: F401
from helpers.evidence.intervals import Interval, bootstrap  # noqa: F401

CHUNK = 512  # rows of a distance matrix held at once


class PRDC(NamedTuple):
    """Precision, recall and coverage in [0, 1]; density >= 0, about 1 for equal distributions."""

    precision: float
    recall: float
    density: float
    coverage: float


def kernel_distance(x, y):
    """Return the unbiased squared kernel distance of two feature sets: (N, D), (M, D) -> float, around 0 if equal.

    Kernel (a.b / D + 1)^3. Its expectation does not depend on N and M, unlike the Fréchet distance's; it can be
    slightly negative. Source: Binkowski et al. 2018, "Demystifying MMD GANs" (KID on Inception features).
    Raises ValueError as `frechet_distance` does. Explained in notebook 05.
    """
    x, y = same_width(checked(x, "x"), checked(y, "y"))
    return float(_kernel(x) + _kernel(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y)))


def prdc(real, fake, k=5):
    """Return precision, recall, density and coverage: real (N, D), fake (M, D) -> PRDC.

    Balls reach to the k-th neighbour in the own set, self excluded; inside is strictly nearer than the radius.
    Raises ValueError as `frechet_distance` does, and unless 1 <= k < the size of both sets.
    Source: Kynkäänniemi et al. 2019; Naeem et al. 2020. Explained in notebook 05.
    """
    real, fake = same_width(checked(real, "real"), checked(fake, "fake"))
    radii, fake_radii = _radii(real, k, "real"), _radii(fake, k, "fake")
    hits, nearest, recalled = [], torch.full_like(radii, torch.inf), torch.zeros_like(radii, dtype=torch.bool)
    for chunk, own in zip(fake.split(CHUNK), fake_radii.split(CHUNK), strict=True):
        d = _distances(chunk, real)
        hits.append((d < radii).sum(dim=1))
        nearest = torch.minimum(nearest, d.amin(dim=0))
        recalled |= (d < own[:, None]).any(dim=0)
    hits = torch.cat(hits).double()
    shares = (hits > 0).double().mean(), recalled.double().mean(), hits.mean() / k, (nearest < radii).double().mean()
    return PRDC(*map(float, shares))


def realism(real, fake, k=3, squared=False):
    """Return each image's realism score: real (N, D), fake (M, D) -> float64 (M,), >= 1 inside a kept ball.

    R(g) = max over reals r of radius(r) / |g - r|, radius to the k-th neighbour, self excluded, over the half of the
    reals with the smaller radii. squared=True gives R^2, which the published code reports. The score depends on the
    number of reals: fix and print it. An exact copy of a kept real scores infinity.
    Raises ValueError as `prdc` does. Source: Kynkäänniemi et al. 2019, eq. 3. Explained in notebook 05.
    """
    return realism_to(real, k, squared)(fake)


def realism_to(real, k=3, squared=False):
    """Prepare the realism score against one set of reals (N, D): returns a function of fake (M, D) -> (M,)."""
    real = checked(real, "real")
    radii = _radii(real, k, "real")
    keep = radii <= radii.median()
    return partial(_realism, real[keep], radii[keep], squared)


def rarity(real, fake, k=3):
    """Return each image's rarity: real (N, D), fake (M, D) -> float64 (M,), NaN outside the reals' manifold.

    The radius of the smallest ball (to the k-th neighbour, self excluded) that strictly holds the image. Artifacts
    often lie outside, where rarity says nothing: show the share of NaN with it, and `realism`.
    Raises ValueError as `prdc` does. Source: Han et al. 2022, "Rarity Score". Explained in notebook 05.
    """
    real, fake = same_width(checked(real, "real"), checked(fake, "fake", least=1))
    radii = _radii(real, k, "real")
    smallest = [torch.where(_distances(chunk, real) < radii, radii, torch.inf).amin(dim=1) for chunk in _chunks(fake)]
    smallest = torch.cat(smallest)
    return smallest.masked_fill(smallest.isinf(), torch.nan)


def moved(before, after):
    """Return how far each image moved in feature space, in units of the distance between two different images: (N,).

    before, after: features (N, D) of the same images, at least 2. Raises ValueError for different shapes.
    Explained in notebook 05.
    """
    if before.shape != after.shape or len(before) < 2:
        raise ValueError(f"got features {tuple(before.shape)} and {tuple(after.shape)}: pass both of the same images")
    return (after - before).norm(dim=1) / (before.roll(1, 0) - before).norm(dim=1).mean()


def auc(scores, labels):
    """Return the area under the ROC curve: scores (N,), labels (N,) true for positives -> float in [0, 1].

    The chance that a positive scores above a negative, ties counting half; NaN where a class is missing.
    Raises ValueError for NaN scores or different lengths. Explained in notebook 01.
    """
    scores, labels = torch.as_tensor(scores).double().flatten(), torch.as_tensor(labels).bool().flatten()
    if len(scores) != len(labels):
        raise ValueError(f"got {len(scores)} scores but {len(labels)} labels: pass one label per score")
    if scores.isnan().any():
        raise ValueError(f"score {int(scores.isnan().nonzero()[0])} is NaN: remove such images or repair their scores")
    positives, negatives = scores[labels], scores[~labels].sort().values
    below = torch.searchsorted(negatives, positives) + torch.searchsorted(negatives, positives, right=True)
    return float(below.double().mean() / (2 * len(negatives))) if len(negatives) else float("nan")


def macro_f1(predicted, truth):
    """Return the mean F1 of the classes that occur: two (N,) integer tensors -> float in [0, 1].

    Raises ValueError for different or zero lengths. Explained in notebook 02.
    """
    predicted, truth = torch.as_tensor(predicted).flatten(), torch.as_tensor(truth).flatten()
    if len(predicted) != len(truth) or not len(truth):
        raise ValueError(f"got {len(predicted)} predictions for {len(truth)} true classes: pass one each, at least one")
    classes = torch.cat([predicted, truth]).unique()
    found, real = predicted == classes[:, None], truth == classes[:, None]
    return float((2 * (found & real).sum(dim=1) / (found.sum(dim=1) + real.sum(dim=1))).mean())


def _kernel_sum(x, y):
    return sum(((chunk @ y.T) / y.shape[1] + 1).pow(3).sum() for chunk in _chunks(x))


def _kernel(x):
    """Mean kernel of the pairs of different samples of one set."""
    own = (x.square().mean(dim=1) + 1).pow(3).sum()
    return (_kernel_sum(x, x) - own) / (len(x) * (len(x) - 1))


def _realism(real, radii, squared, fake):
    real, fake = same_width(real, checked(fake, "fake", least=1))
    # A ball of radius 0 (duplicate reals) holds nothing, so 0 / 0 counts as 0.
    best = [(radii / _distances(chunk, real)).nan_to_num(nan=0.0, posinf=torch.inf).amax(1) for chunk in _chunks(fake)]
    return torch.cat(best).square() if squared else torch.cat(best)


def _radii(x, k, name):
    if not 1 <= k < len(x):
        raise ValueError(f"{name} has {len(x)} samples, so k must lie between 1 and {len(x) - 1}, got {k}")
    # The nearest "neighbour" is the sample itself.
    return torch.cat([_distances(chunk, x).kthvalue(k + 1, dim=1).values for chunk in _chunks(x)])


def _distances(x, y):
    # The matrix-product shortcut is faster, but leaves equal points 1e-8 apart and depends on the chunk.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _chunks(x):
    return x.split(CHUNK)
