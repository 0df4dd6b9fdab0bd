import pytest

from helpers import labels
from helpers.interface.labelling import Session


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.csv"


def said(path, **columns):
    return [(row["id"], row["type"] or "normal") for row in labels.read(path).only(**columns).rows]


def test_each_label_is_in_the_file_at_once(path):
    session = Session([7, 3, 5], path, "ann")
    assert not path.exists() and session.current == 7
    session.label("stain")
    assert path.read_text() == "id,label,type,rater\n7,artifact,stain,ann\n" and session.current == 3
    session.label("normal")
    assert said(path) == [(7, "stain"), (3, "normal")]
    session.label("other")
    assert session.current is None and str(session).startswith("finished: 3 of 3 labelled (normal 1, outline 0")
    with pytest.raises(ValueError, match="all images are labelled"):
        session.label("normal")
    session.do("normal")  # a button or a letter too many says nothing
    session.type("nso")
    assert said(path) == [(7, "stain"), (3, "normal"), (5, "other")] and session.current is None
    assert session.chosen == set() and session.task.startswith("All images are labelled")
    session.back()
    assert session.chosen == {"other"} and session.task.startswith("Is this image normal?")


def test_a_new_session_goes_on_where_the_file_ends(path):
    first = Session(range(4), path, "ann")
    first.label("normal")
    first.label("fusion")
    with path.open("a") as file:
        file.write("2,artif")  # the session died here
    with pytest.warns(UserWarning, match="half written"):
        second = Session(range(4), path, "ann")
    assert second.current == 2 and second.labelled == {0: "normal", 1: "fusion"}
    with pytest.warns(UserWarning, match="half written"):
        second.label("texture")
    assert said(path) == [(0, "normal"), (1, "fusion"), (2, "texture")]


def test_raters_and_passes_do_not_mix(path):
    for rater, kind in (("ann", "normal"), ("bob", "stain")):
        session = Session([1, 2], path, rater)
        assert session.current == 1
        session.label(kind)
        session.back()
        session.label("other")
    assert said(path, rater="ann") == [(1, "other")] == said(path, rater="bob")
    twice = path.with_name("twice.csv")
    for number in ("1", "2"):
        session = Session([1, 2], twice, "ann", extra={"pass": number})
        session.label("normal")
        session.label("stain")
        session.undo()
    assert said(twice, **{"pass": "1"}) == [(1, "normal")] == said(twice, **{"pass": "2"})
    plain = Session([1], twice, "ann")  # rows without a pass are others again
    plain.label("fusion")
    plain.undo()
    assert len(said(twice)) == 2


def test_undo_back_and_skip(path):
    session = Session([1, 2, 3], path, "ann")
    session.skip()
    session.label("stain")
    assert session.current == 3
    session.skip()
    assert session.current == 1  # skipped ones come again
    session.back()
    assert session.current == 1
    session.label("normal")
    session.back()
    session.back()
    assert session.current == 1 and "image 1, 1 of 3, normal" in str(session)
    session.label("missing")
    assert said(path) == [(2, "stain"), (1, "missing")] and session.current == 3
    session.undo()
    assert said(path) == [(2, "stain"), (1, "normal")] and session.current == 1
    session.undo()
    session.undo()
    assert said(path) == [] and session.current == 2 and session.labelled == {}
    with pytest.raises(ValueError, match="nothing to undo"):
        session.undo()
    session.label("stain")
    assert said(path) == [(2, "stain")]


def test_a_label_that_cannot_be_written_is_not_counted(path, monkeypatch):
    session = Session([1, 2], path, "ann")
    session.label("normal")

    def full(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(labels, "append", full)
        patched.setattr(labels, "write", full)
        for action in ("stain", "undo"):
            with pytest.raises(OSError, match="no space"):
                session.do(action)
    assert session.current == 2 and session.labelled == {1: "normal"} and session.counts["normal"] == 1
    session.undo()
    assert said(path) == []


def test_letters(path):
    session = Session(range(20), path, "ann")
    assert {key: session.keys[key] for key in "notsmfxubk"} == {
        **{"n": "normal", "o": "outline", "t": "texture", "s": "stain", "m": "missing", "f": "fusion", "x": "other"},
        **{"u": "undo", "b": "back", "k": "skip"},
    }
    for text in ("n", "nO", "nO", "nOoo ", "nOo", "nOos", "", "s"):  # what stood there before counts once
        session.type(text)
    kinds = ["normal", *3 * ["outline"], *2 * ["stain"]]
    assert said(path) == list(enumerate(kinds))
    with pytest.raises(ValueError, match="the letter 'q' means nothing here: type n normal, u undo"):
        session.type("sxqmz")  # the letters after a wrong one count, as they do when each comes alone
    for text in ("sxqmzn", "fsxqmzn", "fsxqtmzn", "fsxmzn", "fszn"):  # wherever the caret stands; deleting does nothing
        session.type(text)
    kinds += ["other", "missing", "normal", "fusion", "texture"]
    assert said(path) == list(enumerate(kinds))
    again = Session(range(20, 30), path, "ann")
    with pytest.raises(ValueError, match="nothing to undo"):
        again.type("usu")
    assert again.current == 20 and not again.labelled
    assert len(set(Session([1], path, "ann", types=("texture", "stain")).keys)) == 6


def test_export(path, tmp_path):
    session = Session([1, 2], path, "ann")
    with pytest.raises(ValueError, match="no label to export"):
        session.export(tmp_path / "out.csv")
    Session([1, 2], path, "bob").label("stain")
    session.label("normal")
    assert session.export(tmp_path / "out.csv") == 1
    assert (tmp_path / "out.csv").read_text() == "id,label,type,rater\n1,normal,,ann\n"
    with pytest.raises(ValueError, match="is the label file itself"):
        session.export(path)
    with pytest.raises(OSError, match=r"cannot write .*/none/out.csv \(No such file or directory\)") as caught:
        session.export(tmp_path / "none" / "out.csv")
    assert ".part" not in str(caught.value)


def test_what_cannot_be_labelled_is_said(path):
    for arguments, fault in (
        (([], path, "ann"), "got 0 ids"),
        (([1, 1], path, "ann"), "2 ids, 1 of them different"),
        (([1], path, " "), "needs a rater"),
        (([1], path, "ann", ("blur",)), "artifact types are outline"),
        (([1], path, "ann", ()), "got none"),
    ):
        with pytest.raises(ValueError, match=fault):
            Session(*arguments)
    session = Session([1], path, "ann", types=("stain",))
    with pytest.raises(ValueError, match="a label is normal or one of stain, got 'texture'"):
        session.label("texture")
    session.label("stain")
    with pytest.raises(ValueError, match="has no column 'pass'"):
        Session([1], path, "ann", extra={"pass": "2"})
    path.write_text("id,label,type,rater\n1,bad,,ann\n")
    with pytest.raises(ValueError, match="unknown class 'bad'"):
        Session([1], path, "ann")
