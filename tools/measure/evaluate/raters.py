"""How far the labels and the classifier that stands on them can be trusted."""

import torch

from helpers import classifier, domains, labels, metrics, rating, store


def agreement(study):
    """How far two raters agree on class and on each type, in all and by split."""
    second, rows = labels.read(store.fetch("churches/second_pass.csv")), []
    splits = {"all": set(second.ids), "train": domains.TRAIN, "tune": domains.TUNE, "test": domains.TEST}
    for split, ids in splits.items():
        one, two = ({r["id"]: r for r in t.rows if r["id"] in set(ids)} for t in (study.domain.labels, second))
        both = [i for i in two if i in one]
        for kind in ("class", *labels.TYPES):
            if len(both) >= 2:
                pair = [said([t[i] for i in both], kind) for t in (one, two)]
                rows.append({"split": split, "type": kind} | agreed(*pair))
    return {"agreement": rows}


def said(rows, kind):
    """Mark the artifacts among rows of a label table, or those of one type: (N,) of 0 and 1."""
    return torch.tensor([r["label"] == "artifact" if kind == "class" else r["type"] == kind for r in rows]).long()


def agreed(first, second):
    """Count what two raters mark, and lay out Cohen's kappa; none where one of them marks nothing."""
    row = {"n": len(first), "first": int(first.sum()), "second": int(second.sum())}
    row["agree"] = float((first == second).float().mean())
    there = row["first"] and row["second"]
    kappa = metrics.bootstrap(rating.cohen, first, second, paired=True) if there else (float("nan"),) * 3
    # An interval is moved to its value, and may then reach beyond what a kappa can be.
    return row | dict(zip(("kappa", "low", "high"), (min(v, 1.0) for v in kappa)))


def classifiers(study):
    """The classifier as shipped, and what was tried beside it: macro-F1 of three classes on held-out images."""
    domain = study.domain
    x, y = described(domain, domains.TRAIN, domains.REAL_TRAIN)
    tested, truth = described(domain, domains.TEST, domains.REAL_TEST)
    width = domain.backbone.units
    last = slice(x.shape[1] - 2 * width, x.shape[1] - width)
    shipped = {"features": "mean of the last stage, as shipped"} | judged(domain.head, tested[:, last], truth)
    other = {"features": "mean and deviation of four stages"} | judged(classifier.fit(x, y), tested, truth)
    return {"classifier": [shipped, other]}


def described(domain, ids, real):
    """Mean and deviation of every unit of the backbone's four stages, and the classes: (N, D) and (N,)."""
    images = torch.cat([domain.images(ids), domain.real(real)])
    found = []
    with torch.no_grad():
        for part in images.split(256):
            maps = domain.backbone.all_maps(domain.backbone.prepare(part)).values()
            found.append(torch.cat([value for m in maps for value in (m.mean((2, 3)), m.std((2, 3)))], dim=1))
    bad = set(domain.labels.artifacts)
    return torch.cat(found), torch.tensor([int(i in bad) for i in ids] + [classifier.REAL] * len(real))


def judged(head, x, truth):
    """Lay out a head's report."""
    found = classifier.report(head, x, truth)
    figures = dict(zip(("macro_f1", "low", "high"), found.macro_f1))
    return {"n": len(x)} | figures | dict(zip(("auc", "auc_low", "auc_high"), found.auc))
