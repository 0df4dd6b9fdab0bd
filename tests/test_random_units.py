import pandas as pd
import pytest
import torch

from helpers import correct, domains, store, units
from tools.measure import random_units


@pytest.fixture(scope="module")
def domain():
    return domains.load("churches")


def test_a_draw_is_the_distance_without_the_units_drawn(domain):
    ids = domain.split(domains.TEST)[0][:8]
    (row,) = random_units.draws(domain, lambda x: float(x.mean()) if len(x) else 0.0, ids, 6, 5, [3])
    chosen = units.rank(units.random_scores(domain.flow, 3, [6]))[6][:5].tolist()
    features = domain.evaluation.pooled(domain.images(ids, correct.ablate(6, chosen)))
    night = random_units.is_night(domain.images(ids))
    assert [row[name] for name in ("images", "layer", "units", "seed")] == [8, 6, 5, 3] and 0 < night.sum() < 8
    expected = [features.mean(), features[night].mean(), features[~night].mean()]
    assert [row["FD"], row["night"], row["day"]] == pytest.approx(torch.stack(expected).tolist(), abs=2e-4)


def test_what_is_stored_has_every_draw_once():
    table = pd.read_csv(store.fetch("churches/random_units.csv"))
    settings = {key: sorted(rows.seed) for key, rows in table.groupby(["images", "layer", "units"])}
    assert settings == {key: list(random_units.SEEDS) for key in random_units.SETTINGS}
    assert (table.FD > 0).all() and table.duplicated(["layer", "units", "images", "FD"]).sum() == 0
