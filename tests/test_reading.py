import json
from types import SimpleNamespace

import pytest

from helpers import reading

SETUP = 'env.start("03")\ndomain = domains.load("churches")\nN = 5'
CELLS = [
    ("markdown", "# 03"),
    ("code", SETUP),
    ("markdown", "A sentence."),
    ("code", "print(1)"),
    ("markdown", "**What we see.** It is 1."),
    ("code", "print(2)"),
    ("markdown", "Nothing is read here."),
]
FULL, QUICK = False, True


class Events:
    def __init__(self):
        self.functions = []

    def register(self, _, function):
        self.functions.append(function)

    def unregister(self, _, function):
        self.functions.remove(function)


@pytest.fixture
def shell(monkeypatch):
    shell = SimpleNamespace(events=Events())
    monkeypatch.setattr(reading, "_shell", lambda: shell)
    return shell


@pytest.fixture
def path(tmp_path):
    cells = [{"cell_type": kind, "source": source.splitlines(keepends=True)} for kind, source in CELLS]
    (tmp_path / "03.ipynb").write_text(json.dumps({"cells": cells}))
    return tmp_path / "03.ipynb"


def run(shell, source, success=True):
    for function in list(shell.events.functions):
        function(SimpleNamespace(info=SimpleNamespace(raw_cell=source), success=success))


FACES = SETUP.replace("churches", "faces")


@pytest.mark.parametrize(
    ("setup", "quick", "said"),
    [
        (SETUP, FULL, ""),
        (SETUP, QUICK, "[quick round: the reading below speaks of the full run]\n"),
        (FACES, FULL, "[faces: the reading below speaks of the full run on churches]\n"),
        (FACES, QUICK, "[faces: the reading below speaks of the full run on churches]\n"),
        (SETUP.replace("5", "50"), FULL, "[other settings: the reading below speaks of the stored run]\n"),
    ],
)
def test_what_is_read_says_where_the_run_is_another_one(shell, path, capsys, setup, quick, said):
    reading.follow(path, quick)
    run(shell, setup)
    run(shell, "print(2)")
    run(shell, "print(1)", success=False)
    assert capsys.readouterr().out == ""  # neither the first cell, nor what nobody reads, nor what failed
    run(shell, "print(1)\n")
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("quick", "said"),
    [
        (FULL, "[other settings: the reading below speaks of the stored run]\n"),
        (QUICK, "[quick round: the reading below speaks of the full run]\n"),
    ],
)
def test_settings_that_papermill_puts_behind_the_first_cell_are_noticed(shell, path, capsys, quick, said):
    reading.follow(path, quick)
    for source in (SETUP, "# Parameters\nN = 9\n", "print(1)"):
        run(shell, source)
    assert capsys.readouterr().out == said


def test_a_second_start_replaces_the_first(shell, path, capsys):
    for quick in (QUICK, QUICK, FULL):
        reading.follow(path, quick)
        run(shell, SETUP)
    assert len(shell.events.functions) == 1
    run(shell, "print(1)")
    assert capsys.readouterr().out == ""


def test_nothing_happens_outside_notebooks_or_without_the_stored_one(shell, path, monkeypatch, capsys):
    path.write_text("no notebook")
    reading.follow(path, QUICK)
    run(shell, SETUP)
    run(shell, "print(1)")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(reading, "_shell", lambda: None)
    reading.follow(path, QUICK)
    assert len(shell.events.functions) == 1
