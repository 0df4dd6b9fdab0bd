"""Read and write blind votes, one row a vote: on corrections side by side, on single pictures, on pairs.

Three kinds of file, told apart by their header: `Vote` (a pair, each picture named and the better one chosen),
`PictureVote` (one picture, shown alone) and `PairVote` (which of two is better, and whether both show the same).
"""

import csv
import io
from typing import NamedTuple

from helpers import store
from helpers.evidence import spreadsheets
from helpers.evidence.label_files import CLASSES

SIDES = ("left", "right")
BETTER = ("original", "same", "corrected")
SAME = ("yes", "no")


class Vote(NamedTuple):
    """One rater's answers about one original and its correction."""

    id: int
    method: str
    side: str  # where the corrected image stood
    label_original: str
    label_corrected: str
    better: str  # "original", "same" or "corrected"
    rater: str


class PictureVote(NamedTuple):
    """What a rater calls one picture, shown alone among many: an original (method "original") or a correction."""

    id: int
    method: str
    label: str  # "normal" or "artifact"
    rater: str


class PairVote(NamedTuple):
    """Which of an original and its correction is better, and whether they still show the same church or person."""

    id: int
    method: str
    side: str  # where the corrected image stood
    better: str  # "original", "same" or "corrected"
    same: str  # "yes" or "no"
    rater: str


QUESTIONS = {  # what each kind asks, and the answers there are
    Vote: {"label_original": CLASSES, "label_corrected": CLASSES, "better": BETTER},
    PictureVote: {"label": CLASSES},
    PairVote: {"better": BETTER, "same": SAME},
}


def read(path, ids=None, methods=None):
    """Read a vote file -> list of Vote, PictureVote or PairVote, as its header says.

    ids, methods: what may occur, if given. What spreadsheets make of a file is read as well, as by `labels.read`.
    Raises ValueError, with the line, for another header, a row of another length, an id that is no whole number,
    unknown ids, methods, sides and answers, a vote without rater, and an image and method that a rater votes on twice.
    """
    lines = spreadsheets.text(path).split("\n")
    top, mark, header = spreadsheets.opening(lines, {name for kind in QUESTIONS for name in kind._fields})
    kind = next((kind for kind in QUESTIONS if tuple(header) == kind._fields), None)
    if kind is None:
        found, known = ",".join(header) or "nothing", (",".join(kind._fields) for kind in QUESTIONS)
        raise ValueError(f"{path}, line {top + 1} is {found!r}, expected the header {' or '.join(known)}: correct it")
    votes, seen = [], {}
    for number, line in enumerate(lines[top + 1 :], start=top + 2):
        row = spreadsheets.row(line, mark, len(kind._fields))
        if not any(row):
            continue
        where = f"{path}, line {number},"
        if len(row) != len(kind._fields):
            raise ValueError(f"{where} has {len(row)} values, expected {','.join(kind._fields)}: correct or remove it")
        answered = {"side", *QUESTIONS[kind]}  # in any case of letters
        named = zip(kind._fields[1:], row[1:])
        said = [value.lower() if name in answered else value for name, value in named]
        votes.append(kind(spreadsheets.whole(row[0]), *said))
        check(votes[-1], where, seen, number, ids, methods)
    return votes


def write(path, votes):
    """Write votes of one kind, all or nothing: whatever interrupts it, the old file stays whole.

    Raises ValueError, before the file is touched, for votes that `read` would refuse, and for votes of several kinds.
    """
    seen, text, kinds = {}, io.StringIO(), {type(vote) for vote in votes} or {Vote}
    if len(kinds) > 1:
        raise ValueError(f"votes of {len(kinds)} kinds, {', '.join(sorted(k.__name__ for k in kinds))}: a file each")
    for number, vote in enumerate(votes, start=2):
        check(vote, f"vote {number - 1}", seen, number)
    csv.writer(text, lineterminator="\n").writerows([kinds.pop()._fields, *votes])
    store.replace(path, text.getvalue().encode())


def check(vote, where, seen=None, number=0, ids=None, methods=None):
    """Raise ValueError, beginning with `where`, unless a vote can stand in a file.

    seen: {(id, method, rater): line} of the votes so far, to which this one is added; ids, methods: as in `read`.
    """
    seen = {} if seen is None else seen
    key = vote.id, vote.method, vote.rater
    answers = {name: known for name, known in QUESTIONS[type(vote)].items() if getattr(vote, name) not in known}
    name, known = next(iter(answers.items()), ("", ()))
    if isinstance(vote.id, bool) or not isinstance(vote.id, int) or vote.id < 0:
        fault = f"has the id {vote.id!r}, expected a whole number from 0"
    elif ids is not None and vote.id not in set(ids):
        fault = f"is about the unknown id {vote.id}, expected one of the {len(set(ids))} images to rate"
    elif methods is not None and vote.method not in methods:
        fault = f"names the unknown method {vote.method!r}, expected one of {', '.join(methods)}"
    elif getattr(vote, "side", SIDES[0]) not in SIDES:
        fault = f"has the side {vote.side!r}, expected left or right"
    elif answers:
        fault = f"answers {getattr(vote, name)!r} to {name}, expected {' or '.join(known)}"
    elif any(not name or name != name.strip() or len(name.splitlines()) > 1 for name in (vote.method, vote.rater)):
        fault = "has no method or rater, or one with a line break or outer spaces, expected plain names"
    elif key in seen:
        fault = f"votes on image {vote.id}, {vote.method}, twice for {vote.rater} (see line {seen[key]}), expected once"
    else:
        seen[key] = number
        return
    raise ValueError(f"{where} {fault}: correct it, or rate it again")
