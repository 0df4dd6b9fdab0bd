"""Judge the answer to an exercise: not solved yet, a hint, or right. What is expected is never shown."""

import torch

# How a verdict begins, behind "exercise N: "; tools that count verdicts look for these.
UNSOLVED, WRONG, RIGHT = "not solved yet", "not right yet", "right"


def check(number, answer, right, hint, note=""):
    """Print what an answer is worth: not solved yet, not right yet with a hint, or right.

    number: of the exercise. answer: what the reader stored, or a function of nothing that calls what he wrote; `...`
    and NotImplementedError mean that he has not begun. right: a function of the answer -> True, False, or a text: the
    hint for a mistake that it recognises. hint: what is said of any other wrong answer. note: what is worth knowing
    once it is right, or a function of the answer that says it.
    An error in the reader's own function is named and raised as well. Used in every notebook, from 00 on.
    """
    try:
        answer = answer() if callable(answer) else answer
    except NotImplementedError:
        answer = ...
    except Exception as error:
        print(f"exercise {number}: {WRONG}. It stops with {type(error).__name__}, in the place shown below.")
        raise
    if answer is ...:
        return print(f"exercise {number}: {UNSOLVED}")
    try:
        verdict = right(answer)
        verdict = verdict if isinstance(verdict, str) else bool(verdict) or hint
    except Exception:  # an answer of another kind than the one asked for
        verdict = f"This is a {type(answer).__name__}. {hint}"
    if verdict is not True:
        return print(f"exercise {number}: {WRONG}. Hint: {verdict}")
    said = note(answer) if callable(note) else note
    print(f"exercise {number}: {RIGHT}" + (f". {said}" if said else ""))


def close(answer, expected, within=1e-6):
    """Tell whether numbers, alone or in a tensor or list, have the expected shape and differ by `within` at most."""
    answer, expected = (torch.as_tensor(part).detach().cpu().double() for part in (answer, expected))
    return answer.shape == expected.shape and bool((answer - expected).abs().le(within).all())
