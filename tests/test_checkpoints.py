import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from helpers import checkpoints, pggan
from helpers.flow import Flow
from helpers.latents import latents


def randomise_biases(network):
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(value, std=0.3)
    return network


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return randomise_biases(pggan.Generator((12, 10, 8), latent=9))


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(1)
    return randomise_biases(pggan.Discriminator((11, 10, 8))).eval()


def weights(network):
    return {key: value.clone(memory_format=torch.contiguous_format) for key, value in network.state_dict().items()}


@pytest.fixture
def stored(tmp_path):
    """Return a function that writes weights to a file and gives its path."""

    def store(tensors, name="weights.safetensors"):
        save_file(tensors, tmp_path / name)
        return tmp_path / name

    return store


# Round trips


@pytest.mark.parametrize("post_pn", [False, True])
def test_a_generator_comes_back_as_it_was(stored, generator, post_pn):
    flow = checkpoints.load_generator(stored(weights(generator)), post_pn)
    original, z = Flow(pggan.Layers(generator, post_pn)), latents(range(10), 9)
    assert isinstance(flow, Flow) and flow.latent == 9 and flow.n_layers == 7
    assert torch.equal(flow.generate(z), original.generate(z))
    assert torch.equal(flow.record(z, [3])[3], original.record(z, [3])[3])
    for key, value in generator.state_dict().items():
        assert torch.equal(flow.network.generator.state_dict()[key], value)


@torch.no_grad()
def test_a_discriminator_comes_back_as_it_was(stored, discriminator):
    path, images = stored(weights(discriminator)), torch.randn(8, 3, 16, 16)
    loaded = checkpoints.load_discriminator(path)
    assert torch.equal(loaded(images), discriminator(images)) and loaded(images).shape == (8,)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.group == 4 and checkpoints.load_discriminator(path, group=2).group == 2
    in_pairs = checkpoints.load_discriminator(path, group=2)(images)
    assert torch.equal(in_pairs, discriminator(images, group=2))


@pytest.mark.parametrize(
    ("channels", "latent"), [((6,), 4), ((5, 5), 7), ((12, 10, 8, 6, 4), 9), ((3, 9, 2), 3), ((4,) * 8, 5)]
)
def test_sizes_are_inferred(stored, channels, latent):
    flow = checkpoints.load_generator(stored(weights(pggan.Generator(channels, latent))))
    assert flow.latent == latent and flow.n_layers == 2 * len(channels) + 1
    assert [flow.units(layer) for layer in flow.layers] == [units for units in channels for _ in range(2)]
    assert flow.resolution(flow.n_layers) == 4 * 2 ** (len(channels) - 1)
    loaded = checkpoints.load_discriminator(stored(weights(pggan.Discriminator(channels)), "d.safetensors"))
    assert loaded.channels == channels
    size = 4 * 2 ** (len(channels) - 1)
    assert loaded(torch.zeros(4, 3, size, size)).shape == (4,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(stored, generator, dtype):
    flow = checkpoints.load_generator(stored({key: value.to(dtype) for key, value in weights(generator).items()}))
    found = flow.network.generator.state_dict()
    for key, value in generator.state_dict().items():
        assert found[key].dtype == torch.float32 and torch.equal(found[key], value.to(dtype).float())


def test_a_path_may_be_text(stored, generator):
    assert checkpoints.load_generator(str(stored(weights(generator)))).n_layers == 7


# Files that do not fit


def test_the_wrong_kind_of_network_is_named(stored, generator, discriminator):
    with pytest.raises(ValueError, match="weights.safetensors holds a discriminator: load it with load_discriminator"):
        checkpoints.load_generator(stored(weights(discriminator)))
    with pytest.raises(ValueError, match="weights.safetensors holds a generator: load it with load_generator"):
        checkpoints.load_discriminator(stored(weights(generator)))
    for load in (checkpoints.load_generator, checkpoints.load_discriminator):
        with pytest.raises(ValueError, match="no progressive GAN"):
            load(stored({"conv1.weight": torch.zeros(3, 3)}))
        with pytest.raises(ValueError, match="no progressive GAN"):
            load(stored({}))


def test_every_missing_key_is_named(stored, generator, discriminator):
    for network, load in (
        (generator, checkpoints.load_generator),
        (discriminator, checkpoints.load_discriminator),
    ):
        for key in network.state_dict():
            path = stored({name: value for name, value in weights(network).items() if name != key})
            with pytest.raises(ValueError, match=rf"weights.safetensors .*lacks {key}\b"):
                load(path)


def test_an_extra_key_is_named(stored, generator, discriminator):
    for network, load in (
        (generator, checkpoints.load_generator),
        (discriminator, checkpoints.load_discriminator),
    ):
        with pytest.raises(ValueError, match="has an unknown noise0.weight"):
            load(stored(weights(network) | {"noise0.weight": torch.zeros(3)}))


@pytest.mark.parametrize("key", ["layer0.weight", "layer1.weight", "layer4.weight", "layer5.bias", "output1.weight"])
@pytest.mark.parametrize("shape", [(), (5,), (5, 5), (3, 2, 7, 7)])
def test_a_wrong_shape_is_named(stored, generator, key, shape):
    with pytest.raises(ValueError, match=rf"weights.safetensors .*{key} of shape"):
        checkpoints.load_generator(stored(weights(generator) | {key: torch.zeros(shape)}))


@pytest.mark.parametrize("key", ["input0.weight", "input2.weight", "layer5.weight", "layer6.bias"])
@pytest.mark.parametrize("shape", [(), (5,), (5, 5), (3, 2, 7, 7)])
def test_a_wrong_shape_in_a_discriminator_is_named(stored, discriminator, key, shape):
    with pytest.raises(ValueError, match=rf"weights.safetensors .*{key} of shape"):
        checkpoints.load_discriminator(stored(weights(discriminator) | {key: torch.zeros(shape)}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(stored, generator, value):
    broken = weights(generator)
    broken["layer3.bias"][2] = value
    with pytest.raises(ValueError, match="weights.safetensors has values in layer3.bias that are not finite"):
        checkpoints.load_generator(stored(broken))


# Files that are broken, or no weights at all


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(stored, generator, keep):
    path = stored(weights(generator))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="weights.safetensors is truncated or not a safetensors file .*fetch it again"):
        checkpoints.load_generator(path)


def test_a_missing_file_is_named(tmp_path):
    for load in (checkpoints.load_generator, checkpoints.load_discriminator):
        with pytest.raises(FileNotFoundError, match="there is no weight file .*nothing.safetensors"):
            load(tmp_path / "nothing.safetensors")


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["g.pth", "g.pt", "g.pkl", "g.bin", "g"])
def test_other_formats_are_refused_unopened(tmp_path, generator, name):
    trap = tmp_path / "sprung"
    torch.save({"layer0.weight": Trap(trap)}, tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is not a .safetensors file: .* convert it first"):
        checkpoints.load_generator(tmp_path / name)
    assert not trap.exists()


@pytest.mark.parametrize("how", [pickle.dump, torch.save])
def test_nothing_is_unpickled_whatever_the_file_is_called(tmp_path, how):
    trap, path = tmp_path / "sprung", tmp_path / "g.safetensors"
    with path.open("wb") as file:
        how(Trap(trap), file)
    for load in (checkpoints.load_generator, checkpoints.load_discriminator):
        with pytest.raises(ValueError, match="not a safetensors file"):
            load(path)
    assert not trap.exists()


def test_the_trap_would_work(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").is_dir()
