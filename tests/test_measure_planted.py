from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from helpers import units
from helpers.evidence import ground_truth
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from helpers.worlds import planted
from tests.networks import tiny_generator
from tools.measure.planted import __main__ as tool
from tools.measure.planted import corrections, finding, settings, shared, shifting
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
    return [settings.Row("finding", "average precision", condition[0] / 3, "DS", "exact", 200, "planted layer")]


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
        raise planted.Refused("too few units")

    monkeypatch.setattr(planted, "plant", refuses)
    monkeypatch.setitem(shared.SHARED, "domain", type("Domain", (), {"flow": None}))
    monkeypatch.setitem(shared.SHARED, "plant", None)
    for how in (measure, shifting.measure):
        tried.clear()
        assert how((7, 3, "stain", 4.0, 0.2, False)) == [settings.Row("planting", "refused", shared.TRIES)]
        assert tried == [7 + 1000 * n for n in range(shared.TRIES)]


def test_a_mistake_is_not_taken_for_a_refusal(monkeypatch):
    def breaks(*given, **named):
        raise ValueError("latents must have shape (B, 128), got (B, 9)")

    monkeypatch.setattr(planted, "plant", breaks)
    monkeypatch.setitem(shared.SHARED, "domain", type("Domain", (), {"flow": None}))
    monkeypatch.setitem(shared.SHARED, "plant", None)
    with pytest.raises(ValueError, match="latents must have shape"):
        measure((7, 3, "stain", 4.0, 0.2, False))


def test_findings_are_average_precisions_by_scope():
    class Flow:
        def units(self, layer):
            return 4

    class Planting:
        flow, units = Flow(), {3: (0, 1)}

    scores = {layer: torch.zeros(4) for layer in settings.LAYERS}
    scores[3] = torch.tensor([0.9, 0.2, 0.5, 0.1])  # planted ones come first and third
    scores[4] = torch.full((4,), 2.0)  # what lies behind shows the defect even better
    rows = {(r.method, r.scope): r.value for r in ranking_rows(Planting, 3, {("DS", "exact", 200): scores})}
    assert rows["DS", "planted layer"] == pytest.approx((1 + 2 / 3) / 2)
    assert rows["DS", "up to the planted layer"] == pytest.approx((1 + 2 / 3) / 2)
    assert rows["DS", "all layers"] == pytest.approx((1 / 5 + 2 / 7) / 2)
    alone = ranking_rows(Planting, 3, {("ablation effect", "firm", 200): {3: scores[3]}})
    assert [r.scope for r in alone if r.method == "ablation effect"] == ["planted layer"]
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

    rows = {(r.masks, r.measure): r.value for r in masking(Test, torch.arange(2), None, {200: Learned()}, ["firm"])}
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


class Everywhere:
    """Masks that are learned from nothing: the whole image, or nothing of it."""

    def __init__(self, value=1.0):
        self.value = value

    def cams(self, maps, images, name):
        return torch.full((len(images), *images.shape[2:]), self.value)


@pytest.fixture
def small(monkeypatch):
    """A planting in a random generator of six layers, with what is known of ranked and of held-out images."""
    for module in (corrections, shifting, finding):
        monkeypatch.setattr(module, "LAYERS", range(1, 7))
    monkeypatch.setitem(shared.SHARED, "domain", SimpleNamespace(maps=lambda images: images))
    flow, z = Flow(pggan.Layers(tiny_generator())), latents(range(120), 9)
    planting = planted.plant(flow, z, (4,), 2, strength=20.0, area=(0, 1))

    def seen(ids):
        z = latents(ids, 9)
        found = SimpleNamespace(z=z, truth=flow.generate(z), images=planting.flow.generate(z), fires=planting.fires(z))
        found.regions = planted.regions(found.images, found.truth)
        found.artifact = found.regions.float().mean(dim=(1, 2)) > planted.SIZE
        return found

    return planting, seen(range(200, 260)), seen(range(300, 360))


def made_up(flow, masks):
    """Scores by every method, without those by learned masks if there are none."""
    scores = {("DS", "exact", 200): 0, ("FD", "", 0): 1, ("activation rate", "", 0): 2}
    scores |= {("DS", "firm", 200): 3, ("ablation effect", "firm", 200): 4} if masks else {}
    return {name: units.random_scores(flow, seed, range(1, 7)) for name, seed in scores.items()}


@pytest.mark.parametrize("masks", [True, False])
def test_corrections_go_on_without_learned_masks(small, masks):
    planting, rank, test = small
    shown = test.artifact.nonzero().flatten()[:8]
    given = made_up(planting.flow, masks), Everywhere(float(masks)), rank, rank.images, test, shown, test.images[shown]
    rows = corrections.corrections(planting, 4, *given)
    found = {(r.method, r.scope): r.value for r in rows if r.measure == "PSNR"}
    assert len(rows) == 5 * (13 if masks else 7) and all(r.part == "correction" and r.labels == 200 for r in rows)
    assert ({name for name, _ in found} >= {"sequential", "local, tuned on the truth"}) == masks
    truth = ground_truth.psnr(test.images[shown], test.truth[shown]).clamp_max(99).mean()
    assert found["none", "image"] == pytest.approx(float(truth), rel=1e-5) and found["none", "normal images"] == 99
    left = {r.method: r.value for r in rows if r.measure == "defect left"}
    assert left["none"] == 1 and left["ablate the planted units"] < 0.9


def test_a_shift_of_planted_units_is_found_and_measured(small, monkeypatch):
    planting, rank, test = small
    found = shifting.differences(planting.flow, rank, 50)
    bad, good = ((rank.artifact, ~rank.fires)[i] & (torch.arange(60) < 50) for i in (0, 1))
    by_hand = units.differences(planting.flow, rank.z[bad], rank.z[good], range(1, 7))
    assert found.counts == by_hand.counts and torch.equal(found[4], by_hand[4])
    scores = shifting.scored(found)
    s = found.standardised()[4].abs()
    assert float(scores["|D| / s, largest of the places"][4][3]) == float(s[3].max())
    signed, unsigned = scores["D / s, unit mean"][4], scores["|D| / s, unit mean"][4]
    assert torch.equal(signed.abs(), unsigned) and (signed < 0).any()
    ways = shifting.ways(planting, 4, found, rank)
    shown = test.artifact.nonzero().flatten()[:8]
    rows = corrections.likeness(planting.flow, ways, Everywhere(), test, shown, test.images[shown])
    found = {(r.method, r.scope): r.value for r in rows if r.measure == "PSNR"}
    assert len(rows) == 5 * len(ways) and found["none", "normal images"] == 99
    assert found["ablate the planted units in exact masks", "image"] > found["none", "image"] + 1
    assert found["shift of layer 1", "normal images"] < 99


def test_rankings_without_masks(small, monkeypatch):
    planting, rank, _ = small
    monkeypatch.setattr(shifting, "LABELS", (50,))
    found = shifting.rankings(planting.flow, rank)
    rates = (planting.flow.record(rank.z, [4])[4] > 0).float().mean(dim=0)
    share = ((rates > 0) & (rates <= 0.3)).float().mean(dim=(1, 2))
    assert (found["places where it is rare", 0][4] - share).abs().max() <= 1.01 / rates[0].numel()
    by_difference = shifting.scored(shifting.differences(planting.flow, rank, 50))
    for name, scores in by_difference.items():
        assert torch.equal(found[name, 50][4], scores[4])
    assert set(found) == {("places where it is rare", 0), *((name, 50) for name in by_difference)}
