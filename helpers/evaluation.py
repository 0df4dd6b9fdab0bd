"""Evaluate corrections on images that took no part in them: how good, how much is kept, what is lost.

Scores remember the ids of the images they were made from, and no corrected sample of those is made unless the paper's
in-sample protocol is asked for. What measures is a feature network that took no part either, `domain.evaluation`.
Explained in notebook 07.
"""

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch

from helpers import correct, metrics, store, units
from helpers.corrections.noise import noise_as_far, noisy  # noqa: F401
from helpers.evidence import frechet
from helpers.evidence.held_out import Scores, check_splits, protocol  # noqa: F401
from helpers.evidence.intervals import wilson
from helpers.latents import batches, image_ids
from helpers.networks import features

DARK = -0.4  # an image whose mean is below is a night scene
PRESENT, LEFT = 12, 1 / 3  # pixels of a part that is there; share of them under which it counts as lost
K_REALISM, K_PRECISION = 3, 5
_lit = WeakKeyDictionary()  # flow -> (version of its weights, {id: whether its image is bright})


def ranked(domain, ids, thresholds, **options):
    """Make defective scores from the artifacts among labelled ids, by the domain's masks -> Scores.

    thresholds, options: as in `units.defective_scores`. All ids count as used, since masks and labels stand on them.
    Raises ValueError for fewer than 2 artifacts among them, and as `units.defective_scores` does.
    """
    ids = list(ids)
    artifacts = domain.split(ids)[0]
    if len(artifacts) < 2:
        raise ValueError(f"{len(ids)} ids hold {len(artifacts)} artifacts, expected at least 2: label or pass more")
    z = domain.latents(artifacts)
    return Scores(units.defective_scores(domain.flow, z, masks(domain, artifacts), thresholds, **options), ids)


def masks(domain, ids):
    """Return the masks of many generations by id, kept in the cache: bool (N, R, R). ValueError for what is no id."""
    side = domain.flow.resolution(domain.flow.n_layers)
    packed = store.memo("masks", lambda ids: np.packbits(domain.masks(ids).numpy(), axis=-1), ids=list(image_ids(ids)))
    return torch.from_numpy(np.unpackbits(packed, axis=-1, count=side)).bool()


def differences(domain, ids, layers, dark=False, make=units.differences, **options):
    """Measure what the artifacts among labelled ids have more than the normals -> units.Differences with these ids.

    layers: numbers. dark: keep dark images, which are artifacts nearly always: the difference is then mostly night.
    make, options: `units.differences`, or `correct.layer_after_layer` with its arguments. All ids count as used.
    Raises ValueError as `make` does, such as where a class has no image. Explained in notebook 06.
    """
    found = make(domain.flow, *_latents_of(domain, ids, dark), layers, **options)
    found.ids = frozenset(ids)
    return found


def latent_direction(domain, ids, dark=False, **options):
    """Find the direction of the artifacts among labelled ids in latent space -> Direction with these ids.

    dark: as for `differences`. options: of `correct.latent_direction`, which raises ValueError.
    """
    return replace(correct.latent_direction(*_latents_of(domain, ids, dark), **options), ids=frozenset(ids))


def bright(domain, ids):
    """Leave out the ids whose images are dark. What an image is, is remembered as long as its generator lives."""
    network, ids = domain.flow.network, image_ids(ids)
    version = sum(w._version for w in (*network.parameters(), *network.buffers()))  # rises where they are changed
    if _lit.get(domain.flow, (None,))[0] != version:
        _lit[domain.flow] = version, {}
    lit = _lit[domain.flow][1]
    for part in batches([i for i in ids if i not in lit], 256):
        lit |= zip(part, (domain.images(part).mean(dim=(1, 2, 3)) >= DARK).tolist())
    return [i for i in ids if lit[i]]


def _latents_of(domain, ids, dark):
    return (domain.latents(part if dark else bright(domain, part)) for part in domain.split(ids))


@dataclass(frozen=True)
class Sample:
    """Images to judge, row by row: ids, images (N, 3, R, R), features (N, D) of a named network, and the protocol."""

    ids: tuple
    images: torch.Tensor
    features: torch.Tensor
    network: str
    protocol: str

    def __len__(self):
        return len(self.ids)

    def take(self, rows):
        """Keep the rows where a bool (N,) is true."""
        ids = tuple(i for i, keep in zip(self.ids, rows.tolist(), strict=True) if keep)
        return replace(self, ids=ids, images=self.images[rows], features=self.features[rows])

    @property
    def dark(self):
        """Tell which images are night scenes, by their mean: bool (N,)."""
        return self.images.mean(dim=(1, 2, 3)) < DARK


def sample(domain, ids, correction=None, scores=None, tuned_on=(), in_sample=False, network="evaluation", z=None):
    """Generate images by id, corrected if asked, and read their features -> Sample.

    correction: a function of the scores -> Edits, such as `lambda scores: correct.sequential(scores, 1)`. scores: a
    Scores, Differences or Direction with ids, or None for edits that need none. tuned_on: the ids on which the
    correction's settings were chosen. in_sample: see `protocol`. network: the domain's field that reads the
    features. z: latents (N, D) other than the ids'.
    Raises ValueError for fewer than 2 ids, one twice, or if scores, edits or settings were made from any of them;
    TypeError for scores that do not remember their ids.
    """
    ids = tuple(image_ids(ids))
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise ValueError(f"got {len(ids)} ids, {len(set(ids))} different, expected at least 2, each once: pass more")
    if scores is not None and getattr(scores, "ids", None) is None:
        kind = type(scores).__name__
        raise TypeError(f"scores must remember their ids, got a {kind}: use ranked or differences, or wrap in Scores")
    edits = correction(scores) if correction else None
    known = (getattr(source, "ids", None) or () for source in (scores, edits))
    kind = protocol(set(tuned_on).union(*known), ids, in_sample)
    images = domain.flow.generate(domain.latents(ids) if z is None else z, edits).clamp(-1, 1)
    return Sample(ids, images, getattr(domain, network).pooled(images), network, kind)


def real_sample(domain, ids, network="evaluation"):
    """Render real images by id and read their features -> Sample. Raises ValueError for fewer than 2 ids."""
    images = domain.real(ids)
    return Sample(tuple(ids), images, getattr(domain, network).pooled(images), network, "real")


def reference_sample(domain, count=None, network="evaluation"):
    """Make what distances are measured to, `domain.reference(count)`, with its features from the cache -> Sample."""
    features, made = _reference(domain, count, network)
    images = made[0] if made else domain.reference(count)
    kind = "real" if domain.has("render") else "held-out"
    return Sample(tuple(domain.reference_ids(count)), images, features, network, kind)


def reference_features(domain, count=None, network="evaluation"):
    """Read the features of `domain.reference(count)`, (N, D); from the cache where they were read before."""
    return _reference(domain, count, network)[0]


def _reference(domain, count, network):
    made = []

    def read(count):
        made.append(domain.reference(count))
        return getattr(domain, network).pooled(made[0])

    return store.memo("reference features", read, count=count), made


class Reference:
    """Real images prepared for comparison; the features of another network are refused.

    real: a Sample of real images. Every method takes a Sample and raises ValueError if another network read it.
    """

    def __init__(self, real):
        self.network, self.real = real.network, real.features
        self._frechet, self._realism = frechet.frechet_to(real.features), metrics.realism_to(real.features, K_REALISM)

    def fd(self, found):
        """Return the Fréchet distance of a sample."""
        return self.fd_of(self._checked(found))

    def fd_of(self, x):
        """Return the Fréchet distance of features (N, D) of this network."""
        return self._frechet(x)

    def realism(self, found):
        """Return each image's realism score: (N,)."""
        return self._realism(self._checked(found))

    def change(self, found, before, resamples=200):
        """Return by how much the distance changed against the same images `before`, resampled together: Interval."""
        pair = self._checked(found), self._checked(before)
        if found.ids != before.ids:
            raise ValueError("the samples before and after hold different ids: compare the same images, in one order")
        return metrics.bootstrap(lambda x, y: self._frechet(x) - self._frechet(y), *pair, n=resamples, paired=True)

    def quality(self, found, resamples=200, other=None):
        """Measure a sample: {measure: Interval} of FD, kernel distance, realism, precision, recall, coverage.

        Realism is the median image's. other: as many real images as the sample has, for the last three; their
        intervals are Wilson's, for shares of images. Distances are resampled over the sample alone.
        """
        x = self._checked(found)
        y = self.real[: len(x)] if other is None else self._checked(other)
        both = metrics.prdc(y, x, K_PRECISION)
        return {
            "FD": metrics.bootstrap(self._frechet, x, n=resamples),
            "kernel distance": metrics.bootstrap(self._kernel, x, n=max(2, resamples // 4)),
            "realism": metrics.bootstrap(torch.median, self._realism(x), n=resamples),
            "precision": metrics.Interval(both.precision, *wilson(both.precision, len(x))),
            "recall": metrics.Interval(both.recall, *wilson(both.recall, len(y))),
            "coverage": metrics.Interval(both.coverage, *wilson(both.coverage, len(y))),
        }

    def _kernel(self, x):
        return metrics.kernel_distance(x, self.real[:1000])

    def _checked(self, found):
        if found.network != self.network:
            raise ValueError(
                f"the {found.network} network read the sample, the {self.network} one the real images: use one for both"
            )
        return found.features


def moved(before, after):
    """Return how far each image moved: feature distance, in units of that between two different images: (N,)."""
    if before.network != after.network or before.ids != after.ids:
        raise ValueError("the samples before and after differ in ids or network: compare the same images, seen alike")
    return metrics.moved(before.features, after.features)


def pixel_change(before, after, where=None):
    """Return each image's mean absolute change, in a range of 2: (N,); where: bool (N, R, R), which pixels count.

    NaN where no pixel counts.
    """
    change = (after.images - before.images).abs().mean(dim=1)
    where = torch.ones_like(change, dtype=torch.bool) if where is None else where
    return (change * where).sum(dim=(1, 2)) / where.sum(dim=(1, 2))


def parts(domain, images):
    """Count each image's pixels of every class, by the evaluation network's segmentation: (N, C) whole numbers."""
    found = [domain.evaluation.segment(part).argmax(dim=1).flatten(1) for part in images.split(features.BATCH)]
    return torch.stack([(torch.cat(found) == number).sum(dim=1) for number in range(len(domain.classes))], dim=1)


def lost(before, after):
    """Mark what is lost: parts (N, C) before and after -> (there, lost), both bool (N, C).

    A part is there with at least `PRESENT` pixels, and lost if less than `LEFT` of its pixels remain.
    """
    there = before >= PRESENT
    return there, there & (after < LEFT * before)
