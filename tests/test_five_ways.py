import pandas as pd
import pytest
import torch

from helpers import correct, domains, evaluation, store, survey, units
from tools.measure import five_ways as ways


@pytest.fixture(scope="module")
def domain():
    return domains.load("churches")


@pytest.fixture(scope="module")
def held(domain):
    return ways.Held(domain, evaluation.real_sample(domain, domains.REAL_REFERENCE[:30]), count=8, tuning=6)


@pytest.fixture(scope="module")
def rates(domain):
    z = domain.latents(domains.POOL[:40])
    return survey.activation_rates(domain.flow, z, layers=[1, 2, 4, 6], places=True)


def test_five_ways_rank_every_unit(domain):
    train = domains.TRAIN[:60]
    found, spent, difference = ways.rankings(domain, train, domains.POOL[:60], domains.REAL_TRAIN[:20])
    assert set(found) == set(spent) == {"DS", "FD", "rare", "effect", "difference"}
    assert all(found[name][k].shape == (domain.flow.units(k),) for name in found for k in ways.LAYERS)
    assert all(found[name][k].unique().numel() > 3 for name in found for k in ways.LAYERS)
    assert difference.ids == set(train) and spent["effect"] > 100


def test_zeroings_take_the_highest_first(domain):
    scores = {k: torch.arange(domain.flow.units(k)).double() for k in ways.LAYERS}
    edits = ways.zeroings(scores)
    assert list(edits) == ["5% of layer 1", "10% of layer 1", "5% of layer 2", "10% of layer 2"]
    h = torch.ones(1, 128, 4, 4)
    gone = (edits["10% of layer 2"][2](h) == 0).all(dim=(2, 3))[0].nonzero().flatten().tolist()
    assert gone == list(range(116, 128))


def test_figures_are_those_of_the_held_out_images(domain, held):
    edits = correct.ablate(1, [3, 4])
    found = held.figures(edits)
    bad = evaluation.sample(domain, held.bad, lambda _: edits)
    assert len(held.bad) == len(held.good) == 8 and found["FD"] == pytest.approx(held.reference.fd(bad))
    assert found["FD"] == pytest.approx(held.fd(8, edits)) != held.reference.fd(evaluation.sample(domain, held.bad))
    assert set(found) == {"FD", "no_nights", "normals", "realism"}


def test_the_choice_is_the_one_of_least_distance_and_harm(held, monkeypatch):
    assert held.choose({"all of layer 2": correct.ablate(2, list(range(128))), "nothing": {}}) == "nothing"
    plain = held._plain[1]
    costs = {"harms": (10, plain + 5), "mends": (12, plain), "helps normals": (13, plain - 5)}
    monkeypatch.setattr(held, "_tuned", costs.get)
    assert held.choose({name: name for name in costs}) == "mends"


def test_rows_name_each_way_and_what_was_chosen(domain, held, rates):
    scores = units.random_scores(domain.flow, 0, ways.LAYERS)
    difference = evaluation.differences(domain, domains.TRAIN[:60], [1])
    found = pd.DataFrame(ways.rows(held, {"DS": scores}, difference, rates, seeds=[0, 1], few=4))
    assert found.way.tolist() == ["DS", "DS", "difference", "rare", "as many others", "as many others"]
    assert found.edit.tolist() == ["zero", "own", "own", "own", "zero", "zero"]
    assert found.setting[3].removeprefix("silence, ") in ways.silencings(rates)
    assert found.setting[0] in ways.zeroings(scores) and found.FD.notna().all() and found.FD[4] != found.FD[5]


def test_what_is_stored_belongs_together():
    by_unit, edits = (pd.read_csv(store.fetch(f"churches/{name}.csv")) for name in ("five_ways_units", "five_ways"))
    effects = pd.read_csv(store.fetch("churches/ablation_effects.csv"))
    assert by_unit.groupby("layer").unit.apply(list).tolist() == [list(range(128))] * 2
    assert (by_unit.effect - effects.effect).abs().max() < 1e-5
    named = ["DS", "FD", "rare", "effect", "difference"]
    assert edits[edits.edit == "zero"].way.tolist()[:5] == [*by_unit.columns[2:]] and set(by_unit.columns[2:]) == set(
        named
    )
    assert sorted(edits[edits.edit == "own"].way) == ["DS", "difference", "rare"]
    assert (edits.way == "as many others").sum() == len(ways.SEEDS) and (edits.FD > 0).all()
