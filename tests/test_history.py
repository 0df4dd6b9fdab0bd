import asyncio
import time
from types import SimpleNamespace

import pytest
from ipywidgets import BoundedIntText, FloatSlider, IntSlider, Text

from helpers.interface.history import Moves, at_rest, paced, plain


@pytest.fixture
def moves():
    controls = {"n": IntSlider(3), "x": FloatSlider(0.1), "text": Text("")}
    drawn = []
    moves = Moves(controls, drawn.append)
    for control in controls.values():
        control.observe(moves.changed, "value")
    return SimpleNamespace(moves=moves, drawn=drawn, **controls)


def test_each_change_is_drawn_once(moves):
    moves.n.value = 4
    moves.n.value = 4
    moves.x.value = 0.1 + 1e-12  # nothing a person could mean
    assert moves.drawn == [{"n": 4, "x": 0.1, "text": ""}]
    with moves.moves.held():
        moves.n.value, moves.x.value, moves.text.value = 5, 0.3, "6:1"
        with moves.moves.held():
            moves.n.value = 6
        assert len(moves.drawn) == 1
    assert moves.drawn[1:] == [{"n": 6, "x": 0.3, "text": "6:1"}]


def test_undo_and_reset(moves):
    moves.n.value = 4
    moves.x.value = 0.5
    moves.text.value = "6:1"
    moves.moves.undo()
    moves.moves.undo()
    assert (moves.n.value, moves.x.value, moves.text.value) == (4, 0.1, "")
    moves.moves.reset()
    assert moves.drawn[-1] == {"n": 3, "x": 0.1, "text": ""}
    moves.moves.undo()  # of the reset
    assert moves.drawn[-1] == {"n": 4, "x": 0.1, "text": ""}
    moves.moves.undo()
    assert moves.n.value == 3
    count = len(moves.drawn)
    moves.moves.undo()  # nothing left
    assert len(moves.drawn) == count


def test_redo_brings_back_what_was_undone_until_something_else_is_done(moves):
    moves.moves.redo()  # nothing undone yet
    assert moves.drawn == []
    for value in (4, 5, 6):
        moves.n.value = value
    moves.moves.undo()
    moves.moves.undo()
    moves.moves.redo()
    assert moves.n.value == 5 == moves.drawn[-1]["n"]
    moves.moves.redo()
    assert moves.n.value == 6
    count = len(moves.drawn)
    moves.moves.redo()
    assert len(moves.drawn) == count
    moves.moves.undo()
    moves.moves.undo()
    moves.x.value = 0.7
    moves.moves.redo()  # there is no way back to 5
    assert moves.drawn[-1] == {"n": 4, "x": 0.7, "text": ""}
    moves.moves.undo()
    moves.moves.undo()
    assert moves.drawn[-1] == {"n": 3, "x": 0.1, "text": ""}


def test_what_is_paced_leaves_time_between():
    done, clock = [], []

    async def move():
        moved = paced(lambda: (done.append(len(clock)), time.sleep(0.05)))
        for _ in range(100):  # a move each 5 ms or so
            clock.append(1)
            moved()
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.5)

    asyncio.run(move())
    assert 2 <= len(done) < 60 and done[-1] == 100  # some on the way, and the last move in any case
    paced(lambda: done.append("at once"))()
    assert done[-1] == "at once"


def test_a_drag_is_one_move():
    controls, drawn = {"n": BoundedIntText(3), "x": FloatSlider(0.1)}, []
    moves = Moves(controls, drawn.append, pause=0.3, dragged=["n"])
    for control in controls.values():
        control.observe(moves.changed, "value")

    async def drag():
        for value in (4, 5, 6):
            controls["n"].value = value
        controls["x"].value = 0.5  # another control ends it
        controls["n"].value = 7
        controls["n"].value = 8
        await asyncio.sleep(1)  # and so does a pause
        controls["n"].value = 9
        for expected in ((8, 0.5), (6, 0.5), (6, 0.1), (3, 0.1)):
            moves.undo()
            assert tuple(moves.values.values()) == expected
        moves.undo()  # nothing left
        controls["n"].value = 5
        moves.reset()  # a move of its own, at once
        moves.undo()
        return moves.values

    assert asyncio.run(drag()) == {"n": 5, "x": 0.1}
    assert [values["n"] for values in drawn[:7]] == [4, 5, 6, 6, 7, 8, 9]  # each step is drawn


def test_choices_are_moves_of_their_own():
    boxes = {"n": BoundedIntText(3), "text": Text("", continuous_update=False)}
    moves = Moves(boxes, lambda values: None)
    for box in boxes.values():
        box.observe(moves.changed, "value")

    async def choose():
        for value in (4, 5):
            boxes["n"].value = value
        moves.undo()
        return boxes["n"].value

    assert asyncio.run(choose()) == 4


def test_numbers_are_plain():
    assert plain(0.1 + 0.2) == 0.3 and plain(7) == 7 and plain("6:1") == "6:1"


def test_undo_leads_back_from_an_error():
    box = IntSlider(1)

    def draw(values):
        if values["box"] == 2:
            raise ValueError("no 2")

    moves = Moves({"box": box}, draw)
    box.observe(moves.changed, "value")
    with pytest.raises(ValueError, match="no 2"):
        box.value = 2
    moves.undo()
    assert box.value == 1


def test_an_action_waits_for_rest():
    seen = []
    moved = at_rest(lambda: seen.append("rest"), seconds=0.5)
    moved()
    assert seen == ["rest"]  # without a loop there is nobody to wait for

    async def typing():
        loop = asyncio.get_running_loop()
        now, passed = loop.time(), 0.0
        loop.time = lambda: now + passed  # a clock of its own, so that a machine may be slow
        for _ in range(4):
            moved()
            passed += 0.01
            await asyncio.sleep(0)
        during = len(seen)
        passed += 0.6
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return during

    assert asyncio.run(typing()) == 1 and len(seen) == 2
