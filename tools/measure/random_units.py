"""Measure what chance does: the FD of held-out artifacts once units drawn at random are set to zero.

    python -m tools.measure.random_units         # writes data/churches/random_units.csv
    python -m tools.build.manifest churches random_units.csv

Notebooks 03, 04, 05 and 11 set their rankings beside these draws. A row is a draw: how many images, which layer, how
many units, the seed of `units.random_scores`; then the FD of all, of the night scenes among them, and of the others.
"""

from dataclasses import replace

import pandas as pd

from helpers import correct, domains, env, evaluation, metrics, store, units

SETTINGS = ((300, 6, 5), (300, 6, 20), (250, 6, 25), (250, 1, 6)) + tuple((120, 6, n) for n in (5, 20, 40, 80))
SEEDS = range(21)


def is_night(images):
    """Tell night scenes by their sky, whose brightness has two modes: (N,) bool."""
    return images[:, :, :16].mean(dim=(1, 2, 3)) < -0.55


def draws(domain, fd, ids, layer, count, seeds):
    """Yield a row for each seed: ids are artifacts, fd a function of features, count how many units fall silent."""
    flow = domain.flow
    state = flow.state(domain.latents(ids), layer)
    night = is_night(domain.images(ids))
    for seed in seeds:
        chosen = units.rank(units.random_scores(flow, seed, [layer]))[layer][:count].tolist()
        h = correct.ablate(layer, chosen)[layer](state.h)
        found = domain.evaluation.pooled(flow.resume(replace(state, h=h)).clamp(-1, 1))
        yield {"images": len(ids), "layer": layer, "units": count, "seed": seed} | {
            name: round(float(fd(found[rows])), 4)
            for name, rows in (("FD", slice(None)), ("night", night), ("day", ~night))
        }


def main():
    domain, rows = domains.load("churches"), []
    artifacts = domain.split(domains.TEST)[0]
    fd = metrics.frechet_to(evaluation.real_sample(domain, domains.REAL_REFERENCE[:2000]).features)
    for images, layer, count in env.progress(SETTINGS, "settings"):
        rows += draws(domain, fd, artifacts[:images], layer, count, SEEDS)
    out = store.data_root() / domain.name / "random_units.csv"
    store.replace(out, pd.DataFrame(rows).to_csv(index=False).encode())


if __name__ == "__main__":
    main()
