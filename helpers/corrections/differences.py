"""What artifacts have more than normals, per unit and place: means and deviations of two classes of images."""

import numpy as np
import torch

from helpers.latents import image_ids
from helpers.streaming.shards import check_finite
from helpers.streaming.statistics import Moments


class Differences(dict):
    """Differences of two classes of images, {layer: (U, H, W)}, with what else is known of both.

    artifacts, normals: {layer: (mean, standard deviation)}, each (U, H, W), deviations divided by the count.
    counts: how many images of each were seen. lowest: {layer: smallest activation of all}. ids: the images they were
    made from, or None where these are not known (see `evaluation.differences`).
    """

    def __init__(self, differences, artifacts, normals, counts, lowest, ids=None):
        super().__init__(differences)
        self.artifacts, self.normals, self.counts, self.lowest = artifacts, normals, tuple(counts), lowest
        self.ids = None if ids is None else frozenset(image_ids(ids))

    def standardised(self, places=True):
        """Divide by s, the root of the classes' mean squared deviation: {layer: (U, H, W)}.

        Images count alike. places: False for the unit's mean over its places, and s over images and places: the same
        number at all of them. A difference without any deviation is infinite, none at all is 0.
        """
        out = {}
        for layer, difference in self.items():
            size = 0
            for count, (mean, deviation) in zip(self.counts, (self.artifacts[layer], self.normals[layer])):
                size = size + count * (deviation if places else over_places(mean, deviation)[1]).double().square()
            found = difference if places else over_places(difference)[0]
            s = (size / sum(self.counts)).sqrt()
            out[layer] = torch.where(found == 0, 0.0, found / s).float()
        return out

    def only(self, layers):
        """Keep some of the layers. Raises KeyError for one that is not there."""
        parts = [{k: part[k] for k in layers} for part in (self, self.artifacts, self.normals)]
        return Differences(*parts, self.counts, {k: self.lowest[k] for k in layers}, self.ids)

    def joined(self, other):
        """Return the layers of both, which the same images were seen in."""
        parts = [{**getattr(self, name), **getattr(other, name)} for name in ("artifacts", "normals")]
        return Differences({**self, **other}, *parts, self.counts, {**self.lowest, **other.lowest}, self.ids)


class ByPlace(Moments):
    """The mean and the standard deviation of each unit at each place over images, in float64, and the lowest value."""

    kept = (*Moments.kept, "lowest")

    def __init__(self, shape):
        super().__init__(shape)
        self.lowest = np.inf

    def update(self, h, start=0, peaks=None):
        """See `statistics`."""
        h = h.cpu().double().numpy()
        mean = h.mean(axis=0)
        self._add(len(h), mean, np.square(h - mean).sum(axis=0))
        self.lowest = min(self.lowest, float(h.min()))

    def merge(self, other):
        """See `statistics`."""
        self.lowest = min(self.lowest, other.lowest)
        return super().merge(other)


def differences(flow, z_artifacts, z_normals, layers, edits=None, normal_edits=None):
    """Measure what artifacts have more than normals: mean featuremap of the ones minus that of the others.

    z_artifacts, z_normals: latents (N, D) and (M, D). layers: numbers. edits, normal_edits: Edits under which the
    artifacts and the normals are seen, for a difference that is left by a shift of earlier layers.
    Returns Differences, a dict {layer: (U, H, W)}, from one pass of bounded memory; sums are float64, so that neither
    order nor chunks matter. Raises ValueError for a class without images, no layers, one that is not there, or
    activations that are not finite. Explained in notebook 06.
    """
    layers = [flow.checked(layer) for layer in layers]
    if not layers or not len(z_artifacts) or not len(z_normals):
        raise ValueError(
            f"got {len(z_artifacts)} artifacts, {len(z_normals)} normals and {len(layers)} layers: pass at least one "
            "of each"
        )
    bad, good = _moments(flow, z_artifacts, layers, edits), _moments(flow, z_normals, layers, normal_edits)
    return Differences(
        {k: torch.from_numpy(bad[k].mean - good[k].mean).float() for k in layers},
        {k: bad[k].value() for k in layers},
        {k: good[k].value() for k in layers},
        (len(z_artifacts), len(z_normals)),
        {k: min(bad[k].lowest, good[k].lowest) for k in layers},
    )


def nearest_differences(flow, z_artifacts, z_normals, layers, features, k=50):
    """Measure for each image what the artifacts most like it have more than the normals most like it.

    z_artifacts, z_normals: latents (A, D) and (B, D). features: (of the images (N, F), of the artifacts (A, F), of the
    normals (B, F)), such as a backbone's; what is like is near in them, each feature divided by its deviation over
    both classes. k: how many of each class, fewer where a class has no more. What both kinds of neighbours share, a
    night or a tower, falls out of the difference. Returns {layer: (N, U, H, W)} for `correct.shift`, a plain dict:
    `evaluation.Scores(found, ids)` remembers the classes' ids for the check of splits. Holds the featuremaps of both
    classes, one layer at a time. Raises ValueError for k below 1, features that do not fit the
    latents or are not finite, and as `differences` does. Explained in notebook 06.
    """
    own, *theirs = (torch.as_tensor(part).double() for part in features)
    fits = own.ndim == 2 and [part.shape[1:] for part in theirs] == [own.shape[1:]] * 2
    if not fits or [len(part) for part in theirs] != [len(z_artifacts), len(z_normals)]:
        got = [tuple(part.shape) for part in (own, *theirs)]
        raise ValueError(f"features must be (N, F), (artifacts, F), (normals, F), one row per image each, got {got}")
    if not all(part.isfinite().all() for part in (own, *theirs)):
        raise ValueError("features have NaN or infinity among them: check the images")
    if k < 1 or not layers or not all(map(len, theirs)):
        raise ValueError(f"needs k of at least 1, layers, and images of each class, got k = {k}, layers {[*layers]}")
    spread = torch.cat(theirs).std(dim=0, correction=0)
    spread = torch.where(spread > 0, spread, 1)
    near = [torch.cdist(own / spread, part / spread).topk(min(k, len(part)), largest=False).indices for part in theirs]
    found = {}
    for layer in map(flow.checked, layers):
        means = []
        for z, rows in zip((z_artifacts, z_normals), near):
            h = flow.record(z, [layer])[layer]
            check_finite({layer: h})
            means.append(torch.stack([h[some].double().mean(dim=0) for some in rows]))
        found[layer] = (means[0] - means[1]).float()
    return found


def over_places(mean, deviation=None):
    """Turn moments at each place (U, H, W) into those of the unit over its places and images, at every place."""
    middle = mean.double().mean(dim=(-2, -1), keepdim=True)
    spread = None
    if deviation is not None:
        square = deviation.double().square() + (mean.double() - middle).square()
        spread = square.mean(dim=(-2, -1), keepdim=True).sqrt().float().expand_as(mean)
    return middle.float().expand_as(mean), spread


def _moments(flow, z, layers, edits):
    found = {layer: ByPlace(flow.shape(layer)) for layer in layers}
    for _, recorded in flow.stream(z, layers, edits):
        check_finite(recorded)
        for layer, h in recorded.items():
            found[layer].update(h)
    return found
