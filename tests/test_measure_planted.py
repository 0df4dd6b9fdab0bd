from collections import Counter

import pandas as pd
import pytest
import torch

from helpers.worlds import planted
from tools.measure.planted import __main__ as tool
from tools.measure.planted import settings, shared
from tools.measure.planted.measure import masking, measure, ranking_rows
from tools.measure.planted.summary import summary

MIDDLE = settings.STRENGTHS[0], settings.RATES[0]


def test_every_setting_has_twenty_plantings():
    found = settings.conditions(range(20))
    assert len(found) == len({c[:5] for c in found}) == 140
    assert [c[5] for c in found] == [True] * 20 + [False] * 120
    assert all(c[3:5] == MIDDLE for c in found if c[5])
    assert Counter(c[2] for c in found if c[3:5] == MIDDLE) == dict.fromkeys(planted.KINDS, 20)
    off = Counter(c[3:5] for c in found if c[3:5] != MIDDLE)
    strengths = {(s, MIDDLE[1]): 20 for s in settings.STRENGTHS[1:]}
    assert off == strengths | {(MIDDLE[0], r): 20 for r in settings.RATES[1:]}
    assert {c[1] for c in found} == {3, 4, 5, 6, 7}


def rows_of(condition):
    return [("finding", "DS", "exact", 200, "planted layer", "average precision", condition[0] / 3)]


def test_the_run_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "FIRST", 0)
    out = tmp_path / "planted.csv"
    todo = tool.missing(tool.read(out), 2)
    assert len(todo) == 14

    def stopped():
        yield from map(rows_of, todo[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tool.gather(tool.read(out), todo, stopped(), out)
    left = tool.missing(tool.read(out), 2)
    assert left == todo[3:]
    tool.gather(tool.read(out), left, map(rows_of, left), out)
    table = tool.read(out)
    assert len(table) == 14 and tool.missing(table, 2) == [] and list(table.columns) == settings.COLUMNS
    assert table.value.dtype == float and set(table.value) == {0.0, 0.3333}
    assert table.equals(table.sort_values(settings.KEYS, kind="stable"))
    assert [path.name for path in tmp_path.iterdir()] == ["planted.csv"]


def test_a_setting_that_cannot_be_planted_is_told_and_not_tried_again(monkeypatch):
    tried = []

    def refuses(flow, z, layers, count, kind, strength, rate, seed):
        tried.append(seed)
        raise ValueError("too few units")

    monkeypatch.setattr(planted, "plant", refuses)
    monkeypatch.setitem(shared.SHARED, "domain", type("Domain", (), {"flow": None}))
    monkeypatch.setitem(shared.SHARED, "plant", None)
    assert measure((7, 3, "stain", 4.0, 0.2, False)) == [("planting", "", "", 0, "", "refused", shared.TRIES)]
    assert tried == [7 + 1000 * n for n in range(shared.TRIES)]


def test_findings_are_average_precisions_by_scope():
    class Flow:
        def units(self, layer):
            return 4

    class Planting:
        flow, units = Flow(), {3: (0, 1)}

    scores = {layer: torch.zeros(4) for layer in settings.LAYERS}
    scores[3] = torch.tensor([0.9, 0.2, 0.5, 0.1])  # planted ones come first and third
    scores[4] = torch.full((4,), 2.0)  # what lies behind shows the defect even better
    rows = {(r[1], r[4]): r[6] for r in ranking_rows(Planting, 3, {("DS", "exact", 200): scores})}
    assert rows["DS", "planted layer"] == pytest.approx((1 + 2 / 3) / 2)
    assert rows["DS", "up to the planted layer"] == pytest.approx((1 + 2 / 3) / 2)
    assert rows["DS", "all layers"] == pytest.approx((1 / 5 + 2 / 7) / 2)
    alone = ranking_rows(Planting, 3, {("ablation effect", "firm", 200): {3: scores[3]}})
    assert [r[4] for r in alone if r[1] == "ablation effect"] == ["planted layer"]
    assert 0.3 < rows["random", "planted layer"] < 0.9 and rows["random", "all layers"] < 0.4


def test_masks_are_compared_with_the_exact_regions():
    inside = torch.zeros(2, 4, 4, dtype=torch.bool)
    inside[:, :2] = True

    class Learned:
        def cams(self, maps, images, name):
            cams = torch.zeros(2, 4, 4)
            cams[0, 0], cams[1, 3] = 1.0, 1.0  # a row inside the first region, a row outside the second
            return cams

    class Test:
        images, regions = torch.zeros(2, 3, 4, 4), inside

    rows = {(r[2], r[5]): r[6] for r in masking(Test, torch.arange(2), None, {200: Learned()}, ["firm"])}
    assert rows == {
        ("firm", "pointing game"): 0.5,
        ("firm", "IoU"): 0.25,
        ("firm", "area"): 0.25,
        ("exact", "area"): 0.5,
    }


def test_the_summary_counts_seeds_and_compares_strengths_on_the_same_plantings():
    def row(seed, kind, strength, value, part="finding"):
        return (
            seed,
            3,
            kind,
            strength,
            MIDDLE[1],
            part,
            "DS",
            "exact",
            200,
            "planted layer",
            "average precision",
            value,
        )

    rows = [row(seed, kind, 6.0, v) for kind, v in (("stain", 1.0), ("missing", 0.5)) for seed in (100, 101)]
    rows += [row(seed, "stain", 6.0, 0.0, "correction") for seed in (100, 101)]  # these are the ones in full
    rows += [row(100, "stain", 4.0, 0.2), row(101, "stain", 4.0, 0.4)]
    found = summary(pd.DataFrame(rows, columns=settings.COLUMNS))
    found = found[found.part == "finding"].set_index("split")[["mean", "seeds"]]
    assert (
        found.loc["in full"].tolist() == found.loc["stain"].tolist() == found.loc["strength 6.0"].tolist() == [1.0, 2]
    )
    assert found.loc["missing"].tolist() == [0.5, 2]
    assert found.loc["strength 4.0"].tolist() == pytest.approx([0.3, 2])
