"""Evaluate all corrections and store the results that notebook 07 reads: python -m tools.measure.evaluate [PART ...].

Ranked is on TRAIN, settings are chosen on TUNE, and what is reported is measured once on TEST (`domains`). Results are
tidy CSV files in data/churches/evaluation, each written whole by its part. A part that is done is not computed again,
unless weights, labels or settings have changed; so a run that was stopped goes on with the part it was in.
Afterwards: python -m tools.build.manifest churches evaluation/table.csv ...
"""

import argparse
import time

from tools.measure.evaluate import grid, options, portions, raters, results, table
from tools.measure.evaluate.study import Study

PARTS = {  # name: what computes it, from the study, as {file: rows}
    "grid": grid.grid,
    "table": table.table,
    "nights": table.nights,
    "portions": portions.portions,
    "options": options.options,
    "agreement": raters.agreement,
    "classifier": raters.classifiers,
}
TUNED = ("table", "nights", "options")  # what stands on settings that the grid chose


def run(parts):
    """Compute and store the parts that are not there yet, in the order of PARTS; returns the seconds each took."""
    wanted = set(parts) | ({"grid"} if set(parts) & set(TUNED) else set())
    seconds, study = {}, None
    for name in (part for part in PARTS if part in wanted):
        if results.done(name):
            print(f"{name}: is there already, from the same weights, labels and settings; skipped", flush=True)
            continue
        study = study or Study()
        start = time.perf_counter()
        results.store(name, PARTS[name](study))
        seconds[name] = time.perf_counter() - start
        print(f"{name}: done in {seconds[name]:.0f} s", flush=True)
    return seconds


def main():
    shape = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser("python -m tools.measure.evaluate", description=__doc__, formatter_class=shape)
    p.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    seconds = run(p.parse_args().parts or PARTS)
    for name, value in (seconds | {"in all": sum(seconds.values())}).items():
        print(f"{name:>12} {value:6.0f} s")


if __name__ == "__main__":
    main()
