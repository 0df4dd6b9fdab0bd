"""Notebooks that run on another generator once one line is changed, executed in their quick round."""

import nbformat
import pytest

from helpers.weights import packages
from tools.build import notebook_rules as rules
from tools.build import notebooks

# The faces have neither real images nor a discriminator: cells that need them say so and go on.
OTHERS = {"churches-stylegan2": ["00", "01", "02", "03", "04", "05"], "faces": ["02", "03", "04", "05", "06"]}


@pytest.mark.notebook
@pytest.mark.parametrize("name, path", [(n, p) for n, beginnings in OTHERS.items() for p in rules.paths(beginnings)])
def test_notebook_runs_on_another_generator_by_changing_one_line(name, path):
    if name == "faces" and packages.lacking():
        pytest.skip(packages.lacking())
    nb = nbformat.read(path, as_version=4)
    line = 'domain = domains.load("churches")'
    cells = [cell for cell in rules.code_cells(nb) if line in cell.source]
    assert len(cells) == 1
    cells[0].source = cells[0].source.replace(line, f'domain = domains.load("{name}")')
    with notebooks.kernel(nb, SMOKE="1") as client:
        notebooks.execute(client, nb)
        assert not notebooks.widget_errors(client, nb)
