"""The tool that builds notebooks, tried on small ones; then every stored notebook: fresh and clean."""

import base64
import copy
import json
import re
from io import BytesIO

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from helpers import env, exercises
from tools.build import notebook_rules as rules
from tools.build import notebooks, storing, times

STORED = rules.paths()

STUB = 'def double(x):\n    raise NotImplementedError("your turn")'
SOLUTION = """Hint first.

<details><summary>Solution</summary>

```python
def double(x):
    return 2 * x
```
</details>"""


def code(source, *tags):
    return new_code_cell(source, metadata={"tags": list(tags), "scrolled": True})


def small():
    """A notebook with all that the rules speak of."""
    says = new_markdown_cell
    cells = [
        says("# 01 - Small\n\nWhat it is for.\n\n![Noise](../docs/figures/01.png)"),
        code("import os, sys\nimport ipywidgets as W\nprint('here', os.getcwd())", "parameters"),
        says("A picture, and a word on stderr.\n\n| **Time** | an hour |"),
        code("print('careful', file=sys.stderr)\nfrom PIL import Image\nImage.effect_noise((64, 64), 50)", "key"),
        says("A slider."),
        code("W.IntSlider(description='n')"),
        says("## Exercise"),
        code(STUB, "exercise", "raises-exception"),
        code("assert double(4) == 8\nprint('right')", "check", "raises-exception"),
        says(SOLUTION),
        says("The end."),
    ]
    return new_notebook(cells=cells)


def files(folder, patch):
    """Put what the builder writes beside notebooks into their folder, and let it measure no machine."""
    patch.setattr(times, "FILE", folder / "times.json")
    patch.setattr(times, "README", folder / "README.md")
    patch.setattr(times, "speed", lambda: 400.0)
    table = "| [01_small](notebooks/01_small.ipynb) | What? | an hour |\n"
    (folder / "README.md").write_text(f"{table}\n{times.MARKS[0]} old {times.MARKS[1]} after\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(rules, "FOLDER", folder)
    files(folder, monkeypatch)
    monkeypatch.setattr(notebooks.env, "ROOT", folder)
    return folder


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    """The small notebook, executed and stored by `build`, once for all tests of this module."""
    folder = tmp_path_factory.mktemp("suite") / "notebooks"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "FOLDER", folder)
        files(folder, patch)
        patch.setattr(notebooks.env, "ROOT", folder)
        nbformat.write(small(), folder / "01_small.ipynb")
        assert notebooks.build(["01"]) == 0
    return folder / "01_small.ipynb"


@pytest.fixture
def built(built_once):
    return nbformat.read(built_once, as_version=4)


def test_build_stores_a_clean_notebook(built, built_once):
    assert rules.problems(built, built_once, [built_once]) == []
    assert set(built.metadata) == {"kernelspec", "language_info", "helpers"}
    assert built.metadata.language_info == {"name": "python"}
    assert [cell.execution_count for cell in rules.code_cells(built)] == [1, 2, 3, 4, 5]
    assert all(set(cell.metadata) <= {"tags"} for cell in built.cells)


def test_build_keeps_what_a_reader_sees(built):
    setup, picture, slider, stub, check = (cell.outputs for cell in rules.code_cells(built))
    assert setup[0].text == "here .\n"  # the machine's path is gone
    assert [set(output.data) for output in picture] == [{"text/plain", "image/png"}]
    assert slider == [] and stub == []
    assert [output.ename for output in check] == ["NotImplementedError"]
    assert check[0].traceback == ["NotImplementedError: your turn"]


def test_build_measures(built_once):
    row = json.loads((built_once.parent / "times.json").read_text())["01_small"]
    assert row["seconds"] > 0 and row["quick_seconds"] > 0 and 20 < row["peak_mb"] < 2000
    assert row["cores"] >= 1 and row["processor"] and row["images_per_s"] == 400


def test_times_are_written_where_people_read_them(built, built_once):
    row = json.loads((built_once.parent / "times.json").read_text())["01_small"]
    said = times.written(row["seconds"])
    assert f"| **Time** | about {said} on {times.where(row)} |" in built.cells[2].source
    readme = (built_once.parent / "README.md").read_text()
    assert f"| [01_small](notebooks/01_small.ipynb) | What? | {said} |" in readme
    assert f"measured on {times.where(row)}." in readme and "old" not in readme and readme.endswith(" after\n")


FAULTS = {
    "older than its code": lambda nb: nb.cells[1].update(source="print(1)"),
    "execution counts": lambda nb: nb.cells[3].update(execution_count=9),
    "stores an error: ValueError": lambda nb: nb.cells[1].update(
        outputs=[nbformat.v4.new_output("error", ename="ValueError", evalue="x", traceback=[])]
    ),
    "stores widget state": lambda nb: nb.metadata.update(widgets={}),
    "stores a widget view": lambda nb: nb.cells[5].update(
        outputs=[nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})]
    ),
    "stores execution times": lambda nb: nb.cells[1].metadata.update(execution={}),
    "over 70": lambda nb: nb.cells.extend([new_markdown_cell("more")] * 60),
    "ratio": lambda nb: nb.cells.__delitem__(slice(2, 7, 2)),
    "follows a code cell": lambda nb: nb.cells.__delitem__(2),
    "has 31 lines, over 30": lambda nb: nb.cells[1].update(source="\n".join(["pass"] * 31)),
    "the median of its code cells is 12": lambda nb: [
        cell.update(source="\n".join(["pass"] * 12)) for cell in rules.code_cells(nb)
    ],
    "headings of level 1": lambda nb: nb.cells[2].update(source="# Another title"),
    "must begin and end with a markdown cell": lambda nb: nb.cells.pop(0),
    "links to the other notebooks": lambda nb: nb.cells[-1].update(source="The end."),
    "first cell shows no key figure": lambda nb: nb.cells[3].metadata.clear(),
    "shows no key figure": lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("01.png", "02.png")),
    "not the one that its cell shows": lambda nb: nb.cells[3].outputs[-1].data.update({"image/png": noise(64, 1)}),
    "no link to 02_more": lambda nb: None,
    "has no solution or check": lambda nb: nb.cells[9].update(source="no solution"),
    "has no solution or check: add a code cell tagged check": lambda nb: nb.cells[8].metadata.update(tags=[]),
}


@pytest.mark.parametrize("message", FAULTS)
def test_rules_notice(built, built_once, message):
    FAULTS[message](built)
    every = [built_once, built_once.with_name("02_more.ipynb")]
    assert any(message in problem for problem in rules.problems(built, built_once, every))


def test_rules_notice_a_notebook_that_is_too_large(built, built_once, monkeypatch):
    monkeypatch.setattr(rules, "BUDGET", 1000)
    assert any("bytes, over 1,000" in problem for problem in rules.problems(built, built_once, [built_once]))


def test_comments_in_code_fences_are_no_headings(built, built_once):
    built.cells[4].source = "```python\n# a comment\n```"
    assert rules.problems(built, built_once, [built_once]) == []


def test_links_are_written_once_and_name_the_neighbours(folder):
    for name in ("00_start", "01_one", "02_two"):
        nbformat.write(small(), folder / f"{name}.ipynb")
    for _ in range(2):
        notebooks.links([])
    nb = nbformat.read(folder / "01_one.ipynb", as_version=4)
    line = (
        "previous: [00 start](00_start.ipynb) | [map of the suite](00_start.ipynb#The-suite) | "
        "next: [02 two](02_two.ipynb) " + rules.MARK
    )
    assert nb.cells[0].source == f"# 01 - Small\n\n{line}\n\nWhat it is for.\n\n![Noise](../docs/figures/01.png)"
    assert nb.cells[-1].source == f"The end.\n\n{line}"
    (folder / "02_two.ipynb").unlink()
    path = folder / "01_one.ipynb"
    assert any("links" in problem for problem in rules.problems(nb, path, rules.paths()))
    notebooks.links([])
    nb = nbformat.read(path, as_version=4)
    assert not any("links" in problem for problem in rules.problems(nb, path, rules.paths()))


def test_the_first_notebook_lists_all_and_links_those_that_are_there(folder):
    first = small()
    rows = "| Notebook | Question |\n|---|---|\n| [01_one](01_one.ipynb) | Who? |\n| 02_two | Why? |\n| 03_three | |"
    first.cells.insert(1, new_markdown_cell(f"## The suite\n\n{rows}"))
    paths = [folder / name for name in ("00_start.ipynb", "02_two.ipynb", "04_four.ipynb")]
    for path in paths:
        nbformat.write(first if path == paths[0] else small(), path)
    for _ in range(2):
        notebooks.links([])
    nb = nbformat.read(paths[0], as_version=4)
    linked = rows.replace("[01_one](01_one.ipynb)", "01_one").replace("02_two", "[02_two](02_two.ipynb)")
    assert nb.cells[1].source == f"## The suite\n\n{linked}"
    missing = [problem for problem in rules.problems(nb, paths[0], paths) if "list of the suite" in problem]
    assert missing == ["its list of the suite has no link to 04_four: give it a row, then run the command `links`"]


def test_names_select_notebooks(folder):
    for name in ("00_start", "01_one"):
        nbformat.write(small(), folder / f"{name}.ipynb")
    assert [path.stem for path in rules.paths(["01"])] == ["01_one"]
    with pytest.raises(ValueError, match="no notebook starts with '07', there is: 00_start, 01_one"):
        rules.paths(["07"])


def test_solutions_replace_stubs():
    (exercise,) = rules.exercises(small())
    assert exercise == (7, 8, "def double(x):\n    return 2 * x")
    nb = rules.solved(small())
    assert nb.cells[7].source == exercise.solution
    assert nb.cells[7].metadata.tags == ["exercise"] and nb.cells[8].metadata.tags == ["check"]


def test_a_senseless_answer_replaces_stubs():
    nb = small()
    nb.cells[7].source = "# a thought\nshare = ...  # your turn"
    assert rules.mistaken(nb).cells[7].source == "share = object()"
    assert rules.mistaken(small()).cells[7].source == "def double(*_):\n    return object()"


def test_verdicts_are_read_from_the_output():
    cell = new_code_cell("")
    assert rules.verdict(cell) is None
    for said in (exercises.UNSOLVED, exercises.WRONG, exercises.RIGHT):
        cell.outputs = [nbformat.v4.new_output("stream", text=f"a word before\nexercise 12: {said}. More.\n")]
        assert rules.verdict(cell) == said


def test_a_failing_build_leaves_the_file_as_it_was(folder, capsys):
    nb = new_notebook(cells=[new_markdown_cell("# T"), new_code_cell("1 / 0"), new_markdown_cell("end")])
    path = folder / "01_bad.ipynb"
    nbformat.write(nb, path)
    before = path.read_bytes()
    assert notebooks.build([]) == 1
    assert path.read_bytes() == before and not (folder / "times.json").exists()
    assert "ZeroDivisionError" in capsys.readouterr().out


SILENT = """import ipywidgets as W
def callback(n):
    return 1 / n
slider = W.IntSlider(1)
out = W.interactive_output(callback, {"n": slider})
slider.value = 0
"""


def test_errors_that_a_widget_swallows_are_found(folder):
    nb = new_notebook(cells=[new_code_cell(SILENT)])
    with notebooks.kernel(nb) as client:
        notebooks.execute(client, nb)  # the cell itself is fine
        assert notebooks.widget_errors(client, nb) == ["ZeroDivisionError: division by zero"]


def noise(size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_shrink_turns_the_largest_pictures_to_256_and_then_to_128_colours_only_as_needed():
    sizes = (40, 200)
    outputs = [nbformat.v4.new_output("display_data", {"image/png": noise(size, size)}) for size in sizes]
    nb = new_notebook(cells=[new_code_cell("", outputs=[output]) for output in outputs])

    def shrunk(budget, *key):
        small = copy.deepcopy(nb)
        small.cells[1].metadata.tags = list(key)
        storing.shrink(small, budget)
        pictures = [Image.open(BytesIO(base64.b64decode(c.outputs[0].data["image/png"]))) for c in small.cells]
        return len(nbformat.writes(small)), [len(p.convert("RGB").getcolors(10**6)) for p in pictures]

    def kinds(budget, *key):
        return [next(most for most in (128, 256, 10**6) if count <= most) for count in shrunk(budget, *key)[1]]

    assert kinds(10**9) == [10**6, 10**6]
    assert kinds(100_000) == [10**6, 256] and shrunk(100_000)[0] < 100_000
    assert kinds(54_000) == [256, 128] and shrunk(54_000)[0] < 54_000
    assert kinds(1000) == [128, 128]
    assert kinds(100_000, "key") == [256, 256]  # the key figure is the last to lose any


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_notebook_keeps_the_rules(path):
    assert rules.problems(nbformat.read(path, as_version=4), path, STORED) == []


def test_stored_draws_are_looked_up_where_there_are_some():
    asked = {
        name
        for path in STORED
        for name in re.findall(r"store\.measured\(f.\"{domain\.name}/([^\"\\]+)", path.read_text())
    }
    shipped = json.loads((env.ROOT / "data" / "churches" / "manifest.json").read_text())
    assert asked == {"random_effects.csv", "random_units.csv"} <= set(shipped)
