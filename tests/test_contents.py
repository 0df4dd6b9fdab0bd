"""What is a network in a file, whatever has been wrapped around it; formats by first bytes that look like others."""

import json
import pickle
import struct

import pytest
import torch
from safetensors.torch import save
from torch import nn

from helpers import checkpoints
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan, stylegan2
from tests import published, published_rosinality
from tests.networks import tiny_generator
from tests.rounding import near

Z = latents(range(3), 9)


@pytest.fixture
def store(tmp_path):
    def to(contents):
        torch.save(contents, tmp_path / "w.ckpt")
        return tmp_path / "w.ckpt"

    return to


def prefixed(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def drawn(path):
    return checkpoints.load_generator(path).generate(Z)


def test_what_a_training_wrapper_leaves_before_the_keys_does_not_matter(store):
    torch.manual_seed(0)
    state = tiny_generator().state_dict()
    expected = Flow(pggan.Layers(tiny_generator())).generate(Z)
    optimiser = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"params": [0]}]}
    other = prefixed("discriminator.", pggan.Discriminator((11, 10, 8)).state_dict())
    for contents in (
        prefixed("module.", state),
        prefixed("_orig_mod.module.", state),
        {"n_averaged": torch.tensor(7)} | prefixed("module.", state),  # torch's own averaging
        {"model_state_dict": state, "optimizer_state_dict": optimiser, "epoch": 3},
        {"net": {"weights": state}},
    ):
        assert torch.equal(drawn(store(contents)), expected)
    raw = {"state_dict": prefixed("generator.", state) | other, "optimizer_states": [optimiser]}
    with pytest.warns(UserWarning, match="w.ckpt has no moving average: loaded the raw generator"):
        assert torch.equal(drawn(store(raw)), expected)
    assert checkpoints.load_discriminator(store(raw)).channels == (11, 10, 8)
    lightning = {"state_dict": prefixed("model.generator.", pggan.Generator((12, 10, 8), 9).state_dict()) | other}
    lightning["state_dict"] |= prefixed("model.generator_ema.", state) | {"model.loss.weight": torch.zeros(3)}
    flow = checkpoints.load_generator(store(lightning))
    assert torch.equal(flow.generate(Z), expected)
    assert flow.origin == "w.ckpt: PGGAN, GenForce layout, generator_ema (moving average of the weights)"


@pytest.mark.parametrize("prefix", ["generator.", "model.G_ema.", "ema_model."])
def test_every_layout_is_found_behind_a_prefix(store, prefix):
    torch.manual_seed(0)
    z = torch.randn(2, 8)
    rosinality = published_rosinality.generator()
    nvidia = stylegan2.Generator((7, 6), 8, 8, 2)
    dissection = published.dissection_file(latent=8)
    with torch.no_grad():
        for state, expected in (
            (rosinality, published_rosinality.images(rosinality, published_rosinality.styles(rosinality, z)).float()),
            (nvidia.state_dict(), nvidia(z)),
            (dissection, published.dissection_images(dissection, z)),
        ):
            path = store({"state_dict": prefixed(prefix, state), "optimizer": {}})
            if prefix == "generator.":
                with pytest.warns(UserWarning, match="no moving average"):
                    flow = checkpoints.load_generator(path)
            else:
                flow = checkpoints.load_generator(path)
            assert (flow.generate(z) - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", ["g_running", "generator_swa", "shadow", "G_avg", "averaged_model"])
def test_an_average_is_known_by_every_name_that_trainers_give_it(store, name):
    torch.manual_seed(0)
    raw, state = pggan.Generator((12, 10, 8), 9).state_dict(), tiny_generator().state_dict()
    path = store({"generator": raw, name: state, "losses": [0.5, 0.25]})
    assert torch.equal(drawn(path), Flow(pggan.Layers(tiny_generator())).generate(Z))
    assert checkpoints.load_generator(path).origin.endswith(f"{name} (moving average of the weights)")


def test_networks_in_a_list_are_found(store):
    state = tiny_generator().state_dict()
    assert torch.equal(drawn(store([state])), Flow(pggan.Layers(tiny_generator())).generate(Z))
    assert torch.equal(drawn(store({"models": (state, {"lr": 1})})), Flow(pggan.Layers(tiny_generator())).generate(Z))
    with pytest.raises(ValueError, match="w.ckpt holds several networks .0, 1.: save the one you want by itself"):
        checkpoints.load_generator(store([state, state]))
    with pytest.raises(ValueError, match="it has 0.weight, 1.0.bias; to use it all the same"):
        checkpoints.load_generator(store([{"weight": torch.zeros(2)}, [{"bias": torch.zeros(2)}]]))


def test_several_networks_without_telling_names_are_refused(store):
    state = tiny_generator().state_dict()
    with pytest.raises(ValueError, match="w.ckpt holds several networks .one, two.: save the one you want by itself"):
        checkpoints.load_generator(store({"one": state, "two": state}))
    two = {"G_A": state, "G_B": state}
    with pytest.raises(ValueError, match="holds several networks .G_A, G_B."):
        checkpoints.load_generator(store(two))


def test_a_discriminators_average_is_no_generator(store):
    state = pggan.Discriminator((11, 10, 8)).state_dict()
    path = store({"D_ema": state})
    with pytest.raises(ValueError, match="w.ckpt holds no generator, only D_ema"):
        checkpoints.load_generator(path)
    assert checkpoints.load_discriminator(path).channels == (11, 10, 8)
    with pytest.raises(ValueError, match="w.ckpt holds no discriminator, only G_ema"):
        checkpoints.load_discriminator(store({"G_ema": tiny_generator().state_dict()}))


@pytest.mark.parametrize("wrapped", [lambda state: state, lambda state: {"netG": state, "epoch": 1}])
def test_an_unknown_network_is_told_what_to_do(store, wrapped):
    dcgan = nn.ModuleDict({"main": nn.Sequential(nn.ConvTranspose2d(6, 8, 4, bias=False), nn.BatchNorm2d(8))})
    with pytest.raises(ValueError) as caught:
        checkpoints.load_generator(store(wrapped(dcgan.state_dict())))
    text = str(caught.value)
    assert text.startswith("w.ckpt is no progressive GAN, StyleGAN2 or U-net GAN that is known: it has ")
    assert "main.0.weight" in text and "load_state_dict" in text and "Flow.from_module" in text and "\n" not in text


def test_an_unknown_discriminator_is_told_where_it_goes(store):
    with pytest.raises(ValueError, match="load_state_dict, and hand it to domains.load as its discriminator=$"):
        checkpoints.load_discriminator(store(nn.Linear(2, 1).state_dict()))


def with_first_byte(tensors, byte):
    """A safetensors file whose header is padded until its length begins with a byte."""
    whole = save(tensors)
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.dumps(json.loads(whole[8 : 8 + size])).encode()
    padded = header + b" " * ((byte - len(header)) % 256)
    return struct.pack("<Q", len(padded)) + padded + whole[8 + size :]


@pytest.mark.parametrize("byte", [0x80, ord("P"), ord("<"), ord("v"), ord("\n"), ord("("), ord("{"), 0x1F, 0x89, 0])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w"])
def test_a_safetensors_files_length_may_look_like_another_formats_mark(tmp_path, byte, name):
    (tmp_path / name).write_bytes(with_first_byte(tiny_generator().state_dict(), byte))
    assert (tmp_path / name).read_bytes()[0] == byte
    assert torch.equal(drawn(tmp_path / name), Flow(pggan.Layers(tiny_generator())).generate(Z))


def test_other_formats_are_not_taken_for_safetensors(tmp_path):
    """A pickle's ninth byte may be a brace as well: what it begins with is no length of a header then."""
    file = published.genforce_file()
    expected = published.genforce_images(file["generator_smooth"], Z)
    for protocol in range(2, 6):
        raw = pickle.dumps({"{" * 300: 1} | file, protocol)
        (tmp_path / "w").write_bytes(raw)
        assert near(checkpoints.load_generator(tmp_path / "w").generate(Z), expected)
    (tmp_path / "w").write_bytes(b"\x80\x02}q\x00X\x01{" + b"{" * 50)
    with pytest.raises(ValueError, match="^w is truncated or damaged"):
        checkpoints.load_generator(tmp_path / "w")


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf<!DOCTYPE html>", b"<script>", b"<!-- moved -->"])
def test_web_pages_of_every_kind_are_named(tmp_path, start):
    (tmp_path / "w.pth").write_bytes(start + b"<title>404</title>")
    with pytest.raises(ValueError, match="^w.pth is a web page, not the weights"):
        checkpoints.load_generator(tmp_path / "w.pth")
