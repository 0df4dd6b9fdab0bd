"""Measure every way of correcting on all held-out artifacts."""

import pandas as pd
import torch

from helpers import domains, env, evaluation, metrics
from tools.measure.corrections.ways import SMALLEST, SURE, Yardstick


def table(study):
    """Measure every way on all held-out artifacts -> DataFrame: way, measure, value, low, high, n."""
    domain, stick = study.domain, Yardstick(study.domain)
    artifacts, normals = domain.split(domains.TEST)
    evaluation.check_splits(train=study.train, test=[*artifacts, *normals])
    images, as_many = domain.images(artifacts), domain.images(normals[: len(artifacts)])
    dark, before = (images.mean(dim=(1, 2, 3)) < evaluation.DARK), domain.evaluation.pooled(images)
    rows = [*stick.rows("normals, as many", as_many, None, as_many.mean(dim=(1, 2, 3)) < evaluation.DARK)]
    far, had = None, evaluation.parts(domain, images) if domain.classes else None
    for name, way in env.progress(study.ways.items(), "ways"):
        found = images if name == "original" else way(artifacts)
        rows.extend(stick.rows(name, found, before, dark))
        if had is not None and name != "original":
            rows.append((name, "parts lost", *_lost(had, evaluation.parts(domain, found)), len(images)))
        if name == SMALLEST:
            far = float(metrics.moved(before, domain.evaluation.pooled(found)).mean())
    z, _ = evaluation.noise_as_far(
        lambda z: domain.evaluation.pooled(domain.flow.generate(z).clamp(-1, 1)), domain.latents(artifacts), far
    )
    rows.extend(stick.rows("noise that moves as far", domain.flow.generate(z).clamp(-1, 1), before, dark))
    for name, every in ((SMALLEST, False), (SURE, True)):
        changed = (study.amounts(normals, every) > 0).float()
        rows.append((name, "normals touched", *metrics.bootstrap(torch.mean, changed), len(normals)))
    return pd.DataFrame(rows, columns=["way", "measure", "value", "low", "high", "n"])


def _lost(before, after):
    """Return the share of the parts that were there and are lost, with its interval over images."""
    there, lost = (x.double().sum(dim=1) for x in evaluation.lost(before, after))
    return metrics.bootstrap(lambda lost, there: lost.sum() / there.sum(), lost, there, paired=True)
