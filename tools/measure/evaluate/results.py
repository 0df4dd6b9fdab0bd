"""Keep the results: one tidy CSV a file, and from which weights, labels and settings they stem."""

import json

import pandas as pd

from helpers import store as files
from tools.measure.evaluate import settings

FOLDER = files.data_root() / "churches" / "evaluation"
FILES = {"table": ("table", "parts")}  # of the other parts, one file of their name


def read(name):
    """Read a stored table."""
    return pd.read_csv(FOLDER / f"{name}.csv")


def store(part, tables):
    """Write a part's tables, {file: rows as dicts}, each whole, and note that the part is done."""
    if set(tables) != set(FILES.get(part, (part,))):
        raise ValueError(f"part {part} gave the tables {', '.join(tables)}: name them in FILES")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        whole = pd.DataFrame(rows).round(5).to_csv(index=False)
        files.replace(FOLDER / f"{name}.csv", whole.encode())
    note = inputs() | {"parts": sorted({*_noted(), part})}
    files.replace(FOLDER / "inputs.json", (json.dumps(note, indent=1) + "\n").encode())


def done(part):
    """Tell whether a part's files are there and stem from today's weights, labels and settings."""
    return part in _noted() and all((FOLDER / f"{name}.csv").is_file() for name in FILES.get(part, (part,)))


def _noted():
    path = FOLDER / "inputs.json"
    note = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    parts = note.pop("parts", [])
    return parts if note == inputs() else []


def inputs():
    """Return what results depend on: the checksums of the manifest and the settings, as plain JSON."""
    entries = json.loads((files.data_root() / "churches" / files.MANIFEST).read_text(encoding="utf-8"))
    names = [f"{name}.safetensors" for name in settings.INPUTS] + ["labels.csv", "second_pass.csv"]
    chosen = {name: value for name, value in vars(settings).items() if name.isupper()}
    return json.loads(json.dumps({"files": {n: entries[n]["sha256"][:16] for n in names}, "settings": chosen}))
