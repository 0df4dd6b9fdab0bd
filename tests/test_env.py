import io
import json
import random
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import helpers
from helpers import env


def test_device_follows_the_variable_and_the_reference_is_always_there(monkeypatch):
    monkeypatch.setenv("HELPERS_DEVICE", "cpu")
    assert env.device() == torch.device("cpu")
    assert env.devices()[0] == "cpu"


def test_device_prefers_what_is_faster(monkeypatch):
    monkeypatch.delenv("HELPERS_DEVICE", raising=False)
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert env.device().type == expected


@pytest.mark.parametrize("name", ["gpu", "meta", "cpu:x"])
def test_unknown_device_is_refused(monkeypatch, name):
    monkeypatch.setenv("HELPERS_DEVICE", name)
    with pytest.raises(ValueError, match="expected cpu, cuda, cuda:N or mps: correct or unset it"):
        env.device()


@pytest.mark.parametrize("name", ["cuda:99", "mps"])
def test_absent_device_is_refused(monkeypatch, name):
    monkeypatch.setenv("HELPERS_DEVICE", name)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="only sees .*unset it or install the torch built for that device"):
        env.device()


def test_every_device_present_computes(device):
    assert env.device().type == device.type
    assert float(torch.ones(3, device=env.device()).sum()) == 3


@pytest.mark.parametrize(("switch", "expected"), [("1", 64), ("0", 2000), ("", 2000), (None, 2000)])
def test_scaled_follows_the_smoke_switch(monkeypatch, switch, expected):
    monkeypatch.delenv("SMOKE", raising=False)
    if switch is not None:
        monkeypatch.setenv("SMOKE", switch)
    assert env.scaled(2000, 64) == expected


def test_start_seeds_styles_and_says_where_it_runs(monkeypatch, capsys):
    monkeypatch.setenv("SMOKE", "1")
    draws = []
    for _ in range(2):
        assert env.start("99", seed=3) == env.device()
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
    assert draws[0] == draws[1]
    env.start("99", seed=4)
    assert torch.rand(1).item() != draws[0][2]
    assert torch.get_float32_matmul_precision() == "highest"
    assert plt.rcParams["image.interpolation"] == "nearest"
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith(f"notebook 99 | helpers {helpers.__version__} | seed 3 | SMOKE on")
    assert torch.__version__ in second and f"device {env.device().type}" in second and "threads" in second


def test_start_warns_when_the_notebook_belongs_to_another_version(monkeypatch, tmp_path, recwarn):
    monkeypatch.setattr(env, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    stored = tmp_path / "notebooks" / "03_scores.ipynb"
    stored.write_text(json.dumps({"metadata": {"helpers": {"version": helpers.__version__}}}))
    env.start("03")
    assert not recwarn.list
    stored.write_text(json.dumps({"metadata": {"helpers": {"version": "0.0.1"}}}))
    with pytest.warns(UserWarning, match="03_scores.ipynb was built with helpers 0.0.1.*update both"):
        env.start("03")


@pytest.mark.parametrize("switch", ["0", "1"])
def test_progress_passes_items_on_and_stays_silent_when_short(monkeypatch, capsys, switch):
    monkeypatch.setenv("HELPERS_PROGRESS", switch)
    assert list(env.progress(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().err.strip() == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_without_items_shows_speed_and_time_left_where_somebody_looks(monkeypatch, terminal):
    monkeypatch.setenv("HELPERS_PROGRESS", "1")
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    with env.progress(None, "survey", 100, " images") as bar:
        if terminal:
            began, passed = bar.start_t, 0.0
            bar._time = lambda: began + passed  # a clock of its own, so that a machine may be slow
        bar.update(10)
        assert "survey" not in sys.stderr.getvalue()  # before two seconds
        passed = 5.0
        bar.update(40)
        shown = sys.stderr.getvalue()
    assert bool(re.search(r"survey:  50%.*50/100 \[00:05<00:05, .*images/s\]", shown)) is terminal
    assert terminal or not shown


def test_environment_is_in_order_here():
    table = env.environment()
    assert list(table.columns) == ["check", "found", "verdict"]
    wrong = table[(table.verdict != "OK") & (table.check != "free memory")]
    assert wrong.empty, wrong.to_string()


def test_environment_says_what_to_install(monkeypatch):
    versions = {"ipywidgets": "7.6.0", "jupyterlab_widgets": None, "jupyterlab": "4.2.0"}
    monkeypatch.setattr(env, "_version", versions.get)
    monkeypatch.setattr(env, "free_memory", lambda: 2**30)
    monkeypatch.setenv("HELPERS_DEVICE", "abacus")
    table = env.environment().set_index("check").verdict
    assert "pip install 'ipywidgets>=8,<9'" in table["widgets, kernel side (ipywidgets)"]
    assert "pip install 'jupyterlab_widgets>=3,<4'" in table["widgets, Lab side (jupyterlab_widgets)"]
    assert "2 GB" in table["free memory"] and "abacus" in table["device"]
