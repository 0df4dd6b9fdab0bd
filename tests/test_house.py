"""The layout of the package: who may import whom, and what each room says of itself."""

import ast
import importlib

import pytest

from helpers import env

PACKAGE = env.ROOT / "helpers"
ROOMS = sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py"))
# From the ground up: a module imports from earlier lines only, or from its own room.
ORDER = (
    ("reading",),
    ("env", "latents", "exercises"),
    ("networks",),
    ("pggan",),
    ("weights",),
    ("flow", "store"),
    ("checkpoints", "streaming"),
    ("survey",),
    ("evidence",),
    ("metrics", "rating", "labels"),
    ("classifier", "concepts"),
    ("corrections",),
    ("gradcam", "units", "rare_units"),
    ("dissection",),
    ("causal",),
    ("correct",),
    ("worlds",),
    ("churches", "domains"),
    ("evaluation",),
    ("interface",),
    ("show", "widgets"),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
FRONT = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """Yield (module, name) of what a file imports from the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
            for alias in node.names:
                yield node.module, alias.name


def place(module, name):
    """Return the room, or the module of the front row, that `from module import name` reaches into."""
    parts = [*module.split("."), name]
    return parts[1]


def test_every_module_and_room_has_its_place():
    assert set(LEVEL) == FRONT | set(ROOMS)
    assert len(LEVEL) == sum(map(len, ORDER))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    parts = path.relative_to(PACKAGE).parts
    here = parts[0].removesuffix(".py")
    for module, name in imports(path):
        there = place(module, name)
        if here == "__init__" or there == here:
            continue
        assert LEVEL[there] < LEVEL[here], f"{here} imports {module}.{name}, which stands above it or beside it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_private_is_imported(path):
    private = [f"{module}.{name}" for module, name in imports(path) if name.startswith("_") and name != "__version__"]
    assert not private


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for(room):
    text = importlib.import_module(f"helpers.{room}").__doc__
    assert len(text.split()) > 25 and "from outside" in text.lower()


def test_only_views_know_widgets():
    users = {p.stem for p in MODULES if "import ipywidgets as W" in p.read_text(encoding="utf-8")}
    assert users == {"views", "raters", "painter", "widgets"}


@pytest.mark.parametrize("path", sorted((env.ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebooks_first_cell_names_the_front_row_only(path):
    import nbformat

    first = next(c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    for node in ast.walk(ast.parse(first.source)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "helpers":
            assert node.module == "helpers" or node.module.split(".")[1] in FRONT
            assert node.module != "helpers" or {alias.name for alias in node.names} <= FRONT
