import copy

import numpy as np
import pytest
import torch

from helpers import store, survey
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import stylegan2
from helpers.networks.pggan import Layers
from helpers.streaming import partials
from tests.networks import Canvas, tiny_generator
from tests.surveys import assert_same


@pytest.fixture(scope="module")
def flow():
    return Flow(Layers(tiny_generator()), batch=8)


@pytest.fixture(scope="module")
def z():
    return latents(range(70), 9)


def saved(flow, z, folder, pieces, **options):
    """Survey the pieces as different machines would; returns the files."""
    files = [folder / f"{begin}.safetensors" for begin, _ in pieces]
    for file, (begin, stop) in zip(files, pieces):
        survey.part(flow, z[begin:stop], file, first=begin, k=5, **options)
    return files


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("pieces", [[(0, 70)], [(0, 40), (40, 70)], [(0, 3), (3, 50), (50, 70)]])
def test_parts_of_several_machines_merge_into_what_one_would_find(flow, z, tmp_path, pieces, order):
    files = saved(flow, z, tmp_path, pieces)
    assert_same(survey.merge(files[::order]), survey.survey(flow, z, k=5))


def test_a_part_takes_every_option_of_a_survey(flow, z, tmp_path):
    levels = {layer: torch.full((flow.units(layer),), 0.2) for layer in (2, 4)}
    options = {"tau": 0.1, "above": levels, "by": "mean", "layers": [2, 4]}
    files = saved(flow, z, tmp_path, [(0, 40), (40, 70)], map=map, resume=tmp_path / "kept", **options)
    assert_same(survey.merge(map(str, files)), survey.survey(flow, z, k=5, **options))
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_images_that_come_twice_or_are_missing_are_named(flow, z, tmp_path):
    with pytest.raises(ValueError, match="images 30 to 39 come twice in 0.safetensors and 30.safetensors: survey each"):
        survey.merge(saved(flow, z, tmp_path, [(0, 40), (30, 70)]))
    with pytest.raises(ValueError, match="images 5 to 19 come twice in 0.safetensors and 5.safetensors"):
        survey.merge(saved(flow, z, tmp_path, [(0, 40), (5, 20)]))
    with pytest.raises(ValueError, match="images 40 to 49 are missing: survey them, then merge all parts"):
        survey.merge(saved(flow, z, tmp_path, [(0, 40), (50, 70)]))


def test_the_same_latents_under_other_numbers_are_found(flow, z, tmp_path):
    files = [tmp_path / "one", tmp_path / "two"]
    survey.part(flow, z[:40], files[0])
    survey.part(flow, z[38:60], files[1], first=40)  # numbered right, but two latents were drawn already
    with pytest.raises(ValueError, match="one and two have 2 latents in common: survey each image once"):
        survey.merge(files)
    twice = torch.cat([z[:20], z[:20]])  # on purpose, within one part
    survey.part(flow, twice, files[0])
    survey.part(flow, z[40:60], files[1], first=40)
    assert survey.merge(files).images == 60


def test_the_number_of_a_parts_first_image_is_an_id(flow, z, tmp_path):
    for first in (1.5, -1, True, "4"):
        with pytest.raises(ValueError, match=f"image ids must be integers from 0 to .*, got {first!r}"):
            survey.part(flow, z[:6], tmp_path / "part", first=first)
    assert not list(tmp_path.iterdir())


def test_parts_of_other_weights_are_refused(flow, z, tmp_path):
    other = copy.deepcopy(flow)
    with torch.no_grad():
        other.network.generator.layer2.weight[0, 0, 0, 0] += 1e-6
    files = saved(flow, z, tmp_path, [(0, 40)]) + saved(other, z, tmp_path, [(40, 70)])
    names = "40.safetensors was made with other weights .* than 0.safetensors .*: survey all with the same generator"
    with pytest.raises(ValueError, match=names):
        survey.merge(files)


@pytest.mark.parametrize("option", [{"tau": 0.1}, {"by": "norm"}, {"layers": [1]}])
def test_parts_that_answer_another_question_are_refused(flow, z, tmp_path, option):
    files = saved(flow, z, tmp_path, [(0, 40)]) + saved(flow, z, tmp_path, [(40, 70)], **option)
    with pytest.raises(ValueError, match=r"40.safetensors was made with another \w+ than 0.safetensors"):
        survey.merge(files)


def test_merging_nothing_a_damaged_or_a_missing_file_is_refused(flow, z, tmp_path):
    with pytest.raises(ValueError, match="nothing to merge"):
        survey.merge([])
    (file,) = saved(flow, z, tmp_path, [(0, 70)])
    with pytest.raises(OSError):
        survey.merge([tmp_path / "absent"])
    whole = bytearray(file.read_bytes())
    whole[-100] ^= 1
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="checksum"):
        survey.merge([file])


def test_more_top_images_than_all_parts_have_are_refused(flow, z, tmp_path):
    survey.part(flow, z[:4], tmp_path / "one", k=9)
    with pytest.raises(ValueError, match="top 9 of 4 images"):
        survey.merge([tmp_path / "one"])
    survey.part(flow, z[4:10], tmp_path / "two", first=4, k=9)
    assert survey.merge([tmp_path / "one", tmp_path / "two"]).top[1].shape == (12, 9)


def test_parts_too_unlike_for_their_brackets_say_so(monkeypatch, tmp_path):
    h = torch.rand(400, 2, 4, 4, generator=torch.Generator().manual_seed(4))
    h[200:] *= 1e-3  # all of the tail is in the first part, far above what its own bracket keeps
    flow, z = Flow(Canvas(2, 4)), h.flatten(1)
    monkeypatch.setattr(survey, "WIDTH", 2.0)
    files = [tmp_path / "one", tmp_path / "two"]
    for file, begin in zip(files, (0, 200)):
        survey.part(flow, z[begin : begin + 200], file, first=begin, tau=0.05, layers=[1])
    with pytest.raises(ValueError, match="do not tell the thresholds of layer 1: hand `merge` the generator and all"):
        survey.merge(files)
    with pytest.raises(ValueError, match="are not those of the parts"):
        survey.merge(files, flow, z[:300])
    for others in (z + 1, None):
        with pytest.raises(ValueError, match="are not those of the parts"):
            survey.merge(files, flow, others)
    expected = torch.quantile(h.transpose(0, 1).flatten(1).double(), 0.95, dim=1)
    merged = survey.merge(files, flow, z).thresholds[1]
    torch.testing.assert_close(merged.double(), expected, rtol=1e-6, atol=1e-7)
    monkeypatch.setattr(survey, "SHARD", 200)
    found = survey.survey(flow, z, tau=0.05, layers=[1], map=lambda *a: map(*a))  # has the flow, so it looks again
    torch.testing.assert_close(found.thresholds[1].double(), expected, rtol=1e-6, atol=1e-7)


def test_weights_are_hashed_by_value(flow):
    same, other = Flow(Layers(tiny_generator()), batch=3), Flow(Layers(tiny_generator()))
    assert partials.weights(flow) == partials.weights(same) and len(partials.weights(flow)) == 64
    with torch.no_grad():
        other.network.generator.layer0.bias[0] += 1
    assert partials.weights(other) != partials.weights(flow)
    generator = stylegan2.Generator((8, 6), 5, 5, 1)
    cut = [partials.weights(Flow(stylegan2.Layers(generator, truncation))) for truncation in (1.0, 0.7, 0.7)]
    assert cut[0] != cut[1] == cut[2]
    assert partials.weights(flow.autocast()) != partials.weights(flow)


def test_marks_tell_latents_apart():
    z = latents(range(500), 9)
    assert len(partials.marks(z)) == 500 and len(partials.marks(torch.cat([z, z[:10]]))) == 500
    assert set(partials.marks(z[:10])) < set(partials.marks(z.flip(0)))
    assert not np.intersect1d(partials.marks(z), partials.marks(z + 1)).size


def test_a_part_is_a_file_without_pickle(flow, z, tmp_path):
    (file,) = saved(flow, z, tmp_path, [(0, 70)])
    content = store.read(file)
    assert content["asked"]["tau"] == 0.005 and (content["start"], content["stop"]) == (0, 70)
    assert set(content["stats"]) == set(flow.layers)
