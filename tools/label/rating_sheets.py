"""Make blind contact sheets of originals and corrections, to judge by looking; join the answers with their key.

    python -m tools.label.rating_sheets make --out SHEETS --key key.csv --method tuned=sequential,1,0.4,0.9 --normals 50
    python -m tools.label.rating_sheets join --answers answers.csv --key key.csv --out votes.csv

Every pair has a new number and stands as A and B, in random order on random sides. The key says what was what and
is written apart: whoever looks at the sheets must not see it. The rater writes one line per pair into a CSV with the
header number,label_a,label_b,better,rater: label normal or artifact by the criteria of the data card, better a, same
or b. A method is NAME=KIND,layer,portion,scale, as in `correction_settings.Recipe`; so many held-out artifacts and
normals, evenly spread over all of them, are corrected by it. `join` makes the vote file of `helpers/rating.py`.
"""

import argparse
import csv
from pathlib import Path

import torch

from helpers import domains, rating, survey, units
from helpers.interface import blind
from helpers.interface.correction_settings import Given, Recipe
from helpers.interface.pictures import pixels
from helpers.latents import batches
from helpers.rating import Vote
from tools.label.sheets import sheet

KEY = ("number", "id", "method", "corrected")
ANSWERS = ("number", "label_a", "label_b", "better", "rater")
PLACES = {"left": "a", "right": "b"}


def make(out, key, pairs, original, corrected, seed=0, columns=4, rows=5, zoom=3):
    """Write sheets of pairs into the folder `out` and what they show to the file `key`; returns the sheets' paths.

    pairs: (id, method) each. original: a function of a list of ids -> images (N, 3, R, R), as in `pictures.pixels`.
    corrected: {method: such a function}. columns, rows: pairs a sheet. Raises ValueError for a pair twice, an
    unknown method, and a key that would lie among the sheets.
    """
    out, key, pairs = Path(out), Path(key), blind.order(pairs, seed)
    unknown = sorted({method for _, method in pairs} - set(corrected))
    if unknown:
        raise ValueError(f"there is no correction {unknown[0]!r}, known are {', '.join(corrected)}: correct the pairs")
    check_key(out, key)
    out.mkdir(parents=True, exist_ok=True)
    sides = [blind.side(pair, seed) for pair in pairs]
    with open(key, "w", newline="") as file:
        lines = [(n, *pair, PLACES[side]) for n, (pair, side) in enumerate(zip(pairs, sides), start=1)]
        csv.writer(file, lineterminator="\n").writerows([KEY, *lines])
    paths = []
    for part in batches(range(len(pairs)), columns * rows):
        images = _pictures([pairs[n] for n in part], [sides[n] for n in part], original, corrected)
        names = [f"{n + 1} {letter}" for n in part for letter in "AB"]
        paths.append(out / f"pairs-{len(paths) + 1:03d}.png")
        sheet(images, names, 2 * columns, zoom).save(paths[-1])
    return paths


def join(answers, key):
    """Turn answers about numbered pairs into votes: two CSV files -> list of rating.Vote.

    Raises ValueError, with the line, for another header, a row of another length, a number that is not in the key
    or comes twice for one rater, and for unknown classes or preferences.
    """
    known = {row["number"]: row for _, row in table(key, KEY)}
    votes, seen = [], {}
    for line, row in table(answers, ANSWERS):
        where, entry = f"{answers}, line {line},", known.get(row["number"])
        if entry is None:
            raise ValueError(f"{where} has the number {row['number']!r}, which {key} does not list: correct it")
        if (row["number"], row["rater"]) in seen:
            first = seen[row["number"], row["rater"]]
            raise ValueError(f"{where} rates pair {row['number']} again (see line {first}): remove one of them")
        if row["better"] not in ("a", "same", "b"):
            raise ValueError(f"{where} prefers {row['better']!r}, expected a, same or b: correct it")
        seen[row["number"], row["rater"]] = line
        there = entry["corrected"]
        side = {letter: side for side, letter in PLACES.items()}[there]
        called = {
            "label_corrected": row[f"label_{there}"],
            "label_original": row["label_b" if there == "a" else "label_a"],
        }
        better = {"same": "same", there: "corrected"}.get(row["better"], "original")
        vote = Vote(int(entry["id"]), entry["method"], side, better=better, rater=row["rater"], **called)
        rating.check(vote, where)
        votes.append(vote)
    return votes


def _pictures(pairs, sides, original, corrected):
    """Draw pairs A, B, A, B, ...: uint8 (2N, R, R, 3)."""
    ids, methods = zip(*pairs)
    first = torch.from_numpy(pixels(original(list(ids))))
    second = torch.empty_like(first)
    for method in dict.fromkeys(methods):
        rows = [n for n, name in enumerate(methods) if name == method]
        second[rows] = torch.from_numpy(pixels(corrected[method]([ids[n] for n in rows])))
    swapped = torch.tensor([side == "left" for side in sides])[:, None, None, None]
    a, b = torch.where(swapped, second, first), torch.where(swapped, first, second)
    return torch.stack([a, b], dim=1).flatten(0, 1).numpy()


def check_key(out, key):
    """Raise ValueError for a key that would lie among the sheets."""
    if Path(out).resolve() in Path(key).resolve().parents:
        raise ValueError(f"the key {key} would lie among the sheets, where a rater sees it: write it elsewhere")


def table(path, header):
    """Yield (line number, row as a dict) of a CSV with exactly this header."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    if not rows or tuple(rows[0]) != header:
        raise ValueError(
            f"{path} begins with {','.join(rows[0]) if rows else 'nothing'!r}, expected {','.join(header)}"
        )
    for number, row in enumerate(rows[1:], start=2):
        if any(row):
            if len(row) != len(header):
                raise ValueError(
                    f"{path}, line {number}, has {len(row)} values, expected {','.join(header)}: correct it"
                )
            yield number, dict(zip(header, row))


def recipes(words):
    """Read ["tuned=sequential,1,0.4,0.9", ...] as {name: Recipe}; raises ValueError for anything else."""
    found = {}
    for word in words:
        name, _, settings = word.partition("=")
        kind, *numbers = settings.split(",")
        try:
            layer, portion, scale = int(numbers[0]), float(numbers[1]), float(numbers[2])
        except (ValueError, IndexError) as error:
            raise ValueError(f"a method is NAME=KIND,layer,portion,scale, got {word!r}: correct it") from error
        found[name] = Recipe(kind, layer, portion, scale)
    return found


def spread(ids, count):
    """Take so many ids, evenly spread over all of them, or all where there are fewer."""
    count = min(count, len(ids))
    return [ids[n * len(ids) // count] for n in range(count)]


def correction(domain, scores, recipe):
    """Return a function of ids -> their images corrected by a recipe."""

    def corrected(ids):
        masks = domain.masks(ids) if recipe.method == "local" else None
        return domain.flow.generate(domain.latents(ids), recipe.edits(Given(scores, masks))).clamp(-1, 1)

    return corrected


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    m = commands.add_parser("make", help="make sheets and their key")
    m.add_argument("--out", type=Path, required=True, help="folder for pairs-001.png, ...")
    m.add_argument("--method", action="append", required=True, metavar="NAME=KIND,layer,portion,scale")
    m.add_argument("--artifacts", type=int, default=200, help="so many held-out artifacts")
    m.add_argument("--normals", type=int, default=0, help="so many held-out normals")
    m.add_argument("--surveyed", type=int, default=2000, help="generations surveyed for the thresholds")
    m.add_argument("--seed", type=int, default=0)
    j = commands.add_parser("join", help="join answers with the key")
    j.add_argument("--answers", type=Path, required=True)
    j.add_argument("--out", type=Path, required=True, help="the vote file to write")
    for command in (m, j):
        command.add_argument("--key", type=Path, required=True, help="CSV of what each number shows")
    a = p.parse_args(words)
    try:
        if a.command == "join":
            votes = join(a.answers, a.key)
            rating.write(a.out, votes)
            return print(f"{len(votes)} votes in {a.out}")
        methods = recipes(a.method)
        domain = domains.load("churches")
        artifacts = domain.split(domains.TRAIN)[0]
        thresholds = survey.thresholds(domain.flow, domain.latents(domains.POOL[: a.surveyed]))
        scores = units.defective_scores(domain.flow, domain.latents(artifacts), domain.masks(artifacts), thresholds)
        held = [spread(ids, count) for ids, count in zip(domain.split(domains.TEST), (a.artifacts, a.normals))]
        corrected = {name: correction(domain, {"DS": scores}, recipe) for name, recipe in methods.items()}
        pairs = [(i, name) for name in methods for ids in held for i in ids]
        paths = make(a.out, a.key, pairs, domain.images, corrected, a.seed)
        print(f"{len(paths)} sheets of {len(pairs)} pairs in {a.out}, their key in {a.key}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"rating_sheets: {error}") from error


if __name__ == "__main__":
    main()
