"""Write edits to a file and read them back, for the generator they were made for and no other."""

from pathlib import Path

from safetensors import SafetensorError

from helpers import store
from helpers.corrections.edits import Blend, Edits, LocalScale, Scale, Shift, Silence, Zero
from helpers.streaming import partials

KINDS = {kind.__name__: kind for kind in (Scale, LocalScale, Zero, Shift, Silence, Blend)}
WHAT = "edits of the suite"


def write(path, edits, flow):
    """Write edits of `helpers.correct`, {layer: edit}, made for a generator; the whole file or none of it.

    Raises TypeError for an edit that is not one of `correct`'s, such as a function of one's own, and OSError where
    the file cannot be written.
    """
    packed = {}
    for layer, edit in edits.items():
        if type(edit).__name__ not in KINDS:
            raise TypeError(f"layer {layer} has a {type(edit).__name__}, only edits made by correct can be written")
        packed[flow.checked(layer)] = {"kind": type(edit).__name__, **vars(edit)}
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
    edits = {}
    for layer, fields in value["edits"].items():
        kind = KINDS[fields.pop("kind")]
        edits[layer] = kind(**{name: tuple(v) if name == "units" else v for name, v in fields.items()})
    return Edits(edits, None if value["ids"] is None else frozenset(value["ids"]))
