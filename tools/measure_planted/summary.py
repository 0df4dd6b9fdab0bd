"""Average over plantings, with intervals."""

import pandas as pd
import torch

from helpers import metrics
from tools.measure_planted.settings import RATES, STRENGTHS


def summary(table):
    """Average over plantings with bootstrap intervals, by kind where it is the middle setting, and by setting."""
    middle = (table.strength == STRENGTHS[0]) & (table.rate == RATES[0])
    names = ["part", "measure", "method", "masks", "labels", "scope"]
    out = []
    splits = {"middle": table[middle]}
    splits |= {kind: part for kind, part in table[middle].groupby("kind")}
    splits |= {f"layer {layer}": part for layer, part in table[middle].groupby("layer")}
    splits |= {f"strength {s}": part for s, part in table[table.rate == RATES[0]].groupby("strength")}
    splits |= {f"rate {r}": part for r, part in table[table.strength == STRENGTHS[0]].groupby("rate")}
    for split, part in splits.items():
        for key, rows in part.groupby(names):
            # Plantings of one seed share their units, so seeds are what is resampled.
            values = torch.tensor(rows.groupby("seed").value.mean().to_numpy())
            interval = metrics.bootstrap(torch.mean, values)
            out.append((split, *key, *(round(v, 3) for v in interval), len(values)))
    return pd.DataFrame(out, columns=["split", *names, "mean", "low", "high", "seeds"])
