"""Build, check and run the notebooks: python -m tools.build.notebooks build|verify|links|run [NAME ...].

build   execute at full size in a clean kernel with an empty cache, clean, store outputs, measure time and memory
verify  check that the stored notebooks are fresh, clean and within their budgets
links   write the links between the notebooks
run     execute into executed/ as pages to read in a browser; the stored notebooks stay as they are
NAME is the beginning of a notebook's name, such as 03; without it, all are meant.
"""

import argparse
import contextlib
import json
import logging
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from helpers import env
from tools.build import notebook_rules as rules
from tools.build.kernels import FAILURES, execute, kernel, peak_bytes, widget_errors
from tools.build.storing import clean, shrink

TIMES = rules.FOLDER / "times.json"
PAGES = env.ROOT / "executed"


def build(names):
    """Execute and store notebooks; prints a table. Returns the number of failures, whose files stay as they were."""
    failures, every = 0, rules.paths()
    print(f"{'notebook':32}{'seconds':>9}{'peak MB':>9}{'stored KB':>11}")
    for path in rules.paths(names):
        nb = nbformat.read(path, as_version=4)
        rules.set_links(nb, rules.link_line(path, every))
        rules.set_map(nb, every)
        with tempfile.TemporaryDirectory() as cache:
            try:
                with kernel(nb, HELPERS_CACHE=cache, SMOKE="0") as client:
                    seconds, peak = execute(client, nb), peak_bytes(client)
                    hidden = widget_errors(client, nb)
            except FAILURES as error:
                hidden = [str(error)]
            if hidden:
                failures += 1
                print(f"{path.stem:32} failed, nothing stored\n" + "\n".join(hidden))
                continue
            root, home = str(env.ROOT), str(Path.home())
            clean(nb, {cache: "data/cache", root + os.sep: "", root: ".", home + os.sep: "~/"})
        shrink(nb)
        nbformat.write(nb, path)
        if picture := rules.key_figure(nb):
            rules.figure_file(path).parent.mkdir(parents=True, exist_ok=True)
            rules.figure_file(path).write_bytes(picture)
        size = path.stat().st_size
        row = {"seconds": round(seconds, 1), "peak_mb": round(peak / 2**20), "stored_kb": round(size / 1000)}
        _record(path.stem, row)
        print(f"{path.stem:32}{row['seconds']:>9}{row['peak_mb']:>9}{row['stored_kb']:>11}")
    return failures


def _record(name, row):
    times = json.loads(TIMES.read_text()) if TIMES.is_file() else {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    row |= {"cores": cores, "processor": _processor(), "device": env.device().type}
    TIMES.write_text(json.dumps(dict(sorted({**times, name: row}.items())), indent=1) + "\n")


def _processor():
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def verify(names):
    """Print what is wrong with the stored notebooks; returns the number of problems."""
    every, count = rules.paths(), 0
    for path in rules.paths(names):
        for problem in rules.problems(nbformat.read(path, as_version=4), path, every):
            print(f"{path.name}: {problem}")
            count += 1
    print(f"{len(rules.paths(names))} notebooks, {count} problems")
    return count


def links(names):
    """Write the links between the notebooks, leaving all else as it is."""
    every = rules.paths()
    for path in rules.paths(names):
        nb = nbformat.read(path, as_version=4)
        rules.set_links(nb, rules.link_line(path, every))
        rules.set_map(nb, every)
        nbformat.write(nb, path)
    return 0


def run(names):
    """Execute notebooks into executed/ and say which pages and pictures to open; returns the number of failures."""
    from nbconvert import HTMLExporter

    logging.getLogger("traitlets").setLevel(logging.ERROR)  # nbconvert's remarks on alternative texts
    PAGES.mkdir(exist_ok=True)
    began, failures, pages = time.time(), 0, []
    for path in rules.paths(names):
        nb = nbformat.read(path, as_version=4)
        print(f"{path.stem} ...", flush=True)
        try:
            with kernel(nb) as client:
                print(f"{path.stem}: {execute(client, nb):.0f} s, peak {peak_bytes(client) / 2**20:.0f} MB", flush=True)
        except FAILURES as error:
            failures += 1
            print(f"{path.stem} failed: {error}")
        clean(nb, {})
        html, _ = HTMLExporter().from_notebook_node(nb, {"metadata": {"name": path.stem}})
        pages.append(PAGES / f"{path.stem}.html")
        pages[-1].write_text(re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', html), encoding="utf-8")
    figures = [p for p in sorted((env.ROOT / "figures").glob("*.png")) if p.stat().st_mtime >= began]
    for what, files in (("Pages to open in a browser:", pages), ("Pictures:", figures)):
        if files:
            print(what, *(p.relative_to(env.ROOT) for p in files), sep="\n  ")
    print("To change numbers and move sliders: make lab")
    return failures


def main():
    """Run one command on the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("build", "verify", "links", "run"))
    parser.add_argument("names", nargs="*", help="beginnings of notebook names, such as 03; default: all")
    arguments = parser.parse_args()
    try:
        sys.exit(1 if globals()[arguments.command](arguments.names) else 0)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
