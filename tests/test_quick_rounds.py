"""Every stored notebook in its quick round: as it is, with its widgets and lines of code, then with answers."""

import json
import re

import nbformat
import pytest

from helpers import exercises
from helpers.weights import packages
from tools.build import counting, kernels, notebooks
from tools.build import notebook_rules as rules


def verdicts(nb):
    """What the checks of an executed notebook say, all of them; no exercise may end in an error."""
    cells = [nb.cells[i] for exercise in rules.exercises(nb) for i in exercise[:2]]
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    return {rules.verdict(nb.cells[exercise.check]) for exercise in rules.exercises(nb)}


def views_print_what_they_show(client, nb):
    """Each line of code that a view prints, in each of its states, runs in the notebook's kernel and gives that."""
    views = json.loads(kernels.ask(client, "from tests import view_probe\nprint(view_probe.report(globals()))"))
    faults = [f"{code}  # {fault}" for lines in views for code, fault in lines if fault]
    assert not faults, "\n".join(faults)
    made = re.findall(r"widgets\.\w+\(", "\n".join(cell.source for cell in rules.code_cells(nb)))
    assert len(views) == len(made) and all(any(code for code, _ in lines) for lines in views)


@pytest.mark.notebook
@pytest.mark.parametrize("path", rules.paths(), ids=lambda path: path.stem)
def test_notebook_runs_quickly_as_it_is_and_then_with_answers(path):
    nb = nbformat.read(path, as_version=4)
    code_of = "\n".join(cell.source for cell in rules.code_cells(nb))
    if 'domains.load("faces")' in code_of and "packages.lacking()" not in code_of and packages.lacking():
        pytest.skip(packages.lacking())  # its subject is the faces; others say what to install and go on
    answers = sorted(i for exercise in rules.exercises(nb) for i in exercise[:2])
    wrong, solved = rules.mistaken(nb), rules.solved(nb)
    with notebooks.kernel(nb, SMOKE="1") as client:
        client.nb = nb
        kernels.count_images(client)
        notebooks.execute(client, nb)
        seen = kernels.images_computed(client)
        assert verdicts(nb) == {exercises.UNSOLVED}
        assert not notebooks.widget_errors(client, nb)
        views_print_what_they_show(client, nb)
        for answered, said in ((wrong, exercises.WRONG), (solved, exercises.RIGHT)):
            notebooks.execute(client, answered, answers)
            assert verdicts(answered) == {said}
        assert not notebooks.widget_errors(client, solved)
    images = sum(seen[what] for what in ("generated", "looked at", "rendered"))
    assert images <= counting.IMAGES and seen["distances"] <= counting.DISTANCES, seen
