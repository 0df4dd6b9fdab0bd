"""The verdicts on exercises: each kind of answer gets its own, and none shows what was expected."""

import pytest
import torch

from helpers.exercises import check, close


def judged(capsys, answer, right=lambda x: close(x, 0.25), hint="Count again.", note=""):
    check(2, answer, right, hint, note)
    return capsys.readouterr().out


def unsolved():
    raise NotImplementedError("your turn")


@pytest.mark.parametrize("answer", [..., unsolved, lambda: ...])
def test_what_is_not_begun_is_not_solved_yet(capsys, answer):
    assert judged(capsys, answer, right=lambda x: 1 / 0) == "exercise 2: not solved yet\n"


@pytest.mark.parametrize("answer", [0.25, torch.tensor(0.25), lambda: 0.25])
def test_a_right_answer_is_right_and_may_be_told_more(capsys, answer):
    assert judged(capsys, answer) == "exercise 2: right\n"
    assert judged(capsys, answer, note="A quarter.") == "exercise 2: right. A quarter.\n"
    assert judged(capsys, answer, note=lambda x: f"So {float(x):.0%}.") == "exercise 2: right. So 25%.\n"


@pytest.mark.parametrize("answer", [0.26, lambda: torch.zeros(()), float("nan"), [0.25]])
def test_a_wrong_answer_gets_the_hint_and_no_more(capsys, answer):
    assert judged(capsys, answer, note="A quarter.") == "exercise 2: not right yet. Hint: Count again.\n"


@pytest.mark.parametrize("answer", [None, "a quarter", object(), {1: 2}])
def test_an_answer_of_another_kind_ends_in_no_error(capsys, answer):
    said = f"exercise 2: not right yet. Hint: This is a {type(answer).__name__}. Count again.\n"
    assert judged(capsys, answer) == said


def test_a_known_mistake_has_a_hint_of_its_own(capsys):
    known = lambda x: "This is the share of normals." if close(x, 0.75) else close(x, 0.25)  # noqa: E731
    assert judged(capsys, 0.75, known) == "exercise 2: not right yet. Hint: This is the share of normals.\n"
    assert judged(capsys, 0.5, known) == "exercise 2: not right yet. Hint: Count again.\n"


def test_truth_may_come_as_a_tensor_but_must_come(capsys):
    assert judged(capsys, 1, right=lambda x: torch.tensor(x == 1)) == "exercise 2: right\n"
    for nothing in (None, torch.tensor(False), 0):
        assert judged(capsys, 1, right=lambda x, n=nothing: n) == "exercise 2: not right yet. Hint: Count again.\n"


def test_the_readers_own_error_is_named_and_raised(capsys):
    with pytest.raises(ZeroDivisionError):
        check(2, lambda: 1 / 0, lambda x: True, "Count again.")
    said = "exercise 2: not right yet. It stops with ZeroDivisionError, in the place shown below.\n"
    assert capsys.readouterr().out == said


def test_close_compares_shape_and_value():
    x = torch.tensor([1.0, 2.0])
    assert close(x + 1e-7, x) and close([1, 2], x) and close(True, 1) and close(x.requires_grad_(), [1.0, 2.0])
    assert not close(x + 1e-5, x) and close(x + 1e-5, x, within=2e-5)
    assert not close(x[:1], x) and not close(1.0, [1.0]) and not close(float("nan"), float("nan"))
