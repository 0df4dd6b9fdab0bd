"""Make blind sheets of single pictures, or of pairs, and join what a rater wrote down with their key.

    make_pictures(out, key, {"original": domain.images, "shift": corrected}, pictures)   # one picture at a time
    make_pairs(out, key, domain.images, {"shift": corrected}, pairs)                     # A and B, sides at random

    python -m tools.label.picture_sheets join --answers answers.csv --key key.csv --out votes.csv

Every picture, or pair, has a new number and stands in random order. The key says what was what and is written apart:
whoever looks at the sheets must not see it. Answers are CSVs: of pictures with the header number,label,rater (label
normal or artifact, by the criteria of the data card), of pairs number,better,same,rater (better a, same or b; same yes
or no: do both show the same church, the same person?). `join` makes the vote file of `helpers.rating`. What is shown is
chosen by `tools.measure`, where the corrections are.
"""

import argparse
import csv
import random
from pathlib import Path

import torch

from helpers import rating
from helpers.interface.pictures import pixels
from helpers.latents import batches
from helpers.rating import PairVote, PictureVote
from tools.label import rating_sheets
from tools.label.rating_sheets import PLACES, table
from tools.label.sheets import sheet

PICTURE_KEY, PAIR_KEY = ("number", "id", "method"), rating_sheets.KEY
PICTURES, PAIRS = ("number", "label", "rater"), ("number", "better", "same", "rater")


def make_pictures(out, key, drawn, pictures, seed=0, columns=7, rows=4, zoom=3):
    """Write sheets of single pictures into the folder `out`, and what they show to the file `key`; returns the paths.

    drawn: {method: function of a list of ids -> images (N, 3, R, R)}. pictures: (id, method) each. columns, rows:
    pictures a sheet. Raises ValueError for a picture twice, an unknown method, and a key among the sheets.
    """
    out, key, pictures = Path(out), Path(key), list(pictures)
    if len(set(pictures)) < len(pictures):
        raise ValueError(f"{len(pictures) - len(set(pictures))} pictures are there twice: show each once")
    unknown = sorted({method for _, method in pictures} - set(drawn))
    if unknown:
        raise ValueError(f"there is no picture {unknown[0]!r}, known are {', '.join(drawn)}: draw them")
    rating_sheets.check_key(out, key)
    random.Random(f"pictures {seed}").shuffle(pictures)
    images = _drawn(drawn, pictures)
    out.mkdir(parents=True, exist_ok=True)
    with open(key, "w", newline="") as file:
        lines = [(n, *picture) for n, picture in enumerate(pictures, start=1)]
        csv.writer(file, lineterminator="\n").writerows([PICTURE_KEY, *lines])
    paths = []
    for part in batches(range(len(pictures)), columns * rows):
        paths.append(out / f"pictures-{len(paths) + 1:03d}.png")
        sheet(images[part.start : part.stop], [n + 1 for n in part], columns, zoom).save(paths[-1])
    return paths


def make_pairs(out, key, original, corrected, pairs, seed=0, columns=3, rows=4, zoom=3):
    """Write sheets of pairs: arguments, result and errors as of `rating_sheets.make`."""
    return rating_sheets.make(out, key, pairs, original, corrected, seed, columns, rows, zoom)


def join(answers, key):
    """Turn answers about numbers into votes, by the header: two CSV files -> list of rating.PictureVote or PairVote.

    Raises ValueError, with the line, for another header, a row of another length, a number that is not in the key or
    comes twice for one rater, and for unknown answers.
    """
    with open(answers, encoding="utf-8-sig") as file:
        pairs = "better" in file.readline()
    known = {row["number"]: row for _, row in table(key, PAIR_KEY if pairs else PICTURE_KEY)}
    votes, seen = [], {}
    for line, row in table(answers, PAIRS if pairs else PICTURES):
        where, entry = f"{answers}, line {line},", known.get(row["number"])
        if entry is None:
            raise ValueError(f"{where} has the number {row['number']!r}, which {key} does not list: correct it")
        which = int(entry["id"]), entry["method"]
        if pairs:
            if row["better"] not in ("a", "same", "b"):
                raise ValueError(f"{where} prefers {row['better']!r}, expected a, same or b: correct it")
            there = entry["corrected"]
            side = {letter: side for side, letter in PLACES.items()}[there]
            better = {"same": "same", there: "corrected"}.get(row["better"], "original")
            vote = PairVote(*which, side, better, row["same"], row["rater"])
        else:
            vote = PictureVote(*which, row["label"], row["rater"])
        rating.check(vote, where, seen, line)
        votes.append(vote)
    return votes


def _drawn(drawn, pictures):
    """Draw (id, method) pictures: uint8 (N, R, R, 3), in their order."""
    images = {}
    for method in dict.fromkeys(method for _, method in pictures):
        ids = [i for i, name in pictures if name == method]
        images |= {(i, method): image for i, image in zip(ids, torch.from_numpy(pixels(drawn[method](ids))))}
    return torch.stack([images[picture] for picture in pictures]).numpy()


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    j = p.add_subparsers(dest="command", required=True).add_parser("join", help="join answers with the key")
    j.add_argument("--answers", type=Path, required=True, nargs="+", help="one file or several, of one kind")
    j.add_argument("--key", type=Path, required=True, help="CSV of what each number shows")
    j.add_argument("--out", type=Path, required=True, help="the vote file to write")
    a = p.parse_args(words)
    try:
        votes = [vote for answers in a.answers for vote in join(answers, a.key)]
        rating.write(a.out, votes)
    except (ValueError, OSError) as error:
        raise SystemExit(f"picture_sheets: {error}") from error
    print(f"{len(votes)} votes in {a.out}")


if __name__ == "__main__":
    main()
