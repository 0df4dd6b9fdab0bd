"""Read, write and count blind votes on corrections: the paper's Table 3, with its intervals.

A vote file is a CSV with the header `id,method,side,label_original,label_corrected,better,rater`: the image, how it
was corrected, on which side its correction stood, what the rater called either image, and which one looked better.
Explained in notebook 07.
"""

import csv
import io
import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from helpers.evidence.intervals import bootstrap, wilson
from helpers.labels import CLASSES

SIDES = ("left", "right")
BETTER = ("original", "same", "corrected")


class Vote(NamedTuple):
    """One rater's answers about one original and its correction."""

    id: int
    method: str
    side: str  # where the corrected image stood
    label_original: str
    label_corrected: str
    better: str  # "original", "same" or "corrected"
    rater: str


class Agreement(NamedTuple):
    """How far two raters agree on one question, over the pairs both voted on."""

    n: int
    share: float
    kappa: float  # Cohen's; NaN if both give one and the same answer throughout
    low: float
    high: float


def read(path, ids=None, methods=None):
    """Read a vote file -> list of Vote.

    ids, methods: what may occur, if given. Raises ValueError, with the line, for another header, a row of another
    length, an id that is no whole number, unknown ids, methods, sides, classes or preferences, a vote without rater,
    and a pair that a rater votes on twice.
    """
    try:
        lines = Path(path).read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as CSV in UTF-8") from error
    rows = [[cell.strip() for cell in next(csv.reader([line]), [])] for line in lines]
    if not rows or tuple(rows[0]) != Vote._fields:
        found = ",".join(rows[0]) if rows else "nothing"
        raise ValueError(f"{path}, line 1 is {found!r}, expected the header {','.join(Vote._fields)}: correct it")
    votes, seen = [], {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(row):
            continue
        where = f"{path}, line {number},"
        if len(row) != len(Vote._fields):
            raise ValueError(f"{where} has {len(row)} values, expected {','.join(Vote._fields)}: correct or remove it")
        image = int(row[0]) if row[0].isascii() and row[0].isdigit() else row[0]
        votes.append(Vote(image, *row[1:]))
        check(votes[-1], where, seen, number, ids, methods)
    return votes


def write(path, votes):
    """Write votes, all or nothing: whatever interrupts it, the old file stays whole.

    Raises ValueError, before the file is touched, for votes that `read` would refuse.
    """
    seen, text = {}, io.StringIO()
    for number, vote in enumerate(votes, start=2):
        check(vote, f"vote {number - 1}", seen, number)
    csv.writer(text, lineterminator="\n").writerows([Vote._fields, *votes])
    path = Path(path).resolve()  # replace the file, not a link to it
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def summary(votes, types=None):
    """Compute Table 3: votes -> DataFrame with one row per method, group and measure.

    types: {id: an artifact's type, or "normal"}, the labels before the blind vote; without it an original is what
    its rater calls it. Groups: "artifact", each type, "normal". Measures of artifacts: corrected (the correction is
    called normal) and improved (it is the better one); of normals: damaged (the correction is called an artifact);
    of both: worsened (the original is the better one), and called_normal (the original itself is).
    Columns: method, group, measure, n (pairs), value, low, high (shares in [0, 1] and Wilson's 95 % interval over
    pairs, whose raters are averaged), sd (over raters' own shares, as the paper gives; NaN for one rater).
    Raises ValueError for no votes, or an id without type. Source: section 5.3, Table 3; Wilson 1927.
    Explained in notebook 07.
    """
    if not votes:
        raise ValueError("got no votes, expected at least one: rate some pairs first")
    missing = sorted({vote.id for vote in votes} - set(types)) if types is not None else []
    if missing:
        raise ValueError(f"{len(missing)} voted ids, such as {missing[0]}, have no type: pass the type of every id")
    rows = []
    for method in dict.fromkeys(vote.method for vote in votes):
        groups = {}
        for vote in votes:
            if vote.method == method:
                kind = vote.label_original if types is None else types[vote.id]
                broken = kind != "normal"
                for group in dict.fromkeys(("artifact", kind) if broken else ("normal",)):
                    groups.setdefault(group, []).append(vote)
        for group in sorted(groups, key=lambda name: (name == "normal", name != "artifact", name)):
            for measure, holds in _measures(group == "normal").items():
                rows.append((method, group, measure, *_share(groups[group], holds)))
    return pd.DataFrame(rows, columns=["method", "group", "measure", "n", "value", "low", "high", "sd"])


def agreement(votes, a=None, b=None):
    """Compare two raters: votes -> {"label_original", "label_corrected" and "better": Agreement}.

    a, b: the raters, needed only if there are more than two. The intervals are bootstrapped over pairs.
    Raises ValueError unless there are two raters who share a pair. Source: Cohen 1960. Explained in notebook 07.
    """
    raters = list(dict.fromkeys(vote.rater for vote in votes)) if a is None and b is None else [a, b]
    if len(raters) != 2 or a == b is not None:
        raise ValueError(f"agreement is between two raters, got {', '.join(map(str, raters)) or 'none'}: name two")
    first, second = ({(vote.id, vote.method): vote for vote in votes if vote.rater == name} for name in raters)
    shared = [pair for pair in first if pair in second]
    if not shared:
        raise ValueError(f"{raters[0]} and {raters[1]} share no pair: let both vote on the same ones")
    found = {}
    for question, answers in (("label_original", CLASSES), ("label_corrected", CLASSES), ("better", BETTER)):
        x, y = (torch.tensor([answers.index(getattr(v[p], question)) for p in shared]) for v in (first, second))
        try:
            interval = bootstrap(cohen, x, y, paired=True)
        except ValueError:  # one and the same answer throughout, or in most resamples
            interval = cohen(x, y), float("nan"), float("nan")
        found[question] = Agreement(len(shared), float((x == y).double().mean()), *interval)
    return found


def cohen(a, b):
    """Return Cohen's kappa of two (N,) integer tensors: NaN if both hold one and the same answer throughout."""
    counts = torch.zeros(int(max(a.max(), b.max())) + 1, dtype=torch.float64)
    x, y = ((counts.index_add(0, s, torch.ones(len(s), dtype=torch.float64)) / len(s)) for s in (a, b))
    chance = float(x @ y)
    return (float((a == b).double().mean()) - chance) / (1 - chance) if chance < 1 else float("nan")


def check(vote, where, seen=None, number=0, ids=None, methods=None):
    """Raise ValueError, beginning with `where`, unless a vote can stand in a file.

    seen: {(id, method, rater): line} of the votes so far, to which this one is added; ids, methods: as in `read`.
    """
    seen = {} if seen is None else seen
    key = vote.id, vote.method, vote.rater
    if isinstance(vote.id, bool) or not isinstance(vote.id, int) or vote.id < 0:
        fault = f"has the id {vote.id!r}, expected a whole number from 0"
    elif ids is not None and vote.id not in set(ids):
        fault = f"is about the unknown id {vote.id}, expected one of the {len(set(ids))} images to rate"
    elif methods is not None and vote.method not in methods:
        fault = f"names the unknown method {vote.method!r}, expected one of {', '.join(methods)}"
    elif vote.side not in SIDES:
        fault = f"has the side {vote.side!r}, expected left or right"
    elif not {vote.label_original, vote.label_corrected} <= set(CLASSES):
        fault = (
            f"calls the images {vote.label_original!r} and {vote.label_corrected!r}, expected {' or '.join(CLASSES)}"
        )
    elif vote.better not in BETTER:
        fault = f"prefers {vote.better!r}, expected {', '.join(BETTER)}"
    elif any(not name or name != name.strip() or len(name.splitlines()) > 1 for name in (vote.method, vote.rater)):
        fault = "has no method or rater, or one with a line break or outer spaces, expected plain names"
    elif key in seen:
        fault = f"votes on image {vote.id}, {vote.method}, twice for {vote.rater} (see line {seen[key]}), expected once"
    else:
        seen[key] = number
        return
    raise ValueError(f"{where} {fault}: correct it, or rate the pair again")


def _measures(normal):
    called = {"called_normal": lambda vote: vote.label_original == "normal"}
    worsened = {"worsened": lambda vote: vote.better == "original"}
    if normal:
        return {"damaged": lambda vote: vote.label_corrected == "artifact"} | worsened | called
    corrected = {"corrected": lambda vote: vote.label_corrected == "normal"}
    return corrected | {"improved": lambda vote: vote.better == "corrected"} | worsened | called


def _share(votes, holds):
    """Pairs, share, interval and deviation over raters of what holds for votes."""
    frame = pd.DataFrame({"id": [v.id for v in votes], "rater": [v.rater for v in votes], "x": map(holds, votes)})
    pairs = frame.groupby("id")["x"].mean()
    share = float(pairs.mean())
    return len(pairs), share, *wilson(share, len(pairs)), float(frame.groupby("rater")["x"].mean().std())
