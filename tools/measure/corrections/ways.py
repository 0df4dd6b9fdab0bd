"""The ways of correcting held-out artifacts that are compared on any embedded domain, and how they are measured.

Differences, scores and the latent direction come from `domains.TRAIN`.
"""

from functools import cached_property
from typing import NamedTuple

import torch

from helpers import classifier, correct, domains, evaluation, metrics, rating, survey, units

GRID, STEPS = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3), (0, 0.5, 1, 1.5, 2, 2.5, 3, 4)
NOISES = tuple(k / 10 for k in range(11))  # shares of a latent that noise takes the place of
SMALLEST, STEP = rating.SPARED, "latent direction, smallest"
SURE, SURE_STEP = rating.SURE, f"{STEP}, all"  # where those that are called normal already must reach the margin
NEAR, SURE_NEAR = "shift of neighbours, smallest amount", "shift of neighbours, smallest amount, all"
VOTED = ("original", "damping, tuned", "shift", SURE, SURE_STEP)


class Setting(NamedTuple):
    """What `choose` chose for a domain."""

    layers: tuple = (1, 2)  # shifted one after the other
    amount: float = 1.0
    how: str = "linear"
    margin: float = 1.0  # how far below 0 the judge's score must fall
    damped: tuple = (1, 0.1, 0.9)  # stop layer, portion and scale of the best damping
    step: float = 1.0  # against the latent direction
    near: int = 100  # artifacts and normals most like an image, from which its own difference is measured
    dark: bool = False  # whether dark images are among those that are compared


SETTINGS = {name: Setting() for name in domains.EMBEDDED}
SETTINGS["faces"] = Setting((1,), 1.5, damped=(1, 0.2, 0.9), step=1.5, dark=True)


class Noise:
    """Noise in the place of a latent direction: each latent towards its own turned one, by a share of it in [0, 1]."""

    def __init__(self, size, seed=0):
        drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
        self.turn = torch.linalg.qr(drawn).Q  # of a normal latent it makes another one that has nothing to do with it

    def step(self, z, amount):
        share = torch.as_tensor(amount, dtype=torch.float32).reshape(-1, 1)
        return (1 - share.square()).sqrt() * z + share * (z @ self.turn)


class Study:
    """The ways of correcting images, made from training ids: each is a function of ids -> images (N, 3, R, R)."""

    def __init__(self, name, train=domains.TRAIN, head=None):
        self.domain, self.setting = domains.load(name), SETTINGS[name]
        known = set(self.domain.labels.ids)
        self.train = [i for i in train if i in known]
        self.head = self.domain.head if head is None else head

    def measured(self, layers, how="mean", dark=None, **options):
        """Measure differences, layer after layer where there are several, with options of `layer_after_layer`."""
        options["dark"] = self.setting.dark if dark is None else dark
        if len(layers) > 1:
            options |= {"make": correct.layer_after_layer, "how": how}
        return evaluation.differences(self.domain, self.train, layers, **options)

    @cached_property
    def difference(self):
        return self.measured(self.setting.layers, self.setting.how)

    @cached_property
    def classes(self):
        """The images that differences are made from, as (latents, features) of the artifacts and of the normals."""
        parts = self.domain.split(self.train)
        if not self.setting.dark:
            parts = [evaluation.bright(self.domain, ids) for ids in parts]
        return [(self.domain.latents(ids), self.domain.backbone.pooled(self.domain.images(ids))) for ids in parts]

    def neighbours(self, ids):
        """Measure the difference in layer 1 between the artifacts and the normals most like each image."""
        (bad, x), (good, y) = self.classes
        features = self.domain.backbone.pooled(self.domain.images(ids)), x, y
        found = units.nearest_differences(self.domain.flow, bad, good, [1], features, self.setting.near)
        return evaluation.Scores(found, self.train)

    @cached_property
    def direction(self):
        return evaluation.latent_direction(self.domain, self.train, dark=self.setting.dark)

    @cached_property
    def scores(self):
        domain, artifacts = self.domain, self.domain.split(self.train)[0]
        layers = [k for k in domain.flow.layers if k <= 6]
        levels = survey.thresholds(domain.flow, domain.latents(domains.POOL[:2000]), layers=layers)
        return units.defective_scores(domain.flow, domain.latents(artifacts), domain.masks(artifacts), levels)

    def judge(self, images):
        """Score images by the classifier, below 0 for those that it calls normal."""
        return classifier.artifact_score(self.head, self.domain.backbone.pooled(images))

    def sure(self, images):
        """Score images as `judge` does, a margin higher."""
        return self.judge(images) + self.setting.margin

    def amounts(self, ids, all=False):
        """Search the smallest amount of the shift for each image; all: of all, not only those called artifacts."""
        return self.smallest(ids, self.difference, all, how=self.setting.how)

    def smallest(self, ids, differences, all=False, **options):
        """Search as `amounts` does for other differences, with options of `correct.shift`."""
        options |= {"judge": self.sure} if all else self.rule
        z = self.domain.latents(ids)
        return correct.smallest_amount(self.domain.flow, z, differences, grid=GRID, **options).amounts

    def steps(self, ids, all=False):
        """Search the smallest step against the latent direction for each image."""
        options, z = {"judge": self.sure} if all else self.rule, self.domain.latents(ids)
        return correct.smallest_step(self.domain.flow, z, self.direction, grid=STEPS, **options).amounts

    @property
    def rule(self):
        return {"judge": self.judge, "margin": self.setting.margin}

    def noisy(self, ids):
        """Put in the least noise for each image, by the same rule: what anything gains that is judged so."""
        z, noise = self.domain.latents(ids), Noise(self.domain.flow.latent)
        found = correct.smallest_step(self.domain.flow, z, noise, grid=NOISES, **self.rule)
        return self.drawn(noise.step(z, found.amounts))

    def shifted(self, ids, amount, masks=None):
        return self.domain.images(ids, correct.shift(self.difference, amount, masks=masks, how=self.setting.how))

    def nearest(self, ids, all=False):
        found = self.neighbours(ids)
        return self.domain.images(ids, correct.shift(found, self.smallest(ids, found, all)))

    def stepped(self, ids, amount):
        return self.drawn(self.direction.step(self.domain.latents(ids), amount))

    def drawn(self, z):
        return self.domain.flow.generate(z).clamp(-1, 1)

    @property
    def ways(self):
        """{name: function of ids -> images}."""
        last, setting = max(self.scores), self.setting
        return {
            "original": self.domain.images,
            "damping, the paper's setting": lambda ids: self.domain.images(ids, correct.sequential(self.scores, last)),
            "damping, tuned": lambda ids: self.domain.images(ids, correct.sequential(self.scores, *setting.damped)),
            "shift of layer 1, means, once": lambda ids: self.domain.images(ids, correct.shift(self.measured([1]))),
            "shift": lambda ids: self.shifted(ids, setting.amount),
            "shift, local": lambda ids: self.shifted(ids, setting.amount, self.domain.masks(ids)),
            SMALLEST: lambda ids: self.shifted(ids, self.amounts(ids)),
            SURE: lambda ids: self.shifted(ids, self.amounts(ids, all=True)),
            NEAR: self.nearest,
            SURE_NEAR: lambda ids: self.nearest(ids, all=True),
            "latent direction": lambda ids: self.stepped(ids, setting.step),
            STEP: lambda ids: self.stepped(ids, self.steps(ids)),
            SURE_STEP: lambda ids: self.stepped(ids, self.steps(ids, all=True)),
            "noise, smallest": self.noisy,
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
