import math

import numpy as np
import pytest
import torch

from helpers import labels, rating
from helpers.rating import PairVote, PictureVote, Vote

HEADER = "id,method,side,label_original,label_corrected,better,rater"


def vote(image, original="artifact", corrected="normal", better="corrected", method="seq", rater="ann", side="left"):
    return Vote(image, method, side, original, corrected, better, rater)


def value(table, method, group, measure):
    row = table[(table.method == method) & (table.group == group) & (table.measure == measure)]
    assert len(row) == 1
    return row.iloc[0]


def test_a_file_comes_back_as_it_was(tmp_path):
    path = tmp_path / "votes.csv"
    votes = [
        vote(3),
        vote(3, rater="bob", better="same"),
        vote(3, method="local, soft", side="right"),
        vote(0, "normal"),
    ]
    rating.write(path, votes)
    assert path.read_text().splitlines()[:2] == [HEADER, "3,seq,left,artifact,normal,corrected,ann"]
    assert rating.read(path) == votes == rating.read(path, ids=[0, 3], methods=["seq", "local, soft"])
    assert [p.name for p in tmp_path.iterdir()] == ["votes.csv"]
    path.write_text("\ufeff" + path.read_text().replace("\n", "\r\n") + "\r\n\r\n")  # as a spreadsheet saves it
    assert rating.read(path) == votes


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("7,seq,left,artifact,normal,corrected,ann", "line 3, is about the unknown id 7, expected one of the 2 images"),
        ("2,magic,left,artifact,normal,corrected,ann", "line 3, names the unknown method 'magic', expected one of seq"),
        ("1,seq,right,normal,normal,same,ann", r"twice for ann \(see line 2\)"),
        ("2,seq,left,artifact,normal,corrected", "line 3, has 6 values"),
        ("2,seq,left,artifact,normal,corrected,ann,x", "line 3, has 8 values"),
        ("2,seq,middle,artifact,normal,corrected,ann", "the side 'middle', expected left or right"),
        ("2,seq,left,broken,normal,corrected,ann", "answers 'broken' to label_original, expected normal or artifact"),
        ("2,seq,left,artifact,normal,left,ann", "answers 'left' to better, expected original or same or corrected"),
        ("2.5,seq,left,artifact,normal,same,ann", "the id '2.5', expected a whole number"),
        ("-2,seq,left,artifact,normal,same,ann", "the id '-2'"),
        ("2,seq,left,artifact,normal,same,", "no method or rater"),
        ('2,"seq,left,artifact,normal,same,ann', "line 3, has 2 values"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path, line, fault):
    path = tmp_path / "votes.csv"
    path.write_text(f"{HEADER}\n1,seq,left,artifact,normal,corrected,ann\n{line}\n")
    with pytest.raises(ValueError, match=fault):
        rating.read(path, ids=[1, 2], methods=["seq"])


@pytest.mark.parametrize(
    "text",
    [
        HEADER.replace(",", ";") + "\n3;seq;left;artifact;normal;corrected;ann\n0,0;seq;left;normal;normal;same;ann\n",
        HEADER.upper() + "\n3.0,seq, LEFT,Artifact,Normal ,Corrected,ann\n0.0,seq,left,normal,normal,same,ann\n",
        HEADER + ",,\r3,seq,left,artifact,normal,corrected,ann,,\r0,seq,left,normal,normal,same,ann,,\r,,,,,,,,\r",
        f"sep=;\n\n{HEADER}\n3,seq,left,artifact,normal,corrected,ann\n0,seq,left,normal,normal,same,ann",
    ],
)
def test_what_a_spreadsheet_makes_of_a_vote_file_means_the_same(tmp_path, text):
    (tmp_path / "votes.csv").write_text("\ufeff" + text, encoding="utf-8", newline="")
    assert rating.read(tmp_path / "votes.csv") == [vote(3), vote(0, "normal", better="same")]


def test_what_is_no_vote_file(tmp_path):
    path = tmp_path / "votes.csv"
    for text in ("", "id,label,type,rater\n", HEADER.replace(",better", "") + "\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="line 1 is .*, expected the header id,method,side"):
            rating.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        rating.read(path)
    rating.write(path, [vote(1)])
    for bad in ([vote(1), vote(1)], [vote(1, better="left")], [vote(True)], [vote(1, method="two\nlines")]):
        with pytest.raises(ValueError, match="^vote "):
            rating.write(path, bad)
    assert rating.read(path) == [vote(1)]  # nothing was touched


def test_summary_by_hand():
    votes = [
        *(vote(1), vote(2), vote(3, corrected="artifact"), vote(4, corrected="artifact", better="original")),
        *(vote(5, "normal", "normal", "same"), vote(6, "normal", "artifact", "original")),
        vote(1, method="local", corrected="artifact", better="same"),
    ]
    types = {1: "stain", 2: "stain", 3: "missing", 4: "missing", 5: "normal", 6: "normal", 99: "stain"}
    table = rating.summary(votes, types)
    assert list(table.columns) == ["method", "group", "measure", "n", "value", "low", "high", "sd"]
    assert list(table.group[table.method == "seq"].unique()) == ["artifact", "missing", "stain", "normal"]
    for group, n, corrected, improved, worsened in (
        *(("artifact", 4, 0.5, 0.75, 0.25), ("stain", 2, 1, 1, 0), ("missing", 2, 0, 0.5, 0.5)),
    ):
        for measure, share in (("corrected", corrected), ("improved", improved), ("worsened", worsened)):
            row = value(table, "seq", group, measure)
            assert (row.n, row.value) == (n, share) and math.isnan(row.sd), (group, measure)
        assert value(table, "seq", group, "called_normal").value == 0
    assert value(table, "seq", "normal", "damaged").value == 0.5
    assert value(table, "seq", "normal", "worsened").value == 0.5
    assert value(table, "seq", "normal", "called_normal").value == 1
    assert value(table, "local", "artifact", "corrected").value == 0
    assert "normal" not in set(table.group[table.method == "local"])
    assert not {"corrected", "improved"} & set(table.measure[table.group == "normal"])


def test_summary_averages_raters_before_pairs():
    votes = [vote(1), vote(1, rater="bob", corrected="artifact"), vote(2), vote(2, rater="bob"), vote(3)]
    table = rating.summary(votes, dict.fromkeys((1, 2, 3), "stain"))
    row = value(table, "seq", "artifact", "corrected")
    assert row.n == 3 and row.value == pytest.approx((0.5 + 1 + 1) / 3)
    assert row.sd == pytest.approx(np.std([1.0, 0.5], ddof=1))  # ann called all normal, bob half
    assert (row.low, row.high) == pytest.approx(rating.wilson(2.5 / 3, 3))


def test_without_types_the_rater_says_what_the_original_is():
    table = rating.summary([vote(1), vote(2, "normal", "artifact", "original"), vote(3, "normal", "normal", "same")])
    assert value(table, "seq", "artifact", "corrected").n == 1
    assert value(table, "seq", "normal", "damaged").value == 0.5
    assert set(table.group) == {"artifact", "normal"}
    with pytest.raises(ValueError, match="got no votes"):
        rating.summary([])
    with pytest.raises(ValueError, match="2 voted ids, such as 1, have no type"):
        rating.summary([vote(1), vote(2), vote(3)], {3: "stain"})


def test_wilson_equals_the_quadratic_it_solves():
    for share, n in ((0.0, 10), (0.3, 10), (0.53, 500), (1.0, 4)):
        for end in rating.wilson(share, n):  # |share - end| is 1.96 standard errors of the end
            assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / n, abs=1e-12)
    low, high = rating.wilson(0.0, 10)
    assert low == pytest.approx(0, abs=1e-12) and high == pytest.approx(0.2775, abs=1e-4)
    assert rating.wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def naive_kappa(a, b):
    n, names = len(a), sorted({*a, *b})
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    chance = sum(a.count(name) / n * b.count(name) / n for name in names)
    return (observed - chance) / (1 - chance)


def test_agreement_of_two_raters():
    rng = np.random.RandomState(0)
    votes, answers = [], {"ann": [], "bob": []}
    for image in range(60):
        truth = rng.randint(3)
        for rater in answers:
            better = rating.BETTER[truth if rng.rand() < 0.8 else rng.randint(3)]
            label = ("normal", "artifact")[rng.rand() < 0.5]
            answers[rater].append((label, better))
            votes.append(vote(image, corrected=label, better=better, rater=rater))
    votes += [vote(100), vote(0, method="local")]  # which only ann rated
    found = rating.agreement(votes)
    for question, place in (("label_corrected", 0), ("better", 1)):
        a, b = ([pair[place] for pair in answers[rater]] for rater in ("ann", "bob"))
        assert found[question].n == 60
        assert found[question].share == pytest.approx(np.mean([x == y for x, y in zip(a, b, strict=True)]))
        assert found[question].kappa == pytest.approx(naive_kappa(a, b))
        assert found[question].low < found[question].kappa < found[question].high
    assert found["label_original"].share == 1 and math.isnan(found["label_original"].kappa)
    assert rating.agreement(votes, "bob", "ann")["better"].kappa == pytest.approx(found["better"].kappa)
    with pytest.raises(ValueError, match="between two raters, got ann: name two"):
        rating.agreement([vote(1)])
    with pytest.raises(ValueError, match="ann and eve share no pair"):
        rating.agreement([*votes, vote(500, rater="eve")], "ann", "eve")
    with pytest.raises(ValueError, match="got ann, ann"):
        rating.agreement(votes, "ann", "ann")


def test_votes_on_pictures_and_pairs_come_back_as_they_were(tmp_path):
    for votes in (
        [PictureVote(4, "original", "artifact", "ann"), PictureVote(4, "shift", "normal", "ann")],
        [PairVote(4, "shift", "left", "corrected", "yes", "ann"), PairVote(5, "shift", "right", "same", "no", "ann")],
    ):
        rating.write(tmp_path / "votes.csv", votes)
        assert rating.read(tmp_path / "votes.csv") == votes
    with pytest.raises(ValueError, match="votes of 2 kinds, PairVote, PictureVote: a file each"):
        rating.write(tmp_path / "votes.csv", [votes[0], PictureVote(4, "original", "artifact", "ann")])
    assert rating.read(tmp_path / "votes.csv") == votes
    for line, fault in (("4,shift,left,best,yes,ann", "'best' to better"), ("4,shift,left,same,maybe,ann", "to same")):
        (tmp_path / "votes.csv").write_text(f"id,method,side,better,same,rater\n{line}\n")
        with pytest.raises(ValueError, match=f"line 2, answers .*{fault}"):
            rating.read(tmp_path / "votes.csv")


def test_shares_of_single_pictures():
    said = {"ann": ["normal", "artifact", "normal", "normal"], "bob": ["normal", "artifact", "artifact", "normal"]}
    votes = [PictureVote(i, "shift", label, rater) for rater, labels in said.items() for i, label in enumerate(labels)]
    votes += [PictureVote(0, "original", "artifact", "ann")]
    table = rating.called_normal(votes)
    shift, original = table.iloc[0], table.iloc[1]
    assert (shift.method, shift.group, shift.n, shift.value) == ("shift", "all", 4, 0.625)
    assert (shift.low, shift.high) == pytest.approx(rating.wilson(0.625, 4))
    assert shift.sd == pytest.approx(np.std([0.75, 0.5], ddof=1))
    assert (original.n, original.value) == (1, 0.0) and math.isnan(original.sd)
    split = rating.called_normal(votes, {0: "night", 1: "day", 2: "day", 3: "day"}).set_index(["method", "group"])
    assert split.value.to_dict() == {("shift", "night"): 1.0, ("shift", "day"): 0.5, ("original", "night"): 0.0}
    with pytest.raises(ValueError, match="3 voted ids, such as 1, have no group"):
        rating.called_normal(votes, {0: "night"})
    with pytest.raises(ValueError, match="got no votes"):
        rating.called_normal([])
    assert rating.agreement([v for v in votes if v.method == "shift"])["label"].share == 0.75


def test_shares_of_pairs():
    answers = [("corrected", "yes"), ("corrected", "no"), ("same", "yes"), ("original", "yes")]
    votes = [PairVote(i, "shift", "left", *answer, "ann") for i, answer in enumerate(answers)]
    table = rating.pair_shares(votes).set_index("measure")
    assert table.value.to_dict() == {"improved": 0.5, "equal": 0.25, "worse": 0.25, "same": 0.75}
    assert set(table.n) == {4}


def test_what_is_left_alone_keeps_the_vote_on_its_original():
    votes = [
        rating.PictureVote(i, method, label, rater)
        for rater in ("a", "b")
        for i, method, label in (
            (1, "original", "artifact"), (1, "shift", "normal"), (2, "original", "normal"), (2, "shift", "artifact"),
            (3, "original", "artifact"),
        )
    ]  # fmt: skip
    found = rating.left_alone(votes, "shift", [2, 3, 9], "spared")
    assert [(v.id, v.method, v.label, v.rater) for v in found] == [
        (1, "spared", "normal", "a"), (2, "spared", "normal", "a"),
        (1, "spared", "normal", "b"), (2, "spared", "normal", "b"),
    ]  # fmt: skip
    assert len(rating.left_alone(votes, "shift", [], "all")) == 4
    with pytest.raises(ValueError, match="there is no vote on 'damping', there are original, shift"):
        rating.left_alone(votes, "damping", [], "x")


def test_normals_whose_vote_turned_are_counted_by_rater():
    said = [  # image, rater, what the original and what the corrected one is called
        (1, "a", "normal", "artifact"), (1, "b", "normal", "normal"), (2, "a", "artifact", "normal"),
        (2, "b", "artifact", "normal"), (3, "a", "normal", "artifact"),
    ]  # fmt: skip
    votes = [PictureVote(i, "original", before, rater) for i, rater, before, _ in said]
    votes += [PictureVote(i, "shift", after, rater) for i, rater, _, after in said]
    votes += [PictureVote(2, "shift", "artifact", "c")]  # who did not see the original
    assert rating.turned(votes, "shift", [1, 2]) == (4, 1, 2)
    assert rating.turned(votes, "shift", [1, 2, 3]) == (5, 2, 2)
    assert rating.turned(votes, "damping", [1, 2]) == (0, 0, 0)


class Voted:
    """A domain of four images, of which the first and the last look normal to its classifier."""

    name = "small"
    labels = labels.Labels(
        [1, 2, 3, 4], ["normal", "artifact", "artifact", "normal"], ["", *["stain"] * 2, ""], [*"aaaa"]
    )

    def images(self, ids):
        return torch.tensor(ids, dtype=torch.float32)

    def artifact_scores(self, images):
        return torch.where((images == 1) | (images == 4), -1.0, 1.0)


def test_the_votes_that_come_with_a_domain(tmp_path, monkeypatch):
    monkeypatch.setattr(rating.store, "fetch", lambda name: tmp_path / name)
    (tmp_path / "small").mkdir()
    fine, broken = "normal", "artifact"
    called = {1: (fine, broken), 2: (broken, fine), 3: (broken, broken), 4: (fine, fine)}
    votes = [
        PictureVote(i, method, label, rater)
        for i, both in called.items()
        for method, label in zip(("original", rating.SURE), both)
        for rater in ("first", "second")
    ]
    rating.write(tmp_path / "small" / "picture_votes.csv", votes)
    found = rating.pictures(Voted())
    assert list(found.table.index.names) == ["method", "group"] and found.table.n.unique().tolist() == [2]
    assert found.table.value.to_dict() == {
        ("original", "normal"): 1, ("original", "artifact"): 0,
        (rating.SURE, "normal"): 0.5, (rating.SURE, "artifact"): 0.5,
        (rating.SPARED, "normal"): 1, (rating.SPARED, "artifact"): 0.5,  # the normal that got worse was left alone
    }  # fmt: skip
    assert found.agreement.n == 8 and found.agreement.kappa == 1  # of what they saw, not of what was derived
    assert found.turned == (4, 0, 0) and rating.turned(votes, rating.SURE, [1, 4]) == (4, 2, 0)
    assert [share[0] for share in found.shares.values()] == [0, 0.5, 0.5, 0.5, 1, 1]
    assert found.shares["original (normals)"] == (1, *rating.wilson(1.0, 2))
    assert rating.pictures(Voted(), 2).table.n.unique().tolist() == [1]

    pairs = [PairVote(i, rating.SURE, "left", better, "yes", "first") for i, better in ((2, "corrected"), (3, "same"))]
    rating.write(tmp_path / "small" / "pair_votes.csv", pairs)
    shares = rating.pairs(Voted())
    assert shares.value.to_dict() == {"improved": 0.5, "equal": 0.5, "worse": 0.0, "same": 1.0}
    assert list(shares.columns) == ["n", "value", "low", "high"] and set(shares.n) == {2}
