"""Check the numbers in a notebook's sentences: each must be shown by a notebook, or say where it comes from.

A number counts as shown when an output, rounded as the sentence rounds, gives it: printed text, a table, the numbers in
a figure (see `drawn`); of this notebook, or of one that the cell names. Settings may stand in the code instead, and
what a cell quotes from a data card in that. For all others a comment, which no reader sees, gives the reason:

    <!-- stated: 117.9 113.1: the paper's Table 4 -->

Not looked at: whole numbers below 10 (but percentages), code, formulas, tables, headings, folded answers, minutes, the
level of intervals, and the numbers of notebooks, sections, figures, tables, layers and years.
"""

import re
from typing import NamedTuple

import nbformat

from helpers import env

COMMENT = re.compile(r"<!-- stated: ([\d.,\s%]+): ([^>]+?) -->")
DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
NUMBER = re.compile(rf"(?<![\w.,^/])(?<![a-z0-9]-)({DIGITS})(?![\w^]|[.,/]\d)(?!-\w)( ?%)?")
SHOWN = re.compile(rf"(?<![\w.])({DIGITS})(e[+-]?\d+)?")
NAMES = r"(?:notebooks?|sections?|figures?|tables?|layers?|exercises?|appendix)"
SKIPPED = (
    r"```.*?```",
    r"<details>.*?</details>",
    r"<!--.*?-->",
    r"\$\$.*?\$\$",
    r"\$[^$]+\$",
    r"`[^`]+`",
    r"^\s*\|.*$",
    r"^#.*$",
    r"\]\([^)]*\)",
    r"https?://\S+",
    rf"\b{NAMES} \[?\d+[a-z]?\]?(?:(?:, | to | and |, and | or )\[?\d+[a-z]?\]?(?! ?%|\.\d))*",
    r"\[\d\d(?: [a-z ]+)?\]?(?=\s|[,.;:)]|$)",
    r"\((?:[^()]* )?(?:19|20)\d\d\)",
    r"\d+ ?[x×] ?\d+",
    r"\b\d+ minutes\b",
    r"\b95 %(?= (?:\w+ )?(?:interval|confidence))",
)


class Number(NamedTuple):
    """A number as a sentence writes it: its text, value, decimals and whether it may be a percentage."""

    text: str
    value: float
    decimals: int
    percent: bool


def numbers(source):
    """List the numbers that the sentences of a markdown cell state, in order."""
    for pattern in SKIPPED:
        source = re.sub(pattern, lambda found: "; " if "\n" not in found[0] else "\n", source, flags=re.S | re.M | re.I)
    found = []
    for sentence in re.split(r"(?<=[.:;?!])\s+|\n\s*\n", source):
        for match in NUMBER.finditer(sentence):
            text, percent = match[1], bool(match[2])
            value, decimals = float(text.replace(",", "")), len(text.partition(".")[2])
            if decimals or percent or value >= 10:
                found.append(Number(text, value, decimals, "%" in sentence))
    return found


def values(text):
    """Return the numbers that an output or a text contains, without their signs."""
    return {float(match[1].replace(",", "") + (match[2] or "")) for match in SHOWN.finditer(text)}


def shown(nb):
    """Return the numbers that the outputs of a notebook show."""
    found = set()
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            texts = [output.get("text", "")] + [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
            for text in texts:
                found |= values(re.sub(r"<[^>]*>", " ", text))
    return found


def gives(value, number):
    """Tell whether a value that is shown gives a number, rounded as it is written."""
    half = 0.5 * 10**-number.decimals * (1 + 1e-9) + 1e-12
    return abs(value - number.value) <= half or (number.percent and abs(100 * value - number.value) <= half)


def problems(nb, path, every):
    """List the numbers in sentences that nothing shows, and what comments excuse in vain, one sentence each.

    every: the paths of all notebooks. Where figures were stored without their numbers nothing is said.
    """
    own, settings = shown(nb), set().union(*(values(cell.source) for cell in nb.cells if cell.cell_type == "code"))
    blind = any(
        str(output.get("data", {}).get("text/plain", "")).startswith("<Figure ")
        for cell in nb.cells
        for output in cell.get("outputs", [])
    )
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "markdown" or blind:
            continue
        known = own | _elsewhere(COMMENT.sub("", cell.source), path, every)
        excused = {text for found in COMMENT.finditer(cell.source) for text in re.findall(DIGITS, found[1])}
        stated = numbers(cell.source)
        unset = [number for number in stated if not _set(settings, number)]
        lacking = {number.text for number in unset if not any(gives(value, number) for value in known)}
        for text in sorted(lacking - excused):
            yield f"cell {i} states {text}, which nothing shows: correct it, or say why: <!-- stated: {text}: ... -->"
        for text in sorted(excused - {number.text for number in stated}):
            yield f"cell {i} excuses {text}, which it does not state: take it out of the comment"


def _set(settings, number):
    return number.value in settings or (number.percent and number.value / 100 in settings)


def _elsewhere(source, path, every):
    """The numbers shown by the other notebooks that a cell names, and by the data cards if it names them."""
    found = set()
    named = set(re.findall(r"\b(\d\d)_\w+\.ipynb", "\n".join(t for t in source.split("\n") if "navigation" not in t)))
    for first, last in re.findall(r"\bnotebooks? \[?(\d\d)(?:\D{1,40}? (\d\d)\b)?", source, re.I):
        named |= {first, last}
    for other in every:
        if other != path and other.name[:2] in named:
            found |= shown(nbformat.read(other, as_version=4))
    if "data card" in source:
        for card in (env.ROOT / "data").glob("*/README.md"):
            found |= values(card.read_text(encoding="utf-8"))
    return found
