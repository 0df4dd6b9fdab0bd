"""See a generator as ordered layers f_1..f_L: record activations, apply edits, resume from a layer.

Source: section 4 of the paper, G(z) = f_L(f_{L-1}(...f_1(z))). Layers are numbered from 1.
"""

from dataclasses import dataclass, field

import torch

from helpers.latents import batches
from helpers.networks import traced


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
    All calls run without gradients, in chunks of `batch` images, on the network's own device,
    and return float32 CPU tensors. Explained in notebook 00.
    """

    def __init__(self, network, batch=32):
        # Channels-last convolutions run twice as fast on a CPU and never slower on a GPU.
        self.network = network.eval().to(memory_format=torch.channels_last)
        self.batch = batch
        with torch.no_grad():
            shapes = [tuple(s.h.shape[1:]) for s in self._walk(torch.zeros(1, network.latent, device=self.device))]
        self._shapes = dict(enumerate(shapes, start=1))

    @classmethod
    def from_module(cls, module, layers, latent, batch=32):
        """See a torch generator of your own as layers, cut behind the submodules named.

        module: anything that maps latents to images (B, C, R, R). layers: names of its submodules, in the order in
        which they run; the image is one more layer. latent: dimension of z, or the shape of one latent if the module
        wants more, such as (100, 1, 1). Raises ValueError if a name or the module does not fit: see `traced.Traced`.
        Explained in notebook 08.
        """
        return cls(traced.Traced(module, layers, (latent,) if isinstance(latent, int) else latent), batch)

    def autocast(self):
        """Return the same generator computed in bfloat16 where torch's autocast finds it safe; featuremaps are float32.

        No longer exact: docs/scale.md has the error of thresholds, scores and images. Kept results and shards of the
        two are never mixed up.
        """
        return Flow(Autocast(self.network), self.batch)

    @property
    def device(self):
        return next(self.network.parameters()).device

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
        """Height (= width) of a layer's featuremaps, in pixels."""
        return self._shapes[self.checked(layer)][1]

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
        layers = [self.checked(layer) for layer in layers]
        pinned = self.device.type == "cuda"  # so that no batch waits for the copies of the one before
        out = {layer: torch.empty(len(z), *self._shapes[layer], pin_memory=pinned) for layer in layers}
        for rows, chunk in self.stream(z, layers, edits):
            for layer, h in chunk.items():
                out[layer][rows].copy_(h, non_blocking=pinned)
        if pinned:
            torch.cuda.synchronize(self.device)
        return out

    def stream(self, z, layers, edits=None):
        """Yield (rows, {layer: featuremap}) chunk by chunk, on the network's device: constant memory."""
        layers = sorted({self.checked(layer) for layer in layers})
        edits = self._checked_edits(edits)
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"latents must have shape (B, {self.latent}), got {tuple(z.shape)}")
        for rows in batches(range(len(z)), self.batch):
            rows = slice(rows.start, rows.stop)
            with torch.no_grad():
                wanted = {}
                for state in self._walk(z[rows].to(self.device), _at(edits, rows, len(z)), until=max(layers)):
                    if state.layer in layers:
                        wanted[state.layer] = state.h
            yield rows, wanted

    def state(self, z, layer):
        """Compute layers 1..layer: z (B, D) -> State, with which `resume` goes on. Layer 0 is z itself."""
        return self.advance(State(0, z), layer)

    def advance(self, state, layer):
        """Compute layers state.layer+1..layer: State -> State. A layer before the state's raises ValueError."""
        if layer == state.layer:
            return state
        if self.checked(layer) < state.layer:
            raise ValueError(f"layer {layer} lies before the state (layer {state.layer}): start from an earlier state")
        parts = []
        with torch.no_grad():
            for rows in batches(range(len(state.h)), self.batch):
                rows = slice(rows.start, rows.stop)
                extras = {name: value[rows].to(self.device) for name, value in state.extras.items()}
                *_, last = self._walk(state.h[rows].to(self.device), None, state.layer, extras, layer)
                parts.append(last)
        extras = {name: torch.cat([p.extras[name] for p in parts]).cpu() for name in parts[0].extras}
        return State(layer, torch.cat([p.h for p in parts]).cpu(), extras)

    def resume(self, state, edits=None):
        """Compute layers state.layer+1..L: State -> images (B, C, H, W).

        An edit of a layer up to state.layer would have no effect, so it raises ValueError.
        """
        edits = self._checked_edits(edits)
        late = [layer for layer in edits if layer <= state.layer]
        if late:
            raise ValueError(f"layer {late[0]} lies before the state (layer {state.layer}): edit state.h instead")
        images = torch.empty(len(state.h), *self._shapes[self.n_layers])
        with torch.no_grad():
            for rows in batches(range(len(state.h)), self.batch):
                rows = slice(rows.start, rows.stop)
                h = state.h[rows].to(self.device)
                extras = {name: value[rows].to(self.device) for name, value in state.extras.items()}
                for last in self._walk(h, _at(edits, rows, len(state.h)), state.layer, extras):
                    h = last.h
                images[rows] = h
        return images

    def _walk(self, h, edits=None, start=0, extras=None, until=None):
        extras = extras or {}
        for layer in range(start + 1, (until or self.n_layers) + 1):
            h, extras = self.network.advance(layer, h, extras)
            if edits and layer in edits:
                edited = edits[layer](h)
                if edited.shape != h.shape:
                    got, expected = tuple(edited.shape), tuple(h.shape)
                    raise ValueError(f"the edit of layer {layer} must keep the shape {expected}, it returned {got}")
                h = edited
            yield State(layer, h, extras)

    def _checked_edits(self, edits):
        return {self.checked(layer): edit for layer, edit in (edits or {}).items()}


class Autocast(torch.nn.Module):
    """Layers computed under autocast: see `Flow.autocast`."""

    def __init__(self, network):
        super().__init__()
        self.network, self.latent, self.n_layers = network, network.latent, network.n_layers

    def advance(self, layer, h, extras):
        """Compute one layer: see `Flow`."""
        with torch.autocast(h.device.type, torch.bfloat16):
            h, extras = self.network.advance(layer, h, extras)
        return h.float(), {name: value.float() for name, value in extras.items()}


def _at(edits, rows, total):
    """Edits that differ per image (they have `take`) are cut to the rows at hand."""
    return {
        layer: edit.take(rows, total) if hasattr(edit, "take") else edit for layer, edit in edits.items()
    }  # fmt: skip
