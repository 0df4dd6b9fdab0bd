"""One class of a StyleGAN2 with classes, loaded, against the label's maths written out in float64."""

import math
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn

from helpers import checkpoints, correct, survey, units
from helpers.networks.stylegan2_layers import Dense
from helpers.streaming import partials
from tests import published, published_later
from tests.test_stylegan2_layouts import CHANNELS, LATENT, STYLE, describes, shaken, style_networks

CLASSES, EMBEDDED, MAPPED = 5, 6, 4


def mapping(inputs, outputs, layers):
    module = nn.Module()
    module.embed = Dense(CLASSES, EMBEDDED)
    for i in range(layers):
        module.add_module(f"fc{i}", Dense(outputs if i else inputs, outputs, rate=0.01))
    return module


def conditional(layers=8):
    """The two networks with classes, as modules whose keys and shapes are those of the published layout."""
    torch.manual_seed(3)
    networks = style_networks()
    del networks["G"]
    generator, discriminator = networks["G_ema"], networks["D"]
    average = generator.mapping.w_avg
    generator.mapping = mapping(LATENT + EMBEDDED, STYLE, 3)
    generator.mapping.register_buffer("w_avg", average)
    discriminator.mapping = mapping(EMBEDDED, MAPPED, layers)
    discriminator.b4.out = Dense(CHANNELS[0], MAPPED if layers else EMBEDDED)
    return {name: shaken(network, 7) for name, network in networks.items()}


@pytest.fixture
def store(tmp_path):
    def save(networks, state=False, **changed):
        path = tmp_path / "weights.pkl"
        if state:
            held = networks[state]
            torch.save(held if isinstance(held, dict) else held.state_dict(), path)
        else:
            path.write_bytes(published_later.nvidia_file(networks, describes(c_dim=CLASSES, **changed), pickle.dumps))
        return path

    return save


def unit(h):
    return h / (h.pow(2).mean(-1, keepdim=True) + 1e-8).sqrt()


def mapped(part, label, z=None):
    """Map a label, beside latents if there are any, by the weights of a mapping."""
    state = {key: value.double() for key, value in part.state_dict().items()}
    h = unit(state["embed.weight"][:, label] / math.sqrt(CLASSES) + state["embed.bias"])[None]
    if z is not None:
        h = torch.cat([unit(z.double()), h.expand(len(z), -1)], dim=1)
    for i in range(sum(key.startswith("fc") for key in state) // 2):
        weight, bias = state[f"fc{i}.weight"], state[f"fc{i}.bias"]
        h = published.lrelu(h @ weight.T * (0.01 / math.sqrt(weight.shape[1])) + 0.01 * bias) * math.sqrt(2)
    return h


def near(found, expected):
    return bool((found.double() - expected).abs().max() <= 1e-4 * expected.abs().max())


@pytest.mark.parametrize("label", range(CLASSES))
@pytest.mark.parametrize("state", [False, "G_ema"])
def test_each_class_draws_its_own_images(store, label, state):
    networks, z = conditional(), torch.randn(4, LATENT)
    flow = checkpoints.load_generator(store(networks, state), label=label)
    assert flow.latent == LATENT and f"class {label}" in flow.origin
    w = mapped(networks["G_ema"].mapping, label, z)
    assert near(flow.network.generator.mapping(z), w)
    assert near(flow.generate(z), networks["G_ema"].double().draw(w))
    assert torch.equal(flow.network.generator.mapping.w_avg, networks["G_ema"].mapping.w_avg.float())


@pytest.mark.parametrize("layers", [8, 2, 0])
def test_each_class_has_its_own_d_values(store, layers):
    networks, images = conditional(layers), torch.randn(4, 3, 16, 16)
    seen, own = [], networks["D"]
    hook = own.b4.out.register_forward_pre_hook(lambda module, given: seen.append(given[0].double()))
    own(images)
    hook.remove()
    weight, bias = (own.b4.out.state_dict()[key].double() for key in ("weight", "bias"))
    for label in (0, 3):
        m = mapped(own.mapping, label)
        out = seen[0] @ weight.T / math.sqrt(CHANNELS[0]) + bias
        expected = (out * m).sum(dim=1) / math.sqrt(m.shape[1])
        path = store(networks)
        assert near(checkpoints.load_discriminator(path, label=label)(images), expected)
        assert near(checkpoints.load_discriminator(store(networks, "D"), label=label)(images, group=2), expected)


def test_without_a_class_it_says_how_many_there_are(store):
    path = store(conditional())
    for load in (checkpoints.load_generator, checkpoints.load_discriminator):
        with pytest.raises(ValueError, match="weights.pkl was trained with 5 classes: load it with label=0 to 4$"):
            load(path)
        for label in (5, -1, 1.5, 2.0, "2", True, [1], torch.eye(5)[2], np.array([3, 4])):
            with pytest.raises(ValueError, match=re.escape(f"label=0 to 4, got label={label!r}")):
                load(path, label=label)


def test_a_class_may_be_a_number_of_any_kind(store):
    path, z = store(conditional()), torch.randn(2, LATENT)
    expected = checkpoints.load_generator(path, label=3)
    for label in (np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor([3])):
        flow = checkpoints.load_generator(path, label=label)
        assert torch.equal(flow.generate(z), expected.generate(z)) and flow.origin == expected.origin


def test_a_label_for_a_network_without_classes_is_refused(store, tmp_path):
    path = store(style_networks(), "G_ema")
    with pytest.raises(ValueError, match="weights.pkl has no classes .StyleGAN2, NVIDIA layout.: leave label out"):
        checkpoints.load_generator(path, label=0)
    torch.save(published.genforce_file(), path)
    with pytest.raises(ValueError, match="has no classes .PGGAN, GenForce layout.: leave label out"):
        checkpoints.load_discriminator(path, label=0)


def test_settings_and_shapes_that_do_not_fit_are_named(store):
    with pytest.raises(ValueError, match="bias_gain = 0.1, which is not supported"):
        checkpoints.load_generator(store(conditional(), bias_gain=0.1), label=0)
    with pytest.raises(ValueError, match="b16.architecture = 'orig', which is not supported"):
        checkpoints.load_discriminator(store(conditional(), architecture="orig"), label=0)
    networks = conditional()
    for key, value in (("embed.weight", torch.zeros(3, CLASSES)), ("embed.bias", torch.zeros(2))):
        networks["broken"] = networks["G_ema"].state_dict() | {f"mapping.{key}": value}
        with pytest.raises(ValueError, match="weights.pkl does not fit: its mapping is not one of 5 classes"):
            checkpoints.load_generator(store(networks, "broken"), label=0)
    del networks["broken"]["mapping.embed.bias"]
    with pytest.raises(ValueError, match="weights.pkl does not fit: its mapping is not one of 5 classes"):
        checkpoints.load_generator(store(networks, "broken"), label=0)


def test_survey_scores_and_corrections_are_as_usual_and_classes_are_told_apart(store):
    path, z = store(conditional()), torch.randn(12, LATENT)
    flow, other = (checkpoints.load_generator(path, label=label) for label in (1, 2))
    assert partials.weights(flow) != partials.weights(other)
    masks = torch.zeros(12, 16, 16, dtype=torch.bool)
    masks[:, 3:9, 3:9] = True
    scores = units.defective_scores(flow, z, masks, survey.thresholds(flow, z, tau=0.05))
    assert sorted(scores) == [1, 2, 3, 4, 5] and all(s.max() > 0 for s in scores.values())
    corrected = flow.generate(z, correct.sequential(scores, stop_layer=2))
    assert not near(corrected, flow.generate(z).double())
    assert torch.equal(pickle.loads(pickle.dumps(flow)).generate(z), flow.generate(z))
