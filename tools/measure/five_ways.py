"""Rank units in five ways and measure what each leads to, for the page at the end of notebook 11.

    python -m tools.measure.five_ways            # writes data/churches/five_ways_units.csv and five_ways.csv
    python -m tools.build.manifest churches five_ways_units.csv five_ways.csv

The ways: defective score, FD ranking, rare units, causal effect (read from `ablation_effects.csv`), class difference.
All rank layers 1 and 2, from the labelled training ids, the first 2,000 of the pool and, for the FD ranking, 1,000 real
images. `five_ways_units.csv` has a row a unit. `five_ways.csv` has a row an edit: the units that a way ranks first set
to zero, where layer and share were chosen on the tuning images; its own correction; and other neurons than rare ones
silenced at random, until as many activations fall silent (setting: the seed; FD alone). The held-out figures: FD of
artifacts, of those that are no nights to real images that are none, of as many normals, and median realism.
"""

import os
import time

import pandas as pd
import torch

from helpers import correct, domains, env, evaluation, rare_units, store, survey, units

LAYERS, POOL, HELD, FEW = [1, 2], 2000, 250, 100
RARE = [2, 4, 6]  # the layers whose rare neurons notebook 11 silences
SEEDS = range(20)


def rankings(domain, train, pool, reals):
    """Rank the units of the layers: ({way: {layer: scores}}, {way: seconds}, the class difference)."""
    flow, z, found, spent = domain.flow, domain.latents(pool), {}, {}

    def fd_scores():
        features = torch.cat([domain.backbone.pooled(flow.generate(part).clamp(-1, 1)) for part in z.split(256)])
        top = survey.top_images(flow, z, max(3, len(z) // 20), LAYERS)
        return units.fd_scores(top, features, domain.backbone.pooled(domain.real(reals)))

    def rare_places():
        rates = survey.activation_rates(flow, z, layers=LAYERS, places=True)
        return rare_units.unit_shares(rare_units.rare(rates))

    makers = {
        "DS": lambda: evaluation.ranked(domain, train, survey.thresholds(flow, z, layers=LAYERS)),
        "FD": fd_scores,
        "rare": rare_places,
        "difference": lambda: evaluation.differences(domain, train, LAYERS),
    }
    for name, make in makers.items():
        start = time.perf_counter()
        found[name] = make()
        spent[name] = time.perf_counter() - start
    difference = found["difference"]
    found["difference"] = {k: d[:, 0, 0] for k, d in difference.standardised(places=False).items()}
    stored = pd.read_csv(store.fetch(f"{domain.name}/ablation_effects.csv")).groupby("layer")
    found["effect"] = {k: torch.tensor(rows.effect.to_numpy()) for k, rows in stored}
    spent["effect"] = int(stored.seconds.first().sum())
    return {name: {k: scores[k].double() for k in LAYERS} for name, scores in found.items()}, spent, difference


def zeroings(scores):
    """Set 5 or 10 % of the units of a layer to zero, the highest scores first: {what it is: Edits}."""
    orders = units.rank(scores)
    return {
        f"{share:.0%} of layer {k}": correct.ablate(k, orders[k][: int(share * len(orders[k]))].tolist())
        for k in LAYERS
        for share in (0.05, 0.1)
    }


def silencings(rates):
    """Silence the neurons that are rare up to one of two rates, in one of two sets of layers: {what it is: Edits}."""
    return {
        f"rate up to {rate}, layers {layers}": rare_units.ablate(rare_units.rare(rates, rate, layers))
        for rate in (0.1, 0.3)
        for layers in ([2], RARE)
    }


class Held:
    """Held-out artifacts and as many normals, and tuning images to choose on; everything is measured on them."""

    def __init__(self, domain, real, count=HELD, tuning=None):
        self.domain, self.reference = domain, evaluation.Reference(real)
        self.bright_reference = evaluation.Reference(real.take(~real.dark))
        self.bad, self.good = (ids[:count] for ids in domain.split(domains.TEST))
        self.night = evaluation.sample(domain, self.bad).dark
        bad, good = (ids[:tuning] for ids in domain.split(domains.TUNE))
        self._parts = [len(bad), len(bad) // 2]
        self._tuning = domain.latents([*bad, *good[: len(bad) // 2]])
        self._plain = self._tuned({})

    def fd(self, count, edits):
        """Return the FD of the first so many artifacts under edits."""
        return self.reference.fd(evaluation.sample(self.domain, self.bad[:count], lambda _: edits))

    def figures(self, edits):
        """Return {"FD", "no_nights", "normals", "realism"} of the held-out images under edits."""
        bad, good = (evaluation.sample(self.domain, ids, lambda _: edits) for ids in (self.bad, self.good))
        lit = self.bright_reference.fd(bad.take(~self.night))
        found = {"FD": self.reference.fd(bad), "no_nights": lit, "normals": self.reference.fd(good)}
        return found | {"realism": float(self.reference.realism(bad).median())}

    def choose(self, settings):
        """Choose among {name: Edits} by the FD of tuning artifacts plus the harm to tuning normals."""
        costs = {}
        for name, edits in settings.items():
            bad, good = self._tuned(edits)
            costs[name] = bad + max(0, good - self._plain[1])
        return min(costs, key=costs.get)

    def _tuned(self, edits):
        features = self.domain.evaluation.pooled(self.domain.flow.generate(self._tuning, edits).clamp(-1, 1))
        return [self.reference.fd_of(part) for part in features.split(self._parts)]


def rows(held, ways, difference, rates, seeds=SEEDS, few=FEW):
    """Yield the rows of `five_ways.csv`."""
    chosen = {}
    for name, scores in env.progress(ways.items(), "ways"):
        options = zeroings(scores)
        chosen[name] = held.choose(options)
        yield {"way": name, "edit": "zero", "setting": chosen[name]} | held.figures(options[chosen[name]])
    own = {"DS": ("damp 10 % of layer 1, scale 0.9", correct.sequential(ways["DS"], 1, 0.1, 0.9))}
    own["difference"] = "shift layer 1, amount 1", correct.shift(difference.only([1]))
    options = silencings(rates)
    quiet = held.choose(options)
    own["rare"] = f"silence, {quiet}", options[quiet]
    for name, (setting, edits) in own.items():
        yield {"way": name, "edit": "own", "setting": setting} | held.figures(edits)
    rare = rare_units.rare(rates, layers=RARE)
    for seed in env.progress(seeds, "as many others"):
        edits = rare_units.ablate(rare_units.as_many_others(rates, rare, seed))
        yield {"way": "as many others", "edit": "zero", "setting": seed, "FD": held.fd(few, edits)}


def main():
    os.environ["HELPERS_CACHE"] = "0"  # or a ranking would seem to take less than it does
    domain = domains.load("churches")
    pool = domains.POOL[:POOL]
    ways, spent, difference = rankings(domain, domains.TRAIN, pool, domains.REAL_TRAIN[:1000])
    rates = survey.activation_rates(domain.flow, domain.latents(pool), layers=domain.flow.layers, places=True)
    held = Held(domain, evaluation.real_sample(domain, domains.REAL_REFERENCE[:2000]))
    edits = pd.DataFrame(rows(held, ways, difference, rates)).round(4)
    edits["seconds"] = edits.way.map({name: round(seconds) for name, seconds in spent.items()})
    by_layer = {k: pd.DataFrame({name: scores[k] for name, scores in ways.items()}) for k in LAYERS}
    by_unit = pd.concat(by_layer, names=["layer", "unit"]).reset_index().round(6)
    for name, table in (("five_ways_units", by_unit), ("five_ways", edits)):
        store.replace(store.data_root() / domain.name / f"{name}.csv", table.to_csv(index=False).encode())


if __name__ == "__main__":
    main()
