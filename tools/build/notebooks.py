"""Build, check and run the notebooks: python -m tools.build.notebooks build|verify|links|run [--jobs N] [NAME ...].

build   execute at full size in a clean kernel with an empty cache, clean, store outputs, measure time and memory
verify  check that the stored notebooks are fresh, clean, within their budgets, and show the numbers they state
links   write the links between the notebooks
run     execute into executed/ as pages to read in a browser, N at a time; the stored notebooks stay as they are
NAME is the beginning of a notebook's name, such as 03; without it, all are meant.
"""

import argparse
import copy
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import nbformat

from helpers import env
from tools.build import notebook_rules as rules
from tools.build import times, walk
from tools.build.kernels import FAILURES, describe_figures, execute, kernel, peak_bytes, widget_errors
from tools.build.storing import clean, shrink


def build(names):
    """Execute and store notebooks; prints a table. Returns the number of failures, whose files stay as they were."""
    failures, every = 0, rules.paths()
    print(f"{'notebook':32}{'seconds':>9}{'peak MB':>9}{'stored KB':>11}")
    for path in rules.paths(names):
        nb = nbformat.read(path, as_version=4)
        rules.set_links(nb, rules.link_line(path, every))
        rules.set_map(nb, every)
        quick = copy.deepcopy(nb)
        with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as other:
            try:
                with kernel(nb, HELPERS_CACHE=cache, SMOKE="0") as client:
                    describe_figures(client)
                    seconds, peak = execute(client, nb), peak_bytes(client)
                    hidden = widget_errors(client, nb)
                with kernel(quick, HELPERS_CACHE=other, SMOKE="1") as client:
                    quick_seconds = execute(client, quick)
            except FAILURES as error:
                hidden = [str(error)]
            if hidden:
                failures += 1
                print(f"{path.stem:32} failed, nothing stored\n" + "\n".join(hidden))
                continue
            root, home = str(env.ROOT), str(Path.home())
            clean(nb, {cache: "data/cache", root + os.sep: "", root: ".", home + os.sep: "~/"})
        shrink(nb)
        row = {"seconds": round(seconds, 1), "quick_seconds": round(quick_seconds, 1), "peak_mb": round(peak / 2**20)}
        times.record(path.stem, row)
        times.set_header(nb, path.stem)
        nbformat.write(nb, path)
        if picture := rules.key_figure(nb):
            rules.figure_file(path).parent.mkdir(parents=True, exist_ok=True)
            rules.figure_file(path).write_bytes(picture)
        size = path.stat().st_size
        print(f"{path.stem:32}{row['seconds']:>9}{row['peak_mb']:>9}{round(size / 1000):>11}")
    return failures


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


def main():
    """Run one command on the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("build", "verify", "links", "run"))
    parser.add_argument("names", nargs="*", help="beginnings of notebook names, such as 03; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="of run: so many at a time share the cores")
    arguments = parser.parse_args()
    commands = {"build": build, "verify": verify, "links": links, "run": partial(walk.run, jobs=arguments.jobs)}
    try:
        sys.exit(1 if commands[arguments.command](arguments.names) else 0)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
