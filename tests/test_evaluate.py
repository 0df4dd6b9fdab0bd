import json
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from helpers import classifier, concepts, domains, env, evaluation, survey
from helpers.worlds import churches
from tools.measure.evaluate import __main__ as evaluate
from tools.measure.evaluate import grid, options, raters, results, rows, settings, study, ways


@pytest.fixture(scope="module")
def small():
    """A study of few images."""
    domain = domains.load("churches")
    pool = domain.latents(domains.POOL[:40])
    tops = survey.top_images(domain.flow, pool, settings.TOP + 5, [1, 4])
    return SimpleNamespace(domain=domain, flow=domain.flow, pool=pool, tops=tops)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "evaluation")
    return tmp_path / "evaluation"


def test_settings_are_chosen_by_gain_and_harm():
    columns = ["method", "stop_layer", "portion", "scale", "fd", "fd_normals", "moved_artifacts"]
    table = [
        ("untouched", 0, 0, 0, 50, 20, 0),
        ("sequential", 1, 0.1, 0.9, 40, 24, 0.3),  # 44
        ("sequential", 1, 0.2, 0.9, 38, 30, 0.5),  # 48: better on artifacts, but dearer
        ("sequential", 2, 0.1, 0.5, 45, 10, 0.4),  # 45: what normals gain does not count
        ("noise", 0, 0.2, 0, 39, 22, 0.2),
        ("noise", 0, 0.3, 0, 35, 22, 0.35),
    ]
    table = pd.DataFrame(table, columns=columns)
    assert grid.chosen(table, "sequential") == (1, 0.1, 0.9)
    assert grid.chosen(table, "noise") == (0, 0.3, 0)


def test_a_part_is_written_whole_and_leaves_no_row_of_an_earlier_run(folder):
    results.store("nights", {"nights": [{"row": "a", "value": 1.234567}, {"row": "b", "value": 2.0}]})
    assert results.read("nights").value.tolist() == [1.23457, 2.0]
    results.store("nights", {"nights": [{"row": "c", "value": 3.0}]})
    assert results.read("nights").row.tolist() == ["c"]
    with pytest.raises(ValueError, match="part table gave the tables table: name them in FILES"):
        results.store("table", {"table": []})


def test_a_part_is_done_while_weights_labels_and_settings_are_the_same(folder, monkeypatch):
    assert not results.done("table")
    rows = [{"row": "a"}]
    results.store("table", {"table": rows, "parts": rows})
    results.store("nights", {"nights": rows})
    assert results.done("table") and results.done("nights") and not results.done("grid")
    (folder / "parts.csv").unlink()
    assert not results.done("table")
    monkeypatch.setattr(settings, "DRAWS", 3)
    assert not results.done("nights")
    results.store("grid", {"grid": rows})
    assert results.done("grid") and not results.done("nights")
    note = json.loads((folder / "inputs.json").read_text())
    assert note["parts"] == ["grid"] and note["settings"]["DRAWS"] == 3
    assert set(note["files"]) >= {"generator.safetensors", "labels.csv"}


def test_what_is_done_is_skipped_and_the_grid_comes_first(folder, monkeypatch, capsys):
    asked = []

    def part(name):
        return lambda study: asked.append(name) or {name: [{"study": study}]}

    monkeypatch.setattr(evaluate, "PARTS", {name: part(name) for name in ("grid", "nights", "agreement")})
    monkeypatch.setattr(evaluate, "Study", lambda: "the study")
    assert list(evaluate.run(["agreement"])) == asked == ["agreement"]
    assert list(evaluate.run(["nights", "agreement"])) == ["grid", "nights"]
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("grid: done in ") and said[3].startswith("agreement: is there already")
    assert evaluate.run(evaluate.PARTS) == {} and asked == ["agreement", "grid", "nights"]


def test_drawing_towards_the_mean():
    mean, h = torch.ones(3, 2, 2), torch.full((4, 3, 2, 2), 3.0)
    assert torch.equal(ways.Towards(mean, 1.0)(h), h)
    assert torch.equal(ways.Towards(mean, 0.5)(h), torch.full_like(h, 2.0))
    assert study.spread([1, 2, 3, 4, 5, 6], 3) == [1, 3, 5] and study.spread([1, 2], 9) == [1, 2]


def test_rare_neurons_fire_in_few_images_but_in_some(small):
    found = study.Study.rare.func(small)
    assert list(found) == list(settings.RARE_LAYERS)
    counts = (small.flow.record(small.pool, [2])[2] > 0).sum(dim=0)
    assert torch.equal(found[2], (counts >= 1) & (counts <= 12)) and found[2].any() and not found[2].all()


def test_scores_of_representative_images(small, layer=4):
    asked = [options.representative_scores(small, [layer], place)[layer] for place in ("layer", "latent", "picture")]
    top = survey.top_images(small.flow, small.pool, settings.TOP, [layer])[layer][5]
    images = small.flow.generate(small.pool[top]).clamp(-1, 1)
    by_hand = (
        concepts.representative_image(small.flow, small.pool[top], layer),
        small.flow.generate(small.pool[top].mean(dim=0, keepdim=True)),
        images.mean(dim=0, keepdim=True),
    )
    for scores, image in zip(asked, by_hand):
        features = small.domain.backbone.pooled(image)
        expected = classifier.predict(small.domain.head, features)[0, classifier.ARTIFACT]
        assert scores.shape == (small.flow.units(layer),) and scores.min() >= 0 and scores.max() <= 1
        assert scores[5] == pytest.approx(float(expected), abs=1e-4)


def test_lit_windows_are_counted_among_the_windows(small):
    ids = [i for i, f in enumerate(churches.factors(range(60))) if f.lit][:3] + [0, 1, 2]
    images, labels = small.domain.render(ids)
    found = study.counted(small.domain, images.float() / 127.5 - 1)
    k = small.domain.classes.index("window")
    assert torch.equal(found[:, :-1], evaluation.parts(small.domain, images.float() / 127.5 - 1))
    lit = torch.tensor([f.lit for f in churches.factors(ids)])
    assert (found[lit, -1] > 0.5 * found[lit, k]).all() and (found[~lit, -1] < 0.2 * found[~lit, k] + 5).all()


def test_draws_are_summed_up_by_their_mean_and_range():
    assert rows.spanned([3.0, 1.0, 5.0]) == (3.0, 1.0, 5.0)
    value, low, high = rows.share(torch.tensor([True, False, False, False]))
    assert value == 0.25 and 0.04 < low < 0.06 and 0.69 < high < 0.71


def test_two_raters_on_a_type():
    table = [{"label": "artifact", "type": t} for t in ("stain", "outline", "stain")] + [
        {"label": "normal", "type": ""}
    ]
    assert raters.said(table, "stain").tolist() == [1, 0, 1, 0] and raters.said(table, "class").tolist() == [1, 1, 1, 0]
    first, second = torch.tensor([1, 1, 0, 0, 1, 0]), torch.tensor([1, 0, 0, 0, 1, 1])
    found = raters.agreed(first, second)
    assert (found["n"], found["first"], found["second"]) == (6, 3, 3) and found["agree"] == pytest.approx(4 / 6)
    assert found["kappa"] == pytest.approx((4 / 6 - 0.5) / 0.5)
    assert pd.isna(raters.agreed(first, torch.zeros(6, dtype=torch.long))["kappa"])


MEASURES = sorted((env.ROOT / "tools" / "measure").glob("*/*.py"))


@pytest.mark.parametrize("path", MEASURES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_tools_of_several_modules_keep_them_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 250
