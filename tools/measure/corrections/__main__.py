"""Correct held-out artifacts of any embedded domain in several ways: choose, measure, lay out for blind raters.

    python -m tools.measure.corrections churches table    # writes data/churches/corrections.csv, minutes
    python -m tools.measure.corrections faces choose      # data/faces/choice.csv: settings, on ids not held out
    python -m tools.measure.corrections churches ideas    # data/churches/ideas.csv: per type, per cluster, ...
    python -m tools.measure.corrections churches labels   # data/churches/labels_needed.csv: how many it takes
    python -m tools.measure.corrections faces sheets --out SHEETS --key KEYS    # pictures and pairs, for raters
    python -m tools.measure.corrections churches neighbours --out SHEETS --key KEYS    # of a later sitting

`choose` fits on the first three quarters of `domains.TRAIN` and measures on artifacts of the rest and of
`domains.TUNE`. Afterwards: tools.build.manifest DOMAIN.
"""

import argparse
from pathlib import Path

from helpers import store
from tools.measure.corrections.choices import choose, labels_needed
from tools.measure.corrections.ideas import ideas
from tools.measure.corrections.sheets import neighbour_sheets, sheets
from tools.measure.corrections.table import table
from tools.measure.corrections.ways import SETTINGS, Study

SHEETS = {"sheets": sheets, "neighbours": neighbour_sheets}


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("domain", choices=SETTINGS)
    p.add_argument("what", choices=("table", "choose", "ideas", "labels", *SHEETS))
    p.add_argument("--out", type=Path, help="folder of the sheets")
    p.add_argument("--key", type=Path, help="another folder, for the keys that no rater may see")
    a = p.parse_args(words)
    if a.what in SHEETS:
        if a.out is None or a.key is None:
            p.error("sheets need --out and --key")
        return SHEETS[a.what](Study(a.domain), a.out, a.key)
    made = {"table": lambda: table(Study(a.domain)), "choose": lambda: choose(a.domain)}
    made["ideas"] = lambda: ideas(a.domain)
    made["labels"] = lambda: labels_needed(a.domain)
    file = {"table": "corrections", "choose": "choice", "ideas": "ideas", "labels": "labels_needed"}[a.what]
    found = made[a.what]()
    found.round(5).to_csv(store.data_root() / a.domain / f"{file}.csv", index=False)
    print(found.to_string())


if __name__ == "__main__":
    main()
