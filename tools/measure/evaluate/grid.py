"""Try settings on the tuning split, and choose among them."""

from helpers import env, evaluation
from tools.measure.evaluate.settings import AMOUNTS, OTHER_SCALES, PORTIONS, PSIS, SCALE, STOPS
from tools.measure.evaluate.ways import way

KEYS = ("method", "stop_layer", "portion", "scale")


def grid(study):
    """Every setting on the tuning split: what it does to artifacts, and what it does to normals (Figure 12, Pareto)."""
    settings = [("untouched", 0, 0, 0)]
    settings += [("sequential", k, n, SCALE) for k in STOPS for n in PORTIONS]
    settings += [("sequential", k, n, s) for k in STOPS for n in PORTIONS[1:3] for s in OTHER_SCALES]
    settings += [("contrast", k, n, SCALE) for k in STOPS[:2] for n in PORTIONS]
    settings += [("local", k, n, 0) for k in (1, 2, 4, 6) for n in PORTIONS[1:]]
    settings += [("truncation", 1, psi, 0) for psi in PSIS] + [("noise", 0, a, 0) for a in AMOUNTS]
    measured = ((key, tuned_row(study, way(study, *key))) for key in env.progress(settings, "grid"))
    return {"grid": [dict(zip(KEYS, key)) | row for key, row in measured]}


def tuned_row(study, how):
    """Measure a way on the tuning split."""
    bad, good = (study.corrected(ids, how) for ids in (study.tune, study.tune_normals))
    plain, calm = study.plain("tune"), study.plain("tune_normals")
    return {
        "fd": study.reference.fd(bad),
        "fd_bright": study.reference.fd(bad.take(~plain.dark)),
        "realism": float(study.reference.realism(bad).median()),
        "fd_normals": study.reference.fd(good),
        "moved_artifacts": float(evaluation.moved(plain, bad).mean()),
        "moved_normals": float(evaluation.moved(calm, good).mean()),
        "dark": float(bad.dark.float().mean()),
    }


def chosen(table, method):
    """Choose a method's setting: the lowest FD of corrected artifacts plus what normals' FD gains by the correction.

    table: the grid. Returns (stop_layer, portion, scale). For "noise": the amount that moves artifacts as far as the
    chosen sequential correction does.
    """
    rows = table[table.method == method]
    if method == "noise":
        tuned = dict(zip(("stop_layer", "portion", "scale"), chosen(table, "sequential")))
        goal = table[(table.method == "sequential") & (table[list(tuned)] == list(tuned.values())).all(axis=1)]
        best = (rows.moved_artifacts - goal.moved_artifacts.iloc[0]).abs().idxmin()
    else:
        harm = (rows.fd_normals - table[table.method == "untouched"].fd_normals.iloc[0]).clip(lower=0)
        best = (rows.fd + harm).idxmin()
    found = rows.loc[best]
    return int(found.stop_layer), float(found.portion), float(found.scale)
