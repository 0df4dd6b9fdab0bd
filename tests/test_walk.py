import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from helpers import env
from tools.build import notebook_rules as rules
from tools.build import times, walk

FINE = "import os; print('threads', os.environ['OMP_NUM_THREADS'])"
# Waits for the other one: only two that run at a time can both end.
MEETS = """import pathlib, time
pathlib.Path("{own}").touch()
until = time.monotonic() + 600
while not pathlib.Path("{other}").exists():
    assert time.monotonic() < until
    time.sleep(0.05)"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    meet = [MEETS.format(own=own, other=other) for own, other in ((first, second), (second, first))]
    broken = [meet[1], "1 / 0", "print('never')"]
    for name, sources in (("01_fine", [FINE, meet[0]]), ("02_broken", broken), ("03_fine", [FINE])):
        nb = new_notebook(cells=[new_code_cell(source) for source in sources])
        nbformat.write(nb, tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(rules, "FOLDER", tmp_path)
    monkeypatch.setattr(env, "ROOT", tmp_path)
    monkeypatch.setattr(walk, "PAGES", tmp_path / "executed")
    monkeypatch.setattr(times, "cores", lambda: 4)
    monkeypatch.setattr(times, "estimates", lambda names: dict.fromkeys(("01_fine", "02_broken", "03_fine")))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def test_notebooks_become_pages_and_a_broken_one_stops_no_other(folder, capsys):
    stored = {path: path.read_bytes() for path in folder.glob("*.ipynb")}
    assert walk.run([], jobs=2) == 1
    said = capsys.readouterr().out
    assert "02_broken failed: " in said and "ZeroDivisionError" in said
    assert "01_fine: " in said and "03_fine: " in said and "executed/03_fine.html" in said
    pages = {page.stem: page.read_text() for page in folder.glob("executed/*.html")}
    assert sorted(pages) == ["01_fine", "02_broken", "03_fine"]
    assert "threads 2" in pages["01_fine"] and "threads 2" in pages["03_fine"]
    assert "ZeroDivisionError" in pages["02_broken"] and "never\n" not in pages["02_broken"]
    assert {path: path.read_bytes() for path in stored} == stored


def test_what_is_no_notebook_stops_no_other_either(folder, capsys, monkeypatch):
    (folder / "02_broken.ipynb").write_text("{")
    (folder / "first").touch(), (folder / "second").touch()
    monkeypatch.setattr(times, "estimates", lambda names: {"01_fine": 120.0, "02_broken": None, "03_fine": 60.4})
    assert walk.run([], jobs=3) == 1
    said = capsys.readouterr().out
    assert "3 notebooks, 3 at a time, about 2 minutes on this machine" in said  # 180.4 s, by GAIN
    assert "02_broken failed: " in said and "01_fine: " in said and "03_fine: " in said
    assert "executed/02_broken.html" not in said and "executed/03_fine.html" in said


def test_where_a_process_is_killed_every_notebook_is_accounted_for(folder, capsys):
    kill = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    nbformat.write(new_notebook(cells=[new_code_cell(kill)]), folder / "02_broken.ipynb")
    assert walk.run(["02", "03"], jobs=1) == 2
    said = capsys.readouterr().out
    assert "02_broken failed: " in said and "03_fine did not run: " in said


def test_one_at_a_time_has_all_cores(folder, monkeypatch):
    assert walk.run(["03"], jobs=1) == 0
    assert "threads 4" in (folder / "executed" / "03_fine.html").read_text()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # asked for by whoever calls it
    assert walk.run(["03"], jobs=2) == 0
    assert "threads 3" in (folder / "executed" / "03_fine.html").read_text()


def test_what_cannot_be_walked_is_refused(folder):
    with pytest.raises(ValueError, match="at least one notebook runs at a time, got 0 jobs"):
        walk.run([], jobs=0)
    with pytest.raises(ValueError, match="no notebook starts with '09'"):
        walk.run(["09"])
