import csv

import pytest
import torch
from PIL import Image

from helpers import rating
from helpers.interface import blind
from helpers.rating import PairVote, PictureVote
from tools.label import picture_sheets

IDS = [3, 5, 8, 9]


def grey(level):
    """Images by id that are all of one grey, a little other for each id."""
    return lambda ids: torch.stack([torch.full((3, 8, 8), level + i / 1000) for i in ids])


DRAWN = {"original": grey(-0.9), "shift": grey(0.9)}
SHOWN = [(i, method) for method in DRAWN for i in IDS]


def test_pictures_stand_in_mixed_order_under_new_numbers(tmp_path):
    paths = picture_sheets.make_pictures(tmp_path / "s", tmp_path / "key.csv", DRAWN, SHOWN, columns=3, rows=2, zoom=4)
    assert [p.name for p in paths] == ["pictures-001.png", "pictures-002.png"]
    key = list(csv.DictReader(open(tmp_path / "key.csv")))
    assert [row["number"] for row in key] == [str(n) for n in range(1, 9)]
    order = [(int(row["id"]), row["method"]) for row in key]
    assert sorted(order) == sorted(SHOWN) and order != SHOWN
    for n, (i, method) in enumerate(order):
        place, page = n % 6, Image.open(paths[n // 6]).convert("L")
        x, y = 4 + place % 3 * 36 + 16, 4 + place // 3 * 55 + 19 + 16  # the middle of the tile
        assert page.getpixel((x, y)) == round(127.5 * (1 + (-0.9 if method == "original" else 0.9) + i / 1000))
    other = picture_sheets.make_pictures(tmp_path / "t", tmp_path / "key2.csv", DRAWN, SHOWN, seed=1)
    assert len(other) == 1 and (tmp_path / "key2.csv").read_text() != (tmp_path / "key.csv").read_text()


def test_what_cannot_be_shown_is_refused(tmp_path):
    for pictures, key, fault in (
        ([(3, "shift"), (3, "shift")], tmp_path / "key.csv", "1 pictures are there twice"),
        ([(3, "magic")], tmp_path / "key.csv", "no picture 'magic', known are original, shift"),
        (SHOWN, tmp_path / "s" / "key.csv", "would lie among the sheets"),
    ):
        with pytest.raises(ValueError, match=fault):
            picture_sheets.make_pictures(tmp_path / "s", key, DRAWN, pictures)
    assert not (tmp_path / "s").exists() and not (tmp_path / "key.csv").exists()


def test_answers_about_pictures_become_votes(tmp_path, capsys):
    key, answers = tmp_path / "key.csv", tmp_path / "answers.csv"
    picture_sheets.make_pictures(tmp_path / "s", key, DRAWN, SHOWN)
    lines = [(row["number"], "normal" if row["method"] == "shift" else "artifact", "eve") for row in picture_rows(key)]
    with open(answers, "w") as file:
        csv.writer(file).writerows([picture_sheets.PICTURES, *lines])
    picture_sheets.main(["join", "--answers", str(answers), "--key", str(key), "--out", str(tmp_path / "votes.csv")])
    votes = rating.read(tmp_path / "votes.csv", IDS, DRAWN)
    assert "8 votes" in capsys.readouterr().out
    assert set(votes) == {PictureVote(i, m, "normal" if m == "shift" else "artifact", "eve") for i, m in SHOWN}
    for text, fault in (
        ("number,label,rater\n1,normal,eve\n1,normal,eve\n", "line 3, votes on image .* twice for eve"),
        ("number,label,rater\n99,normal,eve\n", "line 2, has the number '99'"),
        ("number,label,rater\n1,good,eve\n", "line 2, answers 'good' to label"),
        ("number,label,rater\n1,normal\n", "line 2, has 2 values"),
        ("number,rater\n", "begins with 'number,rater'"),
    ):
        answers.write_text(text)
        with pytest.raises(ValueError, match=fault):
            picture_sheets.join(answers, key)
    with pytest.raises(SystemExit, match="begins with"):
        picture_sheets.main(["join", "--answers", str(answers), "--key", str(key), "--out", str(tmp_path / "v.csv")])
    assert not (tmp_path / "v.csv").exists()


def test_answers_about_pairs_become_votes(tmp_path):
    key, answers = tmp_path / "key.csv", tmp_path / "answers.csv"
    pairs = [(i, "shift") for i in IDS]
    picture_sheets.make_pairs(tmp_path / "s", key, DRAWN["original"], {"shift": DRAWN["shift"]}, pairs)
    rows = picture_rows(key)
    better = [row["corrected"] for row in rows[:2]] + ["same", "b" if rows[3]["corrected"] == "a" else "a"]
    lines = [(row["number"], said, "no" if n == 3 else "yes", "eve") for n, (row, said) in enumerate(zip(rows, better))]
    with open(answers, "w") as file:
        csv.writer(file).writerows([picture_sheets.PAIRS, *lines])
    expected = [
        PairVote(int(row["id"]), "shift", blind.side((int(row["id"]), "shift")), said, same, "eve")
        for row, said, same in zip(rows, ["corrected", "corrected", "same", "original"], ["yes", "yes", "yes", "no"])
    ]
    assert picture_sheets.join(answers, key) == expected
    answers.write_text("number,better,same,rater\n1,left,yes,eve\n")
    with pytest.raises(ValueError, match="line 2, prefers 'left', expected a, same or b"):
        picture_sheets.join(answers, key)


def picture_rows(key):
    return list(csv.DictReader(open(key)))
