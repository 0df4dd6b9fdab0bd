import numpy as np
import pytest
import torch
from torch import nn

from helpers import concepts, survey
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from tests.networks import Canvas, tiny_generator
from tests.rounding import close

COPIES = {1: 0, 2: 0, 5: 4}  # unit of layer 4 -> the unit whose weights it repeats, some stronger
DEAD = 7


def generator_with_copies():
    network = tiny_generator()
    with torch.no_grad():
        for copy, original in COPIES.items():
            network.layer3.weight[copy] = network.layer3.weight[original] * copy
            network.layer3.bias[copy] = network.layer3.bias[original] * copy
        network.layer3.weight[DEAD], network.layer3.bias[DEAD] = 0, 0.4
    return network


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(generator_with_copies()), batch=7)


@pytest.fixture(scope="module")
def z():
    return latents(range(20), 9)


# Representative images


@pytest.mark.parametrize("layer", range(1, 8))
def test_identical_latents_give_the_image_itself(flow, z, layer):
    same = z[3:4].expand(11, -1)
    image = concepts.representative_image(flow, same, layer)
    assert image.shape == (1, 3, 16, 16)
    close(image, flow.generate(z[3:4]))
    close(concepts.representative_image(flow, z[3:4], layer), flow.generate(z[3:4]))


@torch.no_grad()
@pytest.mark.parametrize("layer", [1, 3, 6])
def test_the_mean_featuremap_goes_through_the_rest_of_the_generator(flow, z, layer):
    top = z[survey.top_images(flow, z, 8, [layer])[layer][2]]
    h = top
    for number in range(1, layer + 1):
        h, _ = flow.network.advance(number, h, {})
    h = h.mean(0, keepdim=True)
    for number in range(layer + 1, flow.n_layers + 1):
        h, _ = flow.network.advance(number, h, {})
    image = concepts.representative_image(flow, top, layer)
    close(image, h)
    # Neither the mean image nor the image of the mean latent.
    assert (image - flow.generate(top).mean(0)).abs().max() > 0.05
    assert (image - flow.generate(top.mean(0, keepdim=True))).abs().max() > 0.05


def test_at_the_last_layer_the_mean_featuremap_is_the_mean_image(flow, z):
    close(concepts.representative_image(flow, z, 7), flow.generate(z).mean(0, keepdim=True))


def test_the_order_and_the_batch_of_the_latents_change_nothing(flow, z):
    expected, order = concepts.representative_image(flow, z, 4), torch.randperm(20)
    for batch in (1, 7, 32):
        close(concepts.representative_image(Flow(flow.network, batch), z[order], 4), expected)


class Styled(nn.Module):
    """Two layers; the second needs a style that the first layer's featuremap does not carry."""

    n_layers, latent = 3, 4

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def advance(self, layer, h, extras):
        if layer == 1:
            return h[:, :, None, None].expand(-1, -1, 2, 2).square() * self.one, {"style": h.sum(1)}
        if layer == 2:
            return h * extras["style"][:, None, None, None], extras
        return h[:, :3], extras


def test_what_else_the_generator_carries_along_is_averaged_too():
    z = torch.tensor([[1.0, 2, 3, 4], [3.0, 0, 1, 2]])
    image = concepts.representative_image(Flow(Styled()), z, 1)
    expected = z.square().mean(0)[:3] * z.sum(1).mean()
    close(image[0], expected[:, None, None].expand(3, 2, 2))


def test_no_latent_or_no_such_layer_is_refused(flow, z):
    with pytest.raises(ValueError, match="at least one latent"):
        concepts.representative_image(flow, z[:0], 4)
    for layer in (8, -1):
        with pytest.raises(ValueError, match=f"there is no layer {layer}"):
            concepts.representative_image(flow, z, layer)


# Correlation


def test_correlation_against_numpy(flow, z):
    for layer in (1, 3, 6):
        h = flow.record(z, [layer])[layer]
        expected = np.corrcoef(h.transpose(0, 1).flatten(1).double().numpy())
        np.testing.assert_allclose(concepts.correlation(h), expected, atol=1e-9)


def test_weighted_correlation_against_numpy(flow, z):
    h = flow.record(z, [3])[3]
    weight = torch.rand(20 * 8 * 8, generator=torch.Generator().manual_seed(1))
    covariance = np.cov(h.transpose(0, 1).flatten(1).double().numpy(), aweights=weight.double().numpy())
    expected = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(concepts.correlation(h, weight), expected, atol=1e-9)
    np.testing.assert_allclose(concepts.correlation(h, 1000 * weight), expected, atol=1e-6)  # float32 weights
    np.testing.assert_allclose(concepts.correlation(h, torch.ones(20 * 8 * 8)), concepts.correlation(h), atol=1e-9)
    chosen = (weight > 0.5).float()  # weights of 0 and 1 choose positions
    picked = h.transpose(0, 1).flatten(1).double().numpy()[:, chosen.bool().numpy()]
    np.testing.assert_allclose(concepts.correlation(h, chosen), np.corrcoef(picked), atol=1e-9)


def test_a_constant_unit_correlates_with_nothing(flow, z):
    found = concepts.correlation(flow.record(z, [4])[4])
    assert (found[DEAD] == 0).all() and (found[:, DEAD] == 0).all() and found.isfinite().all()
    assert found.min() >= -1 and found.max() <= 1


# Clusters


def test_clusters_find_planted_copies(flow, z):
    found = concepts.clusters(flow, z, 4, range(10), count=7)
    assert len(found) == 7 and found[0] == [0, 1, 2] and found[1] == [4, 5]
    assert sorted(sum(found, [])) == list(range(10))


def test_clusters_of_chosen_units_keep_their_numbers(flow, z):
    found = concepts.clusters(flow, z, 4, [5, 9, 4, 0, 2], count=3)
    assert sorted(map(sorted, found)) == [[0, 2], [4, 5], [9]]


@pytest.mark.parametrize("count", range(1, 11))
def test_there_are_exactly_as_many_clusters_as_asked_for(flow, z, count):
    found = concepts.clusters(flow, z, 4, range(10), count)
    assert len(found) == count and sorted(sum(found, [])) == list(range(10))
    assert [len(group) for group in found] == sorted((len(group) for group in found), reverse=True)


def test_ties_do_not_swallow_clusters():
    h = torch.zeros(6, 5, 4, 4)  # five dead units: all equally unlike
    flow = Flow(Canvas(5, 4))
    for count in (1, 2, 4, 5):
        assert len(concepts.clusters(flow, h.flatten(1), 1, range(5), count)) == count


def test_masks_restrict_the_look_to_the_defects():
    g = torch.Generator().manual_seed(2)
    h = torch.randn(12, 3, 4, 4, generator=g)
    masks = torch.zeros(12, 16, 16, dtype=torch.bool)
    masks[:, :8, :8] = True  # the upper left quarter
    h[:, 1, :2, :2] = h[:, 0, :2, :2]  # units 0 and 1 agree there,
    h[:, 2, 2:], h[:, 2, :2, 2:] = h[:, 0, 2:], h[:, 0, :2, 2:]  # units 0 and 2 everywhere else
    flow, z = Flow(Canvas(3, 4)), h.flatten(1)
    assert concepts.clusters(flow, z, 1, range(3), 2) == [[0, 2], [1]]
    assert concepts.clusters(flow, z, 1, range(3), 2, masks) == [[0, 1], [2]]


def test_the_batch_size_and_the_order_change_nothing(flow, z):
    expected, order = concepts.clusters(flow, z, 4, range(10), 5), torch.randperm(20)
    for batch in (1, 7, 32):
        assert concepts.clusters(Flow(flow.network, batch), z[order], 4, range(10), 5) == expected


def test_bad_arguments_are_refused(flow, z):
    for count in (0, 4, -1):
        with pytest.raises(ValueError, match=f"cannot split 3 units into {count} clusters"):
            concepts.clusters(flow, z, 4, [1, 2, 3], count)
    for bad in ([1, 10, 2], [-1, 2, 3], [2, 2, 3]):
        for count in (2, 3):
            with pytest.raises(ValueError, match=r"different numbers from 0 to 9.* layer 4"):
                concepts.clusters(flow, z, 4, bad, count)
    masks = torch.ones(20, 16, 16, dtype=torch.bool)
    with pytest.raises(ValueError, match="got 5 masks for 20 images"):
        concepts.clusters(flow, z, 4, [1, 2, 3], 2, masks[:5])
    with pytest.raises(ValueError, match="no mask has a single pixel"):
        concepts.clusters(flow, z, 4, [1, 2, 3], 2, ~masks)
    with pytest.raises(ValueError, match="there is no layer 9"):
        concepts.clusters(flow, z, 9, [1, 2, 3], 2)
    with pytest.raises(ValueError, match="at least one latent"):
        concepts.clusters(flow, z[:0], 4, [1, 2, 3], 2)
