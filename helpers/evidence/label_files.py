"""Parse a label file line by line: what people and spreadsheets make of it, what is wrong with it, and where.

See `helpers.labels`, which is its door.
"""

import csv
import io
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

CLASSES = ("normal", "artifact")
TYPES = ("outline", "texture", "stain", "missing", "fusion", "other")  # of churches
KNOWN_TYPES = (*TYPES[:-1], "feature", "accessory", "other")  # of faces as well
REQUIRED = ("id", "label", "type", "rater")
MARKS = (",", ";", "\t")  # what stands between values; a spreadsheet takes what its language has
NAMED = 5  # faulty lines that one error names


class Parsed(NamedTuple):
    """What a file holds: rows (dicts), column names, whether it ends as it should, what stands between its values."""

    rows: list
    columns: tuple
    whole: bool
    mark: str


def parse(path):
    """Read a label file -> Parsed; errors and the warning for a half-written last line as of `labels.read`."""
    body, newline, tail = Path(path).read_bytes().rpartition(b"\n")
    try:
        text = (body + newline).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as CSV in UTF-8") from error
    # The unfinished line, if there is one, may even end within a character.
    written = text.split("\n")[:-1] + [tail.decode(errors="replace")]
    top = 1 if re.match(r"\s*\"?sep=.", written[0]) else 0  # what a spreadsheet leaves for itself
    mark = max(MARKS, key=lambda mark: len(set(REQUIRED) & set(_header(written[top:], mark))))
    columns = _header(written[top:], mark)
    absent = [name for name in REQUIRED if name not in columns]
    if absent or len(set(columns)) < len(columns):
        lacks = f"lacks the column {absent[0]!r}" if absent else f"repeats a column ({','.join(columns)})"
        first = f"{path}, line {top + 1}: the header {lacks}"
        raise ValueError(f"{first}, expected {','.join(REQUIRED)} and what else you need")
    rows, seen, faults = [], {}, []
    for number, line in enumerate(written[top + 1 :], start=top + 2):
        values = _values(line, mark)
        values = values[: len(columns)] + [value for value in values[len(columns) :] if value]
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


def _values(line, mark):
    return [cell.strip() for cell in next(csv.reader([line], delimiter=mark), [])]


def _header(written, mark):
    """Return the column names of the first line; the ones this suite knows in any case of letters."""
    names = _values(written[0], mark) if written else []
    while names and not names[-1]:  # a spreadsheet may write empty columns at the end
        names.pop()
    return [name.lower() if name.lower() in (*REQUIRED, "pass", "split") else name for name in names]


def _normal(row):
    """Read what means the same: capital letters in class and type, and ids such as 12.0 or, in some languages, 12,0."""
    number = re.fullmatch(r"([0-9]+)(?:[.,]0*)?", row["id"])
    return row | {"id": int(number[1]) if number else row["id"], **{n: row[n].lower() for n in ("label", "type")}}
