"""rosinality's StyleGAN2, loaded from its files, against the maths of its layout."""

import warnings

import pytest
import torch

from helpers import checkpoints
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import stylegan2
from tests import published_rosinality as published

SIZES = [((7, 6, 5), 8, 3), ((4, 9), 5, 1), ((5, 5, 6, 4), 8, 8)]


def near(found, expected):
    return bool((found.double() - expected).abs().max() <= 1e-4 * expected.abs().max())


@pytest.fixture
def save(tmp_path):
    def store(contents, **options):
        torch.save(contents, tmp_path / "weights.pt", **options)
        return tmp_path / "weights.pt"

    return store


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("file", [published.converted, published.trained], ids=["converted", "trained"])
def test_both_writers_files_draw_their_average(save, file, zipped):
    file, z = file(), torch.randn(5, 8)
    flow = checkpoints.load_generator(save(file, _use_new_zipfile_serialization=zipped))
    expected = published.images(file["g_ema"], published.styles(file["g_ema"], z))
    assert near(flow.generate(z), expected)
    assert not near(flow.generate(z), published.images(file["g"], published.styles(file["g"], z)))
    assert flow.origin == "weights.pt: StyleGAN2, rosinality layout, g_ema (moving average of the weights)"
    assert [flow.units(layer) for layer in range(1, 7)] == [7, 6, 6, 5, 5, 3]


@pytest.mark.parametrize(("channels", "style", "mapping"), SIZES)
def test_sizes_are_inferred(save, channels, style, mapping):
    state, z = published.generator(channels, style, mapping), torch.randn(3, style)
    flow = checkpoints.load_generator(save({"g_ema": state, "latent_avg": torch.zeros(style)}))
    assert near(flow.generate(z), published.images(state, published.styles(state, z)))
    assert flow.latent == style and len(flow.network.generator.mapping.state_dict()) == 2 * mapping + 1


@pytest.mark.parametrize("truncation", [0.7, 0.0])
def test_truncation_is_about_the_mean_style_of_the_file_or_of_some_thousand_latents(save, truncation):
    file, z = published.converted(), torch.randn(3, 8)
    own = published.styles(file["g_ema"], latents(range(4096), 8)).mean(dim=0)
    for held, centre in ((file, file["latent_avg"].double()), ({"g_ema": file["g_ema"]}, own)):
        generator = checkpoints.load_generator(save(held)).network.generator
        w = centre + truncation * (published.styles(file["g_ema"], z) - centre)
        drawn = Flow(stylegan2.Layers(generator, truncation)).generate(z)
        assert near(drawn, published.images(file["g_ema"], w))


def test_the_mean_style_may_lie_among_the_tensors_or_be_repeated_for_each_layer(save):
    file, z = published.converted(), torch.randn(3, 8)
    expected = checkpoints.load_generator(save(file)).network.generator
    for held in (
        file["g_ema"] | {"latent_avg": file["latent_avg"]},
        {"g_ema": file["g_ema"], "latent_avg": file["latent_avg"][None]},
        {
            "state_dict": {f"decoder.{k}": v for k, v in file["g_ema"].items()},
            "latent_avg": file["latent_avg"].repeat(5, 1),
        },
    ):
        generator = checkpoints.load_generator(save(held)).network.generator
        assert torch.equal(generator.mapping.w_avg, expected.mapping.w_avg)
        assert torch.equal(Flow(stylegan2.Layers(generator, 0.5)).generate(z),
                           Flow(stylegan2.Layers(expected, 0.5)).generate(z))  # fmt: skip
    with pytest.raises(ValueError, match=r"latent_avg of shape \(2, 8\) instead of \(8,\)"):
        checkpoints.load_generator(save(file | {"latent_avg": torch.randn(2, 8)}))


def test_noise_that_a_file_lacks_is_drawn_once_and_this_is_said(save):
    state, z = published.generator(noises=False), torch.randn(3, 8)
    path = save({"g_ema": state, "latent_avg": torch.zeros(8)})
    with pytest.warns(UserWarning, match="weights.pt has no noise maps: .* here they are drawn once"):
        flow = checkpoints.load_generator(path)
    held = flow.network.generator.synthesis
    noises = [getattr(getattr(held, f"b{4 * 2 ** ((k + 1) // 2)}"), f"conv{1 - k % 2}").noise_const for k in range(5)]
    assert all(noise.std() > 0.5 and noise.shape[0] == 4 * 2 ** ((k + 1) // 2) for k, noise in enumerate(noises))
    assert near(flow.generate(z), published.images(state, published.styles(state, z), noises))
    with pytest.warns(UserWarning, match="no noise maps"):
        again = checkpoints.load_generator(path)
    assert near(again.generate(z[1:]), flow.generate(z)[1:].double())


def test_weak_styles_are_demodulated_as_the_layout_does(save):
    """Its epsilon is added to weights that are scaled: where styles are weak, the same weights draw another image."""
    state, z = published.generator(), torch.randn(3, 8)
    for key in state:
        if "modulation" in key and "to_rgb" not in key:
            state[key] = state[key] * 1e-3
    flow = checkpoints.load_generator(save({"g_ema": state, "latent_avg": torch.zeros(8)}))
    assert near(flow.generate(z), published.images(state, published.styles(state, z)))
    other = stylegan2.Generator((7, 6, 5), 8, 8, 3)
    other.load_state_dict(flow.network.generator.state_dict())
    assert not near(other(z).detach(), published.images(state, published.styles(state, z)))


@pytest.mark.parametrize("channels", [(7, 6, 5), (4, 9), (5, 5, 6, 4)])
def test_d_values(save, channels):
    file, size = published.converted(channels), 4 * 2 ** (len(channels) - 1)
    discriminator = checkpoints.load_discriminator(save(file))
    assert discriminator.origin == "weights.pt: StyleGAN2, rosinality layout, d" and discriminator.group == 4
    for batch in (1, 2, 3, 4, 8):
        pictures = torch.randn(batch, 3, size, size)
        assert near(discriminator(pictures), published.scores(file["d"], pictures)), batch
    with pytest.raises(ValueError, match="a batch of 6 images cannot be split into groups of 4"):
        discriminator(torch.randn(6, 3, size, size))


def test_where_only_the_raw_generator_is_there_it_is_said(save):
    file, z = published.trained(), torch.randn(3, 8)
    del file["g_ema"]
    with pytest.warns(UserWarning, match="no moving average: loaded the raw g, whose images are worse"):
        flow = checkpoints.load_generator(save(file))
    assert near(flow.generate(z), published.images(file["g"], published.styles(file["g"], z)))


@pytest.mark.parametrize("key", ["iwt.ll", "to_rgbs.0.iwt.ll", "to_rgbs.0.dwt.hh"])
def test_swagan_is_refused(save, key):
    with pytest.raises(ValueError, match=f"weights.pt is a SWAGAN .{key}., which draws wavelets"):
        checkpoints.load_generator(save({"g_ema": published.generator() | {key: torch.zeros(2, 2)}}))
    with pytest.raises(ValueError, match="weights.pt is a SWAGAN .dwt.ll."):
        checkpoints.load_discriminator(save({"d": published.discriminator() | {"dwt.ll": torch.zeros(2, 2)}}))


def test_another_filter_is_refused(save):
    box = torch.ones(2, 2) / 4
    with pytest.raises(
        ValueError, match=r"resamples by another filter .to_rgbs.0.upsample.kernel. than \[1, 3, 3, 1\]"
    ):
        checkpoints.load_generator(save({"g_ema": published.generator() | {"to_rgbs.0.upsample.kernel": box}}))
    with pytest.raises(ValueError, match="resamples by another filter .convs.1.skip.0.kernel"):
        other = published.discriminator() | {"convs.1.skip.0.kernel": torch.eye(4) / 4}
        checkpoints.load_discriminator(save({"d": other}))


def variants():
    yield checkpoints.load_generator, "g_ema", published.generator()
    yield checkpoints.load_discriminator, "d", published.discriminator()


def test_every_missing_key_is_named(save):
    tried = 0
    for load, part, state in variants():
        for key in [key for key in state if not key.endswith("kernel")]:
            with pytest.raises(ValueError, match=rf"^weights.pt .*lacks .*{key}"):
                load(save({part: {name: value for name, value in state.items() if name != key}}))
            tried += 1
    assert tried > 65


def test_an_unknown_key_is_named(save):
    for load, part, state in variants():
        with pytest.raises(ValueError, match="has an unknown extra.weight"):
            load(save({part: state | {"extra.weight": torch.zeros(2)}}))


def test_a_wrong_shape_is_named(save):
    for load, part, state in variants():
        for key in [key for key in state if not key.endswith("kernel")]:
            with warnings.catch_warnings(), pytest.raises(ValueError, match="^weights.pt .*of shape") as caught:
                warnings.simplefilter("ignore")
                load(save({part: state | {key: torch.zeros(3, 2, 7)}}))
            assert key in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"latent_avg of shape \(5,\) instead of \(8,\)"):
        checkpoints.load_generator(save({"g_ema": published.generator(), "latent_avg": torch.zeros(5)}))
