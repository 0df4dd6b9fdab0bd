import json

import pytest

from tools.build import times


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "5 s"), (4.9, "5 s"), (5.6, "10 s"), (87.2, "90 s"), (99.4, "100 s"), (101, "110 s")]
)
def test_times_are_rounded_up_as_people_say_them(seconds, said):
    assert times.written(seconds) == said


def test_many_seconds_together_are_minutes():
    assert [times.together(seconds) for seconds in (61, 119, 121, 620)] == ["65 s", "120 s", "2 minutes", "10 minutes"]


@pytest.mark.parametrize("processor", ["AMD EPYC", "Intel(R) Xeon(R)"])
def test_where_fits_any_processor(processor):
    row = {"cores": 2, "processor": processor, "device": "cpu"}
    assert times.where(row) == f"2 cores ({processor})"
    assert times.where(row | {"cores": 1, "device": "cuda"}) == f"1 core ({processor}) and a GPU (cuda)"


def test_what_to_expect_follows_from_how_fast_the_machine_generates(tmp_path, monkeypatch):
    monkeypatch.setattr(times, "FILE", tmp_path / "times.json")
    monkeypatch.setenv("SMOKE", "0")
    assert times.expected("01_small", 100) is None
    row = {"seconds": 30, "quick_seconds": 4, "images_per_s": 900}
    (tmp_path / "times.json").write_text(json.dumps({"01_small": row, "02_old": {}}))
    assert times.expected("01_small", 300) == 90 and times.expected("02_old", 300) is None
    monkeypatch.setenv("SMOKE", "1")
    assert times.expected("01_small", 300) == 12 and times.expected("02_old", 300) is None


def test_a_machine_generates_some_images_a_second():
    assert times.speed() > 1
