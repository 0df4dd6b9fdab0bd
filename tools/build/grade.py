"""Grade exercises: python -m tools.build.grade 03 handed_in/*.ipynb

Of every file only the exercise cells are taken; everything around them, the checks too, is the suite's own, run in a
clean kernel at quick size. Prints what each check says: right, not right yet, not solved yet. The answers are programs
and run with your rights: grade in an account that holds nothing else.
"""

import argparse
import copy
import sys
from pathlib import Path

import nbformat

from helpers import exercises
from tools.build import kernels
from tools.build import notebook_rules as rules


def answered(nb, handed_in):
    """Return a copy of a notebook of the suite with the exercise cells of another one, in their order.

    Raises ValueError for another number of exercise cells.
    """
    nb, stubs = copy.deepcopy(nb), rules.exercises(nb)
    answers = [cell.source for cell in handed_in.cells if rules.tagged(cell, "exercise")]
    if len(answers) != len(stubs):
        raise ValueError(f"it has {len(answers)} exercise cells, expected {len(stubs)}: is it the same notebook?")
    for exercise, answer in zip(stubs, answers):
        nb.cells[exercise.stub].source = answer
    return nb


def marks(nb, handed_in, timeout=600):
    """Run a notebook with somebody's answers; returns what each check says, or the reason why none did."""
    nb = answered(nb, handed_in)
    with kernels.kernel(nb, timeout, SMOKE="1") as client:
        kernels.execute(client, nb)
    return [rules.verdict(nb.cells[exercise.check]) or "no verdict: an error" for exercise in rules.exercises(nb)]


def main(arguments=None):
    """Print one line per file: how many exercises are right, then every verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", help="the beginning of the notebook's name, such as 03")
    parser.add_argument("files", nargs="+", type=Path, help="the notebooks handed in")
    options = parser.parse_args(arguments)
    try:
        nb = nbformat.read(rules.paths([options.notebook])[0], as_version=4)
    except ValueError as error:
        sys.exit(str(error))
    for file in options.files:
        try:
            found = marks(nb, nbformat.read(file, as_version=4))
            line = f"{found.count(exercises.RIGHT)} of {len(found)} right: {', '.join(found)}"
        except kernels.FAILURES as error:
            line = f"stopped: {str(error).strip().splitlines()[-1]}"
        except Exception as error:  # not a notebook, or not this one: the others are graded all the same
            line = f"not graded: {error}"
        print(f"{file.name}: {line}", flush=True)


if __name__ == "__main__":
    main()
