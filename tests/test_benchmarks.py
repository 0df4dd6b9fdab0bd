import re

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import compare, dissection, frechet, generation, met, painting, scale, scores, spread, surveys, why
from helpers import correct, env
from helpers.flow import Flow
from helpers.networks import pggan
from tests import networks
from tests.rounding import near


def test_compare_times_in_turns(monkeypatch):
    clock, called = [0.0], []
    monkeypatch.setattr("benchmarks.time.perf_counter", lambda: clock[0])

    def takes(name, seconds):
        def work():
            called.append(name)
            clock[0] += seconds.pop(0)

        return work

    found = compare(takes("slow", [6.0, 8.0, 100.0]), takes("fast", [3.0, 2.0, 1.0]), 3)
    assert found == (4, 8, 2) and called == ["slow", "fast"] * 3


def test_frechet_rows_compare_equal_results():
    found = list(frechet.rows(1, wide=40, narrow=12, sizes=(300, 30), units=10, tops=(4, 20)))
    assert [row[1] for row in found] == [10, 30, 50, 50, 50, 50]
    assert len({row[0] for row in found}) == 6
    for _, _, ratio, slow, fast, note in found:
        assert ratio > 0 and slow > 0 and fast > 0
        # The root of a singular product is good to about 1e-6 itself.
        assert float(note.split(";")[0].removeprefix("relative difference ")) < 1e-5
    assert "8 calls timed, times 1" in found[-1][-1]
    assert float(found[1][-1].split("ours ")[1].split(",")[0]) < 1e-9  # the few images' exact distance
    x, y = frechet._features(50, 6, 1), frechet._features(60, 6, 2)
    assert frechet.root_distance(x.numpy(), y.numpy()) == pytest.approx(
        frechet.metrics.frechet_distance(x, y), rel=1e-9
    )


def difference(note):
    """The number that a note says two ways differ by."""
    return float(re.search(r"difference (\S+?)(?:;|$)", note)[1])


@pytest.fixture
def flow():
    return Flow(pggan.Layers(networks.tiny_generator()))


def test_score_rows_compare_equal_scores():
    (row,) = scores.rows(1, images=5, channels=6, size=4, pixels=16)
    assert row[1] == ">= 100" and difference(row[5]) < 1e-5 and min(row[2:5]) > 0
    flow, z, masks, levels = scores.given(5, 6, 4, 16)
    found = scores.upsampled(flow, z, masks, levels)
    assert found.max() > 0 and masks.flatten(1).any(dim=1).all()
    # Written out for one image and unit, in float64.
    _, recorded = next(flow.stream(z, [1]))
    total = 0
    for h, mask in zip(recorded[1], masks.double()):
        active = (h[2] > 2.5758).double()[None, None]
        up = torch.nn.functional.interpolate(active, scale_factor=4, mode="bilinear")[0, 0]
        total += float(torch.minimum(up, mask).sum() / torch.maximum(up, mask).sum())
    assert float(found[2]) == pytest.approx(total / 5, abs=1e-6)


def test_generation_rows_compare_equal_images(flow):
    corrected, shifted, search, ours = generation.rows(1, flow, images=33)
    assert (corrected[1], ours[1]) == ("<= 1.05", ">= 1.3") and min(*corrected[2:5], *ours[2:5]) > 0
    assert (shifted[1], search[1]) == ("<= 1.05", "<= 2") and min(*shifted[2:5], *search[2:5]) > 0
    assert 1 < float(search[5].split(" amounts tried")[0]) < 9
    assert difference(corrected[5]) < 1e-4
    assert float(re.search(r"by (\S+) of their norm", ours[5])[1]) < 1e-4
    z = torch.randn(3, flow.latent, generator=torch.Generator().manual_seed(2))
    plain = generation.textbook(generation.plainly(flow.network.generator), z, batch=2)
    assert near(plain, flow.generate(z)) and plain.std() > 0.01
    edits = {2: correct.Scale(torch.linspace(0, 1, flow.units(2)))}
    assert near(generation.correct_by_hand(flow, z, edits), flow.generate(z, edits))


def test_painting_rows_time_each_move_of_a_drag(flow, monkeypatch):
    monkeypatch.setattr(painting, "MOVES", 3)
    found = list(painting.rows(2, flow))
    assert [row[0].rpartition(", ")[2] for row in found] == [
        "20 units of layer 1", "20 units of layer 4", "the shift of layer 1"
    ]  # fmt: skip
    for name, goal, ratio, allowed, taken, note in found:
        assert name.startswith("300 ms / a move of the brush") and goal == ">= 1" and allowed == 0.3
        assert (
            taken > 0
            and ratio == pytest.approx(0.3 / taken)
            and note.startswith("6 moves in 2 drags, generated, drawn")
        )


def test_survey_rows_compare_equal_thresholds(flow):
    z, masks = torch.randn(4, flow.latent), torch.ones(4, 16, 16, dtype=torch.bool)
    found = list(surveys.rows(1, flow, 70, z, masks))
    assert [row[1] for row in found] == ["<= 1.15", None, "<= 1.5"]
    assert difference(found[0][5]) < 1e-4  # torch.quantile finds its rank in float32


def test_a_missed_survey_says_what_no_survey_can_spare(flow, monkeypatch):
    seen, z = [], torch.randn(40, flow.latent)
    monkeypatch.setattr(surveys, "peaks", lambda h: seen.append(h.numel()))
    surveys.read(flow, z)
    assert sum(seen) == sum(flow.record(z, [layer])[layer].numel() for layer in flow.layers)
    monkeypatch.setattr(surveys, "PASS", "<= 0")
    note = surveys.over_generation(1, flow, z, lambda: flow.generate(z), lambda: None)[5]
    assert re.search(r"; \d+\.\d\d is what generating and one look at every activation take", note)


def test_dissection_rows_say_what_the_segmentation_costs(flow, monkeypatch):
    network = torch.nn.Conv2d(3, 2, 1).requires_grad_(False)

    def segment(images):
        return network(images).argmax(dim=1)

    monkeypatch.setattr(dissection, "peak", lambda images, what: (100.0 + images / 100, 90.0, 1.0))
    found = list(dissection.rows(1, flow, segment, ("one", "other"), images=20, sizes=(100, 200)))
    assert [row[1] for row in found] == [None, "<= 2", "<= 2", "<= 1.05"]
    assert all(min(row[2:5]) > 0 for row in found) and found[3][2] == 102 / 101
    assert dissection.operations(lambda: segment(torch.zeros(5, 3, 16, 16))) == 2 * 5 * 256 * 3 * 2
    assert found[0][5].startswith("0.00 and ") and found[0][5].endswith("GFLOP an image")


def test_spread_rows_compare_equal_thresholds(flow, monkeypatch):
    monkeypatch.setattr(spread, "peak", lambda images: (100.0 + images / 100, 90.0, 1.0))
    threads = torch.get_num_threads()
    memory, workers = spread.rows(1, flow, sizes=(100, 200), spread=30)
    assert torch.get_num_threads() == threads
    assert memory[1:5] == ("<= 1.05", 102 / 101, 1, 1) and "101 and 102 MiB" in memory[5]
    assert workers[1] is None and difference(workers[5]) < 1e-4


def test_memory_is_measured_in_a_process_of_its_own():
    held = torch.ones(2**28)  # 1 GiB here is not to count there
    most, before, took = spread.peak(30)
    assert 50 < before <= most < spread.used() - 500 and took > 0 and held.sum() > 0


def test_goals_are_judged_and_misses_explained():
    assert met(1.1, "<= 1.15") and not met(1.2, "<= 1.15") and met(12, 10) and not met(9, ">= 10")
    assert met(5, None) is None and why(print, 5, None) == why(print, 11, 10) == ""

    def slowest():
        return sorted(range(200_000), key=lambda i: -i)

    assert re.search(r"; its time: .*sorted \d+ %", why(slowest, 9, 10))


def test_the_page_keeps_what_was_not_measured_again(tmp_path):
    page = tmp_path / "benchmarks.md"
    rows = [
        ("a / b", "<= 1.05", 1.2, 6.0, 5.0, "why"),
        ("c / d", 10, 1234.5, 0.5, 0.004, ""),
        ("e / f", None, 2.0, 2, 1, ""),
    ]
    text = "\n".join(bench.lines(rows))
    assert "| a / b | <= 1.05 | **1.2** | 6 / 5 | why |" in text and "| c / d | >= 10 | 1234 | 0.5 / 0.004 |  |" in text
    assert "| e / f |  | 2 | 2 / 1 |  |" in text
    bench.write(page, {"Generation": "stale\n", "Survey": text})
    bench.write(page, {"Generation": "new\n"})
    found = page.read_text()
    assert found.startswith("# Benchmarks") and "stale" not in found and text.strip() in found
    assert found.index("## Survey") < found.index("## Generation\n\nnew")
    assert f"torch {torch.__version__}" in bench.machine()


def test_scale_counts_the_work_and_the_page_says_it():
    flops, traffic, sizes = scale.counted((6, 4), batch=2)
    # Multiplications and additions: kernel area x inputs x outputs x positions. Layer 1 pads one position to 4x4.
    assert sizes == [6 * 16, 6 * 16, 4 * 64, 4 * 64]
    assert flops == 2 * (16 * 6 * 6 * 16 + 9 * 6 * 6 * 16 + 9 * 6 * 4 * 64 + 9 * 4 * 4 * 64 + 4 * 3 * 64)
    assert traffic > 4 * 2 * sum(sizes)
    sizes = 4 * 3200, 4 * 2000, 12 * 300  # what the brackets ask for, a little less, and bins where it is far too much
    for capacity, size in zip((10_000, 2000, 300), sizes):
        found = scale.bracket(1000, images=400, tau=0.005, width=16, capacity=capacity)
        assert found == (pytest.approx(size), capacity == 300)
    page = (env.ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    missing = [line for line in scale.tables() if line not in page]
    assert not missing, f"run `python -m benchmarks.scale` and put its tables into docs/scale.md: {missing}"
