"""Grey images all the way through: a small generator as people train on handwritten digits, 28 x 28 in one channel."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers import concepts, correct, domains, evaluation, show, survey, units, widgets
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import features, pggan, stylegan2
from tests.own_generators import Mnist, made

Z = latents(range(24), 10)


@pytest.fixture(scope="module")
def flow():
    return Flow.from_module(made(Mnist), ["up1"], 10)


@pytest.fixture(scope="module")
def masks():
    masks = torch.zeros(24, 28, 28, dtype=torch.bool)
    masks[:, 8:20, 10:18] = True
    return masks


def test_a_grey_flow_has_one_channel_and_is_surveyed_scored_and_corrected(flow, masks):
    assert flow.shape(flow.n_layers) == (1, 28, 28) and flow.shape(1) == (5, 14, 14)
    levels = survey.thresholds(flow, Z, tau=0.05)
    scores = units.defective_scores(flow, Z, masks, levels)
    top = survey.top_images(flow, Z, k=3)
    assert top[1].shape == (5, 3) and 0 < scores[1].max() <= 1
    images, corrected = flow.generate(Z), flow.generate(Z, correct.sequential(scores, stop_layer=1))
    assert images.shape == corrected.shape == (24, 1, 28, 28) and (images - corrected).abs().max() > 0.01
    assert concepts.representative_image(flow, Z[:3], 1).shape == (1, 1, 28, 28)
    moved = correct.shift(units.differences(flow, Z[:8], Z[8:], [1]))
    assert flow.generate(Z, moved).shape == (24, 1, 28, 28)


def test_figures_show_grey_as_three_equal_channels(flow, masks):
    images = flow.generate(Z[:4])
    expected = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
    assert np.array_equal(show.tiles(images, zoom=1, gap=0), show.tiles(expected, zoom=1, gap=0))
    for figure in (
        show.grid(images, titles="abcd"),
        show.overlay(images, masks[:4]),
        show.compare({"before": images, "after": -images}),
        show.grid((images * 0).to(torch.uint8)),
    ):
        assert figure.axes
    tinted = show.tint(images, masks[:4])
    assert tinted.shape == (4, 3, 28, 28) and not torch.equal(tinted[:, 0], tinted[:, 1])
    assert torch.equal(tinted[:, 0, 0], expected[:, 0, 0])  # outside the mask it stays grey


def test_widgets_take_grey_images(flow, masks, tmp_path):
    images, scores = flow.generate(Z), units.random_scores(flow)
    view = widgets.corrector(flow, Z, {"DS": scores}, masks, realism=lambda images: images.mean(dim=(1, 2, 3)))
    before = bytes(view.controls["image"].value)
    view.controls["portion"].value = 0.8
    view.now()
    assert bytes(view.controls["image"].value) != before and not view.controls["error"].value
    browser = widgets.unit_browser(flow, Z, scores, survey.top_images(flow, Z, k=3))
    explorer = widgets.mask_explorer(images, masks.float())
    axis = widgets.axis_browser(torch.linspace(0, 1, 24), images)
    for other in (browser, explorer, axis):
        assert bytes(other.controls["image"].value)[1:4] == b"PNG" and not other.controls["error"].value
    labeller = widgets.labeller(images, range(24), tmp_path / "labels.csv", "ann")
    rater = widgets.rater(images, {"inverted": -images}, range(24), tmp_path / "votes.csv", "ann")
    for frame in (labeller, rater):
        assert bytes(frame.controls["image"].value)[1:4] == b"PNG"


def test_the_feature_networks_see_a_grey_image_as_a_colour_image_of_three_equal_channels():
    torch.manual_seed(0)
    network, grey = features.ResNet18(2, "small", classes=0).eval(), torch.rand(3, 1, 32, 32) * 2 - 1
    assert torch.equal(network.pooled(grey), network.pooled(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match=r"or grey .N, 1, H, W., got torch.float32 \(3, 2, 32, 32\)"):
        network.pooled(torch.zeros(3, 2, 32, 32))


@pytest.fixture
def files(tmp_path):
    """A folder of grey photos, a label file and a backbone for a domain of digits."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(12):
        depth = np.uint16 if i % 2 else np.uint8  # as scanners and cameras store them
        image = (rng.random((28, 28)) * np.iinfo(depth).max).astype(depth)
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    rows = [f"{i},{'artifact,stain' if i % 3 == 0 else 'normal,'},ann" for i in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label,type,rater", *rows]) + "\n")
    torch.manual_seed(0)
    torch.save(features.ResNet18(4, "imagenet", classes=3).state_dict(), tmp_path / "backbone.pth")
    return tmp_path


class Judge(nn.Module):
    """A discriminator of grey images as people write them."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 4, 2, 1), nn.Linear(4 * 14 * 14, 1)

    def forward(self, images):
        return self.fc(torch.relu(self.conv(images)).flatten(1))[:, 0]


@pytest.mark.filterwarnings("ignore:images in")
def test_a_domain_of_digits_goes_all_the_way(flow, files):
    parts = {"images": files / "photos", "labels": files / "labels.csv", "backbone": files / "backbone.pth"}
    domain = domains.load("digits", flow, discriminator=Judge(), **parts)
    drawn, real = domain.images(range(6)), domain.real(range(12))
    assert drawn.shape == (6, 1, 28, 28) and real.shape == (12, 1, 28, 28) and abs(float(real.mean())) < 0.1
    assert domain.d_values(drawn).shape == (6,)
    assert domain.classify(drawn).shape == (6,) and domain.cams(drawn).shape == (6, 28, 28)
    assert domain.masks(range(6)).dtype == torch.bool
    found, reference = (
        evaluation.sample(domain, range(6)),
        evaluation.Reference(evaluation.real_sample(domain, range(12))),
    )
    assert reference.fd(found) > 0 and found.features.isfinite().all()


def test_published_networks_of_grey_images_are_flows_of_one_channel():
    torch.manual_seed(0)
    for layers in (
        pggan.Layers(pggan.Generator((6, 5), 4, colours=1)),
        stylegan2.Layers(stylegan2.Generator((6, 5), 4, 4, 2, colours=1)),
    ):
        grey = Flow(layers)
        state = grey.state(latents(range(3), 4), 2)
        assert grey.resume(state).shape == (3, 1, 8, 8)
        torch.testing.assert_close(grey.resume(state), grey.generate(latents(range(3), 4)))
