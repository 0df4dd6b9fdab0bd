import math

import pytest
import torch
from torch.nn import functional as F

from helpers.networks import pggan


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    network = pggan.Generator((12, 10, 8, 6), latent=9)
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value, std=0.3)
    return network


def naive_norm(h):
    return h / (h.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()


def naive_generator(network, z):
    """The published forward pass, written out from the state dict alone."""
    w, h = network.state_dict(), z[:, :, None, None]
    for i in range(2 * len(network.channels)):
        weight, bias = w[f"layer{i}.weight"], w[f"layer{i}.bias"]
        scale = math.sqrt(2) / math.sqrt(weight[0].numel())
        h = naive_norm(h)
        if i and i % 2 == 0:
            h = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        h = F.conv2d(h, weight * scale, bias, padding=3 if i == 0 else 1)
        h = torch.where(h > 0, h, 0.2 * h)
    last = len(network.channels) - 1
    weight = w[f"output{last}.weight"]
    return F.conv2d(naive_norm(h), weight / math.sqrt(weight.shape[1]), w[f"output{last}.bias"])


@torch.no_grad()
def test_generator_equals_the_written_out_forward_pass(generator):
    z = torch.randn(5, 9)
    torch.testing.assert_close(generator(z), naive_generator(generator, z), rtol=1e-4, atol=1e-4)
    assert generator(z).shape == (5, 3, 32, 32) and generator.resolution == 32


def test_keys_and_shapes_are_the_published_layout(generator):
    shapes = {key: tuple(value.shape) for key, value in generator.state_dict().items()}
    assert shapes["layer0.weight"] == (12, 9, 4, 4)
    assert shapes["layer1.weight"] == (12, 12, 3, 3)
    assert shapes["layer2.weight"] == (10, 12, 3, 3)
    assert shapes["output3.weight"] == (3, 6, 1, 1)
    assert len(shapes) == 2 * (8 + 4)
    discriminator = {k: tuple(v.shape) for k, v in pggan.Discriminator((12, 10, 8)).state_dict().items()}
    assert discriminator["input0.weight"] == (8, 3, 1, 1)
    assert discriminator["layer1.weight"] == (10, 8, 3, 3)
    assert discriminator["layer4.weight"] == (12, 13, 3, 3)
    assert discriminator["layer5.weight"] == (12, 12 * 16)
    assert discriminator["layer6.weight"] == (1, 12)


@torch.no_grad()
def test_fading_mixes_the_upsampled_smaller_image(generator):
    z = torch.randn(3, 9)
    small, full = generator(z, 1.0), generator(z)
    mixed = 0.75 * full + 0.25 * small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(generator(z, 0.25), mixed)


@torch.no_grad()
def test_pixel_norm_gives_unit_energy_and_undoes_a_common_scale():
    h = torch.randn(2, 7, 4, 4)
    assert pggan.pixel_norm(h).square().mean(1).sub(1).abs().max() < 1e-5
    torch.testing.assert_close(pggan.pixel_norm(3 * h), pggan.pixel_norm(h))


def test_minibatch_deviation_against_loops():
    h = torch.randn(8, 3, 4, 4)
    out = pggan.minibatch_deviation(h, group=4)
    assert torch.equal(out[:, :3], h)
    for i in range(8):
        members = torch.stack([h[j] for j in range(8) if j % 2 == i % 2])
        deviation = (members - members.mean(0)).pow(2).mean(0).add(1e-8).sqrt().mean()
        torch.testing.assert_close(out[i, 3], deviation.expand(4, 4))


def test_minibatch_deviation_refuses_a_batch_it_cannot_split():
    with pytest.raises(ValueError, match="6 images cannot be split into groups of 4"):
        pggan.minibatch_deviation(torch.zeros(6, 3, 4, 4), group=4)
    assert pggan.minibatch_deviation(torch.zeros(3, 3, 4, 4), group=4).shape == (3, 4, 4, 4)


@torch.no_grad()
def test_discriminator_alone_does_not_depend_on_the_batch():
    torch.manual_seed(1)
    network, images = pggan.Discriminator((8, 8, 6)), torch.randn(6, 3, 16, 16)
    alone = torch.cat([network(image[None], group=1) for image in images])
    torch.testing.assert_close(network(images, group=1), alone)
    copies = torch.cat([network(image.expand(4, -1, -1, -1))[:1] for image in images])
    torch.testing.assert_close(copies, alone)
    together = network(images[:4])
    assert (together - alone[:4]).abs().max() > 1e-4  # the very pitfall the protocol avoids


@torch.no_grad()
def test_post_pn_layers_give_the_normalised_featuremap_and_the_same_image(generator):
    pre, post = pggan.Layers(generator), pggan.Layers(generator, post_pn=True)
    z = torch.randn(2, 9)
    a = b = z
    for layer in range(1, pre.n_layers + 1):
        a, b = pre.advance(layer, a, {})[0], post.advance(layer, b, {})[0]
        expected = a if layer == pre.n_layers else naive_norm(a)
        torch.testing.assert_close(b, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(a, generator(z))
