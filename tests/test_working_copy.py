import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.build import notebook_rules as rules
from tools.build import working_copy


@pytest.fixture
def places(tmp_path, monkeypatch):
    stored, copies = tmp_path / "notebooks", tmp_path / "lab"
    stored.mkdir()
    monkeypatch.setattr(rules, "FOLDER", stored)
    for name in ("00_a", "01_b"):
        nbformat.write(notebook("1 + 1"), stored / f"{name}.ipynb")
    return stored, copies


def notebook(source):
    cells = [new_markdown_cell("# A"), new_code_cell(source)]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells)


def code(path):
    return nbformat.read(path, as_version=4).cells[1].source


def test_copies_are_made_and_follow_what_is_stored(places):
    stored, copies = places
    assert working_copy.refresh(copies) == []
    assert (copies / "00_a.ipynb").read_bytes() == (stored / "00_a.ipynb").read_bytes()
    nbformat.write(notebook("2 + 2"), stored / "00_a.ipynb")
    assert working_copy.refresh(copies) == [] and code(copies / "00_a.ipynb") == "2 + 2"


def test_running_a_copy_does_not_hold_it_back(places):
    stored, copies = places
    working_copy.refresh(copies)
    ran = nbformat.read(copies / "00_a.ipynb", as_version=4)
    ran.cells[1].update(execution_count=7, outputs=[nbformat.v4.new_output("stream", text="2")])
    nbformat.write(ran, copies / "00_a.ipynb")
    nbformat.write(notebook("3 + 3"), stored / "00_a.ipynb")
    assert working_copy.refresh(copies) == [] and code(copies / "00_a.ipynb") == "3 + 3"


def test_what_a_reader_wrote_is_never_overwritten(places):
    stored, copies = places
    working_copy.refresh(copies)
    nbformat.write(notebook("mine"), copies / "00_a.ipynb")
    assert working_copy.refresh(copies) == []  # the stored one is the one that was copied
    nbformat.write(notebook("4 + 4"), stored / "00_a.ipynb")
    assert working_copy.refresh(copies) == ["00_a.ipynb"] and code(copies / "00_a.ipynb") == "mine"
    (copies / "01_b.ipynb").write_text("broken")
    nbformat.write(notebook("5 + 5"), stored / "01_b.ipynb")
    assert working_copy.refresh(copies) == ["00_a.ipynb", "01_b.ipynb"]
    assert (copies / "01_b.ipynb").read_text() == "broken"
    (copies / "00_a.ipynb").unlink()  # or renamed: then the new one comes
    assert working_copy.refresh(copies) == ["01_b.ipynb"] and code(copies / "00_a.ipynb") == "4 + 4"
