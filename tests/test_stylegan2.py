"""StyleGAN2 against its maths written out: weights modulated per image, resampling by inserted zeros."""

import io
import math
import pickle

import pytest
import torch
from torch.nn import functional as F

from helpers.domains import Domain
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import stylegan2, stylegan2_layers
from tests.rounding import close

CHANNELS = (12, 10, 8, 6)


def random_network(network, seed=0):
    """Biases, noise and mean style as after a training: nothing is zero or one."""
    torch.manual_seed(seed)
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            value.data += 0.3 * torch.randn_like(value) * (100 if ".fc" in name and "mapping" in name else 1)
        if name.endswith("noise_strength"):
            value.data.fill_(0.4)
    if hasattr(network, "mapping"):
        network.mapping.w_avg.normal_()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(1)
    return random_network(stylegan2.Generator(CHANNELS, latent=9, style=11, mapping_layers=3))


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(2)
    return random_network(stylegan2.Discriminator(CHANNELS))


# The networks once more, from the state dict alone


def naive_filter(h, taps, up=1, down=1, pad=(0, 0), gain=1.0):
    """Insert zeros, pad, convolve with the filter, keep every down-th pixel; one pixel at a time along each axis."""
    for axis in (2, 3):
        h = h.transpose(axis, 3)
        wide = torch.zeros(*h.shape[:3], h.shape[3] * up, dtype=h.dtype)
        wide[..., ::up] = h
        wide = F.pad(wide, pad)
        n = wide.shape[3] - len(taps) + 1
        out = sum(taps[len(taps) - 1 - k] * wide[..., k : k + n] for k in range(len(taps)))
        h = (out * math.sqrt(gain))[..., ::down].transpose(axis, 3)
    return h


TAPS = [1 / 8, 3 / 8, 3 / 8, 1 / 8]


def naive_lrelu(h, gain=math.sqrt(2), clamp=None):
    h = torch.where(h > 0, h, 0.2 * h) * gain
    return h if clamp is None else h.clamp(-clamp * gain / math.sqrt(2), clamp * gain / math.sqrt(2))


def naive_dense(w, name, h, rate=1.0):
    return h @ (w[f"{name}.weight"] * rate / math.sqrt(h.shape[1])).T + w[f"{name}.bias"] * rate


def naive_modulated(h, weight, style, demodulate=True, up=False):
    """One weight tensor per image, one grouped convolution."""
    n, units = len(h), len(weight)
    weight = weight[None] * style[:, None, :, None, None]
    if demodulate:
        weight = weight / (weight.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    if up:
        # The stored kernel is flipped against the one that is correlated with the image, so flip it back.
        weight = weight.flip(3, 4)
        wide = torch.zeros(*h.shape[:2], 2 * h.shape[2] - 1, 2 * h.shape[3] - 1)
        wide[:, :, ::2, ::2] = h
        h = F.pad(wide, (2, 2, 2, 2))
    padding = 0 if up else weight.shape[-1] // 2
    h = F.conv2d(h.reshape(1, -1, *h.shape[2:]), weight.flatten(0, 1), padding=padding, groups=n)
    h = h.view(n, units, *h.shape[2:])
    return naive_filter(h, TAPS, pad=(1, 1), gain=4) if up else h


def naive_mapping(network, z, truncation=1.0):
    w = network.state_dict()
    h = z / (z.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(3):
        h = naive_lrelu(naive_dense(w, f"mapping.fc{i}", h, 0.01))
    return w["mapping.w_avg"] + truncation * (h - w["mapping.w_avg"])


def naive_generator(network, z, truncation=1.0, clamp=None):
    """Every convolution's featuremap by name, and the image."""
    w, style = network.state_dict(), naive_mapping(network, z, truncation)
    h, image, seen = w["synthesis.b4.const"].expand(len(z), -1, -1, -1), None, {}
    for size in [4 * 2**i for i in range(len(network.channels))]:
        for conv in ("conv0", "conv1") if size > 4 else ("conv1",):
            name = f"synthesis.b{size}.{conv}"
            h = naive_modulated(h, w[f"{name}.weight"], naive_dense(w, f"{name}.affine", style), up=conv == "conv0")
            h = h + w[f"{name}.noise_const"] * w[f"{name}.noise_strength"]
            h = naive_lrelu(h + w[f"{name}.bias"][:, None, None], clamp=clamp)
            seen[f"b{size}.{conv}"] = h
        name = f"synthesis.b{size}.torgb"
        scale = 1 / math.sqrt(h.shape[1])
        colours = naive_modulated(h, w[f"{name}.weight"], naive_dense(w, f"{name}.affine", style) * scale, False)
        colours = colours + w[f"{name}.bias"][:, None, None]
        colours = colours if clamp is None else colours.clamp(-clamp, clamp)
        image = colours if image is None else naive_filter(image, TAPS, up=2, pad=(2, 1), gain=4) + colours
    return seen, image


def naive_discriminator(network, images, group, clamp=None):
    w = network.state_dict()

    def conv(name, h, pad, stride=1, gain=math.sqrt(2)):
        weight = w[f"{name}.weight"]
        h = F.conv2d(h, weight / math.sqrt(weight[0].numel()), padding=pad, stride=stride)
        return naive_lrelu(h + w[f"{name}.bias"][:, None, None], gain, clamp)

    size = images.shape[-1]
    h = conv(f"b{size}.fromrgb", images, 0)
    while size > 4:
        skip = naive_filter(h, TAPS, down=2, pad=(1, 1))
        weight = w[f"b{size}.skip.weight"]
        skip = F.conv2d(skip, weight / math.sqrt(weight.shape[1])) * math.sqrt(0.5)
        h = conv(f"b{size}.conv0", h, 1)
        h = conv(f"b{size}.conv1", naive_filter(h, TAPS, pad=(2, 2)), 0, 2, math.sqrt(2) * math.sqrt(0.5))
        h, size = h + skip, size // 2
    deviations = []
    for i in range(len(h)):
        columns = len(h) // group
        members = torch.stack([h[j] for j in range(len(h)) if j % columns == i % columns])
        deviation = ((members - members.mean(0)).pow(2).mean(0) + 1e-8).sqrt().mean()
        deviations.append(deviation.expand(1, 4, 4))
    h = conv("b4.conv", torch.cat([h, torch.stack(deviations)], 1), 1)
    h = naive_lrelu(naive_dense(w, "b4.fc", h.flatten(1)))
    return naive_dense(w, "b4.out", h)[:, 0]


# Generator


def test_generator_equals_the_written_out_maths(generator):
    z = torch.randn(5, 9)
    close(generator(z), naive_generator(generator, z)[1])
    assert generator(z).shape == (5, 3, 32, 32) and generator.resolution == 32


def test_discriminator_equals_the_written_out_maths(discriminator):
    images = torch.randn(8, 3, 32, 32)
    close(discriminator(images), naive_discriminator(discriminator, images, 4))
    close(discriminator(images, group=2), naive_discriminator(discriminator, images, 2))
    close(discriminator(images[:3]), naive_discriminator(discriminator, images[:3], 3))  # fewer than a group


def test_activations_are_clamped_where_published_networks_clamp_them():
    torch.manual_seed(3)
    g = random_network(stylegan2.Generator(CHANNELS, 9, 11, 3, conv_clamp=0.7))
    z = torch.randn(4, 9)
    close(g(z), naive_generator(g, z, clamp=0.7)[1])
    assert Flow(stylegan2.Layers(g)).record(z, [3])[3].max() == pytest.approx(0.7)
    d = random_network(stylegan2.Discriminator(CHANNELS, conv_clamp=0.4))
    images = torch.randn(4, 3, 32, 32)
    close(d(images), naive_discriminator(d, images, 4, clamp=0.4))
    d_free = stylegan2.Discriminator(CHANNELS)
    d_free.load_state_dict(d.state_dict())
    assert (d_free(images) - d(images)).abs().max() > 1e-3


def test_truncation_pulls_the_styles_towards_their_mean(generator):
    z = torch.randn(4, 9)
    close(generator(z, 0.5), naive_generator(generator, z, 0.5)[1])
    assert torch.equal(generator.mapping(z, 0.0), generator.mapping.w_avg.expand(4, -1))
    close(generator(z, 0.0), generator(z, 0.0)[:1].expand(len(z), -1, -1, -1))
    assert torch.equal(generator(z, 1), generator(z))


def test_the_length_of_a_latent_does_not_matter(generator):
    z = torch.randn(3, 9)
    close(generator(5 * z), generator(z))


def test_noise_is_fixed_and_counts(generator):
    z = torch.randn(2, 9)
    before = generator(z)
    torch.manual_seed(99)
    assert torch.equal(generator(z), before)
    silent = stylegan2.Generator(CHANNELS, 9, 11, 3)
    silent.load_state_dict(generator.state_dict())
    for name, value in silent.named_parameters():
        if name.endswith("noise_strength"):
            value.data.zero_()
    assert (silent(z) - before).abs().max() > 0.01


def test_fewer_blocks_draw_the_smaller_image(generator):
    z = torch.randn(2, 9)
    small = stylegan2.Generator(CHANNELS[:3], 9, 11, 3)
    small.load_state_dict({key: value for key, value in generator.state_dict().items() if "b32" not in key})
    assert torch.equal(generator.draw(generator.mapping(z), 3), small(z)) and small.resolution == 16


def test_demodulation_undoes_a_common_scale_of_the_weights(generator):
    z = torch.randn(2, 9)
    scaled = stylegan2.Generator(CHANNELS, 9, 11, 3)
    weights = {
        k: v * 7 if ".conv" in k and k.endswith("conv0.weight") else v for k, v in generator.state_dict().items()
    }
    scaled.load_state_dict(weights)
    close(scaled(z), generator(z))


# The filters


def test_resampling_keeps_constants_and_means():
    kernel = stylegan2.resample_filter()
    assert kernel.shape == (4, 4) and kernel.sum().item() == pytest.approx(1, abs=1e-7)
    assert torch.equal(kernel[0] * 64, torch.tensor([1.0, 3, 3, 1]))
    flat = torch.full((1, 2, 6, 6), 3.0)
    close(stylegan2_layers.upsample(flat, kernel)[:, :, 1:-1, 1:-1], torch.full((1, 2, 10, 10), 3.0))
    halved = stylegan2_layers.smooth(flat, kernel, padding=1, stride=2)
    assert halved.shape == (1, 2, 3, 3)
    close(halved[:, :, 1:-1, 1:-1], flat[:, :, :1, :1])
    noise = torch.randn(2, 3, 8, 8)
    close(stylegan2_layers.upsample(noise, kernel), naive_filter(noise, TAPS, up=2, pad=(2, 1), gain=4))
    close(stylegan2_layers.smooth(noise, kernel, 1, stride=2), naive_filter(noise, TAPS, down=2, pad=(1, 1)))


def test_a_filter_that_is_not_symmetric_is_convolved_not_correlated():
    taps, noise = [0.4, 0.3, 0.2, 0.1], torch.randn(2, 3, 8, 8)
    kernel = torch.outer(torch.tensor(taps), torch.tensor(taps))
    close(stylegan2_layers.smooth(noise, kernel, 2), naive_filter(noise, taps, pad=(2, 2)))
    close(stylegan2_layers.upsample(noise, kernel), naive_filter(noise, taps, up=2, pad=(2, 1), gain=4))


# The published layout


def test_keys_and_shapes_are_the_published_layout():
    with torch.device("meta"):
        g, d = stylegan2.Generator(), stylegan2.Discriminator()
    shapes = {key: tuple(value.shape) for key, value in g.state_dict().items()}
    assert g.resolution == d.resolution == 1024
    assert len(shapes) == (8 * 2 + 1) + 9 * (1 + 4) + 1 + 17 * 7
    assert shapes["mapping.fc7.weight"] == (512, 512) and shapes["mapping.w_avg"] == (512,)
    assert shapes["synthesis.b4.const"] == (512, 4, 4) and "synthesis.b4.conv0.weight" not in shapes
    assert shapes["synthesis.b64.resample_filter"] == (4, 4)
    conv0 = {key.split("conv0.")[1]: shape for key, shape in shapes.items() if "b128.conv0" in key}
    assert conv0 == {
        **{"weight": (256, 512, 3, 3), "bias": (256,), "noise_const": (128, 128), "noise_strength": ()},
        **{"resample_filter": (4, 4), "affine.weight": (512, 512), "affine.bias": (512,)},
    }
    torgb = {key.split("torgb.")[1]: shape for key, shape in shapes.items() if "b1024.torgb" in key}
    assert torgb == {"weight": (3, 32, 1, 1), "bias": (3,), "affine.weight": (32, 512), "affine.bias": (32,)}
    shapes = {key: tuple(value.shape) for key, value in d.state_dict().items()}
    assert len(shapes) == 8 * (1 + 3 + 3 + 2) + 3 + (3 + 2 + 2)
    assert shapes["b1024.fromrgb.weight"] == (32, 3, 1, 1) and "b512.fromrgb.weight" not in shapes
    assert shapes["b1024.conv1.weight"] == (64, 32, 3, 3) and shapes["b1024.skip.weight"] == (64, 32, 1, 1)
    assert "b1024.skip.bias" not in shapes and shapes["b1024.skip.resample_filter"] == (4, 4)
    assert shapes["b4.conv.weight"] == (512, 513, 3, 3) and shapes["b4.fc.weight"] == (512, 512 * 16)
    assert shapes["b4.out.weight"] == (1, 512) and shapes["b4.out.bias"] == (1,)


@torch.no_grad()
def test_a_fresh_network_keeps_the_size_of_its_activations():
    torch.manual_seed(0)
    g = stylegan2.Generator((64, 64, 64), 32, 32, 8)
    maps = Flow(stylegan2.Layers(g)).record(torch.randn(64, 32), range(1, 6))
    assert all(0.3 < h.square().mean() ** 0.5 < 1.2 for h in maps.values())
    assert 0.6 < g.mapping(torch.randn(64, 32)).square().mean() ** 0.5 < 1.6


# As layers


def test_layers_are_the_convolutions_in_order_and_then_the_image(generator):
    flow, z = Flow(stylegan2.Layers(generator)), torch.randn(5, 9)
    seen, image = naive_generator(generator, z)
    names = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b32.conv0", "b32.conv1"]
    assert flow.n_layers == 8 and flow.latent == 9 and flow.layers == list(range(1, 8))
    recorded = flow.record(z, range(1, 9))
    for layer, name in enumerate(names, start=1):
        close(recorded[layer], seen[name])
        assert flow.units(layer) == seen[name].shape[1] and flow.resolution(layer) == seen[name].shape[2]
    close(recorded[8], image)
    close(recorded[8], generator(z))


def test_truncated_layers_give_the_truncated_image(generator):
    z = torch.randn(3, 9)
    flow = Flow(stylegan2.Layers(generator, truncation=0.6))
    close(flow.generate(z), generator(z, 0.6))
    assert (flow.generate(z) - generator(z)).abs().max() > 0.01


def test_resuming_from_any_layer_gives_the_same_image(generator):
    flow, z = Flow(stylegan2.Layers(generator), batch=4), latents(range(7), 9)
    whole = flow.generate(z)
    for layer in range(9):
        state = flow.state(z, layer)
        close(flow.resume(state), whole)
        assert all(len(value) == 7 for value in state.extras.values())
    assert set(flow.state(z, 1).extras) == {"w"} and flow.state(z, 4).extras["image"].shape == (7, 3, 8, 8)


@pytest.mark.parametrize("layer", range(1, 8))
def test_an_edit_changes_its_layer_and_what_follows_only(generator, layer):
    flow, z = Flow(stylegan2.Layers(generator)), torch.randn(3, 9)
    edits = {layer: lambda h: h * (torch.arange(h.shape[1]) % 3 > 0)[:, None, None].to(h.device)}
    plain, edited = flow.record(z, range(1, 9)), flow.record(z, range(1, 9), edits)
    for other in range(1, 9):
        if other < layer:
            assert torch.equal(edited[other], plain[other])
        else:
            assert (edited[other] - plain[other]).abs().max() > 1e-4
    assert torch.equal(edited[layer], edits[layer](plain[layer]))
    state = flow.state(z, layer)
    by_hand = flow.resume(type(state)(layer, edited[layer], state.extras))
    close(by_hand, edited[8])  # the edited featuremap is also what toRGB reads
    assert torch.equal(flow.generate(z), plain[8])


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_results_do_not_depend_on_the_batch(generator, batch):
    z = latents(range(40), 9)
    expected = Flow(stylegan2.Layers(generator), batch=40).record(z, [3, 8])
    for layer, value in Flow(stylegan2.Layers(generator), batch=batch).record(z, [3, 8]).items():
        close(value, expected[layer])


def test_a_flow_can_be_pickled(generator):
    flow, z = Flow(stylegan2.Layers(generator, 0.7)), torch.randn(2, 9)
    again = pickle.load(io.BytesIO(pickle.dumps(flow)))
    assert torch.equal(again.generate(z), flow.generate(z))


def test_generates_on_every_device(device, generator):
    z = torch.randn(3, 9)
    expected = generator(z)
    copy = stylegan2.Generator(CHANNELS, 9, 11, 3)
    copy.load_state_dict(generator.state_dict())
    torch.testing.assert_close(Flow(stylegan2.Layers(copy.to(device))).generate(z), expected, rtol=1e-3, atol=1e-3)


# The discriminator's company


def test_d_values_do_not_depend_on_the_batch(generator, discriminator):
    flow = Flow(stylegan2.Layers(generator))
    domain = Domain("tiny", flow, discriminator, *[None] * 6, (), None)
    images = domain.images(range(9))
    scores = domain.d_values(images)
    alone = torch.stack([discriminator(image.expand(4, -1, -1, -1), group=4)[0] for image in images])
    close(scores, alone)
    close(domain.d_values(images.flip(0)).flip(0), scores)
    company = discriminator(images[:8])
    assert (company - scores[:8]).abs().max() > 1e-4  # the very pitfall the protocol avoids
    close(domain.d_values(images, images[:3])[5], discriminator(images[[5, 0, 1, 2]])[0])


# Errors


def test_a_batch_that_the_group_does_not_divide_is_refused(discriminator):
    with pytest.raises(ValueError, match="6 images cannot be split into groups of 4"):
        discriminator(torch.zeros(6, 3, 32, 32))


def test_images_of_another_size_are_refused(discriminator):
    with pytest.raises(ValueError, match=r"shape \(B, 3, 32, 32\), got \(2, 3, 64, 64\): resize"):
        discriminator(torch.zeros(2, 3, 64, 64))


def test_networks_without_resolutions_are_refused():
    with pytest.raises(ValueError, match="at least one resolution"):
        stylegan2.Generator(())
    with pytest.raises(ValueError, match="at least two resolutions"):
        stylegan2.Discriminator((8,))
