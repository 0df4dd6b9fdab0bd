import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from helpers.flow import Flow
from helpers.networks import unetgan, unetgan_blocks
from tests.rounding import close
from tools.train import unetgan as train_unetgan


def shaken(network):
    """Give every bias, gain and statistic a value of its own, so that forgetting one shows."""
    torch.manual_seed(1)
    for key, value in network.state_dict().items():
        if key.endswith((".bias", "output_layer.0.gain")):
            value.add_(0.3 * torch.randn_like(value))
        elif key.endswith("stored_mean"):
            value.normal_(std=0.5)
        elif key.endswith(("stored_var", "sv0")):
            value.uniform_(0.4, 2.5)
    return network.eval()


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return shaken(unetgan.Generator((12, 10, 8, 6), latent=9, hidden=7))


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(0)
    return shaken(unetgan.Discriminator((6, 8, 10)))


def naive_layer(w, name, x):
    """A convolution or dense layer by the state dict alone: one power iteration, then divide."""
    weight, u = w[f"{name}.weight"].double(), w[f"{name}.u0"].double()
    matrix = weight.reshape(len(weight), -1)
    v = matrix.T @ u[0]
    v = v / v.norm()
    sigma = (matrix @ v).norm()  # u is the direction of matrix v, so u' matrix v is its length
    if weight.ndim == 2:
        return x @ (weight / sigma).T + w[f"{name}.bias"].double()
    return F.conv2d(x, weight / sigma, w[f"{name}.bias"].double(), padding=weight.shape[-1] // 2)


def naive_norm(w, name, x, z=None):
    mean, var = (w[f"{name}.stored_{part}"].double()[None, :, None, None] for part in ("mean", "var"))
    if z is None:
        gain, bias = w[f"{name}.gain"].double()[None], w[f"{name}.bias"].double()[None]
    else:
        hidden = {
            part: torch.relu(z @ w[f"{name}.{part}.0.weight"].double().T + w[f"{name}.{part}.0.bias"].double())
            for part in ("gain", "bias")
        }
        gain = 1 + hidden["gain"] @ w[f"{name}.gain.2.weight"].double().T
        bias = hidden["bias"] @ w[f"{name}.bias.2.weight"].double().T
    return (x - mean) / (var + 1e-5).sqrt() * gain[:, :, None, None] + bias[:, :, None, None]


def double(h):
    return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def halve(h):
    return (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4


def naive_generator(w, z, blocks):
    """The published forward pass in float64: (image, {layer: the unit's activation})."""
    z = z.double()
    h = naive_layer(w, "linear", z).reshape(len(z), -1, 4, 4)
    layers = {1: h}
    for i in range(blocks):
        name = f"blocks.{i}.0"
        inner = double(torch.relu(naive_norm(w, f"{name}.bn1", h, z)))
        inner = layers[2 * i + 2] = naive_layer(w, f"{name}.conv1", inner)
        inner = torch.relu(naive_norm(w, f"{name}.bn2", inner, z))
        inner = layers[2 * i + 3] = naive_layer(w, f"{name}.conv2", inner)
        h = inner + naive_layer(w, f"{name}.conv_sc", double(h))
    image = layers[2 * blocks + 2] = torch.tanh(
        naive_layer(w, "output_layer.2", torch.relu(naive_norm(w, "output_layer.0", h)))
    )
    return image, layers


def naive_discriminator(w, images, depth):
    h, kept = images.double(), []
    for i in range(2 * depth):
        name, up = f"blocks.{i}.0", i >= depth
        if i > depth:
            h = torch.cat([h, kept[2 * depth - 1 - i]], dim=1)
        inner = torch.relu(h) if i else h
        inner = naive_layer(w, f"{name}.conv1", double(inner) if up else inner)
        inner = naive_layer(w, f"{name}.conv2", torch.relu(inner))
        if up:
            h = inner + naive_layer(w, f"{name}.conv_sc", double(h))
        else:
            h = halve(inner) + halve(naive_layer(w, f"{name}.conv_sc", h))
            kept.append(h)
        if i == depth - 1:
            score = naive_layer(w, "linear_middle", torch.relu(h).sum(dim=(2, 3)))
    last = f"blocks.{2 * depth}"
    return score[:, 0], F.conv2d(h, w[f"{last}.weight"].double(), w[f"{last}.bias"].double())[:, 0]


@torch.no_grad()
def test_generator_equals_the_written_out_forward_pass(generator):
    z = torch.randn(5, 9)
    expected, _ = naive_generator(generator.state_dict(), z, blocks=3)
    close(generator(z), expected)
    assert generator(z).shape == (5, 3, 32, 32) and generator.resolution == 32
    assert generator(z).std() > 0.1  # a golden of zeros would say nothing


@torch.no_grad()
def test_discriminator_equals_the_written_out_forward_pass(discriminator):
    images = torch.randn(4, 3, 32, 32)
    score, maps = naive_discriminator(discriminator.state_dict(), images, depth=3)
    ours = discriminator.both(images)
    close(ours[0], score)
    close(ours[1], maps)
    assert torch.equal(discriminator(images), ours[0])
    assert ours[0].shape == (4,) and ours[1].shape == (4, 32, 32) and discriminator.resolution == 32


def test_keys_and_shapes_are_the_published_layout(generator, discriminator):
    shapes = {key: tuple(value.shape) for key, value in generator.state_dict().items()}
    layer = {"weight", "bias", "u0", "sv0"}
    norm = {"gain.0.weight", "gain.0.bias", "gain.2.weight", "bias.0.weight", "bias.0.bias", "bias.2.weight"}
    norm |= {"stored_mean", "stored_var"}
    block = {f"{conv}.{part}" for conv in ("conv1", "conv2", "conv_sc") for part in layer}
    block |= {f"{bn}.{part}" for bn in ("bn1", "bn2") for part in norm}
    expected = {f"linear.{part}" for part in layer} | {f"output_layer.2.{part}" for part in layer}
    expected |= {f"output_layer.0.{part}" for part in ("gain", "bias", "stored_mean", "stored_var")}
    assert set(shapes) == expected | {f"blocks.{i}.0.{part}" for i in range(3) for part in block}
    assert shapes["linear.weight"] == (12 * 16, 9) and shapes["linear.u0"] == (1, 12 * 16)
    assert shapes["blocks.1.0.conv1.weight"] == (8, 10, 3, 3) and shapes["blocks.1.0.conv1.sv0"] == (1,)
    assert shapes["blocks.1.0.conv_sc.weight"] == (8, 10, 1, 1) and shapes["blocks.1.0.conv_sc.u0"] == (1, 8)
    assert shapes["blocks.1.0.bn1.gain.0.weight"] == (7, 9) and shapes["blocks.1.0.bn1.gain.2.weight"] == (10, 7)
    assert shapes["blocks.1.0.bn2.bias.2.weight"] == (8, 7) and shapes["blocks.1.0.bn2.stored_var"] == (8,)
    assert shapes["output_layer.2.weight"] == (3, 6, 3, 3)

    shapes = {key: tuple(value.shape) for key, value in discriminator.state_dict().items()}
    expected = {f"blocks.{i}.0.{c}.{part}" for i in range(6) for c in ("conv1", "conv2", "conv_sc") for part in layer}
    expected |= {"blocks.6.weight", "blocks.6.bias"}
    assert set(shapes) == expected | {f"{name}.{part}" for name in ("linear", "linear_middle") for part in layer}
    assert shapes["blocks.0.0.conv1.weight"] == (6, 3, 3, 3) and shapes["linear_middle.weight"] == (1, 10)
    assert [shapes[f"blocks.{i}.0.conv1.weight"][:2] for i in (3, 4, 5)] == [(8, 10), (6, 16), (6, 12)]
    assert shapes["blocks.6.weight"] == (1, 6, 1, 1) and shapes["linear.weight"] == (1, 6)


def test_the_published_sizes_are_what_the_sizes_make():
    # 256 pixels, width 64; inputs of the way up as published: what comes from below and what is joined to it.
    with torch.device("meta"):
        generator = unetgan.Generator((1024, 1024, 512, 512, 256, 128, 64), latent=128).state_dict()
        discriminator = unetgan.Discriminator((64, 128, 256, 512, 512, 1024)).state_dict()
    assert generator["linear.weight"].shape == (16384, 128)
    assert generator["blocks.5.0.bn1.gain.2.weight"].shape == (128, 128)
    shapes = [tuple(discriminator[f"blocks.{i}.0.conv1.weight"].shape[:2]) for i in range(6, 12)]
    assert shapes == [(512, 1024), (512, 1024), (256, 1024), (128, 512), (64, 256), (64, 128)]
    assert unetgan.sizes(generator)["channels"] == [1024, 1024, 512, 512, 256, 128, 64]
    assert unetgan.sizes(discriminator) == {"channels": [64, 128, 256, 512, 512, 1024]}


def test_sizes_rebuild_both_networks(generator, discriminator):
    for network in (generator, discriminator):
        weights = network.state_dict()
        twin = type(network)(**unetgan.sizes(weights))
        twin.load_state_dict(weights)
        assert twin.channels == network.channels


def test_sizes_name_what_is_wrong(generator):
    weights = generator.state_dict()
    with pytest.raises(ValueError, match="no U-net GAN"):
        unetgan.sizes({"layer0.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="lacks blocks.1.0.conv2.weight"):
        unetgan.sizes({key: value for key, value in weights.items() if key != "blocks.1.0.conv2.weight"})
    with pytest.raises(ValueError, match=r"blocks.0.0.conv1.weight must have 4 dimensions, got shape \(3,\)"):
        unetgan.sizes({**weights, "blocks.0.0.conv1.weight": torch.zeros(3)})


@torch.no_grad()
def test_layers_are_the_convolutions_outputs_and_end_in_the_image(generator):
    flow, z = Flow(unetgan.Layers(generator)), torch.randn(5, 9)
    _, expected = naive_generator(generator.state_dict(), z, blocks=3)
    assert flow.n_layers == 8 and flow.layers == [1, 2, 3, 4, 5, 6, 7] and flow.latent == 9
    assert [flow.units(layer) for layer in range(1, 9)] == [12, 10, 10, 8, 8, 6, 6, 3]
    assert [flow.resolution(layer) for layer in range(1, 9)] == [4, 8, 8, 16, 16, 32, 32, 32]
    for layer, h in flow.record(z, range(1, 9)).items():
        close(h, expected[layer])
    assert (flow.record(z, [3])[3] < 0).any()  # pre-activations
    close(flow.generate(z), generator(z))


@torch.no_grad()
def test_a_state_resumes_from_every_layer(generator):
    flow, z = Flow(unetgan.Layers(generator), batch=2), torch.randn(5, 9)
    images = flow.generate(z)
    for layer in range(1, flow.n_layers):
        state = flow.state(z, layer)
        assert all(len(value) == 5 for value in state.extras.values())
        close(flow.resume(state), images)
        further = flow.advance(state, flow.n_layers - 1)
        close(flow.resume(further), images)


@torch.no_grad()
def test_an_edit_leaves_the_shortcut_alone(generator):
    flow, z = Flow(unetgan.Layers(generator)), torch.randn(3, 9)
    w = generator.state_dict()
    nothing = flow.record(z, [4], {3: torch.zeros_like})[4]
    _, layers = naive_generator(w, z, blocks=3)
    h = naive_layer(w, "blocks.0.0.conv_sc", double(layers[1]))  # all that is left of block 0
    inner = double(torch.relu(naive_norm(w, "blocks.1.0.bn1", h, z.double())))
    close(nothing, naive_layer(w, "blocks.1.0.conv1", inner))


@torch.no_grad()
def test_eval_does_not_depend_on_the_batch(generator, discriminator):
    z = torch.randn(32, 9)
    together = generator(z)
    scores, maps = discriminator.both(together)
    for size in (1, 7, 32):
        close(torch.cat([generator(part) for part in z.split(size)]), together)
        parts = [discriminator.both(part) for part in together.split(size)]
        close(torch.cat([score for score, _ in parts]), scores)
        close(torch.cat([values for _, values in parts]), maps)


def test_eval_changes_no_buffer_and_training_does(generator, discriminator):
    for network, given in ((generator, torch.randn(4, 9)), (discriminator, torch.randn(4, 3, 32, 32))):
        network = copy.deepcopy(network)
        run = getattr(network, "both", network)
        before = copy.deepcopy(network.state_dict())
        run(given)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        network.train()
        run(given)
        moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
        moving = {key for key in before if key.endswith((".u0", ".sv0", ".stored_mean", ".stored_var"))}
        unused = {"linear.u0", "linear.sv0"} if isinstance(network, unetgan.Discriminator) else set()
        # A single row has a single direction: its vector is 1 or -1 and stays so.
        assert moved | {"linear_middle.u0"} & moving == moving - unused


@torch.no_grad()
def test_the_stored_singular_value_is_never_read(generator):
    z, network = torch.randn(2, 9), copy.deepcopy(generator)
    for key, value in network.state_dict().items():
        if key.endswith("sv0"):
            value.fill_(1e6)
    assert torch.equal(network(z), generator(z))


def test_training_finds_the_largest_singular_value():
    torch.manual_seed(0)
    layer = unetgan_blocks.Spectral(6, 5, 3)
    layer.weight.data.normal_()
    for _ in range(200):
        layer(torch.zeros(1, 6, 4, 4))
    largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
    torch.testing.assert_close(layer.sv0[0], largest)
    torch.testing.assert_close(torch.linalg.matrix_norm(layer.normalised().detach().flatten(1), 2), torch.tensor(1.0))


@torch.no_grad()
def test_standing_statistics_are_the_pooled_moments(generator):
    network, z = copy.deepcopy(generator), torch.randn(40, 9)
    assert unetgan.standing_statistics(network, z, batch=7) is network
    flow = Flow(unetgan.Layers(network))
    records = flow.record(z, range(1, 8))
    w = network.state_dict()
    h = records[1]
    for i in range(3):
        checks = [(f"blocks.{i}.0.bn1", h), (f"blocks.{i}.0.bn2", records[2 * i + 2])]
        shortcut = naive_layer(w, f"blocks.{i}.0.conv_sc", double(h.double()))
        h = (records[2 * i + 3] + shortcut).float()
        for name, x in checks + ([("output_layer.0", h)] if i == 2 else []):
            values = x.transpose(0, 1).flatten(1)
            close(w[f"{name}.stored_mean"], values.mean(1))
            close(w[f"{name}.stored_var"], values.var(1))
    twin = unetgan.standing_statistics(copy.deepcopy(generator), z, batch=40)
    for key, value in twin.state_dict().items():
        close(value, w[key])
    # Where one batch holds all latents, training mode sees the same moments.
    torch.testing.assert_close(twin.train()(z), flow.generate(z), rtol=0, atol=1e-2)


def test_standing_statistics_refuse_other_latents(generator):
    for shape in ((10, 8), (1, 9), (9,)):
        with pytest.raises(ValueError, match=r"latents must have shape \(N, 9\)"):
            unetgan.standing_statistics(generator, torch.zeros(shape))


def test_networks_run_on_every_device(device, generator, discriminator):
    z = torch.randn(3, 9)
    images = copy.deepcopy(generator).to(device)(z.to(device))
    close(images.cpu(), generator(z))
    scores, maps = copy.deepcopy(discriminator).to(device).both(images)
    expected = discriminator.both(generator(z))
    torch.testing.assert_close(scores.cpu(), expected[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(maps.cpu(), expected[1], rtol=1e-3, atol=1e-3)


def test_cutmix_pastes_boxes():
    torch.manual_seed(0)
    real, fake = torch.ones(400, 3, 16, 16), torch.zeros(400, 3, 16, 16)
    mixed, mask = train_unetgan.cutmix(real, fake)
    assert torch.equal(mixed[:, 0], mask.float()) and torch.equal(mixed[:, 0], mixed[:, 2])
    for one in mask[:50]:
        box = one if one.float().mean() == (one.any(1).float().mean() * one.any(0).float().mean()) else ~one
        assert torch.equal(box, box.any(1)[:, None] & box.any(0)[None])
    shares = mask.float().mean((1, 2))
    assert 0.45 < shares.mean() < 0.55 and shares.min() < 0.1 and shares.max() > 0.9


def test_training_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["", "--run", str(tmp_path), "--generator", "8,8,6", "--discriminator", "6,8",
                                     "--latent", "5", "--cutmix", "1", "--warmup", "0.001"])  # fmt: skip
    a = train_unetgan.arguments()
    real = [torch.rand(4, 3, 16, 16) * 2 - 1 for _ in range(6)]

    def start():
        torch.manual_seed(0)
        return train_unetgan.begun(a)

    whole, stopped = start(), start()
    torch.manual_seed(1)
    losses = [train_unetgan.train_step(whole, images, a) for images in real]
    torch.manual_seed(1)
    first = [train_unetgan.train_step(stopped, images, a) for images in real[:3]]
    train_unetgan.save(tmp_path / "checkpoint.pt", lambda path: torch.save(stopped.state(), path))
    resumed = start()
    resumed.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert first + [train_unetgan.train_step(resumed, images, a) for images in real[3:]] == losses
    for key, value in whole.average.state_dict().items():
        torch.testing.assert_close(value, resumed.average.state_dict()[key], rtol=0, atol=0)

    frozen = tmp_path / "generator.safetensors"
    train_unetgan.settle(resumed.average, 40)
    save_file(train_unetgan.contiguous(resumed.average), frozen)
    twin = unetgan.Generator(**unetgan.sizes(load_file(frozen))).eval()
    twin.load_state_dict(load_file(frozen))
    z = torch.randn(3, 5)
    close(twin(z), resumed.average(z))
