import pickle

import pytest
import torch

from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import dcgan
from helpers.weights import packages

needs_packages = pytest.mark.skipif(packages.lacking() is not None, reason=str(packages.lacking()))


def test_keys_and_shapes_are_the_tutorials():
    shapes, inputs = {}, 100
    for number, units in enumerate((512, 256, 128, 64)):
        shapes[f"main.{3 * number}.weight"] = inputs, units, 4, 4
        shapes |= {f"main.{3 * number + 1}.{name}": (units,) for name in ("weight", "bias", "running_mean")}
        shapes |= {f"main.{3 * number + 1}.running_var": (units,), f"main.{3 * number + 1}.num_batches_tracked": ()}
        inputs = units
    shapes["main.12.weight"] = 64, 3, 4, 4
    assert {name: tuple(w.shape) for name, w in dcgan.Generator().state_dict().items()} == shapes


def test_the_first_layer_is_the_written_out_maths():
    torch.manual_seed(0)
    network = dcgan.Generator((5, 4), latent=3).eval()
    weights = network.state_dict()
    for name in ("weight", "bias", "running_mean", "running_var"):
        weights[f"main.1.{name}"].uniform_(0.5, 1.5)
    z = torch.randn(2, 3)
    h = torch.einsum("bi,iuyx->buyx", z.double(), weights["main.0.weight"].double())
    mean, var, slope, bias = (
        weights[f"main.1.{name}"].double()[:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    expected = ((h - mean) / (var + 1e-5).sqrt() * slope + bias).relu()
    flow = Flow.from_module(network, dcgan.LAYERS[:2], latent=(3, 1, 1))
    torch.testing.assert_close(flow.record(z, [1])[1].double(), expected, rtol=0, atol=1e-5)


@needs_packages
def test_the_published_weights_draw_faces_layer_by_layer(tmp_path):
    network = dcgan.Generator()
    network.load_state_dict(packages.read("gan-face-generate")["netG_state_dict"])
    flow = Flow.from_module(network, dcgan.LAYERS, latent=(100, 1, 1))
    layers = [(flow.units(k), flow.resolution(k)) for k in range(1, flow.n_layers + 1)]
    assert layers == [(512, 4), (256, 8), (128, 16), (64, 32), (3, 64)]
    z = latents([0, 7], 100)
    images = flow.generate(z)
    with torch.no_grad():
        torch.testing.assert_close(images, network.eval()(z[:, :, None, None]), rtol=0, atol=1e-4)
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), torch.tensor([-0.2072, -0.3499]), rtol=0, atol=1e-3)
    torch.testing.assert_close(flow.resume(flow.state(z, 2)), images, rtol=0, atol=1e-4)
    assert torch.equal(pickle.loads(pickle.dumps(flow)).generate(z), images)
