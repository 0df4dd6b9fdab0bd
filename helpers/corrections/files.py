"""Write edits to a file and read them back, for the generator they were made for and no other."""

from pathlib import Path

from safetensors import SafetensorError

from helpers import store
from helpers.corrections.edits import Blend, Chain, Edits, LocalScale, Scale, Shift, Silence, Zero
from helpers.streaming import partials

KINDS = {kind.__name__: kind for kind in (Scale, LocalScale, Zero, Shift, Silence, Blend, Chain)}
WHAT = "edits of the suite"


def write(path, edits, flow):
    """Write edits of `helpers.correct`, {layer: edit}, made for a generator; the whole file or none of it.

    Raises TypeError for an edit that is not one of `correct`'s, such as a function of one's own, and OSError where
    the file cannot be written.
    """
    packed = {flow.checked(layer): _packed(layer, edit) for layer, edit in edits.items()}
    ids = getattr(edits, "ids", None)
    value = {"what": WHAT, "generator": partials.weights(flow), "edits": packed, "ids": ids and sorted(ids)}
    store.write(Path(path), value)


def read(path, flow):
    """Read what `write` wrote -> Edits.

    Raises FileNotFoundError, and ValueError for a damaged file, one that holds something else, and edits of another
    generator, whose units mean other things.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of edits {path}: check the path")
    try:
        value = store.read(path)
        right = value["what"] == WHAT
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is damaged or holds no edits ({error}): write it again") from None
    if not right:
        raise ValueError(f"{path.name} holds something else than edits: pass a file of correct.write_edits")
    if value["generator"] != partials.weights(flow):
        raise ValueError(f"{path.name} was made for another generator, whose units mean other things: load that one")
    edits = {layer: _unpacked(fields) for layer, fields in value["edits"].items()}
    return Edits(edits, None if value["ids"] is None else frozenset(value["ids"]))


def _packed(layer, edit):
    kind = type(edit).__name__
    if kind not in KINDS:
        raise TypeError(f"layer {layer} has a {kind}, only edits made by correct can be written")
    if kind == "Chain":
        return {"kind": kind, "edits": [_packed(layer, part) for part in edit.edits]}
    return {"kind": kind, **vars(edit)}


def _unpacked(fields):
    kind = KINDS[fields.pop("kind")]
    if kind is Chain:
        return Chain(tuple(_unpacked(part) for part in fields["edits"]))
    return kind(**{name: tuple(v) if name == "units" else v for name, v in fields.items()})
