"""Measure on planted artifact units, whose truth is known, what scores, masks and corrections find and repair.

    python -m tools.measure.planted              # adds what is missing to data/churches/planted.csv
    python -m tools.measure.planted --shift      # what needs no mask, to data/churches/planted_shift.csv
    python -m tools.measure.planted --summary    # prints means over plantings with 95 % intervals
    python -m tools.build.manifest churches planted.csv planted_shift.csv

Twenty seeds; each plants four units of layer 3, 4, 5 or 6 or two of layer 7, in every kind at the middle strength and
rate, and in one kind at others. Corrections, the shift among them, and the rankings without masks are measured for one
kind of each seed, at the middle. Ids are from the unlabelled pool, cut into parts: what is measured on held-out images
is measured on latents that no level, label, threshold, ranking or tuning has seen. The run can be stopped and goes on
where it was; the fullest come first.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from helpers import env, store
from tools.measure.planted import shifting
from tools.measure.planted.measure import measure
from tools.measure.planted.settings import COLUMNS, FIRST, KEYS, conditions
from tools.measure.planted.shared import prepare
from tools.measure.planted.summary import summary


def read(out):
    """Read what is measured so far."""
    if not out.is_file():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(out, keep_default_na=False, na_values={"value": [""]})


def missing(table, seeds, full=False):
    """List the conditions that are not in the table; full: of those in which corrections are measured."""
    done = set(table[KEYS].drop_duplicates().itertuples(index=False, name=None))
    wanted = conditions(range(FIRST, FIRST + seeds))
    return [c for c in wanted if c[:5] not in done and (c[5] or not full)]


def gather(table, todo, measured, out):
    """Add each planting's rows as they come and replace the file by the whole table: it never holds half a planting."""
    for condition, rows in zip(todo, env.progress(measured, "plantings", len(todo))):
        keys = dict(zip(KEYS, condition))
        new = pd.DataFrame([keys | row._asdict() for row in rows], columns=COLUMNS).round({"value": 4})
        table = new if table.empty else pd.concat([table, new], ignore_index=True)
        store.replace(out, table.sort_values(KEYS, kind="stable").to_csv(index=False).encode())


def main():
    shape = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser("python -m tools.measure.planted", description=__doc__, formatter_class=shape)
    p.add_argument("--seeds", type=int, default=20)
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    p.add_argument("--out", type=Path, help="default: planted.csv, or planted_shift.csv, in data/churches")
    p.add_argument("--shift", action="store_true", help="measure the shift toward normal, and rankings without masks")
    p.add_argument("--summary", action="store_true", help="print means of what is there")
    a = p.parse_args()
    name, measured = ("planted_shift", shifting.measure) if a.shift else ("planted", measure)
    out = a.out or store.data_root() / "churches" / f"{name}.csv"
    table, start = read(out), time.perf_counter()
    if a.summary:
        print(summary(table).to_csv(index=False))
        return
    todo = missing(table, a.seeds, a.shift)
    pool = ProcessPoolExecutor(a.workers, get_context("spawn"), prepare)
    try:
        gather(table, todo, pool.map(measured, todo), out)
    finally:
        pool.shutdown(cancel_futures=True)  # when stopped, do not finish what nobody would save
    print(f"{len(todo)} plantings measured in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
