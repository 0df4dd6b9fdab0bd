"""Read, write and compare the artifact/normal table.

A label file is a CSV with the header `id,label,type,rater` and optionally more columns, such as `pass`
and `split`: image id, "normal" or "artifact", what is wrong with an artifact (`KNOWN_TYPES`), who said so.
Explained in notebook 02; the criteria stand in the data card.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers import store
from helpers.evidence.label_files import CLASSES, KNOWN_TYPES, REQUIRED, TYPES, check, key, lines, parse  # noqa: F401


@dataclass(frozen=True)
class Labels:
    """A label table as equally long columns; `types` is "" for normals, `extra` holds further columns by name."""

    ids: list[int]
    labels: list[str]
    types: list[str]
    raters: list[str]
    extra: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self):
        return len(self.ids)

    @property
    def artifacts(self):
        """Ids labelled artifact, in file order."""
        return self._labelled("artifact")

    @property
    def normals(self):
        """Ids labelled normal, in file order."""
        return self._labelled("normal")

    def _labelled(self, wanted):
        return [i for i, label in zip(self.ids, self.labels, strict=True) if label == wanted]

    @property
    def rows(self):
        """The table as dicts by column name."""
        columns = dict(zip(REQUIRED, (self.ids, self.labels, self.types, self.raters), strict=True)) | self.extra
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def only(self, **columns):
        """Keep the rows that have these values: `table.only(rater="ann", split="train", type="stain")`."""
        known = (*REQUIRED, *self.extra)
        if not set(columns) <= set(known):
            raise ValueError(f"this table has the columns {', '.join(known)}, got {', '.join(columns)}: use those")
        rows = [row for row in self.rows if all(str(row[name]) == str(value) for name, value in columns.items())]
        return _table(rows, self.extra)


class Agreement(NamedTuple):
    """How far two passes agree, on the images both labelled."""

    n: int
    share: float  # of images with the same class
    kappa: float  # Cohen's; NaN if both give one and the same class throughout
    low: float  # 95 % bootstrap interval of kappa
    high: float
    types: dict[str, float]  # type -> 2 * both / (a + b): how often it is given by both
    disagreements: list[int]  # ids with different classes


def read(path, expect=None):
    """Read a label file -> Labels.

    expect: ids that must be there. A last line that a dying session left half written is dropped with a warning.
    What spreadsheets make of a file is read as well: semicolons, capital letters, ids as 12.0. Raises ValueError, with
    the first few faulty lines, for a missing column, an unknown class or type, an artifact without type, a normal with
    one, an id that is no whole number, an id twice by one rater in one pass; and for expected ids that are missing.
    """
    parsed = parse(path)
    table = _table(parsed.rows, parsed.columns)
    missing = sorted(set(() if expect is None else map(int, expect)) - set(table.ids))
    if missing:
        names = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise ValueError(f"{path} has no label for {len(missing)} expected ids ({names}): label these images first")
    return table


def write(path, table):
    """Write a Labels table, all or nothing: whatever interrupts it, the old file stays whole.

    Raises ValueError, before the file is touched, for rows that `read` would refuse.
    """
    rows, columns, seen = table.rows, (*REQUIRED, *table.extra), {}
    for number, row in enumerate(rows, start=2):
        check(row, columns, seen, f"row {number - 1} of the table", number)
    store.replace(path, lines(columns, [dict(zip(columns, columns, strict=True)), *rows]))


def append(path, row):
    """Add one label to a file and have it on the disk before returning; the file is created if need be.

    row: {"id": 17, "label": "artifact", "type": "stain", "rater": "ann"}, and `pass` and `split` if the file has
    them; `type` may be left out for a normal. A half-written last line is healed first. If the disk is full, the
    file stays as it was. Raises ValueError for a row that `read` would refuse.
    """
    row = {"type": ""} | {name: value if name == "id" else str(value) for name, value in row.items()}
    if not Path(path).exists():
        return write(path, _table([row], row))
    rows, columns, whole, mark = parse(path)
    row = {name: "" for name in columns if name not in REQUIRED} | row
    seen = {key(known): number for number, known in enumerate(rows, start=2)}
    check(row, columns, seen, "the new label", len(rows) + 2)
    if not whole or mark != ",":  # written anew, as any reader of such tables expects it
        return write(path, _table([*rows, row], columns))
    with open(path, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            line = lines(columns, [row])
            if file.write(line) != len(line):
                raise OSError(f"the disk took only part of a label for {path}: free some space and label it again")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def agreement(a, b, resamples=2000, seed=0):
    """Compare two passes over the same images: Labels, Labels -> Agreement, on the ids in both.

    Raises ValueError if no id is in both or one table labels an id more than once. Explained in notebook 02.
    """
    a, b = _by_id(a, "a"), _by_id(b, "b")
    shared = [i for i in a if i in b]
    if not shared:
        raise ValueError("the two tables have no image id in common: agreement needs images labelled twice")
    counts = np.zeros((len(CLASSES), len(CLASSES)))
    for i in shared:
        counts[CLASSES.index(a[i]["label"]), CLASSES.index(b[i]["label"])] += 1
    # Resampling images with replacement is drawing the table of counts from a multinomial.
    draws = np.random.default_rng(seed).multinomial(len(shared), counts.ravel() / len(shared), resamples)
    kappas = _kappa(draws.reshape(-1, *counts.shape))
    kappas = kappas[~np.isnan(kappas)]  # a resample of one class only has no kappa
    low, high = np.quantile(kappas, [0.025, 0.975]) if len(kappas) else (np.nan, np.nan)
    both = Counter(a[i]["type"] for i in shared if a[i]["type"] == b[i]["type"])
    either = Counter(table[i]["type"] for table in (a, b) for i in shared)
    types = {name: 2 * both[name] / either[name] for name in KNOWN_TYPES if either[name]}
    disagreements = [i for i in shared if a[i]["label"] != b[i]["label"]]
    share, kappa = 1 - len(disagreements) / len(shared), float(_kappa(counts))
    return Agreement(len(shared), share, kappa, float(low), float(high), types, disagreements)


def _kappa(counts):
    """Cohen's kappa of count tables (..., C, C): (observed - chance) / (1 - chance) agreement. Cohen 1960."""
    p = counts / counts.sum(axis=(-2, -1), keepdims=True)
    observed = np.trace(p, axis1=-2, axis2=-1)
    chance = (p.sum(axis=-1) * p.sum(axis=-2)).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)


def _by_id(table, name):
    twice = [i for i, count in Counter(table.ids).items() if count > 1]
    if twice:
        raise ValueError(f"table {name} labels image {twice[0]} twice: pick one rater or pass with .only(rater=...)")
    return {row["id"]: row for row in table.rows}


def _table(rows, columns):
    required = [[row[name] for row in rows] for name in REQUIRED]
    return Labels(*required, {name: [row[name] for row in rows] for name in columns if name not in REQUIRED})
