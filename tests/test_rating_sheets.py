import csv

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import rating
from helpers.interface.correction_settings import Recipe
from tools.label import rating_sheets

PAIRS = [(i, method) for i in range(10, 16) for method in ("seq", "local")]
HEADER = "number,label_a,label_b,better,rater\n"


def grey(level):
    return lambda ids: torch.tensor([float(level)] * len(ids))[:, None, None, None].expand(-1, 3, 8, 8)


def made(tmp_path, **options):
    """Sheets whose originals are black, "seq" white and "local" grey; returns their paths and the key's rows."""
    corrected = {"seq": grey(1), "local": grey(0)}
    paths = rating_sheets.make(tmp_path / "sheets", tmp_path / "key.csv", PAIRS, grey(-1), corrected, **options)
    return paths, list(csv.DictReader(open(tmp_path / "key.csv")))


def test_sheets_show_what_the_key_says(tmp_path):
    paths, key = made(tmp_path, columns=2, rows=3, zoom=4)
    assert (
        [path.name for path in paths]
        == ["pairs-001.png", "pairs-002.png"]
        == sorted(path.name for path in (tmp_path / "sheets").iterdir())
    )
    assert [int(row["number"]) for row in key] == list(range(1, 13))
    assert sorted((int(row["id"]), row["method"]) for row in key) == sorted(PAIRS)
    assert [(int(row["id"]), row["method"]) for row in key] != PAIRS and {row["corrected"] for row in key} == {"a", "b"}
    for n, row in enumerate(key):
        page = np.asarray(Image.open(paths[n // 6]))
        cell_high, cell_wide = 8 * 4 + 19 + 4, 8 * 4 + 4
        y, x = 4 + n % 6 // 2 * cell_high + 19 + 16, 4 + n % 2 * 2 * cell_wide + 16
        a, b = page[y, x].mean(), page[y, x + cell_wide].mean()
        wanted = {"seq": 255, "local": 128}[row["method"]]
        assert (a, b) == ((wanted, 0) if row["corrected"] == "a" else (0, wanted)), row
    again = made(tmp_path / "again")[1]
    assert again == key != made(tmp_path / "other", seed=1)[1]


def test_answers_and_key_make_votes(tmp_path):
    _, key = made(tmp_path)
    answers = tmp_path / "answers.csv"
    lines = []
    for row in key:  # a rater who likes every "seq", and calls everything else an artifact
        good = {row["corrected"]: row["method"] == "seq", "ab"[row["corrected"] == "a"]: False}
        labels = ["normal" if good[side] else "artifact" for side in "ab"]
        lines.append(
            f"{row['number']},{labels[0]},{labels[1]},{row['corrected'] if any(good.values()) else 'same'},eve"
        )
    answers.write_text(HEADER + "\n".join(lines) + "\n\n")
    votes = rating_sheets.join(answers, tmp_path / "key.csv")
    assert len(votes) == 12
    for vote, row in zip(votes, key, strict=True):
        seq = vote.method == "seq"
        assert vote == rating.Vote(
            *(int(row["id"]), row["method"], "left" if row["corrected"] == "a" else "right", "artifact"),
            *("normal" if seq else "artifact", "corrected" if seq else "same", "eve"),
        )
    rating_sheets.main(
        ["join", *(f"--{n}={tmp_path / n}.csv" for n in ("answers", "key")), f"--out={tmp_path / 'v.csv'}"]
    )
    assert rating.read(tmp_path / "v.csv", range(10, 16), ["seq", "local"]) == votes
    row = next(row for row in key if row["corrected"] == "a")
    answers.write_text(HEADER + f"{row['number']},normal,artifact,b,eve\n")
    worse = rating_sheets.join(answers, tmp_path / "key.csv")[0]
    assert (worse.label_corrected, worse.label_original, worse.better) == ("normal", "artifact", "original")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("id,label\n", "begins with 'id,label', expected number,label_a"),
        ("", "begins with 'nothing'"),
        (HEADER + "77,normal,normal,same,eve\n", "line 2, has the number '77', which .* does not list"),
        (HEADER + "1,normal,normal,same,eve\n1,normal,normal,same,eve\n", r"line 3, rates pair 1 again \(see line 2\)"),
        (HEADER + "1,normal,normal,left,eve\n", "line 2, prefers 'left', expected a, same or b"),
        (HEADER + "1,good,normal,same,eve\n", "line 2, answers 'good' to label_corrected"),
        (HEADER + "1,normal,normal,same\n", "line 2, has 4 values"),
        (HEADER + "1,normal,normal,same,\n", "no method or rater"),
    ],
)
def test_bad_answers_are_named(tmp_path, text, fault):
    made(tmp_path)
    (tmp_path / "answers.csv").write_text(text)
    with pytest.raises(ValueError, match=fault):
        rating_sheets.join(tmp_path / "answers.csv", tmp_path / "key.csv")


def test_what_cannot_be_shown_is_said(tmp_path):
    for arguments, fault in (
        ((tmp_path / "s", tmp_path / "s" / "key.csv", [(1, "seq")]), "would lie among the sheets"),
        ((tmp_path / "s", tmp_path / "key.csv", [(1, "magic")]), "no correction 'magic', known are seq"),
        ((tmp_path / "s", tmp_path / "key.csv", [(1, "seq"), (1, "seq")]), "1 of them different"),
    ):
        with pytest.raises(ValueError, match=fault):
            rating_sheets.make(*arguments, grey(-1), {"seq": grey(1)})
        assert not (tmp_path / "key.csv").exists()
    for word in ("tuned", "tuned=sequential,1,0.4", "tuned=sequential,one,0.4,0.9"):
        with pytest.raises(ValueError, match="a method is NAME=KIND,layer,portion,scale"):
            rating_sheets.recipes([word])
    assert rating_sheets.recipes(["t=sequential,1,0.4,0.9"]) == {"t": Recipe("sequential", 1, 0.4, 0.9)}
