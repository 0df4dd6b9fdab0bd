"""Compute and draw what a widget shows: each function prepares `draw(**settings) -> Drawing`.

What is expensive is kept, so that a small move is cheap. Nothing here knows of ipywidgets. Corrections and units have
modules of their own, `correction_preview` and `unit_preview`.
"""

import ast
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from helpers import gradcam
from helpers.interface.pictures import pixels, tint
from helpers.interface.tile_rows import panel
from helpers.latents import image_ids

PER_ROW = 4  # tiles of an axis
FINISHED = torch.full((1, 3, 64, 64), 230, dtype=torch.uint8)  # shown when no image is left to label


class Drawing(NamedTuple):
    """What a view shows. The line "code" of `lines` is an expression that evaluates to `shown`."""

    picture: np.ndarray  # uint8 (height, width, 3)
    lines: dict  # {name: text}
    shown: torch.Tensor | None  # None: the code reads the file that a person's answers are in


def masking(images, cams, captions=None, ids=None, names=None):
    """Prepare draw(index, level, source): an image, its heat and its mask; arguments as in `widgets.mask_explorer`."""
    for name, maps in cams.items():
        same_count(len(images), **{f"maps of {name!r}": maps})
    caption, known = captioned(len(images), captions, ids), named(names, "cams")
    cams = {name: torch.as_tensor(maps).float() for name, maps in cams.items()}

    @lru_cache(maxsize=1024)
    def share(source, level):
        return float(gradcam.binary_mask(cams[source], level).float().mean())

    def draw(index, level, source):
        image, cam = images[index : index + 1], cams[source][index : index + 1]
        mask = gradcam.binary_mask(cam, level)
        area = f"{mask.float().mean():.1%} of it" if mask.any() else "empty"
        tiles = torch.cat([as_bytes(image), tint(image, cam), tint(image, mask, outline=True)])
        said = [caption(index), "heat: dark 0, bright 1", f"mask: {area}"]
        state = f"{caption(index)}; {source} from level {level:.2f} up: mask {area}"
        state += f" (mean of all {len(images)} images {share(source, level):.1%})"
        maps = known["cams"] if len(cams) == 1 else f"{known['cams']}[{source!r}]"
        code = f"gradcam.binary_mask({maps}[{index}:{index + 1}], level={level:g})"
        return Drawing(panel([("", tiles, said)]), {"state": state, "code": code}, mask)

    return draw


def axis(values, images, labels=None, ids=None, name="D-value", shown=8, names=None):
    """Prepare draw(value): the images nearest to a place on an axis; arguments as in `widgets.axis_browser`."""
    values = torch.as_tensor(values).flatten().float()
    if not len(values) or not values.isfinite().all():
        raise ValueError(f"values must be finite numbers, at least one, got {len(values)}: look at the step before")
    ids = list(range(len(values))) if ids is None else image_ids(ids)
    same_count(len(values), labels=labels, ids=ids)
    fetch, known = fetcher(images, ids), named(names, "images")
    digits = 0 if bool((values == values.round()).all()) else 2
    by_id = values.tolist() == ids

    def draw(value):
        near = (values - value).abs().argsort(stable=True)[:shown]
        near = near[values[near].argsort(stable=True)].tolist()
        found = fetch([ids[i] for i in near])
        said = [("" if by_id else f"{values[i]:.{digits}f}: ") + f"image {ids[i]}" for i in near]
        said = [f"{text} {labels[i]}" for text, i in zip(said, near)] if labels is not None else said
        rows = [("", found[i : i + PER_ROW], said[i : i + PER_ROW]) for i in range(0, len(near), PER_ROW)]
        state = f"{name} {value:.{digits}f}: the {len(near)} nearest of {len(values)} images, "
        state += f"{values[near[0]]:.{digits}f} to {values[near[-1]]:.{digits}f}"
        counts = Counter(str(labels[i]) for i in near) if labels is not None else {}
        state += "".join(f"; {label} {n}" for label, n in sorted(counts.items()))
        code = f"{known['images']}({[ids[i] for i in near]})" if callable(images) else f"{known['images']}[{near}]"
        return Drawing(panel(rows), {"state": state, "code": code}, found)

    return draw


def generation(session, images):
    """Prepare draw(note=""): the image that a `labelling.Session` is at; images as in `widgets.labeller`."""
    fetch = fetcher(images, session.ids)

    def draw(note=""):
        image = FINISHED if session.current is None else fetch([session.current])
        name = "all labelled" if session.current is None else f"image {session.current}"
        lines = {"task": session.task, "state": f"{session}{note}", "code": session.code}
        return Drawing(panel([("", image, [name])], size=256, width=256), lines, None)

    return draw


def fetcher(images, ids):
    """Return a function of a list of ids -> images: `images` itself, or rows of a tensor (N, 3, R, R) in ids' order."""
    if callable(images):
        return images
    same_count(len(images), ids=ids)
    row = {image: i for i, image in enumerate(ids)}
    return lambda wanted: images[[row[i] for i in wanted]]


def same_count(count, **given):
    """Raise ValueError unless everything given (not None) has one item per image."""
    for name, items in given.items():
        if items is not None and len(items) != count:
            raise ValueError(f"there are {count} images, but {len(items)} {name}: pass one for each")
    return given


def started(start, **defaults):
    """Return a view's first values: the defaults, some of them replaced; ValueError for a name that is none."""
    unknown = set(start or {}) - set(defaults)
    if unknown:
        raise ValueError(f"start knows {', '.join(defaults)}, got {', '.join(sorted(unknown))}: correct it")
    return defaults | (start or {})


def named(names, *known):
    """Return under which expression a notebook knows each thing that a view was given: by default under its own name.

    names: {"z": "z_held", "images": "domain.images"}. Raises ValueError for a name that is none of `known`, and for
    what is no expression: it would be printed as code that does not run.
    """
    unknown = set(names or {}) - set(known)
    if unknown:
        raise ValueError(f"names knows {', '.join(known)}, got {', '.join(sorted(unknown))}: correct it")
    for name, text in (names or {}).items():
        try:
            ast.parse(f"({text})[0]", mode="eval")
        except SyntaxError as error:
            raise ValueError(f"names[{name!r}] must be an expression of the notebook, got {text!r}") from error
    return {name: name for name in known} | {
        name: text if isinstance(ast.parse(text, mode="eval").body, ATOMS) else f"({text})"
        for name, text in (names or {}).items()
    }


ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript)  # what can be followed by [...] as it stands


def captioned(count, captions=None, ids=None):
    """Return a function of an image's row -> what it is called: its id if there are ids, and its caption.

    Raises ValueError for another number of captions or ids, and for an id twice.
    """
    same_count(count, captions=captions, ids=ids)
    if ids is not None and len(set(ids)) < count:
        raise ValueError(f"got {count} ids, {len(set(ids))} of them different: pass each id once")

    def caption(row):
        name = f"image {row}" if ids is None else f"id {ids[row]}"
        return name if captions is None else f"{name}: {captions[row]}"

    return caption


def as_bytes(images):
    """Turn float images into uint8, so that they stack with tinted ones."""
    return torch.from_numpy(pixels(images).copy()).permute(0, 3, 1, 2)
