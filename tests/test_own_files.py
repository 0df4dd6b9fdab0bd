import copy
import pickle
import sys
import types

import pytest
import torch
from torch.nn import functional as F

from helpers import store
from helpers.networks import features, sized
from helpers.networks.sized import Sized
from helpers.weights import published
from helpers.worlds import own_files
from helpers.worlds.absent import Absent

has_data = pytest.mark.skipif(
    not (store.data_root() / "churches" / store.MANIFEST).exists(), reason="data/churches is not complete yet"
)


def test_a_part_that_is_lacking_says_so_however_it_is_used():
    part = Absent("discriminator", "discriminator=, a file")
    uses = (lambda: part(1, group=2), lambda: part.parameters(), lambda: len(part), lambda: part[0], lambda: list(part))
    for use in uses:
        with pytest.raises(ValueError, match="this domain has no discriminator: load it with discriminator=, a file"):
            use()


def test_a_part_that_is_lacking_can_be_shown_copied_and_sent():
    part = Absent("labels", "labels=, a CSV")
    assert "labels" in repr(part) and not hasattr(part, "_repr_html_")
    assert copy.copy(part) == part == pickle.loads(pickle.dumps(part))
    assert store.content(part) != store.content(Absent("labels", "labels="))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return features.ResNet18(4, "imagenet", classes=0).eval()


@pytest.mark.parametrize("side", [32, 64, 96])
def test_images_are_seen_at_one_size_whatever_size_they_have(network, side):
    images = torch.rand(5, 3, side, side) * 3 - 1.5
    sized = Sized(network, 64, "test")
    seen = images
    if side != 64:
        seen = F.interpolate(images.clamp(-1, 1), (64, 64), mode="bilinear", antialias=True)
    torch.testing.assert_close(sized.maps(images), network.maps(seen))
    torch.testing.assert_close(sized.pooled(images, batch=2), network.pooled(seen), rtol=1e-4, atol=1e-5)
    assert sized.name == "test at 64 px" and sized.pooled(images[:0]).shape == (0, 32)
    assert sized.maps(images).shape[-1] == 2 and sized.maps(images, 3).shape[1] == 16


def test_shrinking_does_not_alias():
    stripes = torch.ones(1, 3, 256, 256)
    stripes[..., ::2] = -1
    assert sized.resized(stripes, 64)[..., 2:-2].abs().max() < 0.05
    assert F.interpolate(stripes, (64, 64), mode="nearest").abs().min() == 1


def test_a_network_without_a_head_or_images_of_another_kind_are_refused(network):
    sized = Sized(network, 64, "test")
    for use in (sized.segment, sized.corrupted):
        with pytest.raises(ValueError, match="this network has no (segment|corrupt) head"):
            use(torch.zeros(1, 3, 32, 32))
    for images in (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(3, 32, 32), torch.zeros(1, 2, 32, 32)):
        with pytest.raises(ValueError, match="images must be float"):
            sized.pooled(images)
    with pytest.raises(ValueError, match="at least one image, got 0"):
        sized.pooled(torch.zeros(1, 3, 32, 32), batch=0)


def test_files_are_found_by_path_or_by_published_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HELPERS_PUBLISHED", str(tmp_path))
    (tmp_path / "own.pth").write_bytes(b"own")
    assert (
        own_files.located(tmp_path / "own.pth") == own_files.located(str(tmp_path / "own.pth")) == tmp_path / "own.pth"
    )
    with pytest.raises(FileNotFoundError, match="neither a file nor a published name.*pggan-churchoutdoor"):
        own_files.located("pggan-churches")
    for name in ("ganzoo-dtd", "published/ganzoo-dtd"):
        with pytest.raises(FileNotFoundError, match="put testDTD_s5_i96000-04efa39f.pth into"):
            own_files.located(name)
    entry = published.Entry("testDTD.pth", "a texture", "a licence")
    monkeypatch.setitem(published.REGISTRY, "ganzoo-dtd", entry)
    (tmp_path / "testDTD.pth").write_bytes(b"weights")
    assert own_files.located("ganzoo-dtd") == tmp_path / "testDTD.pth"


# What measures


@has_data
def test_the_own_network_measures_at_its_size_and_says_that_it_is_no_inception():
    own, images = own_files.evaluation(None), torch.rand(3, 3, 128, 128) * 2 - 1
    assert own.name == "the suite's evaluation network at 64 px"
    plain = features.load(store.fetch("churches/evaluation.safetensors"))
    torch.testing.assert_close(own.pooled(images), plain.pooled(sized.resized(images, 64)))


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match="evaluation is None for the suite's own network or 'inception', got 'vgg'"):
        own_files.evaluation("vgg")


@pytest.fixture
def inception_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HELPERS_PUBLISHED", str(tmp_path))
    entry = published.REGISTRY["inception"]._replace(sha256="")
    monkeypatch.setitem(published.REGISTRY, "inception", entry)
    (tmp_path / entry.file).write_bytes(b"weights")
    return tmp_path / entry.file


def test_without_torch_fidelity_it_is_said_what_to_install(inception_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ImportError, match="need torch-fidelity .*pip install -r requirements-fid.txt"):
        own_files.evaluation("inception")


def test_the_inception_gets_its_file_and_images_of_8_bits(inception_file, monkeypatch):
    class Extractor(torch.nn.Module):
        """The interface of torch-fidelity's: uint8 images to a tuple of the features asked for."""

        def __init__(self, name, features_list, feature_extractor_weights_path=None):
            super().__init__()
            assert features_list == ["2048"] and feature_extractor_weights_path == str(inception_file)

        def forward(self, x):
            assert x.dtype == torch.uint8 and len(x) <= 2
            return (x.float().mean(dim=(1, 2, 3))[:, None].expand(-1, 2048),)

    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    network = own_files.evaluation("inception")
    levels = torch.tensor([-2.0, -1.0, 0.0, 100 / 127.5 - 1, 1.0])
    found = network.pooled(levels[:, None, None, None].expand(-1, 3, 8, 8), batch=2)
    assert found.shape == (5, 2048) and found[:, 0].tolist() == [0, 0, 128, 100, 255]
    assert network.name == "Inception (torch-fidelity)" and network.pooled(torch.zeros(0, 3, 8, 8)).shape == (0, 2048)
    with pytest.raises(ValueError, match="images must be float"):
        network.pooled(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
