"""Let people label and compare: ipywidgets around `labelling` and `blind`, which save every answer at once."""

from html import escape

import ipywidgets as W

from helpers import labels
from helpers.interface import blind, labelling, playing, previews
from helpers.interface.views import NAMED, Frame, button, pair


def labeller(images, ids, path, rater, types=labels.TYPES, extra=None):
    """Label generations one by one, by button or letter; each label is in the file before the next image comes.

    images: (N, 3, R, R) in the order of ids, or a function of a list of ids. path: label CSV, made or resumed.
    rater: who labels. types: artifact types offered. extra: further columns, such as {"pass": "2"}.
    The view's `session` is a `labelling.Session`, which says what is refused. See notebook 02.
    """
    session = labelling.Session(ids, path, rater, types, extra)
    rows = [("normal", *session.types), ("undo", "back", "skip")]
    return _answers(session, previews.generation(session, images), rows, "labels")


def rater(original, corrected, ids, path, rater, seed=0, pairs=None):
    """Compare originals with their corrections blind: which is left is random, the method hidden.

    original: (N, 3, R, R) in the order of ids, or a function of a list of ids; corrected: {method: the same}.
    path: vote CSV, made or resumed; each vote is in it before the next pair comes. rater: who votes. seed: of order
    and sides. pairs: the (id, method) to vote on, by default all. Left and right are each called artifact or normal,
    and one of them better, or both the same. `session` is a `blind.Session`; `rating.summary` reads the votes.
    Raises ValueError for pairs of other ids or methods, and as the session does. See notebook 07.
    """
    pairs = [(i, method) for method in corrected for i in ids] if pairs is None else pairs
    session = blind.Session(pairs, path, rater, seed)
    rows = [blind.ANSWERS, ("undo", "back", "skip")]
    return _answers(session, blind.comparison(session, original, corrected, ids), rows, "votes")


def _answers(session, draw, rows, what):
    """Show a session: what is asked, its actions as rows of buttons, a box for letters, an export."""
    buttons = {name: button(f"{name} [{key}]") for key, name in session.keys.items()}
    letter, target, export = W.Text(description="type a letter", **NAMED), W.Text(), button("export CSV")
    target.description, target.value = "export to", f"{session.path.with_suffix('')}-{session.rater}.csv"
    target.style.description_width, target.layout.width = "90px", "480px"
    first, second = ([buttons[name] for name in names] for names in rows)
    task = W.HTML()
    controls = buttons | {"task": task, "key": letter, "export_path": target, "export": export}
    view = Frame([[task], first, [letter, *second], [target, export]], controls)
    view.session = session

    def show(note=""):
        view.put(*draw(note))
        for name, one in buttons.items():  # a sign as well as a colour
            one.button_style, one.icon = ("primary", "check") if name in session.chosen else ("", "")

    def act(does, argument):
        try:
            does(argument)
        finally:
            show()  # of several letters, those without an error count

    def pressed(does):
        letter.focus()  # or the letters that the buttons invite would be JupyterLab's shortcuts: m, x, b change cells
        does()

    note = f"; {{}} {what} are in {{}}".format
    for name, one in buttons.items():
        one.on_click(lambda _, name=name: pressed(lambda: view.guarded(act)(session.do, name)))
    save = view.guarded(lambda: show(note(session.export(target.value), target.value)))
    export.on_click(lambda _: pressed(save))
    # The box is never emptied: letters on their way from a page to a busy kernel would be lost.
    letter.observe(lambda change: view.guarded(act)(session.type, change["new"]), "value")
    show()
    return view


def playground(
    flow, latents, ids, held, path, rater, layer=1, every=10, embed=None, types=("other",), folder=None
):  # fmt: skip
    """Label images and watch what the labels do: a strip of other images, original and shifted, follows the labels.

    flow, latents, ids, held, path, rater, layer, every, embed and types: as of `playing.Playground`, which is the
    view's `ground`. folder: where "save" writes edits and picture, by default beside the label file.
    Each label is on the disk at once. Raises ValueError as the playground does. See notebook 13.
    """
    ground = playing.Playground(flow, latents, ids, held, path, rater, layer, every, embed, types)
    session, folder = ground.session, ground.session.path.parent if folder is None else folder
    buttons = {name: button(f"{'artifact' if name == 'other' else name} [{key}]") for key, name in session.keys.items()}
    letter, save, task = W.Text(description="type a letter", **NAMED), button("save edits and picture"), W.HTML()
    slider, box = pair("amount", -1.0, 3.0, 0.25, 1.0)
    first = [buttons[name] for name in ("normal", *session.types)]
    second = [letter, *(buttons[name] for name in ("undo", "back", "skip")), save]
    view = Frame([[task], first, second, [box, slider]], buttons | {"task": task, "key": letter, "save": save} | {
        "amount": slider, "amount_box": box}, ("state", "code"))  # fmt: skip
    view.ground, view.session = ground, session

    def show(note=""):
        picture, lines = ground.draw(slider.value)
        view.put(picture, lines | {"state": lines["state"] + note, "code": ground.code})
        task.value = escape(session.task)

    def act(does, argument):
        try:
            does(argument)
        finally:
            show()

    def pressed(does):
        letter.focus()  # as above: the letters are the session's, not JupyterLab's
        does()

    for name, one in buttons.items():
        one.on_click(lambda _, name=name: pressed(lambda: view.guarded(act)(ground.do, name)))
    written = view.guarded(lambda: show("; saved " + " and ".join(map(str, ground.save(folder, slider.value)))))
    save.on_click(lambda _: pressed(written))
    letter.observe(lambda change: view.guarded(act)(ground.type, change["new"]), "value")
    slider.observe(lambda _: view.guarded(show)(), "value")
    show()
    return view
