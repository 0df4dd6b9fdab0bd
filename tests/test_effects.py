import pandas as pd
import pytest
import torch

from helpers import correct, domains, evaluation, store
from tests.rounding import close
from tools.measure import effects


@pytest.fixture(scope="module")
def domain():
    return domains.load("churches")


def test_probes_are_bright_training_artifacts(domain):
    ids = effects.probes(domain, 6)
    artifacts = set(domain.split(domains.TRAIN)[0])
    assert len(ids) == 6 and set(ids) <= artifacts and evaluation.bright(domain, ids) == ids


@pytest.mark.parametrize("layer", [1, 4])
def test_an_effect_is_the_fall_of_the_score_without_the_unit(domain, layer):
    ids, chosen = effects.probes(domain, 3), [5, 17]
    found = effects.effects(domain, ids, layer, chosen)
    plain = domain.artifact_scores(domain.images(ids))
    expected = [plain - domain.artifact_scores(domain.images(ids, correct.ablate(layer, [u]))) for u in chosen]
    assert found.shape == (2, 3) and found.abs().max() > 1e-3
    close(found, torch.stack(expected))


def test_what_is_stored_covers_every_unit(domain):
    table = pd.read_csv(store.fetch("churches/ablation_effects.csv"))
    for layer, rows in table.groupby("layer"):
        assert sorted(rows.unit) == list(range(domain.flow.units(layer)))
    assert set(table.layer) == set(effects.LAYERS) and (table.images == effects.IMAGES).all()
    halves = (table.even + table.odd) / 2
    assert (table.effect - halves).abs().max() < 1e-4 and (table.error > 0).all()
