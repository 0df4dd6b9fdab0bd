"""Average over plantings, with intervals."""

import pandas as pd
import torch

from helpers import metrics
from tools.measure.planted.settings import KEYS, RATES, STRENGTHS


def summary(table):
    """Average over plantings with bootstrap intervals: those measured in full, and by kind, layer, strength and rate.

    Strengths and rates are compared on the same seeds, each in one kind of defect, and kinds on all seeds.
    """
    names = ["part", "measure", "method", "masks", "labels", "scope"]
    full = table[table.part == "correction"][KEYS].drop_duplicates()
    same = table.merge(full[["seed", "kind"]])
    middle = (table.strength == STRENGTHS[0]) & (table.rate == RATES[0])
    out, splits = [], {"in full": table.merge(full)}
    splits |= {kind: part for kind, part in table[middle].groupby("kind")}
    splits |= {f"layer {layer}": part for layer, part in splits["in full"].groupby("layer")}
    splits |= {f"strength {s}": part for s, part in same[same.rate == RATES[0]].groupby("strength")}
    splits |= {f"rate {r}": part for r, part in same[same.strength == STRENGTHS[0]].groupby("rate")}
    for split, part in splits.items():
        for key, rows in part.groupby(names):
            # Plantings of one seed share their units, so seeds are what is resampled.
            values = torch.tensor(rows.groupby("seed").value.mean().to_numpy())
            interval = metrics.bootstrap(torch.mean, values)
            out.append((split, *key, *(round(v, 3) for v in interval), len(values)))
    return pd.DataFrame(out, columns=["split", *names, "mean", "low", "high", "seeds"])
