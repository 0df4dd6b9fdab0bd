"""Execute notebooks into pages, several at a time: each in a kernel and with a share of the cores of its own."""

import multiprocessing
import os
import threading
import time
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

import nbformat
from tqdm import tqdm

from helpers import env
from tools.build import notebook_rules as rules
from tools.build import times
from tools.build.kernels import execute, kernel, peak_bytes
from tools.build.offline_pages import page
from tools.build.storing import clean

PAGES = env.ROOT / "executed"
# Beside another one, with half of the cores, a notebook takes longer, yet both are done sooner: imports, drawing and
# all that Python does by itself use one core anyway.
GAIN = 1.4


def run(names, jobs=2):
    """Execute notebooks into executed/ and say which pages and pictures to open; returns the number of failures.

    names: beginnings of their names. jobs: how many at a time at most, and no more than there are cores. Raises
    ValueError for fewer than 1.
    """
    if jobs < 1:
        raise ValueError(f"at least one notebook runs at a time, got {jobs} jobs: leave it out, or name more")
    paths, guesses, began = rules.paths(names), times.estimates(names), time.time()
    PAGES.mkdir(exist_ok=True)
    jobs = min(jobs, len(paths), times.cores())
    known = [seconds for seconds in guesses.values() if seconds is not None]
    if known:
        soon = times.together(sum(known) / (GAIN if jobs > 1 else 1))
        print(f"{len(paths)} notebooks, {jobs} at a time, about {soon} on this machine", flush=True)
    failures = 0
    with tqdm(total=round(sum(known)) if known else len(paths), unit="s" if known else "notebook", leave=False) as bar:
        for path, seconds, said in _executed(paths, jobs, bar):
            failures += seconds is None
            bar.write(f"{path.stem}{said}")
            bar.update(round(guesses[path.stem] or 0) if known else 1)
    pages = [p for p in map(_page, paths) if p.is_file()]
    figures = [p for p in sorted((env.ROOT / "figures").glob("*.png")) if p.stat().st_mtime >= began]
    for what, files in (("Pages to open in a browser:", pages), ("Pictures:", figures)):
        if files:
            print(what, *(p.relative_to(env.ROOT) for p in files), sep="\n  ")
    print("To change numbers and move sliders: make lab")
    return failures


def _executed(paths, jobs, bar):
    """Yield (path, seconds or None, what to say) of each notebook as soon as it is done."""
    todo, running, threads = list(paths), {}, max(1, times.cores() // jobs)
    # Processes, since a kernel's client wants the main thread, where an interrupt arrives as well.
    with futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        while todo or running:
            while todo and len(running) < jobs:
                path = todo.pop(0)
                try:
                    running[pool.submit(execute_one, path, _page(path), threads)] = path
                except BrokenProcessPool as error:
                    yield path, None, f" did not run: {error}"
            bar.set_description(", ".join(path.stem[:2] for path in running.values()))
            for done in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                error = done.exception()  # of the process itself, such as one that was killed for memory
                yield running.pop(done), *((None, f" failed: {error}") if error else done.result())


def _end_with_parent():
    """Let this process, and with it its kernel, end when the one that started it is killed."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def execute_one(path, to, threads):
    """Execute a notebook and write its page to a file; returns (seconds, or None if it failed, what to say of it)."""
    to.unlink(missing_ok=True)
    try:
        nb = nbformat.read(path, as_version=4)
        try:
            with kernel(nb, OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", str(threads))) as client:
                seconds, peak = execute(client, nb), peak_bytes(client)
        finally:
            clean(nb, {})
            to.write_text(page(nb, path.stem), encoding="utf-8")
    except Exception as error:  # whatever it is, the other notebooks go on
        return None, f" failed: {error}"
    return seconds, f": {seconds:.0f} s, peak {peak / 2**20:.0f} MB"


def _page(path):
    return PAGES / f"{path.stem}.html"
