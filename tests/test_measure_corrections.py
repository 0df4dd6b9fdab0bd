import csv

import pytest
import torch

from helpers import domains, evaluation, units
from tools.measure.corrections import __main__ as tool
from tools.measure.corrections import sheets, ways


@pytest.fixture(scope="module")
def study():
    return ways.Study("churches", domains.TRAIN[:60])


@pytest.fixture(scope="module")
def held(study):
    return study.domain.split(domains.TEST)


def test_noise_goes_from_a_latent_to_another_as_long():
    z = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    noise = ways.Noise(32)
    assert torch.equal(noise.step(z, 0.0), z)
    for share in (0.3, 1.0):
        moved = noise.step(z, share)
        expected = (1 - share**2) ** 0.5 * z + share * (z @ noise.turn)
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(noise.step(z, 1.0).norm(dim=1), z.norm(dim=1), rtol=1e-4, atol=0)


def test_neighbours_are_bright_training_images_of_either_class(study, held):
    ids, domain = held[0][:3], study.domain
    bad, good = (evaluation.bright(domain, part) for part in domain.split(study.train))
    features = [domain.backbone.pooled(domain.images(part)) for part in (ids, bad, good)]
    latents = [domain.latents(part) for part in (bad, good)]
    expected = units.nearest_differences(domain.flow, *latents, [1], features, study.setting.near)
    found = study.neighbours(ids)
    assert not set(bad) & set(held[0]) and torch.equal(found[1], expected[1]) and found.ids == set(study.train)


def test_all_means_that_also_what_is_called_normal_must_reach_the_margin(study, held):
    ids = [*held[0][:4], *held[1][:8]]
    before = study.judge(study.domain.images(ids))
    some, every = (study.amounts(ids, all=each) for each in (False, True))
    called_normal, sure = before < 0, before < -study.setting.margin
    assert called_normal.any() and (~called_normal).any()
    assert not some[called_normal].any() and some[~called_normal].all()
    assert not every[sure].any() and torch.equal(some[~called_normal], every[~called_normal])
    images = study.ways[ways.SMALLEST](ids)
    left = study.domain.images([i for i, calm in zip(ids, called_normal.tolist()) if calm])
    assert torch.equal(images[called_normal], left)


def test_the_later_sitting_hides_what_it_shows_among_originals_and_normals(study, held, tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "ARTIFACTS", 4)
    monkeypatch.setattr(sheets, "NORMALS", 4)
    monkeypatch.setattr(sheets, "AGAIN", {"original": slice(0, 2), ways.SURE: slice(2, 4)})
    sheets.neighbour_sheets(study, tmp_path / "out", tmp_path / "keys")
    with open(tmp_path / "keys" / "neighbour_pictures.csv") as file:
        shown = [(int(row["id"]), row["method"]) for row in csv.DictReader(file)]
    a, n = held[0][:4], held[1][:2]
    expected = [(i, ways.SURE_NEAR) for i in (*a, *n)] + [(i, "original") for i in (*a[:2], *n)]
    assert sorted(shown) == sorted(expected + [(i, ways.SURE) for i in a[2:]]) and shown != expected
    with open(tmp_path / "keys" / "neighbour_pairs.csv") as file:
        pairs = list(csv.DictReader(file))
    assert sorted(int(row["id"]) for row in pairs) == sorted(a)
    assert {path.name for path in (tmp_path / "out" / "neighbour_pictures").iterdir()} == {"pictures-001.png"}


def test_sheets_need_a_folder_and_another_for_the_keys(capsys):
    with pytest.raises(SystemExit):
        tool.main(["churches", "neighbours", "--out", "sheets"])
    assert "--out and --key" in capsys.readouterr().err
