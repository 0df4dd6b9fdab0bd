"""Open JupyterLab on a working copy of the notebooks, so that reading and running them changes no stored file.

    python -m tools.build.working_copy     # what `make lab` does

The copies stand in lab/, beside data/ and docs/, so that links lead where they do in notebooks/. A copy whose code and
text nobody has changed follows the stored notebook; one that a reader has changed stays as it is.
"""

import hashlib
import json
import os
import shutil
import sys

import nbformat

from helpers import env
from tools.build import notebook_rules as rules

FOLDER = env.ROOT / "lab"
KNOWN = ".copied.json"  # {notebook: hash of its sources when it was copied}


def refresh(folder=FOLDER):
    """Bring the copies up to date; returns the names of those that a reader has changed and that stay behind."""
    folder.mkdir(exist_ok=True)
    file = folder / KNOWN
    known, kept = json.loads(file.read_text()) if file.is_file() else {}, []
    for path in rules.paths():
        copy, fresh = folder / path.name, sources(path)
        if copy.exists() and sources(copy) != known.get(path.name):
            if known.get(path.name) != fresh:
                kept.append(path.name)
            continue
        if not copy.exists() or known.get(path.name) != fresh:
            shutil.copyfile(path, copy)
            known[path.name] = fresh
    file.write_text(json.dumps(known, indent=1) + "\n")
    return kept


def sources(path):
    """Hash what people write in a notebook, its cells, and not what running it adds; "" for a file that is none."""
    try:
        cells = nbformat.read(path, as_version=4).cells
    except Exception:  # whatever it is, it is not what was copied
        return ""
    return hashlib.sha256("\0".join(f"{cell.cell_type} {cell.source}" for cell in cells).encode()).hexdigest()


def main():
    """Refresh the copies and become JupyterLab."""
    for name in refresh():
        print(f"lab/{name} has your changes and stays as it is; the stored one is newer: rename yours to get it")
    arguments = [f"--ServerApp.root_dir={env.ROOT}", "--LabApp.default_url=/lab/tree/lab/00_start_here.ipynb"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments, *sys.argv[1:]])


if __name__ == "__main__":
    main()
