"""What a notebook of the suite must look like: links, exercises, freshness, budgets. Nothing here runs a kernel."""

import base64
import copy
import hashlib
import re
import statistics
from typing import NamedTuple

from helpers import env
from helpers.exercises import RIGHT, UNSOLVED, WRONG
from tools.build import stated

FOLDER = env.ROOT / "notebooks"
BUDGET = 500_000  # bytes of a stored notebook
LINES = 8  # of a code cell, at the median
MARK = "<!-- navigation -->"
MAP = "The suite"  # the heading in the first notebook under which all are listed


class Exercise(NamedTuple):
    """Where an exercise stands: the indices of its stub and check cells, and the source that solves it."""

    stub: int
    check: int
    solution: str


def paths(names=()):
    """List the notebooks in order, or those whose names start with one of `names`; ValueError if none does."""
    every = sorted(FOLDER.glob("[0-9]*.ipynb"))
    found = [path for path in every if not names or path.name.startswith(tuple(names))]
    missing = [name for name in names if not any(path.name.startswith(name) for path in every)]
    if missing:
        raise ValueError(f"no notebook starts with {missing[0]!r}, there is: {', '.join(p.stem for p in every)}")
    return found


def tagged(cell, tag):
    """Tell whether a cell carries a tag."""
    return tag in cell.metadata.get("tags", [])


def code_cells(nb):
    """Return the code cells of a notebook, in order."""
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def source_sha256(nb):
    """Hash the sources of the code cells: outputs stored with another hash are stale."""
    return hashlib.sha256("\0".join(cell.source for cell in code_cells(nb)).encode()).hexdigest()


def exercises(nb):
    """Find the exercises: each stub is followed by its check cell and a markdown cell with the solution.

    The solution is the first python fence inside <details>. Raises ValueError when a part is missing.
    """
    stubs = [i for i, cell in enumerate(nb.cells) if tagged(cell, "exercise")]
    found = []
    for stub, end in zip(stubs, [*stubs[1:], len(nb.cells)]):
        span = range(stub + 1, end)
        check = next((i for i in span if tagged(nb.cells[i], "check")), None)
        solution = next(filter(None, (_solution(nb.cells[i]) for i in span)), None)
        for part, what in ((check, "a code cell tagged check"), (solution, "a python fence inside <details>")):
            if part is None:
                raise ValueError(f"the exercise in cell {stub} has no solution or check: add {what} after it")
        found.append(Exercise(stub, check, solution))
    return found


def _solution(cell):
    hidden = re.search(r"<details>.*?</details>", cell.source, re.S) if cell.cell_type == "markdown" else None
    fence = re.search(r"```python\n(.*?)```", hidden[0], re.S) if hidden else None
    return fence[1].rstrip() if fence else None


def solved(nb):
    """Return a copy of a notebook with the solutions in place of the stubs, where nothing may raise any more."""
    nb = copy.deepcopy(nb)
    for exercise in exercises(nb):
        nb.cells[exercise.stub].source = exercise.solution
        for i in (exercise.stub, exercise.check):
            nb.cells[i].metadata.tags = [tag for tag in nb.cells[i].metadata.tags if tag != "raises-exception"]
    return nb


def mistaken(nb):
    """Return a copy of a notebook with a senseless answer in place of each stub."""
    nb = copy.deepcopy(nb)
    for exercise in exercises(nb):
        cell = nb.cells[exercise.stub]
        function, value = (re.search(what, cell.source, re.M) for what in (r"^def (\w+)", r"^(\w+) = \.\.\."))
        cell.source = f"def {function[1]}(*_):\n    return object()" if function else f"{value[1]} = object()"
    return nb


def verdict(cell):
    """Return what an executed check cell says of the answer, of `helpers.exercises`' three, or None."""
    text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    said = re.search(rf"^exercise \d+: ({UNSOLVED}|{WRONG}|{RIGHT})\b", text, re.M)
    return said and said[1]


def link_line(path, every):
    """Compose the line that links a notebook to the ones before and after it, and to the map of the suite."""
    at = [other.name for other in every].index(path.name)
    around = {"previous": every[at - 1] if at else None, "next": every[at + 1] if at + 1 < len(every) else None}
    parts = [f"{word}: [{p.stem.replace('_', ' ')}]({p.name})" for word, p in around.items() if p]
    if at:
        parts.insert(1, f"[map of the suite]({every[0].name}#{MAP.replace(' ', '-')})")
    return " | ".join(parts) + f" {MARK}"


def set_links(nb, line):
    """Write the link line below the title in the first cell and at the end of the last one, replacing old ones."""
    for cell in nb.cells:
        kept = [text for text in cell.source.split("\n") if MARK not in text]
        if len(kept) < cell.source.count("\n") + 1:
            cell.source = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")
    title, _, rest = nb.cells[0].source.partition("\n")
    nb.cells[0].source = "\n\n".join(part for part in (title, line, rest.strip("\n")) if part)
    nb.cells[-1].source = f"{nb.cells[-1].source}\n\n{line}"


def set_map(nb, every):
    """Link, in the first notebook's list of all, those that are there; a row begins with the notebook's name."""
    there = {path.stem for path in every}
    for cell in nb.cells:
        if re.search(rf"^#+ {MAP}$", cell.source, re.M):
            rows = r"^\| \[?(\d\d_\w+)(?:\]\(\w+\.ipynb\))? \|"
            link = lambda row: f"| [{row[1]}]({row[1]}.ipynb) |" if row[1] in there else f"| {row[1]} |"  # noqa: E731
            cell.source = re.sub(rows, link, cell.source, flags=re.M)


def key_figure(nb):
    """Return the picture that stands for a notebook, the last one of its cell tagged `key`, as a PNG, or None."""
    shown = [output for cell in code_cells(nb) if tagged(cell, "key") for output in cell.outputs]
    pictures = [output.data["image/png"] for output in shown if "image/png" in output.get("data", {})]
    return base64.b64decode(pictures[-1]) if pictures else None


def figure_file(path):
    """Return where the key figure of a notebook lies, which its first cell shows."""
    return path.parent.parent / "docs" / "figures" / f"{path.stem[:2]}.png"


def problems(nb, path, every):
    """List what is wrong with a stored notebook, one sentence each; an empty list means it may be committed."""
    found = [*_shape(nb), *_first_screen(nb, path), *_links(nb, path, every), *_outputs(nb)]
    found += stated.problems(nb, path, every)
    try:
        exercises(nb)
    except ValueError as error:
        found.append(str(error))
    if nb.metadata.get("helpers", {}).get("source_sha256") != source_sha256(nb):
        found.append(f"its outputs are older than its code: run `python -m tools.build.notebooks build {path.stem}`")
    if path.is_file() and path.stat().st_size > BUDGET:
        found.append(f"it is {path.stat().st_size:,} bytes, over {BUDGET:,}: show fewer or smaller pictures")
    return found


def _shape(nb):
    code, markdown = code_cells(nb), [cell for cell in nb.cells if cell.cell_type == "markdown"]
    if not code or nb.cells[0].cell_type != "markdown" or nb.cells[-1].cell_type != "markdown":
        yield "it must begin and end with a markdown cell and hold code in between"
        return
    if len(nb.cells) > 70:
        yield f"it has {len(nb.cells)} cells, over 70: split it or join cells"
    read = [cell for cell in code if not tagged(cell, "check")]  # checks are folded away
    if not 1.1 <= len(markdown) / len(read) <= 2.5:
        yield f"it has {len(markdown)} markdown to {len(read)} code cells, expected a ratio of 1.1 to 2.5"
    lengths = [cell.source.count("\n") + 1 for cell in read]
    if statistics.median(lengths) > LINES:
        median = statistics.median(lengths)
        yield f"the median of its code cells is {median} lines, over {LINES}: move plumbing to helpers"
    for i, cell in enumerate(nb.cells):
        if cell.cell_type == "code" and cell.source.count("\n") >= 30:
            yield f"cell {i} has {cell.source.count(chr(10)) + 1} lines, over 30: split it"
        if i and cell.cell_type == nb.cells[i - 1].cell_type == "code" and not tagged(cell, "check"):
            yield f"code cell {i} follows a code cell: put a sentence before it"
    prose = re.sub(r"```.*?```", "", "\n".join(cell.source for cell in markdown), flags=re.S)
    titles = re.findall(r"^# .*", prose, re.M)
    if len(titles) != 1 or not nb.cells[0].source.startswith("# "):
        yield f"it has {len(titles)} headings of level 1, expected one, as its very first line"


def _first_screen(nb, path):
    file, picture = figure_file(path), key_figure(nb)
    if f"](../docs/figures/{file.name})" not in nb.cells[0].source or picture is None:
        yield f"its first cell shows no key figure: tag a code cell `key` and show ../docs/figures/{file.name}"
    elif not file.is_file() or file.read_bytes() != picture:
        yield "its key figure is not the one that its cell shows: build it again"


def _links(nb, path, every):
    line = link_line(path, every)
    count = sum(cell.source.count(MARK) for cell in nb.cells)
    placed = nb.cells[0].source.split("\n")[1:3] == ["", line] and nb.cells[-1].source.endswith(f"\n{line}")
    if not placed or count != 2:
        yield "its links to the other notebooks are not right: run `python -m tools.build.notebooks links`"
    if path == every[0]:
        listed = "\n".join(cell.source for cell in nb.cells)
        for other in every[1:]:
            if f"\n| [{other.stem}]({other.name}) |" not in listed:
                yield f"its list of the suite has no link to {other.stem}: give it a row, then run the command `links`"


def _outputs(nb):
    if "widgets" in nb.metadata:
        yield "it stores widget state, which breaks its page: build it instead of saving it by hand"
    counts = [cell.execution_count for cell in code_cells(nb)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"its cells were not run once each from top to bottom: execution counts are {counts}"
    for i, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error" and not tagged(cell, "raises-exception"):
                yield f"cell {i} stores an error: {output.ename}: {output.evalue}"
            if any("widget" in kind for kind in output.get("data", {})):
                yield f"cell {i} stores a widget view, which shows nothing without a kernel"
        if "execution" in cell.metadata:
            yield f"cell {i} stores execution times, which change with each run"
