from dataclasses import dataclass

import pytest
import torch
from torch import nn

from helpers import store
from helpers.flow import Flow
from helpers.networks import pggan, stylegan2
from helpers.weights import fingerprint
from tests import own_generators as own
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


def test_what_no_weight_tells_is_told_apart_as_well():
    generator = stylegan2.Generator((8, 6), 5, 5, 1).eval()
    whole, short = (stylegan2.Layers(generator, truncation) for truncation in (1.0, 0.5))
    assert fingerprint.content(whole) == fingerprint.content(stylegan2.Layers(generator)) != fingerprint.content(short)
    steep, flat = nn.Sequential(nn.LeakyReLU(0.1)), nn.Sequential(nn.LeakyReLU(0.2))
    assert fingerprint.content(steep) != fingerprint.content(flat)
    learning = nn.Sequential(nn.BatchNorm1d(3))
    assert fingerprint.content(learning) != fingerprint.content(nn.Sequential(nn.BatchNorm1d(3)).eval())


class Softer(own.Untraceable):
    def forward(self, z):
        return super().forward(z) / 2


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_modules_of_other_code_are_told_apart_although_their_weights_are_alike():
    modules = [own.made(kind) for kind in (own.Untraceable, own.Untraceable, Softer)]
    one, same, other = (Flow.from_module(module, ["first", "second"], 6) for module in modules)
    assert "hooks" in one.origin  # what is traced has its code in its state
    assert torch.equal(one.network.module.first.weight, other.network.module.first.weight)
    assert fingerprint.content(one) == fingerprint.content(same) != fingerprint.content(other)
    scripted = nn.Sequential(torch.jit.script(nn.LeakyReLU(0.1)))
    assert fingerprint.content(scripted) == fingerprint.content(scripted)
