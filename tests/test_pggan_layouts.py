"""Every published PGGAN layout, loaded from a file, against its own maths written out in `published`."""

import pickle

import pytest
import torch

from helpers import checkpoints
from helpers.networks import pggan
from helpers.weights import pggan_layouts
from helpers.weights.layout import recognise
from tests import published
from tests.rounding import near

SIZES = [((7,), 4), ((5, 5), 5), ((7, 6, 5), 9), ((4, 8, 3, 6), 3)]


def images(channels, n=4):
    return torch.randn(n, 3, 4 * 2 ** (len(channels) - 1), 4 * 2 ** (len(channels) - 1))


@pytest.fixture
def save(tmp_path):
    """Return a function that stores what a file holds and gives its path: torch's format, or a pickle."""

    def store(contents, name="weights.pth", config=None):
        if name.endswith(".pkl"):
            with published.pretended("tfutil.Network") as (network,):
                contents = tuple(tensorflow_network(network, state) for state in contents)
                (tmp_path / name).write_bytes(pickle.dumps(contents))
        elif config is None:
            torch.save(contents, tmp_path / name)
        else:
            with published.pretended("models.utils.config.BaseConfig") as (base,):
                settings = base()
                settings.__dict__.update(config)
                torch.save({"config": settings} | contents, tmp_path / name)
        return tmp_path / name

    return store


def tensorflow_network(network, state):
    made = network()
    made.__dict__.update(state)
    return made


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# Value by value


@pytest.mark.parametrize(("channels", "latent"), SIZES)
def test_genforce(save, channels, latent):
    file = published.genforce_file(channels, latent)
    z, real, path = torch.randn(5, latent), images(channels), save(file)
    flow = checkpoints.load_generator(path)
    assert near(flow.generate(z), published.genforce_images(file["generator_smooth"], z))
    assert not near(flow.generate(z), published.genforce_images(file["generator"], z))
    discriminator = checkpoints.load_discriminator(path)
    assert discriminator.group == 16
    assert near(discriminator(real), published.genforce_scores(file["discriminator"], real))
    many = images(channels, 32)
    assert near(discriminator(many), published.genforce_scores(file["discriminator"], many))
    assert near(
        checkpoints.load_discriminator(path, group=4)(many), published.genforce_scores(file["discriminator"], many, 4)
    )
    with pytest.raises(ValueError, match="a batch of 20 images cannot be split into groups of 16"):
        discriminator(images(channels, 20))


def test_the_dense_layer_may_be_wider(save):
    file, real = published.genforce_file((6, 5), dense=11), images((6, 5))
    discriminator = checkpoints.load_discriminator(save(file))
    assert near(discriminator(real), published.genforce_scores(file["discriminator"], real))


@pytest.mark.parametrize(("channels", "latent"), SIZES)
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_dissection(save, channels, latent, old, wrapped):
    file = published.dissection_file(channels, latent, old)
    z = torch.randn(5, latent)
    flow = checkpoints.load_generator(save({"state_dict": file, "epoch": 3} if wrapped else file))
    assert near(flow.generate(z), published.dissection_images(file, z))
    assert [flow.units(layer) for layer in flow.layers] == [units for units in channels for _ in range(2)]


def test_old_dissection_files_may_hold_their_scale(save):
    file = published.dissection_file(old=True)
    more = {key.replace("wscale.b", "wscale.scale"): torch.ones(()) for key in file if key.endswith("wscale.b")}
    z = torch.randn(5, 9)
    assert near(checkpoints.load_generator(save(file | more)).generate(z), published.dissection_images(file, z))


@pytest.mark.parametrize(("channels", "latent"), SIZES)
@pytest.mark.parametrize("fused", [False, True])
def test_tensorflow(save, channels, latent, fused):
    file = published.tensorflow_file(channels, latent, fused, mbstd_group_size=2)
    z, real, path = torch.randn(5, latent), images(channels), save(file, "weights.pkl")
    flow = checkpoints.load_generator(path)
    assert near(flow.generate(z), published.tensorflow_images(file[2], z))
    assert not near(flow.generate(z), published.tensorflow_images(file[0], z))
    discriminator = checkpoints.load_discriminator(path)
    assert discriminator.group == 2
    assert near(discriminator(real), published.tensorflow_scores(file[1], real, 2))


def test_tensorflow_settings(save):
    z, real = torch.randn(5, 9), images((7, 6, 5))
    plain = published.tensorflow_file(scaled=False)  # weights that are not scaled at run time
    path = save(plain, "weights.pkl")
    assert near(checkpoints.load_generator(path).generate(z), published.tensorflow_images(plain[2], z))
    discriminator = checkpoints.load_discriminator(path)
    assert discriminator.group == 4 and near(discriminator(real), published.tensorflow_scores(plain[1], real))
    without = published.tensorflow_file(mbstd_group_size=0)
    discriminator, odd = checkpoints.load_discriminator(save(without, "weights.pkl")), images((7, 6, 5), 5)
    assert near(discriminator(odd), published.tensorflow_scores(without[1], odd, 0))
    classes = published.tensorflow_file(labels=3)
    discriminator = checkpoints.load_discriminator(save(classes, "weights.pkl"))
    assert near(discriminator(real), published.tensorflow_scores(classes[1], real))


@pytest.mark.parametrize("setting", [("label_size", 3), ("use_pixelnorm", False), ("use_leakyrelu", False)])
def test_tensorflow_settings_that_change_the_numbers_are_refused(save, setting):
    name, value = setting
    file = published.tensorflow_file(**({"labels": value} if name == "label_size" else {name: value}))
    with pytest.raises(ValueError, match=f"weights.pkl was made with {name} = {value}, which is not supported"):
        checkpoints.load_generator(save(file, "weights.pkl"))


CONFIG = {
    "leakyReluLeak": 0.2,
    "perChannelNormalization": True,
    "equalizedlR": True,
    "lossCriterion": "WGANGP",
    "alpha": 0,
    "depthOtherScales": [5, 6],
}


@pytest.mark.parametrize(("channels", "latent"), SIZES)
@pytest.mark.parametrize("module", [".module", ""])
def test_zoo(save, channels, latent, module):
    file = published.zoo_file(channels, latent, module=module)
    z, path = torch.randn(5, latent), save(file, config=CONFIG)
    flow = checkpoints.load_generator(path)
    assert near(flow.generate(z), published.zoo_images(file["avgG"], z))
    assert not near(flow.generate(z), published.zoo_images(file["netG"], z))
    today, before = (checkpoints.load_discriminator(path, grouping=rule) for rule in (None, "before 2019-07"))
    for batch in (1, 2, 3, 4, 6, 8, 12):  # groups of four, or the whole batch; one image has deviation 0
        real = images(channels, batch)
        assert near(today(real), published.zoo_scores(file["netD"], real)), batch
        assert near(before(real), published.zoo_scores(file["netD"], real, crossed=True)), batch
        assert near(today(real), before(real)) == (batch < 8), batch


def test_only_zoo_discriminators_group_in_two_ways(save):
    path = save(published.zoo_file())
    with pytest.raises(ValueError, match="grouping must be 'before 2019-07' or None for today's, got '2018'"):
        checkpoints.load_discriminator(path, grouping="2018")
    for file in (published.genforce_file(), published.zoo_file(deviation=False)):
        with pytest.raises(ValueError, match="has one way of grouping images only .*: leave grouping out"):
            checkpoints.load_discriminator(save(file), grouping="before 2019-07")


def test_zoo_networks_with_classes_or_without_deviation(save):
    real = images((7, 6, 5), 5)
    for file in (published.zoo_file(classes=4), published.zoo_file(deviation=False)):
        discriminator = checkpoints.load_discriminator(save(file, config=CONFIG))
        assert near(discriminator(real), published.zoo_scores(file["netD"], real))


@torch.no_grad()
def test_a_zoo_discriminator_scores_images_in_chosen_company(save):
    path, real, company = save(published.zoo_file()), images((7, 6, 5)), images((7, 6, 5), 3)
    discriminator, before = (checkpoints.load_discriminator(path, grouping=rule) for rule in (None, "before 2019-07"))
    alone = torch.cat([discriminator(image[None], group=1) for image in real])
    torch.testing.assert_close(discriminator(real, group=1), alone)
    each = [discriminator(torch.cat([image[None], company]))[0] for image in real]
    strided = torch.cat([real, *(c.expand_as(real) for c in company)])
    torch.testing.assert_close(before(strided, group=4)[:4], torch.stack(each))
    following = torch.cat([part for image in real for part in (image[None], company)])
    torch.testing.assert_close(discriminator(following, group=4)[::4], torch.stack(each))
    assert discriminator.consecutive and not before.consecutive


@pytest.mark.parametrize("setting", [("leakyReluLeak", 0.1), ("equalizedlR", False), ("lossCriterion", "MSE")])
def test_zoo_settings_that_change_the_numbers_are_refused(save, setting):
    name, value = setting
    with pytest.raises(ValueError, match=f"weights.pth was made with {name} = {value!r}, which is not supported"):
        checkpoints.load_generator(save(published.zoo_file(), config=CONFIG | {name: value}))


# Keys: each layout's own are named


def variants(save):
    """(loader, contents of one network, function that stores them) for every layout."""
    genforce, zoo = published.genforce_file(), published.zoo_file()
    tensorflow = published.tensorflow_file()
    for part, load in (
        ("generator_smooth", checkpoints.load_generator),
        ("discriminator", checkpoints.load_discriminator),
    ):
        yield load, genforce[part], lambda weights, part=part: save({part: weights})
    for old in (False, True):
        yield checkpoints.load_generator, published.dissection_file(old=old), save
    for part, load in (("avgG", checkpoints.load_generator), ("netD", checkpoints.load_discriminator)):
        yield load, zoo[part], lambda weights, part=part: save({part: weights}, config=CONFIG)
    for i, load in ((2, checkpoints.load_generator), (1, checkpoints.load_discriminator)):

        def store(weights, i=i):
            changed = [*tensorflow]
            changed[i] = tensorflow[i] | {"variables": [(key, value) for key, value in weights.items()]}
            return save(changed, "weights.pkl")

        yield load, dict(tensorflow[i]["variables"]), store


def test_every_missing_key_is_named_as_the_file_has_it(save):
    tried = 0
    for load, weights, store in variants(save):
        for key in weights.keys() - {"lod"}:
            with pytest.raises(ValueError, match=r"^weights\.p\w+ .*lacks [^;]*") as caught:
                load(store({name: value for name, value in weights.items() if name != key}))
            assert key in str(caught.value), (key, str(caught.value))
            tried += 1
    assert tried > 120


def test_an_unknown_key_is_named(save):
    for load, weights, store in variants(save):
        first = next(key for key in weights if key != "lod")
        more = weights | {f"extra.{first}": torch.zeros(2).numpy() if "/" in first else torch.zeros(2)}
        with pytest.raises(ValueError, match=f"has an unknown extra.{first}"):
            load(store(more))


def test_a_wrong_shape_is_named(save):
    for load, weights, store in variants(save):
        for key in weights.keys() - {"lod"}:
            wrong = weights | {key: torch.zeros(3, 2, 7).numpy() if "/" in key else torch.zeros(3, 2, 7)}
            with pytest.raises(ValueError, match=r"^weights\.p\w+ ") as caught:
                load(store(wrong))
            there = key.rpartition("/" if "/" in key else ".")[0].removesuffix(".conv").removesuffix(".wscale")
            assert there.removesuffix(".module") in str(caught.value) and "shape" in str(caught.value), (
                key,
                caught.value,
            )


def test_a_resolution_that_is_no_power_of_two_is_refused(save):
    file = published.dissection_file()
    file = {key.replace("16x16", "24x24"): value for key, value in file.items()}
    with pytest.raises(ValueError, match="weights.pth has a resolution of 24 px, which is not a power of two"):
        checkpoints.load_generator(save(file))
    file = published.tensorflow_file(resolution=100)
    with pytest.raises(ValueError, match="weights.pkl has a resolution of 100 px, which is not a power of two"):
        checkpoints.load_generator(save(file, "weights.pkl"))
    renamed = [(key.replace("16x16", "12x12"), value) for key, value in published.tensorflow_file()[2]["variables"]]
    broken = (*published.tensorflow_file()[:2], published.tensorflow_file()[2] | {"variables": renamed})
    with pytest.raises(ValueError, match="weights.pkl has a resolution of 12 px"):
        checkpoints.load_generator(save(broken, "weights.pkl"))


def test_what_is_none_of_these_is_not_recognised():
    assert recognise(pggan_layouts.LAYOUTS, {"conv1.weight": torch.zeros(3, 3)}, {}, "x") is None
    assert recognise(pggan_layouts.LAYOUTS, {}, {}, "x") is None


def test_the_discriminators_deviation_is_kept_when_it_is_moved(save):
    discriminator = checkpoints.load_discriminator(save(published.zoo_file(), config=CONFIG))
    again = pickle.loads(pickle.dumps(discriminator))
    assert again.deviation is pggan.unbiased_deviation
    real = images((7, 6, 5))
    assert torch.equal(again(real), discriminator(real))
