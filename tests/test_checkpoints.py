import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from helpers import checkpoints
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from tests import published


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


def test_networks_of_grey_images(stored):
    generator, discriminator = pggan.Generator((6, 5), 4, colours=1), pggan.Discriminator((6, 5), colours=1)
    flow, z = checkpoints.load_generator(stored(weights(generator))), latents(range(4), 4)
    assert torch.equal(flow.generate(z), Flow(pggan.Layers(generator)).generate(z)) and flow.units(flow.n_layers) == 1
    loaded, images = checkpoints.load_discriminator(stored(weights(discriminator))), torch.randn(4, 1, 8, 8)
    assert torch.equal(loaded(images), discriminator(images).detach())
    four = weights(generator) | {"output1.weight": torch.zeros(4, 5, 1, 1), "output1.bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"output1.weight of shape \(4, 5, 1, 1\): images of 1 or 3 channels"):
        checkpoints.load_generator(stored(four))


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


@pytest.mark.parametrize("keep", [5, 100, 0.5, 0.99])
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
        with pytest.raises(FileNotFoundError, match="there is no weight file"):
            load(tmp_path)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"


@pytest.mark.parametrize("name", ["w.pth", "w.pkl", "w.safetensors", "w"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: fetch it again"),
        (LFS, "is a Git LFS pointer, not the weights: run `git lfs pull`"),
        (b"<!DOCTYPE html>\n<html><head><title>Google Drive - Virus scan", "is a web page, not the weights"),
        (b"\n  <HTML><body>404", "is a web page, not the weights"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "is a web page, not the weights"),
    ],
)
def test_what_is_fetched_instead_of_weights_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    for load in (checkpoints.load_generator, checkpoints.load_discriminator):
        with pytest.raises(ValueError, match=f"^{name} {said}"):
            load(tmp_path / name)


@pytest.mark.parametrize(
    "content", [b"PNG", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\x1f\x8b" + bytes(50), b"(dp0\n.", bytes(99)]
)
def test_other_formats_are_refused_with_what_is_allowed(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match="^w.pth is no weight file: allowed are .safetensors, .pth of .*, and .pkl of"):
        checkpoints.load_generator(tmp_path / "w.pth")


@pytest.mark.parametrize("keep", [10, 100, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_a_truncated_published_file_is_refused(tmp_path, form, keep):
    path = written(tmp_path, published.genforce_file(), form)
    checkpoints.load_generator(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="^w is truncated or damaged .*: fetch it again$"):
        checkpoints.load_generator(path)


# Published files


def written(tmp_path, contents, form="zip"):
    """Store contents in one of the formats, under a name that says nothing."""
    if form == "pickle":
        (tmp_path / "w").write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, tmp_path / "w", _use_new_zipfile_serialization=form == "zip")
    return tmp_path / "w"


@pytest.mark.parametrize("name", ["w.safetensors", "w.pkl", "w.pth", "w.bin", "w"])
@pytest.mark.parametrize("form", ["safetensors", "zip", "old", "pickle"])
def test_content_decides_not_the_name(tmp_path, generator, form, name):
    if form == "safetensors":
        save_file(weights(generator), tmp_path / "w")
    else:
        written(tmp_path, {"generator_smooth": weights(generator)}, form)
    flow = checkpoints.load_generator((tmp_path / "w").rename(tmp_path / name))
    z = latents(range(3), 9)
    assert torch.equal(flow.generate(z), Flow(pggan.Layers(generator)).generate(z))


PARTS = {
    "genforce": ("generator_smooth", "generator", "discriminator", published.genforce_file()),
    "zoo": ("avgG", "netG", "netD", published.zoo_file()),
}


@pytest.mark.parametrize("layout", PARTS)
@pytest.mark.parametrize("wrapper", [None, "models"])
def test_the_moving_average_is_taken_and_said(tmp_path, layout, wrapper):
    averaged, raw, _, file = PARTS[layout]
    path = written(tmp_path, {wrapper: file, "epoch": 3} if wrapper else file)
    flow = checkpoints.load_generator(path)
    assert flow.origin.startswith("w: PGGAN, G")
    assert flow.origin.endswith(f" layout, {averaged} (moving average of the weights)")
    z = latents(range(3), 9)
    only = checkpoints.load_generator(written(tmp_path, {averaged: file[averaged]}))
    assert torch.equal(flow.generate(z), only.generate(z))


@pytest.mark.parametrize("layout", PARTS)
def test_where_only_the_raw_generator_is_there_it_is_said(tmp_path, layout):
    averaged, raw, scores, file = PARTS[layout]
    path = written(tmp_path, {raw: file[raw], scores: file[scores]})
    with pytest.warns(UserWarning, match=f"^w has no moving average: loaded the raw {raw}, whose images are worse"):
        flow = checkpoints.load_generator(path)
    assert flow.origin.endswith(f"{raw} (raw weights, the file has no moving average)")
    assert checkpoints.load_discriminator(path).origin.endswith(f" layout, {scores}")


def test_where_the_file_does_not_say_that_is_said(tmp_path, stored, generator, discriminator):
    flow = checkpoints.load_generator(written(tmp_path, published.dissection_file()))
    assert flow.origin == "w: PGGAN, GAN Dissection layout (the file does not say whether it is a moving average)"
    assert "does not say" in checkpoints.load_generator(stored(weights(generator))).origin
    assert (
        checkpoints.load_discriminator(stored(weights(discriminator))).origin
        == "weights.safetensors: PGGAN, GenForce layout"
    )


@pytest.mark.parametrize("layout", PARTS)
def test_a_network_that_the_file_lacks_is_named(tmp_path, layout):
    averaged, raw, scores, file = PARTS[layout]
    with pytest.raises(ValueError, match=f"w holds no discriminator, only {averaged} and {raw}"):
        checkpoints.load_discriminator(written(tmp_path, {averaged: file[averaged], raw: file[raw]}))
    with pytest.raises(ValueError, match=f"w holds no generator, only {scores}"):
        checkpoints.load_generator(written(tmp_path, {scores: file[scores]}))


def test_a_network_under_the_wrong_name_is_named(tmp_path):
    _, _, scores, file = PARTS["genforce"]
    with pytest.raises(ValueError, match="w holds a discriminator: load it with load_discriminator"):
        checkpoints.load_generator(written(tmp_path, {"generator_smooth": file[scores]}))
    with pytest.raises(ValueError, match="w holds a generator: load it with load_generator"):
        checkpoints.load_discriminator(written(tmp_path, published.dissection_file()))


@pytest.mark.parametrize("layout", PARTS)
def test_half_precision_becomes_float32(tmp_path, layout):
    averaged, _, scores, file = PARTS[layout]
    half = {part: {key: value.half() for key, value in file[part].items()} for part in (averaged, scores)}
    back = {part: {key: value.float() for key, value in half[part].items()} for part in half}
    z, images = latents(range(3), 9), torch.randn(4, 3, 16, 16)
    flow, other = (checkpoints.load_generator(written(tmp_path, contents)) for contents in (half, back))
    assert torch.equal(flow.generate(z), other.generate(z))
    assert all(value.dtype == torch.float32 for value in flow.network.state_dict().values())
    assert torch.equal(*(checkpoints.load_discriminator(written(tmp_path, c))(images) for c in (half, back)))


@pytest.mark.parametrize("layout", PARTS)
def test_published_weights_that_are_not_finite_are_refused(tmp_path, layout):
    averaged, raw, _, file = PARTS[layout]
    key = next(key for key in file[averaged] if key.endswith("weight"))
    broken = {part: dict(state) for part, state in file.items()}
    broken[averaged][key] = file[averaged][key] * float("nan")
    with pytest.raises(ValueError, match=f"w has values in {key} that are not finite"):
        checkpoints.load_generator(written(tmp_path, broken))
    broken = {part: dict(state) for part, state in file.items()}
    broken[raw][key] = file[raw][key] * float("inf")  # a part that is not wanted
    checkpoints.load_generator(written(tmp_path, broken))


@pytest.mark.parametrize(
    "contents", [[1, 2], {"epoch": 3}, "text", torch.zeros(3), {"generator_smooth": {}}, (1, 2, 3), None]
)
@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_files_without_a_known_network_are_refused(tmp_path, contents, form):
    with pytest.raises(
        ValueError, match="^w is no progressive GAN, StyleGAN2 or U-net GAN that is known: it has no tensors"
    ):
        checkpoints.load_generator(written(tmp_path, contents, form))


def test_the_group_is_the_layouts_own_unless_given(tmp_path, stored, discriminator):
    own = stored(weights(discriminator))
    assert checkpoints.load_discriminator(own).group == 4
    assert checkpoints.load_discriminator(written(tmp_path, PARTS["genforce"][3])).group == 16
    assert checkpoints.load_discriminator(written(tmp_path, weights(discriminator))).group == 16
    for path in (own, written(tmp_path, PARTS["zoo"][3]), written(tmp_path, PARTS["genforce"][3])):
        assert checkpoints.load_discriminator(path, group=2).group == 2


def test_our_trainers_checkpoints_load(tmp_path, generator, discriminator):
    """They hold what a training needs to go on; the average of the weights is what it is for."""
    networks = {"generator": weights(pggan.Generator((12, 10, 8), latent=9)), "average": weights(generator)}
    path = written(
        tmp_path, networks | {"discriminator": weights(discriminator), "seen": 3, "rng": torch.get_rng_state()}
    )
    flow, loaded = checkpoints.load_generator(path), checkpoints.load_discriminator(path)
    assert flow.origin == "w: PGGAN, GenForce layout, average (moving average of the weights)" and loaded.group == 4
    assert torch.equal(
        flow.generate(latents(range(3), 9)), Flow(pggan.Layers(generator)).generate(latents(range(3), 9))
    )


def test_loading_draws_no_random_numbers(stored, generator):
    path = stored(weights(generator))
    before = torch.get_rng_state()
    checkpoints.load_generator(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaded_flow_pickles_with_its_origin(tmp_path):
    flow = checkpoints.load_generator(written(tmp_path, PARTS["zoo"][3]))
    again = pickle.loads(pickle.dumps(flow))
    z = latents(range(3), 9)
    assert again.origin == flow.origin and torch.equal(again.generate(z), flow.generate(z))
