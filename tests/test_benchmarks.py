import pytest

from benchmarks import compare, frechet


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
