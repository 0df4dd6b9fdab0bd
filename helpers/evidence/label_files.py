"""Parse a label file line by line: what people and spreadsheets make of it, what is wrong with it, and where.

See `helpers.labels`, which is its door.
"""

import csv
import io
import warnings
from typing import NamedTuple

import numpy as np

from helpers.evidence import spreadsheets

CLASSES = ("normal", "artifact")
TYPES = ("outline", "texture", "stain", "missing", "fusion", "other")  # of churches
KNOWN_TYPES = (*TYPES[:-1], "feature", "accessory", "other")  # of faces as well
REQUIRED = ("id", "label", "type", "rater")
NOTHING = ("nan", "none", "null", "n/a")  # what programs write where there is no type
NAMED = 5  # faulty lines that one error names


class Parsed(NamedTuple):
    """What a file holds: rows (dicts), column names, whether it ends as it should, what stands between its values."""

    rows: list
    columns: tuple
    whole: bool
    mark: str


def parse(path):
    """Read a label file -> Parsed; errors and the warning for a half-written last line as of `labels.read`."""
    written = spreadsheets.text(path).split("\n")
    tail = written[-1]
    top, mark, columns = spreadsheets.opening(written, (*REQUIRED, "pass", "split"))
    absent = [name for name in REQUIRED if name not in columns]
    if absent or len(set(columns)) < len(columns):
        lacks = f"lacks the column {absent[0]!r}" if absent else f"repeats a column ({','.join(columns)})"
        first = f"{path}, line {top + 1}: the header {lacks}"
        raise ValueError(f"{first}, expected {','.join(REQUIRED)} and what else you need")
    rows, seen, faults = [], {}, []
    for number, line in enumerate(written[top + 1 :], start=top + 2):
        values = spreadsheets.row(line, mark, len(columns))
        if not any(values):
            continue
        unfinished = tail and number == len(written)
        cut = unfinished and (len(values) < len(columns) or not values[-1])
        if not cut:
            if len(values) != len(columns):
                faults.append(f"line {number}, has {len(values)} values, expected {','.join(columns)}")
                continue
            row = _normal(dict(zip(columns, values, strict=True)))
            if (wrong := fault(row, columns, seen, number)) is not None:
                faults.append(f"line {number}, {wrong}")
                continue
        # All values but the last of an unfinished line are whole; the last is trusted if it was seen before.
        if cut or (unfinished and values[-1] not in {known[columns[-1]] for known in rows}):
            where = f"{path}, line {number},"
            warnings.warn(f"{where} is half written ({line!r}): label that image again", stacklevel=4)
            break
        rows.append(row)
    if faults:
        more = f"; and {len(faults) - NAMED} lines more" if len(faults) > NAMED else ""
        them = "it, or label the image" if len(faults) == 1 else "them, or label the images"
        raise ValueError(f"{path}, {'; '.join(faults[:NAMED])}{more}: correct {them} again")
    return Parsed(rows, tuple(columns), not tail, mark)


def check(row, columns, seen, where, number):
    """Raise ValueError unless the row can stand in a file whose rows so far have the keys in `seen`; add its own."""
    if (wrong := fault(row, columns, seen, number)) is not None:
        raise ValueError(f"{where} {wrong}: correct it, or label the image again")


def fault(row, columns, seen, number):
    """Say what is wrong with a row of a file whose rows so far have the keys in `seen`, or add its own to them."""
    image, label, kind, rater = (row.get(name) for name in REQUIRED)
    if set(row) != set(columns):
        return f"has the columns {','.join(row)}, expected {','.join(columns)}"
    if isinstance(image, bool) or not isinstance(image, (int, np.integer)) or image < 0:
        return f"has the id {image!r}, expected a whole number from 0"
    if label not in CLASSES:
        return f"has the unknown class {label!r}, expected {' or '.join(CLASSES)}"
    if label == "artifact" and kind not in KNOWN_TYPES:
        return f"has an artifact with the type {kind!r}, expected one of {', '.join(KNOWN_TYPES)}"
    if label == "normal" and kind:
        return f"has a normal with the type {kind!r}, expected none"
    if not rater or any(str(v) != str(v).strip() or "\n" in str(v) or "\r" in str(v) for v in row.values()):
        return "has no rater, or a value with a line break or outer spaces, expected plain names"
    if key(row) in seen:
        return f"labels image {image} twice for {rater} (see line {seen[key(row)]}), expected one label per pass"
    seen[key(row)] = number
    return None


def key(row):
    """Return what no two rows of a file share: image, rater and pass."""
    return row["id"], row["rater"], row.get("pass", "")


def lines(columns, rows):
    """Return rows (dicts) as the bytes of lines of a file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row[name] for name in columns] for row in rows)
    return text.getvalue().encode()


def _normal(row):
    """Read what means the same: capital letters in what has few values, whole numbers as 12.0, no type in words."""
    row = row | {name: row[name].lower() for name in ("label", "type", "split") if name in row}
    numbers = {name: spreadsheets.whole(row[name]) for name in ("id", "pass") if name in row}
    if "pass" in row:
        numbers["pass"] = str(numbers["pass"])
    return row | numbers | ({"type": ""} if row["type"] in NOTHING else {})
