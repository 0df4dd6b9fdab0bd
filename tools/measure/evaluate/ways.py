"""The ways of correcting that are compared: functions of the scores, or noise on the latents."""

from helpers import correct, units
from tools.measure.evaluate.settings import LAYER


class Way:
    """A way of correcting: make(scores, ids) -> Edits, from scores; or noise on the latents."""

    def __init__(self, make=None, scores=None, noise=0.0):
        self.make, self.scores, self.noise = make, scores, noise


class Towards:
    """Draw a featuremap towards the mean one, which is the truncation trick for a generator that normalises z."""

    def __init__(self, mean, psi):
        self.mean, self.psi = mean, psi

    def __call__(self, h):
        return self.mean.to(h) + self.psi * (h - self.mean.to(h))


def sequential(scores, *setting, **options):
    return Way(lambda s, ids: correct.sequential(s, *setting, **options), scores)


def local(study, *setting):
    return Way(lambda s, ids: correct.local(s, study.masks(ids), *setting), study.ds)


def single(scores, count):
    return Way(lambda s, ids: correct.ablate(LAYER, units.rank(s)[LAYER][:count].tolist()), scores)


def way(study, method, stop, portion, scale):
    """Return the Way of a row of the grid."""
    if method == "truncation":
        return Way(lambda s, ids: {1: Towards(study.mean, portion)})
    if method == "noise":
        return Way(noise=portion)
    if method == "local":
        return local(study, stop, portion)
    if method == "untouched":
        return Way()
    return sequential(study.ds if method == "sequential" else study.contrast, stop, portion, scale)
