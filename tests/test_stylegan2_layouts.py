"""StyleGAN2's and the U-net GAN's published files, loaded, against the network or the maths they stand for."""

import pickle

import pytest
import torch

from helpers import checkpoints
from helpers.networks import stylegan2, unetgan
from helpers.weights import stylegan2_layouts, stylegan2_rosinality, unetgan_layout
from helpers.weights.layout import recognise
from tests import published_later
from tests.rounding import near

CHANNELS, LATENT, STYLE, MAPPING = (7, 6, 5), 9, 8, 3


def shaken(network, seed):
    torch.manual_seed(seed)
    for value in network.parameters():
        value.data += 0.3 * torch.randn_like(value)
    for name, value in network.named_buffers():
        if name.endswith(("w_avg", "noise_const", "stored_mean")):
            value.normal_()
        if name.endswith("stored_var"):
            value.uniform_(0.5, 2)
    return network.eval().requires_grad_(False)


def style_networks(conv_clamp=None):
    generator = lambda: stylegan2.Generator(CHANNELS, LATENT, STYLE, MAPPING, conv_clamp)  # noqa: E731
    made = {"G": generator(), "D": stylegan2.Discriminator(CHANNELS, 2, conv_clamp), "G_ema": generator()}
    return {name: shaken(network, seed) for seed, (name, network) in enumerate(made.items())}


def describes(clamp=None, group=2, **changed):
    """What NVIDIA's modules say of themselves, by path."""

    def attributes(path):
        last = path.rpartition(".")[2]
        said = {"c_dim": 0, "img_channels": 3, "z_dim": LATENT} if not path else {}
        if last in ("conv0", "conv1", "conv", "fromrgb", "torgb"):
            said |= {"conv_clamp": clamp, "activation": "lrelu", "use_noise": True}
        if last in ("skip", "affine", "out"):
            said |= {"conv_clamp": None, "activation": "linear"} if last == "skip" else {"activation": "linear"}
        if last.startswith("fc"):
            said |= {"activation": "lrelu", "bias_gain": 0.01 if path.startswith("mapping") else 1}
        if last == "embed":
            said |= {"activation": "linear", "bias_gain": 1}
        if last.startswith("b") and last[1:].isdigit():
            said["architecture"] = "skip" if path.startswith("synthesis") else "resnet"
        if last == "mbstd":
            said["group_size"] = group
        return said | {key: value for key, value in changed.items() if key in said}

    return attributes


@pytest.fixture
def store(tmp_path):
    def save(contents, name="weights.pth"):
        if isinstance(contents, bytes):
            (tmp_path / name).write_bytes(contents)
        else:
            torch.save(contents, tmp_path / name)
        return tmp_path / name

    return save


def nvidia(store, attributes, clamp=None, networks=None):
    networks = networks or style_networks(clamp)
    return networks, store(published_later.nvidia_file(networks, attributes, pickle.dumps), "weights.pkl")


@pytest.mark.parametrize("clamp", [None, 0.7])
def test_nvidia(store, clamp):
    networks, path = nvidia(store, describes(clamp), clamp)
    z, images = torch.randn(5, LATENT), torch.randn(4, 3, 16, 16)
    flow = checkpoints.load_generator(path)
    assert near(flow.generate(z), networks["G_ema"](z)) and not near(flow.generate(z), networks["G"](z))
    assert flow.n_layers == 6 and [flow.units(layer) for layer in flow.layers] == [7, 6, 6, 5, 5]
    assert flow.origin == "weights.pkl: StyleGAN2, NVIDIA layout, G_ema (moving average of the weights)"
    discriminator = checkpoints.load_discriminator(path)
    assert discriminator.group == 2 and near(discriminator(images), networks["D"](images))
    four = checkpoints.load_discriminator(path, group=4)
    assert near(four(images), networks["D"](images, group=4)) and not near(four(images), networks["D"](images))


def test_a_clamp_of_published_networks_changes_numbers(store):
    networks, path = nvidia(store, describes(0.7), 0.7)
    z = torch.randn(5, LATENT)
    free = stylegan2.Generator(CHANNELS, LATENT, STYLE, MAPPING)
    free.load_state_dict(networks["G_ema"].state_dict())
    assert not near(checkpoints.load_generator(path).generate(z), free(z))


def test_networks_of_grey_images(store):
    networks = {
        "G_ema": shaken(stylegan2.Generator(CHANNELS, LATENT, STYLE, MAPPING, colours=1), 0),
        "D": shaken(stylegan2.Discriminator(CHANNELS, 2, colours=1), 1),
    }
    _, path = nvidia(store, describes(img_channels=1), networks=networks)
    z, images = torch.randn(5, LATENT), torch.randn(4, 1, 16, 16)
    found = checkpoints.load_generator(path).generate(z)
    assert found.shape == (5, 1, 16, 16) and near(found, networks["G_ema"](z))
    discriminator = checkpoints.load_discriminator(path)
    assert near(discriminator(images), networks["D"](images))
    with pytest.raises(ValueError, match=r"images must have shape \(B, 1, 16, 16\), got \(4, 3, 16, 16\)"):
        discriminator(torch.randn(4, 3, 16, 16))
    networks["D"].b16.fromrgb.weight = torch.nn.Parameter(torch.zeros(5, 4, 1, 1))
    _, path = nvidia(store, describes(img_channels=4), networks=networks)
    with pytest.raises(ValueError, match=r"b16.fromrgb.weight of shape \(5, 4, 1, 1\): images of 1 or 3 channels"):
        checkpoints.load_discriminator(path)


def test_nvidias_group_may_be_the_whole_batch(store):
    networks, path = nvidia(store, describes(group=None))
    images = torch.randn(6, 3, 16, 16)
    assert near(checkpoints.load_discriminator(path)(images), networks["D"](images, group=6))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"c_dim": 10}, "c_dim = 10"),
        ({"architecture": "orig"}, "synthesis.b4.architecture = 'orig'"),
        ({"activation": "relu"}, "mapping.fc0.activation = 'relu'"),
        ({"bias_gain": 0.1}, "mapping.fc0.bias_gain = 0.1"),
        ({"use_noise": False}, "use_noise = False"),
    ],
)
def test_nvidias_settings_that_change_the_numbers_are_refused(store, changed, said):
    _, path = nvidia(store, describes(**changed))
    with pytest.raises(ValueError, match=f"weights.pkl was made with .*{said}, which is not supported"):
        checkpoints.load_generator(path)


@pytest.mark.parametrize("pickled", [False, True])
def test_a_plain_state_dict_of_nvidias_keys_is_enough(store, pickled):
    networks, z, images = style_networks(), torch.randn(5, LATENT), torch.randn(4, 3, 16, 16)
    for name, load, network in (
        ("G_ema", checkpoints.load_generator, lambda flow: flow.generate(z)),
        ("D", checkpoints.load_discriminator, lambda discriminator: discriminator(images, group=2)),
    ):
        state = networks[name].state_dict()
        path = store(pickle.dumps(state), "w.pkl") if pickled else store(state)
        assert near(network(load(path)), networks[name](z) if name == "G_ema" else networks[name](images))


@pytest.mark.parametrize(("channels", "mapping"), [((7, 6, 5), 3), ((4, 9), 1), ((5, 5, 6, 4), 8)])
def test_genforce_stylegan2(store, channels, mapping):
    torch.manual_seed(0)
    file = published_later.genforce_style_file(channels, mapping=mapping)
    size = 4 * 2 ** (len(channels) - 1)
    z, images, path = torch.randn(3, 9), torch.randn(8, 3, size, size), store(file)
    flow = checkpoints.load_generator(path)
    assert near(flow.generate(z), published_later.genforce_style_images(file["generator_smooth"], z))
    assert flow.origin.endswith("GenForce layout, generator_smooth (moving average of the weights)")
    discriminator = checkpoints.load_discriminator(path)
    assert near(discriminator(images), published_later.genforce_style_scores(file["discriminator"], images))


def unet_networks():
    generator = shaken(unetgan.Generator((7, 6, 5), latent=9, hidden=6), 0)
    return generator, shaken(unetgan.Discriminator((5, 6)), 1)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_unetgan(store, prefix):
    generator, discriminator = unet_networks()
    z, images = torch.randn(5, 9), torch.randn(4, 3, 16, 16)
    states = [{prefix + key: value for key, value in net.state_dict().items()} for net in (generator, discriminator)]
    flow = checkpoints.load_generator(store(states[0], "G_ema_ep_82.pth"))
    assert near(flow.generate(z), generator(z)) and flow.n_layers == 6
    assert flow.origin == "G_ema_ep_82.pth: U-net GAN (the file does not say whether it is a moving average)"
    loaded = checkpoints.load_discriminator(store(states[1]))
    assert near(loaded(images), discriminator(images)) and loaded(images).shape == (4,)
    assert near(loaded.both(images)[1], discriminator.both(images)[1])
    with pytest.raises(ValueError, match="weights.pth has no minibatch deviation .U-net GAN.: leave group out"):
        checkpoints.load_discriminator(store(states[1]), group=2)


def test_post_pn_is_for_progressive_gans_only(store):
    for state in (unet_networks()[0].state_dict(), style_networks()["G"].state_dict()):
        with pytest.raises(ValueError, match="weights.pth has no pixel normalisation .*leave post_pn out"):
            checkpoints.load_generator(store(state), post_pn=True)


# Keys


def variants():
    """(loader, state dict, how its keys are stored) of one network of every layout."""
    torch.manual_seed(0)
    genforce, nets = published_later.genforce_style_file(), style_networks()
    yield checkpoints.load_generator, genforce["generator"]
    yield checkpoints.load_discriminator, genforce["discriminator"]
    yield checkpoints.load_generator, nets["G"].state_dict()
    yield checkpoints.load_discriminator, nets["D"].state_dict()
    yield from zip(
        (checkpoints.load_generator, checkpoints.load_discriminator), (n.state_dict() for n in unet_networks())
    )


def test_every_missing_key_is_named(store):
    tried = 0
    for load, state in variants():
        for key in [key for key in state if not key.endswith(".kernel")][::2]:
            with pytest.raises(ValueError, match=rf"^weights.pth .*lacks .*{key}"):
                load(store({name: value for name, value in state.items() if name != key}))
            tried += 1
    assert tried > 125


def test_an_unknown_key_is_named(store):
    for load, state in variants():
        with pytest.raises(ValueError, match="has an unknown extra.weight"):
            load(store(state | {"extra.weight": torch.zeros(2)}))


def test_a_wrong_shape_is_named(store):
    for load, state in variants():
        for key in [key for key in state if not key.endswith(".kernel")][1::2]:
            with pytest.raises(ValueError, match=rf"^weights.pth .*{key} of shape") as caught:
                load(store(state | {key: torch.zeros(3, 2, 7)}))
            assert "\n" not in str(caught.value)


def test_networks_with_classes_are_refused(store):
    for (load, state), key in zip(
        variants(), ("mapping.label_weight", None, "mapping.embed.bias", "mapping.embed.bias")
    ):
        if key:
            with pytest.raises(ValueError, match=f"weights.pth needs class labels .{key}.: only networks without"):
                load(store(state | {key: torch.zeros(2)}))
    with pytest.raises(ValueError, match="needs class labels .shared.weight."):
        checkpoints.load_generator(store(unet_networks()[0].state_dict() | {"shared.weight": torch.zeros(2)}))


def test_a_resolution_that_is_no_power_of_two_is_refused(store):
    state = {key.replace("b16.", "b24."): value for key, value in style_networks()["G"].state_dict().items()}
    with pytest.raises(ValueError, match="weights.pth has a resolution of 24 px, which is not a power of two"):
        checkpoints.load_generator(store(state))


def test_the_wrong_role_is_named(store):
    for load, state in variants():
        other, held = (
            (checkpoints.load_discriminator, "generator")
            if load is checkpoints.load_generator
            else (checkpoints.load_generator, "discriminator")
        )
        with pytest.raises(ValueError, match=f"weights.pth holds a {held}: load it with load_{held}"):
            other(store(state))


def test_other_networks_are_not_recognised():
    for key in ("layer0.weight", "conv1.weight", "formatLayer.weight", "output_16x16.conv.weight"):
        for layouts in (stylegan2_layouts, stylegan2_rosinality, unetgan_layout):
            assert recognise(layouts.LAYOUTS, {key: torch.zeros(2)}, {}, "x") is None
