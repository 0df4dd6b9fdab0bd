"""Measure what chance causes: the effect on trees of units drawn at random, put in and taken out at single places.

    python -m tools.measure.random_effects         # writes data/churches/random_effects.csv
    python -m tools.build.manifest churches random_effects.csv

Notebook 10 sets its two rankings beside these draws. A row is a draw: where the places come from (`Where`), how many
units, the seed of `units.random_scores`; then the mean share of the concept that was gained and that was lost.
"""

from typing import NamedTuple

import pandas as pd

from helpers import causal, dissection, domains, env, store, units

COUNTS, SEEDS = (1, 5, 10, 20, 40, 80), range(20)


class Where(NamedTuple):
    """Places of a concept in a layer: `places` of each kind in `images` of the pool, behind the first ones.

    The values put in come from `images` before these. Absent places are `across` cells wide and on the ground, present
    ones half as wide.
    """

    concept: str = "tree"
    layer: int = 6
    first: int = 800
    images: int = 300
    places: int = 60
    across: int = 4


def prepared(domain, where):
    """Find the places of a setting -> (absent, present, values): what `causal.effect` takes beside the units."""
    flow, segment = domain.flow, dissection.segmenter(domain.evaluation)
    concept, ground = domain.classes.index(where.concept), domain.classes.index("ground")
    pool = domains.POOL[where.first : where.first + 2 * where.images]
    before, here = domain.latents(pool[: where.images]), domain.latents(pool[where.images :])
    seen = [segment(flow.generate(z)) for z in (before, here)]

    def spots(**options):
        return causal.places(flow, here, where.layer, seen[1], concept, count=where.places, **options)

    values = 2 * causal.mean_values(flow, before, where.layer, seen[0], concept)
    absent = spots(present=False, below=ground, across=where.across)
    return absent, spots(across=max(1, where.across // 2)), values


def draws(domain, where, counts, seeds):
    """Yield a row for each draw, see above."""
    segment, (absent, present, values) = dissection.segmenter(domain.evaluation), prepared(domain, where)
    for seed in seeds:
        scores = units.random_scores(domain.flow, seed, [where.layer])[where.layer]
        for count in counts:
            effect = causal.effect(domain.flow, segment, absent, present, causal.top(scores, count), values)
            means = {"gained": effect.gained.mean(), "lost": effect.lost.mean()}
            yield where._asdict() | {"units": count, "seed": seed} | {k: round(float(v), 5) for k, v in means.items()}


def main():
    domain, total = domains.load("churches"), len(COUNTS) * len(SEEDS)
    rows = list(env.progress(draws(domain, Where(), COUNTS, SEEDS), "draws", total=total))
    out = store.data_root() / domain.name / "random_effects.csv"
    store.replace(out, pd.DataFrame(rows).to_csv(index=False).encode())


if __name__ == "__main__":
    main()
