from dataclasses import dataclass

import pytest
import torch
from torch import nn

from helpers import store
from helpers.flow import Flow
from helpers.networks import pggan
from helpers.weights import fingerprint
from tests.networks import tiny_generator


@dataclass(frozen=True)
class Pair:
    name: str
    flow: object


def test_networks_flows_and_what_holds_them_are_told_apart_by_their_weights():
    one, same, other = tiny_generator(), tiny_generator(), tiny_generator()
    with torch.no_grad():
        other.output0.bias[0] += 1e-3
    for wrap in (lambda g: g, lambda g: Flow(pggan.Layers(g)), lambda g: Pair("a", Flow(pggan.Layers(g)))):
        assert fingerprint.content(wrap(one)) == fingerprint.content(wrap(same)) != fingerprint.content(wrap(other))
    assert fingerprint.content(Pair("a", None)) != fingerprint.content(Pair("b", None))
    assert fingerprint.content(nn.ReLU()) != fingerprint.content(nn.Tanh())


def test_a_cached_step_of_one_generator_is_not_taken_for_anothers(tmp_path, monkeypatch):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    flow = Flow(pggan.Layers(tiny_generator()))
    mean = lambda ids: flow.generate(torch.ones(len(ids), 9)).mean()  # noqa: E731
    before = store.memo("mean", mean, ids=[1])
    with torch.no_grad():
        flow.network.generator.output2.bias += 1
    assert float(store.memo("mean", mean, ids=[1]) - before) == pytest.approx(1, abs=1e-5)
    assert len(list(tmp_path.iterdir())) == 2
