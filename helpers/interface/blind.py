"""Run a blind comparison: which pair comes next, what was said of it, how to take it back; votes are saved at once."""

import random
from pathlib import Path

import torch

from helpers import rating
from helpers.interface import labelling
from helpers.interface.previews import FINISHED, Drawing, fetcher
from helpers.interface.tile_rows import panel
from helpers.latents import image_ids
from helpers.rating import Vote

KEYS = {"a": "left artifact", "s": "left normal", "d": "left better", "f": "same", "g": "right better"}
KEYS |= {"h": "right normal", "j": "right artifact", "u": "undo", "b": "back", "k": "skip"}  # as they lie
ANSWERS = tuple(KEYS.values())[:7]
QUESTIONS = ("left", "right", "better")


def side(pair, seed=0):
    """Return where the corrected image of a pair (id, method) stands: "left" or "right", always the same by seed."""
    return rating.SIDES[random.Random(f"side {seed} {pair[0]} {pair[1]}").random() < 0.5]


def order(pairs, seed=0):
    """Return pairs (id, method) mixed by seed: methods and images in no order. Raises ValueError for one twice."""
    pairs = [(int(i), str(method)) for i, method in pairs]
    if not pairs or len(set(pairs)) < len(pairs):
        raise ValueError(f"got {len(pairs)} pairs, {len(set(pairs))} of them different: pass each (id, method) once")
    return sorted(sorted(pairs), key=lambda pair: random.Random(f"order {seed} {pair[0]} {pair[1]}").random())


class Session:
    """One rater going through pairs of original and correction, resumed where the vote file ends.

    pairs: (id, method) each. path: the vote CSV (other raters' and other pairs' votes stay). rater: who votes.
    seed: of the order and the sides. A vote is three answers: left and right "artifact" or "normal", and "left",
    "same" or "right" better; the third one saves it. `keys` maps letters to actions.
    Raises ValueError for no pairs, a pair twice, no rater, or a broken file. Explained in notebook 07.
    """

    keys = KEYS
    type = labelling.Session.type  # the letters of a text box

    def __init__(self, pairs, path, rater, seed=0):
        self.pairs, self.path, self.rater, self.seed = order(pairs, seed), Path(path), str(rater).strip(), seed
        if not self.rater:
            raise ValueError("a vote needs a rater: pass a name or initials")
        wanted = set(self.pairs)
        mine = [vote for vote in self._read() if vote.rater == self.rater]
        self.voted = {(vote.id, vote.method): vote for vote in mine if (vote.id, vote.method) in wanted}
        self._typed = ""
        self._past = []  # (pair, its vote before or None), latest last
        self._go(self._next(-1))

    def answer(self, question, value):
        """Answer "left" or "right" (artifact, normal) or "better" (left, same, right); the third one saves the vote."""
        if self.current is None:
            raise ValueError("all pairs are rated: go back to change one")
        self._given.append((question, self.answers.get(question)))
        self.answers[question] = value
        if len(self.answers) == len(QUESTIONS):
            before = self.voted.get(self.current)
            try:
                self._store(self.current, self._vote())
            except Exception:
                self._retract()
                raise
            self._past.append((self.current, before))
            self._go(self._next(self.pairs.index(self.current)))

    def undo(self):
        """Take the latest answer to this pair back, else the latest vote of this session, also in the file."""
        if self._given:
            self._retract()
        elif not self._past:
            raise ValueError("nothing to undo in this session: go back to change an earlier vote")
        else:
            pair, before = self._past[-1]
            self._store(pair, before)
            self._past.pop()
            self._go(pair)

    def back(self):
        """Show the pair before, with what was said of it; one other answer replaces its vote."""
        position = len(self.pairs) if self.current is None else self.pairs.index(self.current)
        self._go(self.pairs[max(position - 1, 0)])

    def skip(self):
        """Leave the current pair for later: it comes again after the others."""
        if self.current is not None:
            self._go(self._next(self.pairs.index(self.current)))

    def do(self, action):
        """Do an action by name: undo, back, skip, or one of ANSWERS, such as "left artifact"; no answer after the last.

        Raises ValueError for another name.
        """
        if action in labelling.MOVES:
            return getattr(self, action)()
        if action not in ANSWERS:
            raise ValueError(f"an action is undo, back, skip, {', '.join(ANSWERS)}, got {action!r}: choose one")
        where, _, what = action.partition(" ")
        if self.current is not None:
            self.answer(*(("better", where) if what in ("", "better") else (where, what)))

    @property
    def chosen(self):
        """The actions that the answers to the current pair stand for."""
        named = {"left": "left better", "same": "same", "right": "right better"}
        return {named[value] if about == "better" else f"{about} {value}" for about, value in self.answers.items()}

    @property
    def task(self):
        """What the rater is asked to do now."""
        if self.current is None:
            return "All pairs are rated: export the votes, or go back to change one."
        asked = {side: f"is the {side} image normal or an artifact?" for side in rating.SIDES}
        asked["better"] = "which of the two is better?"
        left = [text for about, text in asked.items() if about not in self.answers]
        if not left:
            return "This pair is rated: another answer replaces the vote, skip leaves it."
        return f"Still to say: {' '.join(left)} The third answer saves the vote and brings the next pair."

    @property
    def code(self):
        """The call that counts the votes, "" before the first one."""
        return f"rating.summary(rating.read({str(self.path)!r}))" if self.voted else ""

    def export(self, path):
        """Write this session's votes to a CSV of their own, all or nothing; returns how many."""
        if Path(path).resolve() == self.path.resolve():
            raise ValueError(f"{path} is the vote file itself: choose another name for the export")
        if not self.voted:
            raise ValueError("there is no vote to export yet: rate a pair first")
        votes = [self.voted[pair] for pair in self.pairs if pair in self.voted]
        rating.write(path, votes)
        return len(votes)

    def __str__(self):
        done = f"{len(self.voted)} of {len(self.pairs)} rated"
        if self.current is None:
            return f"finished: {done}"
        said = ", ".join(f"{question} {self.answers.get(question, '?')}" for question in QUESTIONS)
        return f"pair {self.pairs.index(self.current) + 1} of {len(self.pairs)}: {said}; {done}"

    def _go(self, pair):
        """Show a pair, or None: the end."""
        self.current, self._given, self.answers = pair, [], {}
        if pair in self.voted:
            vote, here = self.voted[pair], side(pair, self.seed)
            there = _other(here)
            self.answers = {here: vote.label_corrected, there: vote.label_original}
            self.answers["better"] = {"corrected": here, "original": there}.get(vote.better, "same")

    def _vote(self):
        here = side(self.current, self.seed)
        labels = {"label_original": self.answers[_other(here)], "label_corrected": self.answers[here]}
        better = {here: "corrected", "same": "same"}.get(self.answers["better"], "original")
        return Vote(*self.current, side=here, better=better, rater=self.rater, **labels)

    def _retract(self):
        question, before = self._given.pop()
        self.answers[question] = before
        if before is None:
            del self.answers[question]

    def _next(self, position):
        """The first unrated pair after a position, else the first one before it, else None."""
        following = self.pairs[position + 1 :] + self.pairs[: position + 1]
        return next((pair for pair in following if pair not in self.voted), None)

    def _read(self):
        return rating.read(self.path) if self.path.exists() else []

    def _store(self, pair, vote):
        """Put a vote in the place of the one before, or with None remove it, in the file and here."""
        votes, key = self._read(), (*pair, self.rater)
        place = next((i for i, old in enumerate(votes) if (old.id, old.method, old.rater) == key), len(votes))
        votes[place : place + 1] = [] if vote is None else [vote]
        rating.write(self.path, votes)
        self.voted.pop(pair, None)
        if vote is not None:
            self.voted[pair] = vote


def comparison(session, original, corrected, ids):
    """Prepare draw(note=""): the two images that a session is at, side by side; arguments as in `widgets.rater`."""
    ids = image_ids(ids)
    first, fetch = fetcher(original, ids), {method: fetcher(images, ids) for method, images in corrected.items()}
    strange = [pair for pair in session.pairs if pair[0] not in ids or pair[1] not in corrected]
    if strange:
        raise ValueError(f"pair {strange[0]} has an unknown image or method: pass ids and corrections of every pair")

    def draw(note=""):
        if session.current is None:
            tiles = [("", FINISHED, ["all rated"])]
        else:
            image, method = session.current
            images = [first([image])[0], fetch[method]([image])[0]]
            images = images if side(session.current, session.seed) == "right" else images[::-1]
            tiles = [("", torch.stack(images), ["left", "right"])]
        lines = {"task": session.task, "state": f"{session}{note}", "code": session.code}
        return Drawing(panel(tiles, size=256, width=528), lines, None)

    return draw


def _other(here):
    return rating.SIDES[here == "left"]
