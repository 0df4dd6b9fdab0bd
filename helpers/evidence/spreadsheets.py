"""Read tables of values as people and spreadsheets save them: with semicolons, capital letters, ids as 12.0."""

import csv
import re
from pathlib import Path

MARKS = (",", ";", "\t")  # what stands between values; a spreadsheet takes what its language has


def text(path):
    """Return what a table file holds, with lines that end as they do here; ValueError for what is not UTF-8.

    What follows the last line's end may break off within a character.
    """
    body, newline, tail = Path(path).read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n").rpartition(b"\n")
    try:
        return (body + newline).decode("utf-8-sig") + tail.decode(errors="replace" if newline else "strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as CSV in UTF-8") from error


def opening(lines, names):
    """Find where a table begins: (number of lines before its header, the mark between values, the header's values).

    names: column names of which the header has some; they are taken in any case of letters.
    """
    top = 0
    while top < len(lines) - 1 and (not lines[top].strip(" ,;\t") or re.match(r"\s*\"?sep=.", lines[top])):
        top += 1  # empty, or what a spreadsheet leaves for itself
    headers = {mark: _header(lines[top], mark, names) for mark in MARKS}
    mark = max(MARKS, key=lambda mark: len(set(names) & set(headers[mark])))
    return top, mark, headers[mark]


def values(line, mark):
    """Return the values of one line, without blanks around them."""
    return [cell.strip() for cell in next(csv.reader([line], delimiter=mark), [])]


def row(line, mark, columns):
    """Return the values of one line, without the empty ones that a spreadsheet writes beyond the columns."""
    found = values(line, mark)
    return found[:columns] + [value for value in found[columns:] if value]


def whole(value):
    """Read a whole number, also one written 12.0 or, in some languages, 12,0; anything else comes back as it is."""
    number = re.fullmatch(r"([0-9]+)(?:[.,]0*)?", value)
    return int(number[1]) if number else value


def _header(line, mark, names):
    found = values(line, mark)
    while found and not found[-1]:  # a spreadsheet may write empty columns at the end
        found.pop()
    return [name.lower() if name.lower() in names else name for name in found]
