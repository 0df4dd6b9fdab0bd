"""Grading: the answers of others between the suite's own cells."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.build import grade
from tools.build import notebook_rules as rules

SOLUTION = "<details>\n\n```python\n{}\n```\n</details>"
CHECK = "exercises.check({}, {}, lambda x: x == 8, 'Twice four.')"


def suite():
    """A notebook with a function and a value to find."""
    return new_notebook(
        cells=[
            new_markdown_cell("# 01 - Small"),
            new_code_cell("from helpers import exercises\nfour = 4"),
            new_markdown_cell("## Exercises"),
            new_code_cell("def double(x):\n    raise NotImplementedError", metadata={"tags": exercise()}),
            new_code_cell(CHECK.format(1, "lambda: double(four)"), metadata={"tags": exercise("check")}),
            new_markdown_cell(SOLUTION.format("def double(x):\n    return 2 * x")),
            new_code_cell("eight = ...", metadata={"tags": exercise()}),
            new_code_cell(CHECK.format(2, "eight"), metadata={"tags": exercise("check")}),
            new_markdown_cell(SOLUTION.format("eight = 2 * four")),
        ]
    )


def exercise(tag="exercise"):
    return [tag, "raises-exception"]


def handed_in(*answers):
    """What somebody makes of it: other checks, another setup, and these answers."""
    nb = suite()
    for cell in nb.cells:
        if rules.tagged(cell, "check"):
            cell.source = "print('exercise 1: right')"
    for found, answer in zip(rules.exercises(nb), answers):
        nb.cells[found.stub].source = answer
    nb.cells[1].source = "four = 8"
    return nb


def test_answers_stand_between_our_own_cells():
    nb, answers = suite(), ("def double(x):\n    return x + x", "eight = 8")
    before = copy.deepcopy(nb)
    found = grade.answered(nb, handed_in(*answers))
    assert nb == before
    expected = [cell.source for cell in nb.cells]
    expected[3], expected[6] = answers
    assert [cell.source for cell in found.cells] == expected


def test_another_notebook_is_refused():
    other = handed_in()
    del other.cells[3]
    with pytest.raises(ValueError, match="has 1 exercise cells, expected 2"):
        grade.answered(suite(), other)


@pytest.mark.notebook
def test_every_kind_of_answer_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rules, "FOLDER", tmp_path)
    nbformat.write(suite(), tmp_path / "01_small.ipynb")
    answers = {
        "solved": ("def double(x):\n    return x + x", "eight = 8"),
        "begun": ("def double(x):\n    return x", "eight = ..."),
        "broken": ("def double(x):\n    return x + unknown", "eight = 1 / 0"),
        "killer": ("import os\nos._exit(1)", "eight = 8"),
    }
    files = []
    for name, given in answers.items():
        files.append(tmp_path / f"{name}.ipynb")
        nbformat.write(handed_in(*given), files[-1])
    (tmp_path / "letter.ipynb").write_text("Dear lecturer,")
    grade.main(["01", *map(str, files), str(tmp_path / "letter.ipynb"), str(files[0])])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == said[5] == "solved.ipynb: 2 of 2 right: right, right"
    assert said[1] == "begun.ipynb: 0 of 2 right: not right yet, not solved yet"
    assert said[2] == "broken.ipynb: 0 of 2 right: not right yet, no verdict: an error"
    assert said[3].startswith("killer.ipynb: stopped: ") and said[4].startswith("letter.ipynb: not graded: ")
    assert len(said) == 6


def test_an_unknown_notebook_is_named():
    with pytest.raises(SystemExit, match="no notebook starts with 'xx'"):
        grade.main(["xx", "a.ipynb"])
