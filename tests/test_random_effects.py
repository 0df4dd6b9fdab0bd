import pandas as pd
import pytest
import torch

from helpers import causal, dissection, domains, store, units
from tools.measure import random_effects
from tools.measure.random_effects import Where

SMALL = Where(images=40, places=8)


@pytest.fixture(scope="module")
def domain():
    return domains.load("churches")


def test_a_draw_is_what_the_units_drawn_cause(domain):
    rows = list(random_effects.draws(domain, SMALL, (5, 128), [3]))
    absent, present, values = random_effects.prepared(domain, SMALL)
    scores = units.random_scores(domain.flow, 3, [6])[6]
    segment = dissection.segmenter(domain.evaluation)
    for row, count in zip(rows, (5, 128), strict=True):
        effect = causal.effect(domain.flow, segment, absent, present, causal.top(scores, count), values)
        expected = [float(effect.gained.mean()), float(effect.lost.mean())]
        assert [row["gained"], row["lost"]] == pytest.approx(expected, abs=1e-4)
        assert (row["units"], row["seed"], row["places"]) == (count, 3, 8)
    assert rows[1]["gained"] > 0.05 > abs(rows[0]["gained"])  # every unit of the layer, at twice what trees have


def test_places_come_from_other_images_than_the_values(domain):
    absent, present, values = random_effects.prepared(domain, SMALL)
    segment, tree = dissection.segmenter(domain.evaluation), domain.classes.index("tree")
    before, here = (domain.latents(domains.POOL[start : start + 40]) for start in (800, 840))
    labels = segment(domain.flow.generate(before))
    assert torch.equal(values, 2 * causal.mean_values(domain.flow, before, 6, labels, tree))
    assert torch.equal(present.state.h, domain.flow.state(here[present.rows], 6).h)
    assert (absent.before == 0).all() and (present.before >= 0.5).all()
    assert (absent.masks.sum(dim=(1, 2)) == 16).all() and (present.masks.sum(dim=(1, 2)) == 4).all()


def test_what_is_stored_has_every_draw_once():
    table = pd.read_csv(store.fetch("churches/random_effects.csv"))
    assert {tuple(row) for row in table[list(Where._fields)].to_numpy()} == {tuple(Where())}
    wanted = [(count, seed) for seed in random_effects.SEEDS for count in random_effects.COUNTS]
    assert list(zip(table.units, table.seed)) == wanted
    assert (table[["gained", "lost"]].abs() <= 1).all(axis=None)
