import pytest
import torch
from networks import tiny_generator

from helpers import causal, correct, store, units
from helpers.flow import Flow
from helpers.networks import pggan


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()))


@pytest.fixture(scope="module")
def z():
    return torch.randn(5, 9, generator=torch.Generator().manual_seed(0))


def corrections(flow, z):
    scores = {layer: torch.arange(flow.units(layer)).float() for layer in (1, 2)}
    masks = torch.zeros(len(z), 16, 16)
    masks[:, 3:9, 5:] = 1
    found = units.differences(flow, z[:3], z[3:], [1, 2])
    found.ids = {7, 3}
    return {
        "ablate": correct.ablate(2, [0, 4]),
        "sequential": correct.sequential(scores, 2),
        "local": correct.local(scores, masks, 2),
        "shift": correct.shift(found, 1.5),
        "chained": correct.chained(
            correct.ablate(2, [0, 4]), correct.local(scores, masks, 2), causal.insert(2, masks[0, 3, :12], scores[2])
        ),
        "shift of each": correct.shift(found, torch.rand(len(z)), 0.5, masks, "linear"),
    }


@pytest.mark.parametrize("name", ["ablate", "sequential", "local", "shift", "shift of each", "chained"])
def test_edits_come_back_and_do_the_same(flow, z, tmp_path, name):
    edits = corrections(flow, z)[name]
    correct.write_edits(tmp_path / "edits.safetensors", edits, flow)
    back = correct.read_edits(tmp_path / "edits.safetensors", flow)
    assert list(back) == list(edits)
    assert torch.equal(flow.generate(z, back), flow.generate(z, edits))
    assert not torch.equal(flow.generate(z, back), flow.generate(z))
    assert back.ids == getattr(edits, "ids", None)
    assert (back.ids == {3, 7}) == name.startswith("shift")


def test_what_cannot_be_read_is_named(flow, z, tmp_path):
    path = tmp_path / "edits.safetensors"
    with pytest.raises(FileNotFoundError, match="no file of edits"):
        correct.read_edits(path, flow)
    with pytest.raises(TypeError, match="layer 1 has a function, only edits made by correct"):
        correct.write_edits(path, {1: lambda h: h}, flow)
    with pytest.raises(TypeError, match="layer 1 has a function, only edits made by correct"):
        correct.write_edits(path, correct.chained(correct.ablate(1, [0]), {1: lambda h: h}), flow)
    assert not path.exists()
    with pytest.raises(ValueError, match="no layer 40"):
        correct.write_edits(path, correct.ablate(40, [0]), flow)
    correct.write_edits(path, correct.ablate(1, [0]), flow)
    other = tiny_generator()
    with torch.no_grad():
        other.layer0.weight[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match="made for another generator"):
        correct.read_edits(path, Flow(pggan.Layers(other)))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="damaged or holds no edits"):
        correct.read_edits(path, flow)
    store.write(path, {"what": "a cake"})
    with pytest.raises(ValueError, match="something else than edits"):
        correct.read_edits(path, flow)
    store.write(path, [1, 2])
    with pytest.raises(ValueError, match="damaged or holds no edits"):
        correct.read_edits(path, flow)
