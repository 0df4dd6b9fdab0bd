import pytest
import torch

from helpers import rating
from helpers.interface import blind
from helpers.interface.blind import Session
from helpers.rating import Vote

PAIRS = [(i, method) for i in range(6) for method in ("seq", "local")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "votes.csv"


def rate(session, corrected="normal", original="artifact", better="corrected"):
    """Answer the current pair by what the images are, not where they stand; returns the pair."""
    pair, here = session.current, blind.side(session.current, session.seed)
    there = "right" if here == "left" else "left"
    session.do(f"{here} {corrected}")
    session.do({"corrected": f"{here} better", "original": f"{there} better"}.get(better, "same"))
    session.do(f"{there} {original}")
    return pair


def test_sides_and_order_are_random_by_seed_and_stay():
    pairs = [(i, "seq") for i in range(2000)]
    left = [blind.side(pair) == "left" for pair in pairs]
    assert 900 < sum(left) < 1100 and left == [blind.side(pair) == "left" for pair in pairs]
    assert left != [blind.side(pair, 1) == "left" for pair in pairs]
    mixed = blind.order(PAIRS)
    assert sorted(mixed) == sorted(PAIRS) != mixed and mixed == blind.order(PAIRS[::-1]) != blind.order(PAIRS, 1)
    kept = blind.order(PAIRS[:4])
    assert [pair for pair in mixed if pair in kept] == kept  # a pair's place does not depend on the others
    sides = [blind.side(pair) == "left" for pair in blind.order(pairs)]
    assert 850 < sum(a != b for a, b in zip(sides, sides[1:])) < 1150  # nor its side on its place


def test_a_vote_is_saved_with_its_third_answer(path):
    session = Session(PAIRS, path, "ann")
    first = session.current
    session.do("left artifact")
    session.do("right normal")
    assert not path.exists() and session.current == first
    assert str(session) == "pair 1 of 12: left artifact, right normal, better ?; 0 of 12 rated"
    session.do("left normal")  # changed before the end
    assert session.chosen == {"left normal", "right normal"} and session.task.startswith(
        "Still to say: which of the two"
    )
    session.do("right better")
    here = blind.side(first)
    assert rating.read(path) == [
        Vote(*first, here, "normal", "normal", "corrected" if here == "right" else "original", "ann")
    ]
    assert session.current == session.pairs[1] and session.answers == {}


def test_what_is_saved_does_not_depend_on_the_side(path):
    session = Session(PAIRS, path, "ann")
    while session.current:
        pair = session.current
        rate(
            session,
            *(("artifact", "normal", "original") if pair[1] == "local" else ("normal", "artifact", "corrected")),
        )
    assert str(session) == "finished: 12 of 12 rated"
    votes = rating.read(path)
    assert {vote.side for vote in votes} == {"left", "right"} and [(v.id, v.method) for v in votes] == session.pairs
    for vote in votes:
        local = vote.method == "local"
        assert vote.better == ("original" if local else "corrected")
        assert vote.label_corrected == ("artifact" if local else "normal") != vote.label_original
    assert "All pairs are rated" in session.task and session.chosen == set()
    session.do("same")  # there is nothing to say any more
    session.type("asd")
    assert rating.read(path) == votes and session.current is None
    with pytest.raises(ValueError, match="all pairs are rated"):
        session.answer("better", "same")
    session.do("back")
    session.do("same")
    assert rating.read(path) != votes


def test_raters_and_sessions_share_a_file(path):
    rate(Session(PAIRS, path, "ann"))
    bob = Session(PAIRS[:4], path, "bob", seed=1)
    rate(bob, better="same")
    rate(bob)
    again = Session(PAIRS, path, "ann")
    assert again.current == again.pairs[1] and len(again.voted) == 1
    rate(again)
    assert [vote.rater for vote in rating.read(path)] == ["ann", "bob", "bob", "ann"]
    fewer = Session([pair for pair in PAIRS if pair not in again.voted], path, "ann")
    assert fewer.voted == {}
    rate(fewer)
    assert len(rating.read(path)) == 5


def test_undo_back_and_skip(path):
    session = Session(PAIRS[:6], path, "ann")
    with pytest.raises(ValueError, match="nothing to undo"):
        session.undo()
    session.skip()
    one, two = session.pairs[:2]
    assert session.current == two
    session.do("left artifact")
    session.do("left normal")
    session.undo()
    assert session.answers == {"left": "artifact"}
    session.undo()
    assert session.answers == {}
    rate(session)
    rate(session, better="same")
    session.back()
    assert session.current == session.pairs[2] and session.answers["better"] == "same"
    assert "same" in session.chosen and len(session.chosen) == 3 and "replaces the vote" in session.task
    here = blind.side(session.current)
    session.do(f"{here} better")  # one other answer replaces the vote
    assert [vote.better for vote in rating.read(path)] == ["corrected", "corrected"]
    session.undo()
    assert [vote.better for vote in rating.read(path)] == ["corrected", "same"]
    session.undo()
    assert session.current == session.pairs[2] and session.answers == {}
    session.undo()
    assert rating.read(path) == [] and session.current == two and session.voted == {}
    session.skip()
    for _ in range(4):
        rate(session)
    assert session.current == one  # skipped ones come again
    session.back()
    assert session.current == one


def test_a_vote_that_cannot_be_written_is_not_counted(path, monkeypatch):
    session = Session(PAIRS, path, "ann")
    rate(session)
    pair = session.current
    session.do("left normal")
    session.do("right normal")

    def full(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(rating, "write", full)
        with pytest.raises(OSError, match="no space"):
            session.do("same")
    assert session.current == pair and "better" not in session.answers and len(session.voted) == 1
    session.do("same")
    assert len(rating.read(path)) == 2 and session.current != pair


def test_letters_and_export(path, tmp_path):
    session = Session(PAIRS, path, "ann")
    with pytest.raises(ValueError, match="no vote to export"):
        session.export(tmp_path / "out.csv")
    session.type("aj")
    session.type("ajf")
    assert [vote.better for vote in rating.read(path)] == ["same"]
    session.type("s h d")
    assert len(rating.read(path)) == 2
    session.type("u")
    assert len(rating.read(path)) == 1
    with pytest.raises(ValueError, match="the letter 'q' means nothing here: type a left artifact, s left normal"):
        session.type("uq")
    with pytest.raises(ValueError, match="an action is undo, back, skip, left artifact"):
        session.do("left")
    rate(Session(PAIRS, path, "bob"))
    assert session.export(tmp_path / "out.csv") == 1
    assert [vote.rater for vote in rating.read(tmp_path / "out.csv")] == ["ann"]
    with pytest.raises(ValueError, match="is the vote file itself"):
        session.export(path)
    with pytest.raises(OSError, match=r"cannot write .*/none/out.csv \(No such file or directory\)") as caught:
        session.export(tmp_path / "none" / "out.csv")
    assert ".part" not in str(caught.value)


def test_what_cannot_be_rated_is_said(path):
    for arguments, fault in (
        (([], path, "ann"), "got 0 pairs"),
        (([(1, "seq"), (1, "seq")], path, "ann"), "2 pairs, 1 of them different"),
        (([(1, "seq")], path, " "), "needs a rater"),
    ):
        with pytest.raises(ValueError, match=fault):
            Session(*arguments)
    path.write_text("id,label,type,rater\n")
    with pytest.raises(ValueError, match="expected the header"):
        Session(PAIRS, path, "ann")


def test_the_picture_shows_both_on_their_sides_and_hides_what_is_what(path):
    dark, light = torch.full((6, 3, 8, 8), -1.0), torch.full((6, 3, 8, 8), 1.0)
    session = Session(PAIRS, path, "ann")
    draw = blind.comparison(session, dark, {"seq": light, "local": lambda ids: light[ids]}, range(6))
    seen = set()
    while session.current:
        picture, lines, _ = draw()
        left, right = picture[100, 100].mean(), picture[100, 400].mean()
        assert {left, right} == {0, 255}
        assert (left == 255) == (blind.side(session.current) == "left")
        seen.add(left)
        assert lines["state"].startswith("pair ") and not {"seq", "local"} & set(lines["state"].split())
        rate(session)
    assert seen == {0, 255} and draw("; done")[1]["state"] == "finished: 12 of 12 rated; done"
    for ids, methods in ((range(5), ("seq", "local")), (range(6), ("seq",))):
        with pytest.raises(ValueError, match="has an unknown image or method"):
            blind.comparison(session, lambda ids: dark[ids], dict.fromkeys(methods, lambda ids: light[ids]), ids)
    with pytest.raises(ValueError, match="there are 6 images, but 5 ids"):
        blind.comparison(session, dark, {"seq": light}, range(5))
