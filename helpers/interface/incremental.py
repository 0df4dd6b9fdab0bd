"""Generate again after a small change, computing only the layers it reaches: what keeps a slider quick."""

import hashlib
from collections import OrderedDict
from dataclasses import fields, is_dataclass

import torch

from helpers.flow import State


class Replay:
    """Images of a flow with edits, from states kept layer by layer.

    flow: a `flow.Flow`. z: latents (N, D) of the images to choose from. budget: bytes of featuremaps to keep, the
    ones used longest ago go first. `computed` lists the layers that the last call had to compute. Moving the
    stop layer of a correction from 4 to 5 costs layers 5..L, going back costs nothing. See notebook 05.
    """

    def __init__(self, flow, z, budget=2**28):
        self.flow, self.z, self.budget = flow, z, budget
        self.computed = []
        self._kept, self._bytes = OrderedDict(), 0

    def images(self, rows, edits=None):
        """Generate the images of some rows of z, with edits: (len(rows), C, H, W), equal to `flow.generate`.

        rows: row numbers of z; edits that hold one mask per image belong to these rows in this order. An edit of
        layer 0 is a function of the latents themselves.
        Raises IndexError for a row outside z, ValueError for an unknown layer.
        """
        edits = {layer and self.flow.checked(layer): edit for layer, edit in sorted((edits or {}).items())}
        prints = {layer: _fingerprint(edit) for layer, edit in edits.items()}
        rows, last = tuple(int(row) for row in rows), self.flow.n_layers

        def name(layer):  # what a layer's featuremap depends on: the images and the edits before it
            return rows, layer, tuple((k, prints[k]) for k in prints if k < layer)

        start = next((layer for layer in range(last, 0, -1) if name(layer) in self._kept), 0)
        state = self._kept[name(start)] if start else State(0, self.z[list(rows)])
        for layer in range(1, start + 1):
            if name(layer) in self._kept:
                self._kept.move_to_end(name(layer))
        self.computed = list(range(start + 1, last + 1))
        for layer in self.computed:
            state = self._keep(name(layer), self.flow.advance(_edited(state, edits), layer))
        return _edited(state, edits).h

    def _keep(self, name, state):
        self._kept[name] = state
        self._bytes += _size(state)
        while self._bytes > self.budget and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return state


def _edited(state, edits):
    if state.layer not in edits:
        return state
    return State(state.layer, edits[state.layer](state.h), state.extras)


def _size(state):
    return sum(t.numel() * t.element_size() for t in (state.h, *state.extras.values()))


def _fingerprint(edit):
    """Name an edit by its content, so that two corrections which agree on a layer share its featuremaps."""
    if not is_dataclass(edit):
        return edit  # a function: the same only as itself
    return type(edit), *(_content(getattr(edit, field.name)) for field in fields(edit))


def _content(value):
    if isinstance(value, tuple):
        return tuple(map(_content, value))
    if not isinstance(value, torch.Tensor):
        return _fingerprint(value)
    raw = value.detach().cpu().contiguous().numpy()
    return str(raw.dtype), raw.shape, hashlib.blake2b(raw.tobytes()).digest()
