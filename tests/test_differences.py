import pickle

import pytest
import torch

from helpers import correct, units
from helpers.corrections.differences import ByPlace, over_places
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from tests.networks import Canvas, Dcgan, tiny_generator

LAYERS = [1, 3]


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()), batch=7)


@pytest.fixture(scope="module")
def classes():
    return latents(range(23), 9), latents(range(100, 117), 9)


@pytest.fixture(scope="module")
def found(flow, classes):
    return units.differences(flow, *classes, LAYERS)


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance * float(b.abs().max()))


def test_means_and_deviations_are_the_naive_ones_in_float64(flow, classes, found):
    bad, good = (flow.record(z, LAYERS) for z in classes)
    assert list(found) == LAYERS and found.counts == (23, 17) and found.ids is None
    for layer in LAYERS:
        a, n = bad[layer].double(), good[layer].double()
        close(found[layer], a.mean(dim=0) - n.mean(dim=0))
        for (mean, deviation), h in ((found.artifacts[layer], a), (found.normals[layer], n)):
            close(mean, h.mean(dim=0))
            close(deviation, h.std(dim=0, correction=0))
        assert found.lowest[layer] == float(torch.cat([a, n]).min())
        assert found[layer].dtype == torch.float32 and found[layer].shape == a.shape[1:]


def test_a_standardised_difference_is_in_deviations_within_the_classes(flow, classes, found):
    bad, good = (flow.record(z, LAYERS) for z in classes)
    per_place, per_unit = found.standardised(), found.standardised(places=False)
    for layer in LAYERS:
        a, n = bad[layer].double(), good[layer].double()
        s = ((23 * a.var(dim=0, correction=0) + 17 * n.var(dim=0, correction=0)) / 40).sqrt()
        close(per_place[layer], (a.mean(dim=0) - n.mean(dim=0)) / s, 1e-4)
        var = [h.transpose(0, 1).flatten(1).var(dim=1, correction=0) for h in (a, n)]
        unit = (a.mean(dim=(0, 2, 3)) - n.mean(dim=(0, 2, 3))) / ((23 * var[0] + 17 * var[1]) / 40).sqrt()
        close(per_unit[layer], unit[:, None, None].expand_as(per_unit[layer]), 1e-4)


def test_equal_classes_do_not_differ(flow, classes):
    same = units.differences(flow, classes[0], classes[0], LAYERS)
    assert all((d == 0).all() for d in same.values())
    assert all((d == 0).all() for d in same.standardised().values())


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_chunks_and_order_do_not_matter(flow, classes, found, batch):
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    again = units.differences(Flow(flow.network, batch), classes[0][order], classes[1].flip(0), LAYERS[::-1])
    for layer in LAYERS:
        close(again[layer], found[layer])
        close(again.artifacts[layer][1], found.artifacts[layer][1])


def test_a_difference_without_deviation_is_infinite_and_none_is_zero():
    flow = Flow(Canvas(2, 2))
    z = torch.tensor([[5.0, 1, 0, 0, 3, 3, 3, 3]])
    z_normal = torch.tensor([[5.0, 0, 0, 0, 3, 3, 3, 3]])
    d = units.differences(flow, z.expand(4, -1), z_normal.expand(3, -1), [1])
    assert torch.equal(d[1][0], torch.tensor([[0.0, 1], [0, 0]])) and (d[1][1] == 0).all()
    s = d.standardised()[1]
    assert s[0, 0, 1] == torch.inf and s.isfinite().sum() == 7 and (s.masked_fill(s.isinf(), 0) == 0).all()


def test_small_deviations_of_large_values_are_kept():
    h = 1e4 + torch.randn(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    one, two = ByPlace((1, 2, 2)), ByPlace((1, 2, 2))
    for part in h[:24].split(5):
        one.update(part)
    two.update(h[24:])
    deviation = one.merge(two).value()[1]
    close(deviation, h.double().std(dim=0, correction=0), 1e-6)
    again = ByPlace((1, 2, 2)).restore(one.state())
    assert torch.equal(again.value()[1], deviation) and again.lowest == float(h.min())


def test_moments_over_places_are_those_of_all_values():
    h = torch.randn(30, 3, 4, 4, generator=torch.Generator().manual_seed(1)) + torch.linspace(-3, 3, 16).view(4, 4)
    mean, deviation = over_places(h.mean(dim=0), h.std(dim=0, correction=0))
    flat = h.double().transpose(0, 1).flatten(1)
    close(mean[:, 1, 2], flat.mean(dim=1), 1e-4)
    close(deviation[:, 3, 0], flat.std(dim=1, correction=0))
    assert (mean == mean[:, :1, :1]).all() and over_places(mean)[1] is None


def test_they_pickle_with_all_they_know_and_stand_wherever_a_dict_does(found):
    kept = units.Differences(found, found.artifacts, found.normals, found.counts, found.lowest, ids=torch.arange(3))
    again = pickle.loads(pickle.dumps(kept))
    assert isinstance(again, dict) and again.ids == {0, 1, 2} and again.counts == (23, 17)
    assert torch.equal(again[3], found[3]) and torch.equal(again.normals[3][1], found.normals[3][1])
    assert again.lowest == found.lowest and dict(again).keys() == {1, 3}


def test_the_flow_can_be_seen_under_edits(flow, classes):
    edits = correct.ablate(1, [0, 1])
    d = units.differences(flow, *classes, [1, 2], edits)
    bad, good = flow.record(classes[0], [1, 2], edits), flow.record(classes[1], [1, 2])
    for layer in (1, 2):
        close(d[layer], bad[layer].double().mean(dim=0) - good[layer].double().mean(dim=0))
    both = units.differences(flow, *classes, [1], edits, edits)
    assert (both[1][:2] == 0).all() and (both[1][2:] != 0).any()


def test_joined_layers_keep_what_is_known(flow, classes, found):
    two = units.differences(flow, *classes, [2])
    both = found.joined(two)
    assert sorted(both) == [1, 2, 3] and both.lowest.keys() == {1, 2, 3} and both.counts == (23, 17)
    assert torch.equal(both[2], two[2]) and torch.equal(both.normals[1][0], found.normals[1][0])


def test_some_layers_can_be_kept(found):
    one = found.only([3])
    assert list(one) == [3] and torch.equal(one[3], found[3]) and one.counts == found.counts and one.ids == found.ids
    assert torch.equal(one.standardised()[3], found.standardised()[3]) and list(one.lowest) == [3]
    with pytest.raises(KeyError):
        found.only([2])


def test_the_lowest_value_tells_a_relu_from_a_leaky_one(flow, classes, found):
    torch.manual_seed(0)
    relu = Flow.from_module(Dcgan(), ["main.2", "main.5"], (6, 1, 1))
    d = units.differences(relu, latents(range(9), 6), latents(range(20, 29), 6), [1, 2])
    assert set(d.lowest.values()) == {0.0} and max(found.lowest.values()) < 0


def test_bad_input_is_refused(flow, classes):
    z, other = classes
    for bad, good, layers in ((z[:0], other, [1]), (z, other[:0], [1]), (z, other, [])):
        with pytest.raises(ValueError, match="pass at least one of each"):
            units.differences(flow, bad, good, layers)
    with pytest.raises(ValueError, match="there is no layer 9"):
        units.differences(flow, z, other, [1, 9])
    with pytest.raises(ValueError, match=r"latents must have shape \(B, 9\)"):
        units.differences(flow, z[:, :5], other, [1])
    with pytest.raises(ValueError, match="layer 1, unit 0 has activations that are not finite"):
        units.differences(flow, z, other.clone().index_fill_(0, torch.tensor(3), torch.nan), [1, 2])


def features_of(*parts):
    """Made-up features, in which the second counts a thousand times as much as the first unless they are scaled."""
    return [torch.tensor(part, dtype=torch.float64) * torch.tensor([1.0, 1000.0]) for part in parts]


def test_a_nearest_difference_is_that_of_the_neighbours_of_each_class(flow):
    z = latents(range(5), 9), latents(range(10, 14), 9)
    bad = [[0, 0], [1, 0], [9, 9], [10, 9], [9, 10]]
    good = [[0, 1], [10, 10], [1, 1], [11, 10]]
    own, *theirs = features_of([[0.4, 0.4], [9.6, 9.6]], bad, good)
    found = units.nearest_differences(flow, *z, LAYERS, (own, *theirs), k=2)
    assert list(found) == LAYERS
    for layer in LAYERS:
        a, n = (flow.record(some, [layer])[layer].double() for some in z)
        first = (a[0] + a[1]) / 2 - (n[0] + n[2]) / 2
        second = (a[3] + a[4]) / 2 - (n[1] + n[3]) / 2
        close(found[layer], torch.stack([first, second]))
        assert found[layer].dtype == torch.float32


def test_neighbours_do_not_hang_on_the_scale_of_a_feature(flow, classes):
    g = torch.Generator().manual_seed(0)
    parts = [torch.randn(n, 4, generator=g) for n in (6, 23, 17)]
    scaled = [part * torch.tensor([1e-3, 1.0, 50.0, 0.0]) for part in parts]  # the last is the same for all
    plain = [torch.cat([part[:, :3], torch.zeros(len(part), 1)], dim=1) for part in parts]
    one, other = (units.nearest_differences(flow, *classes, [1], some, k=5) for some in (plain, scaled))
    assert torch.equal(one[1], other[1])


def test_with_all_neighbours_every_image_has_the_plain_difference(flow, classes, found):
    features = [torch.randn(n, 3) for n in (4, 23, 17)]
    nearest = units.nearest_differences(flow, *classes, LAYERS, features, k=100)
    for layer in LAYERS:
        close(nearest[layer], found[layer].expand(4, *found[layer].shape))


def test_nearest_differences_refuse_what_does_not_fit(flow, classes):
    features = [torch.randn(n, 3) for n in (4, 23, 17)]
    for bad in (
        [features[0], features[2], features[1]],
        [features[0][:, :2], *features[1:]],
        [features[0][0], *features[1:]],
    ):
        with pytest.raises(ValueError, match="one row per image each"):
            units.nearest_differences(flow, *classes, [1], bad)
    with pytest.raises(ValueError, match="NaN or infinity"):
        units.nearest_differences(flow, *classes, [1], [features[0] / 0, *features[1:]])
    for options in ({"k": 0}, {"layers": []}):
        with pytest.raises(ValueError, match="k of at least 1"):
            units.nearest_differences(flow, *classes, **({"layers": [1], "features": features} | options))
    with pytest.raises(ValueError, match="layer"):
        units.nearest_differences(flow, *classes, [99], features)
