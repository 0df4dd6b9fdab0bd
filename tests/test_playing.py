import math

import numpy as np
import pytest
import torch
from networks import tiny_generator
from PIL import Image
from torch.nn import functional as F

from helpers import correct, labels, units
from helpers.flow import Flow
from helpers.interface.playing import Playground
from helpers.latents import latents
from helpers.networks import pggan

IDS, HELD = range(100, 160), range(200, 206)


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()))


def z(ids):
    return latents(ids, 9)


def play(flow, path, count=0, **options):
    """A playground in which images with a positive first latent are called artifacts."""
    ground = Playground(flow, z, IDS, HELD, path / "labels.csv", "ann", **options)
    for _ in range(count):
        ground.do("other" if z([ground.session.current])[0, 0] > 0 else "normal")
    return ground


def test_the_difference_is_that_of_the_labels_and_measured_every_few(flow, tmp_path):
    ground = play(flow, tmp_path, 20, every=10)
    table = labels.read(tmp_path / "labels.csv")
    assert len(table) == 20 and ground.used == 20
    expected = units.differences(flow, z(table.artifacts), z(table.normals), [1])
    assert torch.equal(ground.differences[1], expected[1])
    assert ground.differences.ids == set(table.ids)
    halves = [units.differences(flow, z(table.artifacts[k::2]), z(table.normals[k::2]), [1])[1] for k in (0, 1)]
    assert ground.agreement == pytest.approx(float(F.cosine_similarity(*(h.flatten() for h in halves), dim=0)))
    for _ in range(9):
        ground.do("normal")
        assert ground.used == 20
    assert ground.used == 20 and "measured again after 1 more" in ground.sure
    ground.do("normal")
    assert ground.used == 30


def test_before_there_are_two_of_each_nothing_is_shifted(flow, tmp_path):
    ground = play(flow, tmp_path)
    assert ground.differences is None and ground.edits() == {} and "no difference yet" in ground.sure
    ground.do("normal"), ground.do("normal"), ground.do("other")
    assert ground.differences is None
    with pytest.raises(ValueError, match="nothing to save yet"):
        ground.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    ground.do("other")
    assert ground.differences is not None and math.isnan(ground.agreement) and "too few" in ground.sure
    ground.do("undo")
    assert ground.differences is None


def test_the_least_certain_image_comes_next(flow, tmp_path):
    features = {i: float(n) for n, i in enumerate(IDS)}  # far along this line lie the artifacts
    ground = Playground(
        flow, z, IDS, HELD, tmp_path / "l.csv", "ann", embed=lambda ids: torch.tensor([[features[i]] for i in ids])
    )
    ground.session.current = 100
    for image in (100, 101, 158, 159):
        ground.session.current = image
        ground.do("normal" if image < 130 else "other")
    assert ground.session.current in (129, 130)  # the middle between 0.5 and 58.5 is 29.5
    rest = [i for i in ground.session.ids if i not in ground.session.labelled]
    doubt = [abs(features[i] - 29.5) for i in rest]
    assert sorted(ground.session.ids) == list(IDS)
    assert doubt[0] == min(doubt) and doubt[2] <= sorted(doubt)[2] and doubt != sorted(doubt)  # by turns with chance


def test_it_goes_on_where_the_file_ends(flow, tmp_path):
    first = play(flow, tmp_path, 15)
    first.measure()
    again = Playground(flow, z, IDS, HELD, tmp_path / "labels.csv", "ann")
    assert again.session.labelled == first.session.labelled
    assert torch.allclose(again.differences[1], first.differences[1], atol=1e-6)
    assert again.session.current not in again.session.labelled


def test_letters_and_a_wrong_one(flow, tmp_path):
    ground = play(flow, tmp_path)
    with pytest.raises(ValueError, match="letter 'z' means nothing"):
        ground.type("nnoonz")
    assert len(ground.session.labelled) == 5 and ground.differences is not None


def test_what_is_saved_is_what_is_shown(flow, tmp_path):
    ground = play(flow, tmp_path, 10)
    edits, picture = ground.save(tmp_path / "out", 1.5)
    shown, lines = ground.draw(1.5)
    assert np.array_equal(shown, np.asarray(Image.open(picture)))
    back = correct.read_edits(edits, flow)
    assert torch.equal(flow.generate(z(HELD), back), flow.generate(z(HELD), ground.edits(1.5)))
    assert shown.shape[1] == 824 and "10 of 60 labelled" in lines["state"]
    plain, _ = ground.draw(0)
    assert (plain != shown).any()


def test_bad_arguments(flow, tmp_path):
    for options, fault in (
        ({"held": [100, 300]}, r"got 2, 1 of them to label \[100\]"),
        ({"held": []}, "got 0"),
        ({"every": 0}, "at least 1, got 0"),
        ({"layer": 9}, "no layer 9"),
    ):
        with pytest.raises(ValueError, match=fault):
            Playground(flow, z, IDS, path=tmp_path / "l.csv", rater="ann", **({"held": HELD} | options))
