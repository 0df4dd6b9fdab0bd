"""Compute and draw what a unit draws, and images without it: what `widgets.unit_browser` shows."""

from functools import lru_cache

import torch
from torch.nn import functional as F

from helpers import correct
from helpers.concepts import representative_image
from helpers.interface.incremental import Replay
from helpers.interface.pictures import tint
from helpers.interface.previews import Drawing, as_bytes, named, same_count
from helpers.interface.tile_rows import panel
from helpers.units import rank

TILE = 128  # pixels: three rows fit a screen


def unit(flow, z, scores, top, thresholds=None, preview=None, shown=5, ids=None, names=None):
    """Prepare draw(layer, unit, selected): what a unit draws, and images without it and the selected units.

    Arguments as in `widgets.unit_browser`; selected: "layer:unit, ...". Raises ValueError for a scored layer
    without top images or thresholds, and for another number of ids.
    """
    for name, given in (("top images", top), ("thresholds", thresholds)):
        absent = [layer for layer in scores if given is not None and layer not in given]
        if absent:
            raise ValueError(f"layer {absent[0]} has scores but no {name}: survey the same layers")
    same_count(len(z), ids=ids)
    known, orders, replay = named(names, "flow", "z", "top", "preview"), rank(scores), Replay(flow, z)
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
        return as_bytes(torch.cat([representative_image(flow, z[best], layer), images])), overlay

    def draw(layer, unit, selected):
        picked, (images, overlay) = selection(selected), page(layer, unit)
        without = {layer: [unit]} | picked
        without[layer] = list(dict.fromkeys([unit, *picked.get(layer, [])]))
        edits = {k: edit for k, chosen in without.items() for edit in correct.ablate(k, chosen).values()}
        best = top[layer][unit][:shown].tolist()
        rows = best if preview is None else list(range(min(shown + 1, len(preview))))
        before, after = patients.images(rows), patients.images(rows, edits)
        listed = "; ".join(f"layer {k}: {', '.join(map(str, chosen))}" for k, chosen in picked.items())
        where = "its heat, bright where it fires most" if thresholds is None else "where it is above its threshold"
        gone = "without this unit" + (f" and those selected ({listed})" if picked else "")
        white = torch.full_like(overlay[:1], 255)  # keeps each image below itself
        captions = [f"mean of {top[layer].shape[1]}", *(f"row {i}" if ids is None else f"id {ids[i]}" for i in best)]
        picture = [(f"layer {layer}, unit {unit}: mean featuremap of its top images, and these", images, captions)]
        picture += [(where, torch.cat([white, overlay]), [""] * (len(best) + 1))]
        if preview is None:
            picture += [(gone, torch.cat([white, as_bytes(after)]), [""] * (len(rows) + 1))]
        else:
            picture += [(said, as_bytes(some), [""] * len(rows)) for said, some in (("before", before), (gone, after))]
        place = int((orders[layer] == unit).nonzero()) + 1
        state = f"layer {layer}, unit {unit}: score {scores[layer][unit]:.4f}, rank {place} of {len(orders[layer])}"
        change = (after.clamp(-1, 1) - before.clamp(-1, 1)).abs().mean()
        state += f"; selected: {listed or 'none'}; mean change {gone.partition(' (')[0]} {change:.3f}"
        latents = f"{known['z']}[{known['top']}[{layer}][{unit}][:{shown}]]"
        latents = latents if preview is None else f"{known['preview']}[:{len(rows)}]"
        edited = [f"correct.ablate({k}, {chosen})" for k, chosen in without.items()]
        edited = edited[0] if len(edited) == 1 else "{" + ", ".join(f"**{one}" for one in edited) + "}"
        lines = {"state": state, "code": f"{known['flow']}.generate({latents}, {edited})"}
        return Drawing(panel(picture, size=TILE), lines, after)

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
