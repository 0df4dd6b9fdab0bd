"""Cut a survey into shards, compute each once, here or elsewhere, keep what is done, and put all of it together."""

import builtins
import hashlib
import inspect
import os
import socket
import sys
import warnings
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError

from helpers import env, store
from helpers.latents import image_ids
from helpers.streaming import engines
from helpers.streaming.partials import Part, merged, unpacked, weights
from helpers.streaming.quantiles import peaks

ENOUGH = 2**20  # activations to look at in one go: calls on fewer cost more than the work


def gather(flow, z, make, map=map, size=1024, resume=None, first=0):
    """Gather statistics over latents z (N, D) and return them as a Part.

    make: a partial that returns {layer: statistic}, of a module's function and plain arguments. map: see
    `engines.of`; its shards have `size` images, while a pass in this process without `resume` is a single one.
    resume: a folder that keeps each finished shard. first: the number of the first image.
    Raises ValueError for no images, a first that is no id, activations that are not finite, and workers with other
    weights.
    """
    if len(z) == 0:
        raise ValueError("a survey needs at least one image, got no latents")
    (first,) = image_ids([first])
    alone = map is builtins.map and resume is None
    size = len(z) if alone else size  # a tail that sees all images discards most activations at once
    known = None if alone else weights(flow)
    folder = resume if resume is None else Folder(resume, flow, make, known)
    todo = [(z[row : row + size], first + row) for row in range(0, len(z), size)]
    whole = merged(_parts(flow, make, map, known, folder, todo))
    if (whole.start, whole.stop) != (first, first + len(z)):
        raise ValueError(
            f"map handed back images {whole.start} to {whole.stop - 1} of {first} to {first + len(z) - 1}: "
            "it must call the function on every shard and hand back all results"
        )
    return whole


def _parts(flow, make, map, known, folder, shards):
    todo = []
    for z, start in shards:
        packed = folder.load(z, start) if folder else None
        if packed is None:
            todo.append((z, start))
        else:
            yield unpacked(packed, make)
    if not todo:
        return
    latents = {start: z for z, start in todo}
    with env.progress(None, "survey", sum(len(z) for z, _ in todo), " images") as bar:
        if map is builtins.map:
            for z, start in todo:
                part = run(flow, make, known, z, start, bar.update)
                if folder:
                    folder.save(z, start, part.packed())
                yield part
            return
        for packed in engines.of(map)(partial(_elsewhere, flow, make, known), *zip(*todo)):
            if folder:
                folder.save(latents[packed["start"]], packed["start"], packed)
            bar.update(packed["stop"] - packed["start"])
            yield unpacked(packed, make)


def _elsewhere(flow, make, known, z, start):
    """Compute a shard; a top-level function, so that it can be sent to other processes."""
    return run(flow, make, known, z, start).packed()


def run(flow, make, known, z, start, tick=lambda images: None):
    """Gather the statistics of one shard of latents, the first of which is image `start`."""
    if known is not None and (own := weights(flow)) != known:
        raise ValueError(
            f"the worker on {socket.gethostname()} has other weights ({own[:12]}) than the caller "
            f"({known[:12]}): load the same file on every machine"
        )
    stats, held = make(), {}
    for rows, recorded in flow.stream(z, list(stats)):
        check_finite(recorded)
        for layer, h in recorded.items():
            begun, parts = held.setdefault(layer, (start + rows.start, []))
            parts.append(h)
            if rows.stop == len(z) or sum(builtins.map(torch.numel, parts)) >= ENOUGH:
                _update(stats[layer], layer, torch.cat(parts) if len(parts) > 1 else h, begun)
                del held[layer]
        tick(rows.stop - rows.start)
    return Part(start, start + len(z), known, stats)


def _update(stat, layer, h, start):
    top = peaks(h)
    if not top.sum().isfinite():  # hidden from `check_finite` by what follows
        check_finite({layer: h})
    stat.update(h, start, top)


def check_finite(recorded):
    """Raise ValueError, naming layer and unit, if featuremaps {layer: (B, U, H, W)} are NaN or infinite somewhere."""
    # Such values spread to the layers that follow, so that a sum over the last one shows them.
    if recorded[max(recorded)].sum().isfinite():
        return
    for layer, h in sorted(recorded.items()):
        bad = (~torch.isfinite(h)).any(dim=3).any(dim=2).any(dim=0).nonzero()
        if len(bad):
            unit = f"layer {layer}, unit {int(bad[0])}"
            raise ValueError(f"{unit} has activations that are not finite: check the weights and the latents")


class Folder:
    """Keeps finished shards as files that are named after all that they follow from.

    That is the weights, the latents and their place, what is asked, the kind of device and the code. A folder that
    cannot be written is warned of once and then left alone.
    """

    def __init__(self, path, flow, make, known):
        self.path, self.usable = Path(path), True
        asked = store.content((make.func, make.args, make.keywords))
        self.common = f"{known} {asked} {flow.device.type} {_code(flow, make)}"
        self._try(partial(self.path.mkdir, parents=True, exist_ok=True))

    def file(self, z, start):
        """Return the path of a shard's file."""
        key = hashlib.sha256(f"{self.common} {store.content(z)} {start}".encode()).hexdigest()
        return self.path / f"images-{start}-{start + len(z) - 1}-{key[:16]}.safetensors"

    def load(self, z, start):
        """Return what was saved of a shard, or None if there is nothing, or nothing whole."""
        path = self.file(z, start)
        if not os.path.exists(path):
            return None
        try:
            return store.read(path)
        except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
            warnings.warn(f"{path.name} is damaged ({error}): surveying its images again", stacklevel=2)

    def save(self, z, start, packed):
        """Keep a shard, whole or not at all."""
        self._try(partial(store.write, self.file(z, start), packed))

    def _try(self, write):
        if not self.usable:
            return
        try:
            write()
        except OSError as error:
            self.usable = False
            warnings.warn(f"{self.path} cannot be written ({error}): surveying without keeping shards", stacklevel=2)


def _code(flow, make):
    """Hash the sources of the networks and of all that the survey computes with."""
    found, todo = {}, {make.func.__module__, *(type(part).__module__ for part in flow.network.modules())}
    while todo:
        module = sys.modules.get(name := todo.pop())
        if name in found or name.startswith("torch.") or not getattr(module, "__file__", None):
            continue
        found[name] = store.sha256(module.__file__)
        used = {v.__name__ if inspect.ismodule(v) else getattr(v, "__module__", None) for v in vars(module).values()}
        todo |= {name for name in used if isinstance(name, str) and name.startswith("helpers.")}
    return hashlib.sha256(str(sorted(found.items())).encode()).hexdigest()
