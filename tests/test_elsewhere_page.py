"""What docs/elsewhere.md and the pages beside it promise: a cell for Colab, parameters for papermill, a citation."""

import ast
import os
import re
import shlex
import subprocess
import sys
import types

import nbformat
import pytest

import helpers
from helpers import env

PAGE = (env.ROOT / "docs" / "elsewhere.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((env.ROOT / "notebooks").glob("[0-9]*.ipynb"))
CELL = re.search(r"```python\n(.*?)```", PAGE, re.S)[1]


def test_the_cell_for_colab_does_nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = list(sys.path), os.getcwd()
    scope = {}
    exec(CELL, scope)
    assert (list(sys.path), os.getcwd()) == before and set(scope) - {"__builtins__"} == {"sys"}


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """What a kernel of Colab has loaded before the first cell: its own module."""
    called = []
    output = types.ModuleType("google.colab.output")
    output.enable_custom_widget_manager = lambda: called.append("widgets")
    package = types.ModuleType("google.colab")
    package.output = output
    for name, module in {"google": types.ModuleType("google"), "google.colab": package}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return called


def test_in_colab_it_finds_a_clone_of_any_name(colab, tmp_path):
    for folder in ("sample_data", "a-clone/helpers", "a-clone/notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a-clone" / "helpers" / "domains.py").touch()
    exec(CELL, {})
    assert sys.path[0] == str(tmp_path / "a-clone") and os.getcwd() == str(tmp_path / "a-clone" / "notebooks")
    assert colab == ["widgets"]


def test_in_colab_without_a_clone_it_says_what_to_do(colab):
    with pytest.raises(FileNotFoundError, match="clone the repository first: !git clone"):
        exec(CELL, {})


def names(target):
    return [name for part in target.elts for name in names(part)] if isinstance(target, ast.Tuple) else [target.id]


def assigned(source):
    """Yield (name, its value's syntax tree) of every assignment in a cell."""
    lines = [line for line in source.splitlines() if not line.startswith(("%", "!"))]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Assign | ast.AugAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name | ast.Tuple):
                    yield from ((name, node.value) for name in names(target))


def numbers(source):
    """The names in capital letters that a setup cell gives numbers, not words."""
    words = lambda value: any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(value))  # noqa: E731
    return {name for name, value in assigned(source) if name.isupper() and not words(value)}


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_numbers_set_from_outside_reach_the_whole_notebook(path):
    """papermill puts a cell behind the one tagged `parameters`: what that sets must not be set again or used before."""
    first, *others = code_cells(path)
    assert "parameters" in first.metadata.get("tags", [])
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in others)
    known = numbers(first.source)
    made = {name: {n.id for n in ast.walk(value) if isinstance(n, ast.Name)} for name, value in assigned(first.source)}
    early = {name: used & known for name, used in made.items() if used & known}
    assert not early, f"these would keep the numbers of before: {early}"
    again = {name for cell in others for name, _ in assigned(cell.source)} & known
    assert not again, f"these are set again behind the parameters: {again}"


def test_the_page_names_parameters_that_are_there():
    command = re.search(r"^papermill .*$", PAGE, re.M)[0]
    notebook, said = re.search(r"(notebooks/\S+\.ipynb) out", command)[1], set(re.findall(r"-p (\w+)", command))
    assert said and said <= numbers(code_cells(env.ROOT / notebook)[0].source)


@pytest.mark.notebook
def test_papermill_sets_them_as_the_page_says(tmp_path):
    """The page's own command, in a quick round, on the notebook with one more cell that tells what came of it."""
    pytest.importorskip("papermill", reason="this test needs papermill: requirements-places.lock")
    command = shlex.split(re.search(r"^papermill .*$", PAGE, re.M)[0])
    notebook = nbformat.read(env.ROOT / command[-2], as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("print('set', PORTION, STOP, {k: len(s) for k, s in ds.items()})"))
    nbformat.write(notebook, tmp_path / "in.ipynb")
    command[-2:] = [str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=env.ROOT, env=os.environ | {"SMOKE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = code_cells(tmp_path / "out.ipynb")
    assert "parameters" in cells[0].metadata.tags and "injected-parameters" in cells[1].metadata.tags
    assert cells[1].source.split() == "# Parameters PORTION = 0.1 STOP = 1".split()
    text = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert "set 0.1 1 {1: " in text and "louder by {1: " in text  # six layers of the notebook's own setting


def test_the_citation_is_of_this_version_and_names_the_paper():
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((env.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and cited["version"] == helpers.__version__ and cited["license"] == "MIT"
    assert {"message", "title", "authors"} <= set(cited) and cited["authors"]
    (paper,) = cited["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Tousi", "Jeong", "Han", "Choi", "Choi"]
    assert paper["title"] == "Automatic Correction of Internal Units in Generative Neural Networks"


def test_contributing_is_one_page():
    assert len((env.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split()) < 650
