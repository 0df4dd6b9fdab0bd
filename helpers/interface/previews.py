"""Compute and draw what a widget shows: each function prepares `draw(**settings) -> (picture, {line: text})`.

A picture is a uint8 array (height, width, 3); the line "code" repeats what it shows. What is expensive is kept, so
that a small move is cheap. Nothing here knows of ipywidgets.
"""

import time
from collections import Counter
from functools import lru_cache

import torch
from torch.nn import functional as F

from helpers import correct, gradcam
from helpers.concepts import representative_image
from helpers.interface.correction_settings import MAIN, Recipe
from helpers.interface.incremental import Replay
from helpers.interface.pictures import pixels, tint
from helpers.interface.tile_rows import difference, panel
from helpers.units import rank

PER_ROW = 4  # tiles of an axis
FINISHED = torch.full((1, 3, 64, 64), 230, dtype=torch.uint8)  # shown when no image is left to label


def correction(flow, z, scores, masks=None, captions=None, measures=None):
    """Prepare draw(index, method, layer, portion, scale): original, corrected, difference and mask of one image.

    z, scores, masks and captions: as in `widgets.corrector`. measures: {name: function of images -> (N,)}, shown
    before and after. Raises ValueError for scores without "DS", and for other numbers of masks or captions.
    """
    if not isinstance(scores.get(MAIN), dict):
        raise ValueError(f'scores must be {{"{MAIN}": {{layer: (U,)}}, ...}}, got the keys {list(scores)}: name them')
    same_count(len(z), masks=masks, captions=captions)
    masks, measures = None if masks is None else torch.as_tensor(masks), measures or {}
    replay, none = Replay(flow, z), Recipe("none").essential

    def images(index, recipe):
        edits = recipe.edits(scores, None if masks is None else masks[index : index + 1])
        return replay.images([index], edits).clamp(-1, 1)

    @lru_cache(maxsize=1024)
    def measured(index, recipe):
        return {name: float(measure(images(index, recipe))[0]) for name, measure in measures.items()}

    def draw(index, method, layer, portion, scale):
        began, recipe = time.perf_counter(), Recipe(method, layer, portion, scale).essential
        before, after = images(index, none), images(index, recipe)
        layers, old, new = replay.computed, measured(index, none), measured(index, recipe)
        tiles = [_bytes(before), _bytes(after), difference(before, after)]
        names = [_caption(captions, index), "corrected", "change: blue darker, red lighter"]
        if masks is not None:
            tiles.append(tint(before, masks[index : index + 1], outline=True))
            names.append(f"mask: {masks[index].float().mean():.1%} of the image")
        picture = panel([("", torch.cat(tiles), names)])
        numbers = [f"{name} {old[name]:.3f} → {new[name]:.3f}" for name in measures]
        numbers.append(f"mean change {(after - before).abs().mean():.3f}")
        cost = (
            f"layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else f"layer {layers[0]}" if layers else "no layer"
        )
        numbers.append(f"computed {cost} in {1000 * (time.perf_counter() - began):.0f} ms")
        state = f"{_caption(captions, index)}; {recipe}: {recipe.count(scores)} units"
        return picture, {"state": state, "numbers": "; ".join(numbers), "code": recipe.code(index, scores)}

    return draw


def masking(images, cams, captions=None):
    """Prepare draw(index, level, source): an image, its heat and its mask; arguments as in `widgets.mask_explorer`."""
    for name, maps in cams.items():
        same_count(len(images), **{f"maps of {name!r}": maps})
    same_count(len(images), captions=captions)
    cams = {name: torch.as_tensor(maps).float() for name, maps in cams.items()}

    @lru_cache(maxsize=1024)
    def share(source, level):
        return float(gradcam.binary_mask(cams[source], level).float().mean())

    def draw(index, level, source):
        image, cam = images[index : index + 1], cams[source][index : index + 1]
        mask = gradcam.binary_mask(cam, level)
        area = f"{mask.float().mean():.1%} of it" if mask.any() else "empty"
        tiles = torch.cat([_bytes(image), tint(image, cam), tint(image, mask, outline=True)])
        names = [_caption(captions, index), "heat: dark 0, bright 1", f"mask: {area}"]
        state = f"{_caption(captions, index)}; {source} from level {level:.2f} up: mask {area}"
        state += f" (mean of all {len(images)} images {share(source, level):.1%})"
        maps = "cams" if len(cams) == 1 else f'cams["{source}"]'
        code = f"gradcam.binary_mask({maps}[{index}:{index + 1}], level={level:g})"
        return panel([("", tiles, names)]), {"state": state, "code": code}

    return draw


def unit(flow, z, scores, top, thresholds=None, preview=None, shown=5):
    """Prepare draw(layer, unit, selected): what a unit draws, and images without the selected units.

    Arguments as in `widgets.unit_browser`; selected: "layer:unit, ...". Raises ValueError for a scored layer
    without top images or thresholds.
    """
    for name, given in (("top images", top), ("thresholds", thresholds)):
        absent = [layer for layer in scores if given is not None and layer not in given]
        if absent:
            raise ValueError(f"layer {absent[0]} has scores but no {name}: survey the same layers")
    orders, replay = rank(scores), Replay(flow, z)
    patients = replay if preview is None else Replay(flow, preview)

    @lru_cache(maxsize=64)
    def page(layer, unit):
        best = top[layer][unit]
        images, active = replay.images(best[:shown]), flow.record(z[best[:shown]], [layer])[layer][:, unit]
        if thresholds is None:
            heat = (active / active.max().clamp_min(1e-12)).clamp(0, 1)
        else:
            heat = active > thresholds[layer][unit]
        large = F.interpolate(heat[:, None].float(), images.shape[-2:], mode="nearest")[:, 0]
        overlay = tint(images, large.to(heat.dtype), outline=True)
        return torch.cat([representative_image(flow, z[best], layer), images]), overlay

    def draw(layer, unit, selected):
        picked, (images, overlay) = selection(selected), page(layer, unit)
        edits = {k: edit for k, chosen in picked.items() for edit in correct.ablate(k, chosen).values()}
        best = top[layer][unit][:shown].tolist()
        rows = best if preview is None else list(range(min(shown + 1, len(preview))))
        before, after = patients.images(rows), patients.images(rows, edits)
        named = "; ".join(f"layer {k}: {', '.join(map(str, chosen))}" for k, chosen in picked.items()) or "none"
        where = "its heat, bright where it fires most" if thresholds is None else "where it is above its threshold"
        white = torch.full_like(overlay[:1], 255)  # keeps each image below itself
        lines = [(f"mean featuremap of its {top[layer].shape[1]} top images", _bytes(images))]
        lines += [(where, torch.cat([white, overlay]))]
        for heading, some in (("before", before), (f"without the selected units ({named})", after)):
            lines += [(heading, torch.cat([white[: preview is None], _bytes(some)]))]
        captions = ["", *(f"row {i} of z" for i in best)]
        picture = [(*line, [""] * len(line[1]) if k else captions) for k, line in enumerate(lines)]
        place = int((orders[layer] == unit).nonzero()) + 1
        state = f"layer {layer}, unit {unit}: score {scores[layer][unit]:.4f}, rank {place} of {len(orders[layer])}"
        change = (after.clamp(-1, 1) - before.clamp(-1, 1)).abs().mean()
        state += f"; selected: {named}; mean change without them {change:.3f}"
        return panel(picture, size=128), {"state": state, "code": code(layer, unit, picked, len(rows))}

    def code(layer, unit, picked, count):
        text = f"concepts.representative_image(flow, z[top[{layer}][{unit}]], {layer})"
        if picked:
            latents = f"z[top[{layer}][{unit}][:{shown}]]" if preview is None else f"preview[:{count}]"
            text += (
                f"; flow.generate({latents}, {{{', '.join(f'**correct.ablate({k}, {u})' for k, u in picked.items())}}})"
            )
        return text

    return draw


def axis(values, images, labels=None, ids=None, name="D-value", shown=8):
    """Prepare draw(value): the images nearest to a place on an axis; arguments as in `widgets.axis_browser`."""
    values = torch.as_tensor(values).flatten().float()
    if not len(values) or not values.isfinite().all():
        raise ValueError(f"values must be finite numbers, at least one, got {len(values)}: look at the step before")
    ids = list(range(len(values))) if ids is None else [int(i) for i in ids]
    same_count(len(values), labels=labels, ids=ids)
    fetch = fetcher(images, ids)

    def draw(value):
        near = (values - value).abs().argsort(stable=True)[:shown]
        near = near[values[near].argsort(stable=True)].tolist()
        found = fetch([ids[i] for i in near])
        said = [f"{values[i]:.2f}: image {ids[i]} {'' if labels is None else labels[i]}" for i in near]
        rows = [("", found[i : i + PER_ROW], said[i : i + PER_ROW]) for i in range(0, len(near), PER_ROW)]
        state = f"{name} {value:.2f}: the {len(near)} nearest of {len(values)} images, "
        state += f"{values[near[0]]:.2f} to {values[near[-1]]:.2f}"
        counts = Counter(str(labels[i]) for i in near) if labels is not None else {}
        state += "".join(f"; {label} {n}" for label, n in sorted(counts.items()))
        return panel(rows), {"state": state, "code": f"(values - {value:g}).abs().argsort(stable=True)[:{shown}]"}

    return draw


def generation(session, images):
    """Prepare draw(note=""): the image that a `labelling.Session` is at; images as in `widgets.labeller`."""
    fetch = fetcher(images, session.ids)

    def draw(note=""):
        image = FINISHED if session.current is None else fetch([session.current])
        name = "all labelled" if session.current is None else f"image {session.current}"
        code = f'labels.read("{session.path}").only(rater="{session.rater}")'
        return panel([("", image, [name])], size=256, width=256), {"state": f"{session}{note}", "code": code}

    return draw


def selection(text):
    """Read picked units: "6:12, 4:3" -> {layer: [units]}, in order, each once; ValueError for anything else."""
    picked = {}
    for word in text.replace(",", " ").split():
        layer, _, number = word.partition(":")
        if not (layer.isdecimal() and number.isdecimal()):
            raise ValueError(f'selected units are written layer:unit, such as "6:12, 4:3", got {word!r}: correct it')
        if int(number) not in picked.setdefault(int(layer), []):
            picked[int(layer)].append(int(number))
    return picked


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


def started(start, **defaults):
    """Return a view's first values: the defaults, some of them replaced; ValueError for a name that is none."""
    unknown = set(start or {}) - set(defaults)
    if unknown:
        raise ValueError(f"start knows {', '.join(defaults)}, got {', '.join(sorted(unknown))}: correct it")
    return defaults | (start or {})


def _caption(captions, index):
    return f"image {index}" if captions is None else f"image {index}: {captions[index]}"


def _bytes(images):
    """Float images as uint8, so that they stack with tinted ones."""
    return torch.from_numpy(pixels(images).copy()).permute(0, 3, 1, 2)
