"""Cut any torch generator into numbered layers at the submodules one names, without changing its code.

The module's computation is traced once as a graph (`torch.fx`) and cut behind each named submodule; what later pieces
need besides a layer's featuremap (skip connections, style vectors) travels in the extras of `flow.State`.
"""

import copy
import difflib
import math

import torch
from torch import fx, nn


class Traced(nn.Module):
    """A generator as numbered layers, for `flow.Flow`: see `flow.Flow.from_module`.

    module: anything torch.fx can trace, called with latents (B, *shape), returning images (B, C, R, R).
    layers: names of its submodules (as in `named_modules`) in the order in which they run; each one's output is a
    layer's featuremap (B, U, H, W), and the image is one more. shape: of one latent. The module is copied, not changed.
    Raises ValueError for a name that is not there, is not run exactly once or out of order, for outputs that are not
    square featuremaps, and for modules that cannot be traced.
    """

    def __init__(self, module, layers, shape):
        super().__init__()
        self.shape, self.latent, self.n_layers = tuple(shape), math.prod(shape), len(layers) + 1
        module = copy.deepcopy(module).eval()
        for part in module.modules():
            if getattr(part, "inplace", False):  # would overwrite a featuremap somebody has recorded
                part.inplace = False
        graph = _trace(module, layers)
        cuts = [*_calls(graph, layers), graph.output_node().args[0]]
        if not isinstance(cuts[-1], fx.Node):
            raise ValueError(f"the module must return one tensor of images, it returns a {type(cuts[-1]).__name__}")
        self.names = [next(iter(graph.find_nodes(op="placeholder"))).name, *(node.name for node in cuts)]
        self.pieces = nn.ModuleList(_cut(module, graph, cuts))
        self._check(layers)

    def advance(self, layer, h, extras):
        """Compute one layer from the one before; layer 1 receives z (B, D). See `flow.Flow`."""
        piece = self.pieces[layer - 1]
        if layer == 1:
            h = h.reshape(-1, *self.shape)
        known = {**extras, self.names[layer - 1]: h}
        inputs = [known[node.target] for node in piece.graph.find_nodes(op="placeholder")]
        h, *carried = piece(*inputs)
        return h, dict(zip(piece.carried, carried))

    def _check(self, layers):
        """Run two latents through, so that what does not fit shows now and by name."""
        some = next(self.parameters(), torch.zeros(()))
        h, extras = torch.zeros(2, self.latent, device=some.device), {}
        for layer, name in enumerate([*layers, "image"], start=1):
            with torch.no_grad():
                h, extras = self.advance(layer, h, extras)
            if not isinstance(h, torch.Tensor) or h.ndim != 4 or len(h) != 2 or h.shape[2] != h.shape[3]:
                got = tuple(h.shape) if isinstance(h, torch.Tensor) else type(h).__name__
                raise ValueError(f"the output of {name} must be square featuremaps (B, U, H, H), got {got} for B = 2")
            for key, value in extras.items():
                if not isinstance(value, torch.Tensor) or value.ndim == 0 or len(value) != 2:
                    got = f"the value {key!r} that later layers need is not one per image"
                    raise ValueError(f"cannot cut the module behind {name}: {got}, choose other layers")


def _trace(module, layers):
    known = dict(module.named_modules())
    for name in layers:
        if name not in known:
            close = difflib.get_close_matches(name, known, 3) or list(known)[1:6]
            raise ValueError(f"the module has no part {name!r}: did you mean {', '.join(close)}?")
    if not layers:
        raise ValueError("name at least one layer: see the names in module.named_modules()")

    class Tracer(fx.Tracer):
        def is_leaf_module(self, part, name):
            return name in layers or super().is_leaf_module(part, name)

    try:
        return Tracer().trace(module)
    except Exception as error:
        raise ValueError(
            f"cannot trace the module ({type(error).__name__}: {str(error).splitlines()[0]}): "
            "write its layers down as a class with `advance`, see the README"
        ) from error


def _calls(graph, layers):
    """Return the node of each named layer, all in the order of the graph."""
    nodes = list(graph.nodes)
    found = []
    for name in layers:
        calls = [node for node in nodes if node.op == "call_module" and node.target == name]
        if len(calls) != 1:
            raise ValueError(f"layer {name!r} runs {len(calls)} times on the way to the image, it must run once")
        if found and nodes.index(calls[0]) < nodes.index(found[-1]):
            raise ValueError(f"layer {name!r} runs before {found[-1].target!r}: name the layers in order")
        found += calls
    return found


def _cut(module, graph, cuts):
    """Return one GraphModule per layer: from tensors by name to the layer's featuremap and what later ones need."""
    nodes = [node for node in graph.nodes if node.op not in ("output", "get_attr")]
    ends = [nodes.index(cut) for cut in cuts]
    pieces = []
    for layer, end in enumerate(ends):
        start = ends[layer - 1] + 1 if layer else 0
        later = {node for user in nodes[end + 1 :] for node in user.all_input_nodes} - {cuts[layer]}
        carried = [node for node in nodes[: end + 1] if node in later]
        pieces.append(
            _piece(module, [n for n in nodes[start : end + 1] if n.op != "placeholder"], cuts[layer], carried)
        )
    return pieces


def _piece(module, nodes, result, carried):
    graph, copies = fx.Graph(), {}
    inside = set(nodes)
    needed = {need for node in nodes for need in node.all_input_nodes} | set(carried) | {result}
    for node in result.graph.nodes:  # in order, so that pieces do not depend on the order of a set
        if node in inside:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        elif node in needed:
            copies[node] = graph.node_copy(node) if node.op == "get_attr" else graph.placeholder(node.name)
    graph.output(tuple(copies[node] for node in (result, *carried)))
    piece = fx.GraphModule(module, graph)
    piece.carried = [node.name for node in carried]
    return piece
