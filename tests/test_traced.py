import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import correct, survey, units
from helpers.flow import Flow
from helpers.latents import latents
from tests.networks import Dcgan


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.style = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Linear(7, outputs)

    def forward(self, h, w):
        return F.leaky_relu(self.conv(F.interpolate(h, scale_factor=2)) + self.style(w)[:, :, None, None], 0.2)


class Skips(nn.Module):
    """A style vector that every block needs, a constant, a skip image, and a block's output used twice."""

    def __init__(self):
        super().__init__()
        self.mapping, self.const = nn.Linear(7, 7), nn.Parameter(torch.randn(1, 4, 4, 4))
        self.one, self.two, self.three = Block(4, 6), Block(6, 5), nn.Conv2d(5, 3, 1)
        self.rgb = nn.Conv2d(6, 3, 1)

    def forward(self, z):
        w = self.mapping(z)
        a = self.one(self.const + 0 * w[:, :1, None, None], w)
        image = F.interpolate(self.rgb(a), scale_factor=2)
        b = self.two(a, w)
        return image + self.three(b) + F.interpolate(a, scale_factor=2).mean(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def dcgan():
    torch.manual_seed(0)
    return Dcgan().eval()


@pytest.fixture(scope="module")
def skips():
    torch.manual_seed(1)
    return Skips().eval()


def test_a_sequential_generator_gives_its_own_images_and_featuremaps(dcgan):
    flow = Flow.from_module(dcgan, ["main.2", "main.5"], (6, 1, 1), batch=4)
    z = latents(range(9), 6)
    seen = {}
    hooks = [dcgan.main[i].register_forward_hook(lambda m, a, out, i=i: seen.update({i: out.clone()})) for i in (2, 5)]
    with torch.no_grad():
        expected = dcgan(z[:, :, None, None])
    for hook in hooks:
        hook.remove()
    assert (flow.n_layers, flow.latent, flow.layers) == (3, 6, [1, 2])
    assert [(flow.units(n), flow.resolution(n)) for n in (1, 2, 3)] == [(8, 4), (5, 8), (3, 16)]
    found = flow.record(z, [1, 2, 3])
    for layer, reading in ((1, seen[2]), (2, seen[5]), (3, expected)):
        torch.testing.assert_close(found[layer], reading, rtol=1e-5, atol=1e-6)


def test_the_module_stays_as_it_was_and_in_place_activations_spoil_nothing(dcgan):
    before = {key: value.clone() for key, value in dcgan.state_dict().items()}
    flow = Flow.from_module(dcgan, ["main.1", "main.2"], (6, 1, 1))
    h = flow.record(latents(range(5), 6), [1, 2])
    assert (h[1] < 0).any() and torch.equal(h[2], h[1].relu())
    assert dcgan.main[2].inplace and all(torch.equal(dcgan.state_dict()[key], before[key]) for key in before)


@pytest.mark.parametrize("layers", [["one", "two"], ["one"], ["two"], ["one.conv", "two.conv", "three"]])
def test_skip_connections_and_styles_travel_with_the_state(skips, layers):
    flow, z = Flow.from_module(skips, layers, 7, batch=3), latents(range(8), 7)
    with torch.no_grad():
        expected = skips(z)
    torch.testing.assert_close(flow.generate(z), expected, rtol=1e-5, atol=1e-5)
    for layer in range(flow.n_layers):
        torch.testing.assert_close(flow.resume(flow.state(z, layer)), expected, rtol=1e-5, atol=1e-5)


def test_an_edit_reaches_everything_that_reads_the_layer(skips):
    flow, z = Flow.from_module(skips, ["one", "two"], 7), latents(range(4), 7)
    found = flow.generate(z, {1: torch.zeros_like})
    hook = skips.one.register_forward_hook(lambda m, a, out: torch.zeros_like(out))
    with torch.no_grad():
        expected = skips(z)
    hook.remove()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(flow.resume(flow.state(z, 1)), flow.generate(z))


def test_a_flow_of_a_module_can_be_pickled_surveyed_and_corrected(skips):
    flow, z = Flow.from_module(skips, ["one", "two"], 7), latents(range(30), 7)
    other = pickle.loads(pickle.dumps(flow))
    assert torch.equal(other.generate(z), flow.generate(z))
    levels = survey.thresholds(flow, z, 0.05)
    masks = torch.zeros(30, 16, 16, dtype=torch.bool)
    masks[:, 4:9, 4:9] = True
    scores = units.defective_scores(flow, z, masks, levels)
    assert sorted(scores) == [1, 2] and all((0 <= s).all() and (s <= 1).all() and s.max() > 0 for s in scores.values())
    corrected = flow.generate(z, correct.sequential(scores, stop_layer=2))
    assert not torch.equal(corrected, flow.generate(z))


def test_names_that_do_not_fit_are_refused_with_help(dcgan, skips):
    with pytest.raises(ValueError, match=r"no part 'main.22': did you mean main.2"):
        Flow.from_module(dcgan, ["main.22"], (6, 1, 1))
    with pytest.raises(ValueError, match="name the layers in order"):
        Flow.from_module(dcgan, ["main.5", "main.2"], (6, 1, 1))
    with pytest.raises(ValueError, match="at least one layer"):
        Flow.from_module(dcgan, [], (6, 1, 1))
    with pytest.raises(ValueError, match=r"mapping must be featuremaps \(B, U, H, W\), got \(2, 7\)"):
        Flow.from_module(skips, ["mapping"], 7)


def test_a_layer_that_runs_twice_or_never_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.spare = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, z):
            return self.conv(self.conv(z.view(-1, 3, 2, 2)))

    with pytest.raises(ValueError, match="'conv' runs 2 times"):
        Flow.from_module(Twice(), ["conv"], 12)
    with pytest.raises(ValueError, match="'spare' runs 0 times"):
        Flow.from_module(Twice(), ["spare"], 12)
