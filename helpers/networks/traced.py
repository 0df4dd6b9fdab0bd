"""Cut a torch generator into numbered layers at the submodules one names, by its computation as a graph.

The computation is traced once (`torch.fx`) and cut behind each named submodule; what later pieces need besides a
layer's featuremap (skip connections, style vectors) travels in the extras of `flow.State`. So each layer is computed
once, and to resume costs the rest only. What cannot be traced or cut is for `hooked`.
"""

import math

import torch
from torch import fx, nn

from helpers.networks.hooked import part

CHECKS = (torch._assert, fx._symbolic_trace._assert_is_none)  # what fx adds for an input that is a plain value


class Untraceable(Exception):
    """Says in one sentence why a module cannot be cut by its graph."""


class Traced(nn.Module):
    """A generator as numbered layers, for `flow.Flow`: see `flow.Flow.from_module`.

    Arguments as of `hooked.Hooked`, which has checked the layers. Raises Untraceable.
    """

    def __init__(self, module, layers, shape, given, output=None):
        super().__init__()
        self.shape, self.latent, self.n_layers = tuple(shape), math.prod(shape), len(layers) + 1
        self.given, self.copies = given, False
        graph = _trace(module, layers, given)
        result = graph.output_node().args[0]
        try:
            cuts = [*_calls(graph, layers), result if output is None else part(result, output)]
        except (KeyError, IndexError, TypeError, AttributeError):
            cuts = [None]
        if not isinstance(cuts[-1], fx.Node):
            raise Untraceable("its image is no tensor of the graph")
        inputs = graph.find_nodes(op="placeholder")
        first = next((n for n in inputs if n.target == given.first), inputs[0])
        others = [node for node in inputs if node is not first]
        self.names, self.inputs = [first.name, *(node.name for node in cuts)], {n.target: n.name for n in others}
        self.pieces = nn.ModuleList(_cut(module, graph, cuts))
        self._check(layers)

    def advance(self, layer, h, extras):
        """Compute one layer from the one before; layer 1 receives z (B, D). See `flow.Flow`."""
        piece = self.pieces[layer - 1]
        if layer == 1:
            h, extras = h.reshape(-1, *self.shape), {name: extras[given] for given, name in self.inputs.items()}
        known = {**extras, self.names[layer - 1]: h}
        inputs = [known[node.target] for node in piece.graph.find_nodes(op="placeholder")]
        if self.copies:
            inputs = [value.clone() for value in inputs]
        h, *carried = piece(*inputs)
        return h, dict(zip(piece.carried, carried))

    def get_extra_state(self):
        """Return the code of the pieces, so that results of another computation on the same weights are told apart."""
        return [piece.code for piece in self.pieces]

    def set_extra_state(self, state):
        """The code belongs to the pieces and is not loaded."""

    def _check(self, layers):
        """Run two latents through, so that what does not fit shows now."""
        some = next((value for value in (*self.parameters(), *self.buffers())), torch.zeros(()))
        h, extras = torch.zeros(2, self.latent, device=some.device), self.given.rows(slice(0, 2), 2, some.device, False)
        passed = []
        for layer, name in enumerate([*layers, "image"], start=1):
            with torch.no_grad():
                try:
                    h, extras = self.advance(layer, h, extras)
                except Exception as error:  # a graph may hold anything
                    raise Untraceable(f"its graph does not run ({type(error).__name__})") from error
            if not isinstance(h, torch.Tensor) or h.dtype != torch.float32 or h.ndim != 4 or len(h) != 2:
                raise Untraceable(f"in its graph the output of {name} is no featuremap in float32")
            for key, value in extras.items():
                if not isinstance(value, torch.Tensor) or value.ndim == 0 or len(value) != 2:
                    raise Untraceable(f"behind {name} the value {key!r}, which later layers need, is not one per image")
            passed += [(value, value._version) for value in (h, *extras.values())]
        # A sum such as `h += x` would change a featuremap that somebody has recorded.
        self.copies = any(value._version != version for value, version in passed)


def _trace(module, layers, given):
    class Tracer(fx.Tracer):
        def is_leaf_module(self, part, name):
            return name in layers or super().is_leaf_module(part, name)

    try:
        graph = Tracer().trace(module, {**given.defaults, **given.plain})
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        raise Untraceable(f"torch.fx cannot trace it ({type(error).__name__}: {said[:100]})") from error
    for node in reversed(list(graph.nodes)):
        checked = node.op == "call_function" and node.target in CHECKS
        unused = node.op == "placeholder" or any(use.target in CHECKS for use in [*node.users])
        if checked:
            inside = node.all_input_nodes
            graph.erase_node(node)
            for one in inside:
                if not one.users and one.op == "call_function":
                    graph.erase_node(one)
        elif unused and not node.users and node.target != given.first:
            graph.erase_node(node)
    return graph


def _calls(graph, layers):
    """Return the node of each named layer, all in the order of the graph."""
    nodes = list(graph.nodes)
    found = []
    for name in layers:
        calls = [node for node in nodes if node.op == "call_module" and node.target == name]
        if len(calls) != 1 or (found and nodes.index(calls[0]) < nodes.index(found[-1])):
            raise Untraceable(f"in its graph the layer {name!r} does not run once and in order")
        found += calls
    return found


def _cut(module, graph, cuts):
    """Return one GraphModule per layer: from tensors by name to the layer's featuremap and what later ones need."""
    nodes = [node for node in graph.nodes if node.op not in ("output", "get_attr")]
    ends = [nodes.index(cut) for cut in cuts]
    pieces = []
    for layer, end in enumerate(ends):
        start = ends[layer - 1] + 1 if layer else 0
        later = {node for user in nodes[end + 1 : ends[-1] + 1] for node in user.all_input_nodes} - {cuts[layer]}
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
