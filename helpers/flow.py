"""See a generator as ordered layers f_1..f_L: record activations, apply edits, resume from a layer.

Source: section 4 of the paper, G(z) = f_L(f_{L-1}(...f_1(z))). Layers are numbered from 1.
"""

from dataclasses import dataclass, field
from functools import partial

import torch

from helpers import env
from helpers.latents import batches, exact
from helpers.networks import autocast, own_module


@dataclass(frozen=True)
class State:
    """Where the generation flow stands after a layer.

    layer: the layer just computed. h: its featuremap (B, U, H, W). extras: what else the remaining
    layers need, by name, each a tensor with batch dimension (style vectors, skip image, shortcut).
    """

    layer: int
    h: torch.Tensor
    extras: dict = field(default_factory=dict)


class Flow:
    """A generator as layers 1..L; the last layer's featuremap is the image.

    network: a module with `n_layers`, `latent` (dimension of z) and
    `advance(layer, h, extras) -> (h, extras)`, where layer 1 receives z (B, D) as h.
    All calls run without gradients (`resume` keeps them if asked), in chunks of `batch` images, on the network's own
    device, and return float32 CPU tensors. Latents may be anything that float32 holds exactly (NumPy, float64,
    integers). `origin` says where the generator came from. Raises ValueError for images that are not square, which
    nothing behind is made for. Explained in notebook 00.
    """

    def __init__(self, network, batch=32):
        self.network, self.batch, self.origin = network.eval(), batch, getattr(network, "origin", "")
        if all(value.ndim < 5 for value in (*network.parameters(), *network.buffers())):  # torch has it for these alone
            # Channels-last convolutions run twice as fast on a CPU and never slower on a GPU.
            network.to(memory_format=torch.channels_last)
        with torch.no_grad():
            start = self._on_device(
                State(0, self._latents(torch.zeros(1, network.latent))), slice(0, 1), 1, check=False
            )
            shapes = [tuple(state.h.shape[1:]) for state in self._walk(start)]
        self._shapes = dict(enumerate(shapes, start=1))
        if len(shapes[-1]) != 3 or shapes[-1][1] != shapes[-1][2]:
            raise ValueError(f"images must be square (C, R, R), this generator draws {shapes[-1]}: crop or pad them")

    @classmethod
    def from_module(cls, module, layers, latent, batch=32, inputs=None, output=None):
        """See a torch generator of your own as layers, cut behind the submodules named; it is copied, not changed.

        module: anything that maps latents to images (B, C, R, R). layers: names of its submodules, in the order in
        which they run (`candidates` lists them); the image is one more layer. latent: dimension of z, or the shape of
        one latent if the module wants more, such as (100, 1, 1). inputs: what its forward takes beside the latents, by
        name: tensors or NumPy arrays, of one row for all images or a row per image in the order of z, and plain values;
        the latents are its first argument that is not among them. output: which part of what it returns is the image,
        an index or a key. What torch.fx cannot trace is recorded and edited by hooks, where to resume costs a whole
        pass; noise that it draws is fixed, and what is not float32 converted, each with a warning; `origin` says how it
        was cut. Raises ValueError if a name, an input or an output does not fit, or the module does not run on them.
        Explained in notebook 08.
        """
        network = own_module.layered(module, layers, latent, inputs, output)
        return cls(network, 1 if network.single else batch)

    @staticmethod
    def candidates(module, latent, inputs=None):
        """List which submodules can be layers: {name: (U, H, W)}, in order; arguments as of `from_module`."""
        return own_module.candidates(module, latent, inputs)

    def autocast(self):
        """Return the same generator computed in bfloat16 where torch's autocast finds it safe; featuremaps are float32.

        No longer exact: docs/scale.md has the error of thresholds, scores and images. Kept results and shards of the
        two are never mixed up.
        """
        return Flow(autocast.Autocast(self.network), self.batch)

    @property
    def device(self):
        return self._first().device

    def _first(self):
        return next((value for value in (*self.network.parameters(), *self.network.buffers())), torch.zeros(()))

    @property
    def n_layers(self):
        return self.network.n_layers

    @property
    def latent(self):
        """Dimension of z."""
        return self.network.latent

    @property
    def layers(self):
        """The layers that have units to score and edit: all but the last, which is the image."""
        return list(range(1, self.n_layers))

    def units(self, layer):
        """Number of units (channels) of a layer."""
        return self._shapes[self.checked(layer)][0]

    def resolution(self, layer):
        """Height of a layer's featuremaps, in pixels, which is the width as well except in odd modules: see `shape`."""
        return self._shapes[self.checked(layer)][1]

    def shape(self, layer):
        """Units, height and width of a layer's featuremaps: (U, H, W)."""
        return self._shapes[self.checked(layer)]

    def checked(self, layer):
        """Return the layer's number, or raise ValueError if there is no such layer."""
        if isinstance(layer, bool) or layer not in range(1, self.n_layers + 1):
            raise ValueError(f"there is no layer {layer!r}: this generator has layers 1 to {self.n_layers}")
        return int(layer)

    def generate(self, z, edits=None):
        """Generate images, with edits applied on the way: z (B, D) -> (B, C, H, W), about [-1, 1], unclamped.

        edits: {layer: function(featuremap) -> featuremap of the same shape}; see `correct`.
        """
        return self.record(z, [self.n_layers], edits)[self.n_layers]

    def record(self, z, layers, edits=None):
        """Record featuremaps: z (B, D) -> {layer: (B, U, H, W)}, after that layer's edit if it has one."""
        z, layers = self._latents(z), [self.checked(layer) for layer in layers]
        out = {layer: torch.empty(len(z), *self._shapes[layer]) for layer in layers}
        coming = []  # one chunk is on its way while the next is computed
        for rows, chunk in self.stream(z, layers, edits):
            _land(coming, out)
            coming = [(rows, layer, env.to_memory(h)) for layer, h in chunk.items()]
        _land(coming, out)
        return out

    def stream(self, z, layers, edits=None):
        """Yield (rows, {layer: featuremap}) chunk by chunk, on the network's device: constant memory."""
        layers = sorted({self.checked(layer) for layer in layers})
        edits, start = self._checked_edits(edits), State(0, self._latents(z))
        for rows in self._chunks(len(z)):
            with torch.no_grad():
                wanted = {}
                begin, own = self._on_device(start, rows, len(z)), _at(edits, rows, len(z))
                for state in self._walk(begin, own, until=max(layers)):
                    if state.layer in layers:
                        wanted[state.layer] = state.h
            yield rows, wanted

    def state(self, z, layer):
        """Compute layers 1..layer: z (B, D) -> State, with which `resume` goes on. Layer 0 is z itself."""
        return self.advance(State(0, self._latents(z)), layer)

    def advance(self, state, layer):
        """Compute layers state.layer+1..layer: State -> State. A layer before the state's raises ValueError."""
        if layer == state.layer:
            return state
        if self.checked(layer) < state.layer:
            raise ValueError(f"layer {layer} lies before the state (layer {state.layer}): start from an earlier state")
        parts = []
        with torch.no_grad():
            for rows in self._chunks(len(state.h)):
                *_, last = self._walk(self._on_device(state, rows, len(state.h)), until=layer)
                parts.append(last)
        extras = {name: torch.cat([p.extras[name] for p in parts]).cpu() for name in parts[0].extras}
        return State(layer, torch.cat([p.h for p in parts]).cpu(), extras)

    def resume(self, state, edits=None, grad=False):
        """Compute layers state.layer+1..L: State -> images (B, C, H, W).

        grad: keep gradients, of state.h and of what edits hold. An edit of a layer up to state.layer would have no
        effect, so it raises ValueError.
        """
        edits = self._checked_edits(edits)
        late = [layer for layer in edits if layer <= state.layer]
        if late:
            raise ValueError(f"layer {late[0]} lies before the state (layer {state.layer}): edit state.h instead")
        count = len(state.h)
        images = torch.empty(count, *self._shapes[self.n_layers])
        with torch.set_grad_enabled(grad):
            for rows in self._chunks(count):
                h = (begin := self._on_device(state, rows, count)).h
                for later in self._walk(begin, _at(edits, rows, count)):
                    h = later.h
                images[rows] = h
        return images

    def _latents(self, z):
        z = exact(z, torch.float64 if self._first().dtype == torch.float64 else torch.float32)
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"latents must have shape (B, {self.latent}), got {tuple(z.shape)}")
        return z

    def _chunks(self, count):
        return [slice(part.start, part.stop) for part in batches(range(count), self.batch)]

    def _on_device(self, state, rows, total, check=True):
        """Take some rows of a state to the device; what a module is given beside the latents joins them at layer 0."""
        extras = {name: value[rows].to(self.device) for name, value in state.extras.items()}
        given = getattr(self.network, "given", None)
        if given is not None and not state.layer:
            extras |= given.rows(rows, total, self.device, check)
        return State(state.layer, state.h[rows].to(self.device), extras)

    def _walk(self, state, edits=None, until=None):
        """Yield the states of the layers behind a state, each with its edit applied."""
        edit, until = partial(_edited, edits or {}), until or self.n_layers
        if hasattr(self.network, "walk"):  # several layers in one pass
            steps = self.network.walk(state.h, edit, state.layer, state.extras, until) if until > state.layer else ()
            yield from (State(*step) for step in steps)
            return
        h, extras = state.h, state.extras
        for layer in range(state.layer + 1, until + 1):
            h, extras = self.network.advance(layer, h, extras)
            h = edit(layer, h)
            yield State(layer, h, extras)

    def _checked_edits(self, edits):
        return {self.checked(layer): edit for layer, edit in (edits or {}).items()}


def _edited(edits, layer, h):
    if layer not in edits:
        return h
    edited, expected = edits[layer](h), tuple(h.shape)
    if not isinstance(edited, torch.Tensor) or edited.shape != h.shape:
        got = tuple(edited.shape) if isinstance(edited, torch.Tensor) else type(edited).__name__
        raise ValueError(f"the edit of layer {layer} must keep the shape {expected}, it returned {got}")
    return edited.to(h)


def _land(coming, out):
    for rows, layer, landed in coming:
        out[layer][rows] = landed()


def _at(edits, rows, total):
    """Edits that differ per image (they have `take`) are cut to the rows at hand."""
    return {
        layer: edit.take(rows, total) if hasattr(edit, "take") else edit for layer, edit in edits.items()
    }  # fmt: skip
