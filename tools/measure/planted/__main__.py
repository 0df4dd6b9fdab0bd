"""Measure on planted artifact units, whose truth is known, what scores, masks and corrections find and repair.

    python -m tools.measure.planted              # adds what is missing to data/churches/planted.csv
    python -m tools.measure.planted --summary    # prints means over plantings with 95 % intervals
    python -m tools.build.manifest churches planted.csv

Twenty seeds; each plants four units of layer 3, 4, 5 or 6 or two of layer 7, in every kind at the middle strength and
rate, and in one kind at others. Corrections are measured for one kind of each seed, at the middle. Ids are from the
unlabelled pool, cut into parts: what is measured on held-out images is measured on latents that no level, label,
threshold, ranking or tuning has seen. The run can be stopped and goes on where it was; the fullest come first.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from helpers import env, store
from tools.measure.planted.measure import measure
from tools.measure.planted.settings import COLUMNS, FIRST, KEYS, conditions
from tools.measure.planted.shared import prepare
from tools.measure.planted.summary import summary


def read(out):
    """Read what is measured so far."""
    if not out.is_file():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(out, keep_default_na=False, na_values={"value": [""]})


def missing(table, seeds):
    """List the conditions that are not in the table."""
    done = set(table[KEYS].drop_duplicates().itertuples(index=False, name=None))
    return [c for c in conditions(range(FIRST, FIRST + seeds)) if c[:5] not in done]


def gather(table, todo, measured, out):
    """Add each planting's rows as they come and replace the file by the whole table: it never holds half a planting."""
    for condition, rows in zip(todo, env.progress(measured, "plantings", len(todo))):
        new = pd.DataFrame([(*condition[:5], *row) for row in rows], columns=COLUMNS).round({"value": 4})
        table = new if table.empty else pd.concat([table, new], ignore_index=True)
        store.replace(out, table.sort_values(KEYS, kind="stable").to_csv(index=False).encode())


def main():
    shape = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser("python -m tools.measure.planted", description=__doc__, formatter_class=shape)
    p.add_argument("--seeds", type=int, default=20)
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    p.add_argument("--out", type=Path, default=store.data_root() / "churches" / "planted.csv")
    p.add_argument("--summary", action="store_true")
    a = p.parse_args()
    table, start = read(a.out), time.perf_counter()
    if a.summary:
        print(summary(table).to_csv(index=False))
        return
    todo = missing(table, a.seeds)
    pool = ProcessPoolExecutor(a.workers, get_context("spawn"), prepare)
    try:
        gather(table, todo, pool.map(measure, todo), a.out)
    finally:
        pool.shutdown(cancel_futures=True)  # when stopped, do not finish what nobody would save
    print(f"{len(todo)} plantings measured in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
