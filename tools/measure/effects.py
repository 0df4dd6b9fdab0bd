"""Measure the causal effect of every unit: by how much artifacts look less broken to the classifier without it.

    python -m tools.measure.effects              # writes data/churches/ablation_effects.csv
    python -m tools.build.manifest churches ablation_effects.csv

Each unit of the lowest layers is set to zero in training artifacts that are no nights; the effect is the fall of the
classifier's artifact score. Layers up to the unit are computed once. A row is a unit: the mean effect over the images,
its standard error, how many images, and the seconds that its layer took on this machine.
"""

import time
from dataclasses import replace

import pandas as pd
import torch

from helpers import domains, env, evaluation, store

LAYERS, IMAGES = (1, 2), 100


def probes(domain, count=IMAGES):
    """Return the ids of the images that units are taken out of."""
    return evaluation.bright(domain, domain.split(domains.TRAIN)[0][: 3 * count])[:count]


def effects(domain, ids, layer, chosen=None):
    """Return the fall of the artifact score without each unit of a layer, or each chosen one: (units, N)."""
    flow, z = domain.flow, domain.latents(ids)
    plain, state = domain.artifact_scores(flow.generate(z).clamp(-1, 1)), flow.state(z, layer)
    found = []
    for unit in env.progress(range(flow.units(layer)) if chosen is None else chosen, f"layer {layer}"):
        h = state.h.clone()
        h[:, unit] = 0
        found.append(plain - domain.artifact_scores(flow.resume(replace(state, h=h)).clamp(-1, 1)))
    return torch.stack(found)


def main():
    domain, rows = domains.load("churches"), []
    ids = probes(domain)
    for layer in LAYERS:
        start = time.perf_counter()
        found = effects(domain, ids, layer)
        spent = time.perf_counter() - start
        error = found.std(dim=1) / len(ids) ** 0.5
        halves = found[:, ::2].mean(dim=1), found[:, 1::2].mean(dim=1)  # to tell whether a second look agrees
        columns = {"effect": found.mean(dim=1), "error": error, "even": halves[0], "odd": halves[1]}
        for unit in range(len(found)):
            row = {"layer": layer, "unit": unit} | {name: round(float(v[unit]), 5) for name, v in columns.items()}
            rows.append(row | {"images": len(ids), "seconds": round(spent)})
    out = store.data_root() / domain.name / "ablation_effects.csv"
    store.replace(out, pd.DataFrame(rows).to_csv(index=False).encode())


if __name__ == "__main__":
    main()
