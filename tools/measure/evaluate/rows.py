"""Lay out what is measured on a sample, with its interval, as tidy rows."""

import torch

from helpers import evaluation, metrics, rating
from tools.measure.evaluate.settings import RESAMPLES, SHOWN
from tools.measure.evaluate.study import counted

BEFORE = {"artifacts": "test", "normals": "normals"}  # the untouched samples of a group


def line(group, n, measure, interval):
    """Lay out one figure."""
    value, low, high = interval
    return {"group": group, "n": n, "measure": measure, "value": value, "low": low, "high": high}


def share(marks):
    """Share of images with Wilson's interval."""
    value = float(marks.double().mean())
    return value, *rating.wilson(value, len(marks))


def spanned(values):
    """Mean and range of draws."""
    return sum(values) / len(values), min(values), max(values)


def distances(study, group, found):
    """Lay out a sample's distances to real images."""
    other = study.floor if len(found) == len(study.floor) and found is not study.floor else None
    quality = study.reference.quality(found, RESAMPLES, other)
    return [line(group, len(found), measure, interval) for measure, interval in quality.items()]


def measured(study, group, found):
    """Lay out what a correction did to held-out artifacts or normals."""
    before, n = study.plain(BEFORE[group]), len(found)
    out = distances(study, group, found)
    out.append(line(group, n, "change of FD", study.reference.change(found, before, RESAMPLES)))
    out.append(line(group, n, "moved", metrics.bootstrap(torch.mean, evaluation.moved(before, found))))
    out.append(line(group, n, "dark", share(found.dark)))
    masks = study.masks(found.ids)
    for name, where in (("inside", masks), ("outside", ~masks)):
        change = evaluation.pixel_change(before, found, where)
        change = change[~change.isnan()]
        out.append(line(group, len(change), f"change {name} the mask", metrics.bootstrap(torch.mean, change)))
    return out


def lost_parts(study, group, found):
    """Count the semantic parts that a correction removes, by class, and lit windows among the windows."""
    before, after = study.pixels(BEFORE[group]), counted(study.domain, found.images)
    there, gone = evaluation.lost(before, after)
    rows = []
    for name in (*SHOWN, "lit window"):
        k = study.domain.classes.index(name) if name in SHOWN else -1
        n, lost = int(there[:, k].sum()), int(gone[:, k].sum())
        value, low, high = share(gone[there[:, k], k]) if n else (float("nan"),) * 3
        area = float(after[:, k].sum() / before[:, k].sum().clamp_min(1))
        rows.append({"part": name, "there": n, "lost": lost, "share": value, "low": low, "high": high, "area": area})
    return rows
