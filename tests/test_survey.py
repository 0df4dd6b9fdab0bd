import builtins
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from helpers import survey
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from tests.networks import Canvas, tiny_generator
from tests.rounding import close

LAYERS = range(1, 7)
REDUCTIONS = {
    "max": lambda h: h.max(axis=(2, 3)),
    "mean": lambda h: h.mean(axis=(2, 3)),
    "norm": lambda h: np.sqrt((h.astype(np.float64) ** 2).sum(axis=(2, 3))),
}


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()), batch=8)


@pytest.fixture(scope="module")
def z():
    return latents(range(70), 9)


def canvas(activations, batch=8):
    """Return (flow, z) such that layer 1 is `activations` (N, U, H, H)."""
    return Flow(Canvas(*activations.shape[1:3]), batch), activations.flatten(1)


def pooled(flow, z, layer):
    """All activations of each unit at once: (U, N * H * W) in float64."""
    return flow.record(z, [layer])[layer].transpose(0, 1).flatten(1).double()


# Thresholds


@pytest.mark.parametrize("n", [1, 2, 20, 70])
@pytest.mark.parametrize("tau", [0.005, 0.05, 0.3, 0.5, 0.995])
def test_thresholds_are_the_quantile_of_everything_at_once(flow, z, tau, n):
    found = survey.thresholds(flow, z[:n], tau)
    assert list(found) == list(LAYERS)
    for layer in LAYERS:
        everything = pooled(flow, z[:n], layer)
        expected = torch.quantile(everything, 1 - tau, dim=1)
        torch.testing.assert_close(found[layer].double(), expected, rtol=1e-6, atol=1e-7)
        share = (everything > found[layer].double()[:, None]).double().mean(dim=1)
        assert (share - tau).abs().max() <= 1 / everything.shape[1] + 1e-12


def test_thresholds_of_a_long_survey_in_small_batches(flow):
    z = latents(range(1000, 1400), 9)  # long enough for most activations to be discarded on the way
    found = survey.thresholds(Flow(flow.network, 7), z, 0.005)
    for layer in LAYERS:
        expected = torch.quantile(pooled(flow, z, layer), 0.995, dim=1)
        torch.testing.assert_close(found[layer].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tau", [0.005, 0.1, 0.4, 0.9])
def test_thresholds_among_ties_negatives_and_huge_values(tau):
    g = torch.Generator().manual_seed(1)
    h = torch.randint(-2, 3, (60, 4, 4, 4), generator=g).float()  # hardly anything but ties
    h[:, 1] -= 100  # nowhere positive
    h[:, 2] *= 1e30
    h[:, 3] = torch.arange(60.0)[:, None, None]  # each batch larger than all before
    flow, z = canvas(h, batch=7)
    expected = torch.quantile(h.transpose(0, 1).flatten(1).double(), 1 - tau, dim=1)
    for latent, reading in ((z, expected), (z.flip(0), expected)):
        torch.testing.assert_close(survey.thresholds(flow, latent, tau, [1])[1].double(), reading, rtol=1e-6, atol=1e-6)


def test_a_constant_unit_has_its_value_as_threshold_and_is_never_above_it():
    network = tiny_generator()
    with torch.no_grad():
        network.layer2.weight[4] = 0
        network.layer2.bias[4] = 0.7
    flow, z = Flow(pggan.Layers(network)), latents(range(30), 9)
    found = survey.thresholds(flow, z)
    assert found[3][4] == torch.tensor(0.7)
    rates = survey.activation_rates(flow, z, found)
    assert rates[3][4] == 0 and (rates[3][:4] > 0).all()


def test_only_the_layers_asked_for_are_surveyed(flow, z):
    some, every = survey.thresholds(flow, z, layers=[5, 2]), survey.thresholds(flow, z)
    assert sorted(some) == [2, 5]
    assert all(torch.equal(some[layer], every[layer]) for layer in some)
    assert sorted(survey.unit_maxima(flow, z, [4])) == [4] and sorted(survey.top_images(flow, z, 3, [4])) == [4]


# Rates, maxima, top images


def test_activation_rates_count_what_is_strictly_above(flow, z):
    levels = survey.thresholds(flow, z, 0.05)
    signs, above = survey.activation_rates(flow, z), survey.activation_rates(flow, z, levels)
    for layer in LAYERS:
        everything = pooled(flow, z, layer)
        over = everything > levels[layer].double()[:, None]
        torch.testing.assert_close(signs[layer], (everything > 0).double().mean(1).float())
        torch.testing.assert_close(above[layer], over.double().mean(1).float())
    h = torch.tensor([0.0, 1.0, 1.0, 2.0]).view(1, 1, 2, 2)
    flow, z = canvas(h)
    assert survey.activation_rates(flow, z, {1: torch.tensor([1.0])})[1].tolist() == [0.25]
    assert survey.activation_rates(flow, z)[1].tolist() == [0.75]


def test_activation_rates_use_the_layers_argument_with_and_without_levels(flow, z):
    levels = survey.thresholds(flow, z)
    assert sorted(survey.activation_rates(flow, z, layers=[2, 3])) == [2, 3]
    assert sorted(survey.activation_rates(flow, z, levels, layers=[2, 3])) == [2, 3]
    assert sorted(survey.activation_rates(flow, z, {3: levels[3]})) == [3]
    with pytest.raises(ValueError, match="layer 4"):
        survey.activation_rates(flow, z, {3: levels[3]}, layers=[4])
    with pytest.raises(ValueError, match="layer 3 has 10 units"):
        survey.activation_rates(flow, z, {3: torch.zeros(1)})


@pytest.mark.parametrize("by", REDUCTIONS)
def test_unit_maxima_against_numpy(flow, z, by):
    found = survey.unit_maxima(flow, z, by=by)
    for layer, h in flow.record(z, LAYERS).items():
        np.testing.assert_allclose(found[layer], REDUCTIONS[by](h.numpy()), rtol=1e-5, atol=1e-6)
        assert found[layer].shape == (70, flow.units(layer))


@pytest.mark.parametrize("by", REDUCTIONS)
@pytest.mark.parametrize("k", [1, 5, 70])
def test_top_images_against_numpy(flow, z, by, k):
    found = survey.top_images(flow, z, k, by=by)
    for layer, values in survey.unit_maxima(flow, z, by=by).items():
        expected = np.argsort(-values.numpy().T, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(found[layer], expected)


def test_top_images_by_max_is_the_default_and_differs_from_the_mean(flow, z):
    default, mean = survey.top_images(flow, z, 5), survey.top_images(flow, z, 5, by="mean")
    assert all(torch.equal(default[n], survey.top_images(flow, z, 5, by="max")[n]) for n in LAYERS)
    assert any(not torch.equal(default[n], mean[n]) for n in LAYERS)


@pytest.mark.parametrize("batch", [1, 7, 32])
@pytest.mark.parametrize("k", [3, 11, 40])
def test_ties_among_top_images_go_to_the_earlier_row(monkeypatch, batch, k):
    g = torch.Generator().manual_seed(2)
    values = torch.randint(0, 4, (40, 5), generator=g).float()
    values[:, 4] = 1.0  # all tied
    flow, z = canvas(values[:, :, None, None].expand(-1, -1, 2, 2), batch)
    expected = np.argsort(-values.numpy().T, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(survey.top_images(flow, z, k)[1], expected)
    monkeypatch.setattr(survey, "SHARD", 9)
    np.testing.assert_array_equal(survey.top_images(flow, z, k, map=backwards)[1], expected)
    assert survey.top_images(flow, z, k)[1][4].tolist() == list(range(k))


# One pass, many shards, any map


def backwards(function, *columns):
    """Do the last shard first and hand its result out first."""
    return [function(*row) for row in reversed(list(zip(*columns, strict=True)))]


def repeating(function, *columns):
    """Do every shard twice, as an engine does that has lost a worker, and keep the second result."""
    return [[function(*row), function(*row)][1] for row in zip(*columns, strict=True)]


def through_pickle(function, *columns):
    for row in zip(*columns, strict=True):
        work, arguments = pickle.loads(pickle.dumps((function, row)))
        yield pickle.loads(pickle.dumps(work(*arguments)))


def in_threads(function, *columns):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, *columns))


def statistics(flow, z, **options):
    levels = survey.thresholds(flow, z, 0.02, **options)
    return [
        levels,
        survey.activation_rates(flow, z, levels, **options),
        survey.unit_maxima(flow, z, **options),
        survey.top_images(flow, z, 6, **options),
    ]


def identical(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def assert_same(found, expected, compare=close):
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for layer in theirs:
            compare(mine[layer], theirs[layer])


@pytest.mark.parametrize("engine", [backwards, repeating, through_pickle, in_threads])
def test_every_map_gives_the_same_numbers(monkeypatch, flow, z, engine):
    expected = statistics(flow, z)
    monkeypatch.setattr(survey, "SHARD", 16)  # a multiple of the batch, so even the roundings are the same
    assert_same(statistics(flow, z, map=engine), expected, identical)


def test_a_process_pool_gives_the_same_numbers(monkeypatch, flow, z):
    expected = statistics(flow, z)
    monkeypatch.setattr(survey, "SHARD", 40)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert_same(statistics(flow, z, map=pool.map), expected)
        with pytest.raises(ValueError, match="not finite"):
            survey.thresholds(flow, torch.full_like(z, torch.nan), map=pool.map)


@pytest.mark.parametrize("size", [1, 9, 64, 1000])
def test_shards_are_bounded_cover_every_row_once_and_change_nothing(monkeypatch, flow, z, size):
    expected, sizes = statistics(flow, z), []

    def watching(function, shards, starts):
        shards, starts = list(shards), list(starts)
        sizes.append([len(s) for s in shards])
        assert torch.equal(torch.cat(shards), z)
        return builtins.map(function, shards, starts)

    monkeypatch.setattr(survey, "SHARD", size)
    assert_same(statistics(flow, z, map=watching)[:3], expected[:3])
    assert all(sum(pieces) == 70 and max(pieces) <= size for pieces in sizes) and len(sizes) == 4


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_the_batch_size_and_the_order_change_nothing(flow, z, batch):
    expected = statistics(flow, z)
    other = Flow(flow.network, batch)
    assert_same(statistics(other, z)[:3], expected[:3])
    order = torch.randperm(70, generator=torch.Generator().manual_seed(3))
    levels, rates, maxima, tops = statistics(other, z[order])
    maxima = {layer: values[order.argsort()] for layer, values in maxima.items()}
    assert_same([levels, rates, maxima], expected[:3])
    for layer, rows in tops.items():  # the same images, up to what rounding swaps
        values = expected[2][layer].T
        close(values.gather(1, order[rows]), values.gather(1, expected[3][layer]))


def test_the_survey_leaves_its_inputs_alone(flow, z):
    before = z.clone()
    levels = survey.thresholds(flow, z)
    kept = {layer: value.clone() for layer, value in levels.items()}
    survey.activation_rates(flow, z, levels)
    assert torch.equal(z, before) and all(torch.equal(levels[layer], kept[layer]) for layer in kept)


# Bad input


@pytest.mark.parametrize("tau", [0, 1, -0.1, 1.5, float("nan")])
def test_tau_outside_its_range_is_refused(flow, z, tau):
    with pytest.raises(ValueError, match=r"tau .* lies in \(0, 1\), got"):
        survey.thresholds(flow, z, tau)


def test_no_images_are_refused(flow, z):
    for run in (survey.thresholds, survey.activation_rates, survey.unit_maxima, survey.top_images):
        with pytest.raises(ValueError, match="at least one image"):
            run(flow, z[:0])


def test_asking_for_more_top_images_than_there_are_is_refused(flow, z):
    for k in (0, -1, 71):
        with pytest.raises(ValueError, match=f"top {k} of 70 images: choose k between 1 and 70"):
            survey.top_images(flow, z, k)
    assert survey.top_images(flow, z[:5], 5)[1].shape == (12, 5)


def test_unknown_layers_and_reductions_are_refused(flow, z):
    for layer in (0, 8, -1):
        with pytest.raises(ValueError, match=f"there is no layer {layer}"):
            survey.thresholds(flow, z, layers=[layer])
    with pytest.raises(ValueError, match="by must be one of max, mean, norm, got 'median'"):
        survey.unit_maxima(flow, z, by="median")
    with pytest.raises(ValueError, match="at least one layer"):
        survey.thresholds(flow, z, layers=[])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_activations_that_are_not_finite_are_named(value):
    network = tiny_generator()
    with torch.no_grad():
        network.layer2.bias[6] = value
    flow, z = Flow(pggan.Layers(network)), latents(range(4), 9)
    for run in (survey.thresholds, survey.activation_rates, survey.unit_maxima):
        with pytest.raises(ValueError, match="layer 3, unit 6 has activations that are not finite"):
            run(flow, z)
    with pytest.raises(ValueError, match="layer 3, unit 6"):
        survey.top_images(flow, z, 2, map=backwards)
    assert sorted(survey.thresholds(flow, z, layers=[1, 2])) == [1, 2]


def test_one_bad_image_among_many_is_found():
    h = torch.zeros(20, 3, 4, 4)
    h[17, 2, 1, 3], h[18, 2, 1, 3] = torch.inf, -torch.inf
    flow, z = canvas(h)
    with pytest.raises(ValueError, match="layer 1, unit 2 has activations that are not finite"):
        survey.thresholds(flow, z, layers=[1])
    h[17:19, 2] = 3e38  # large, but finite
    flow, z = canvas(h)
    assert survey.unit_maxima(flow, z, [1])[1][17, 2] == torch.tensor(3e38)
