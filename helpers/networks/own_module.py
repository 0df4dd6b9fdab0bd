"""Make a torch module of somebody's own ready to be cut into layers: unwrapped, in float32, with its other inputs.

`layered` decides how it is cut: by its computation as a graph (`traced`) where torch can trace it, and otherwise by
hooks at its submodules (`hooked`), which works on any module but computes all of it for every part of the way.
"""

import copy
import inspect
import math
import operator
import warnings

import numpy as np
import torch
from torch import nn

from helpers.latents import latents
from helpers.networks import hooked, traced
from helpers.networks.fixed_noise import Noise

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
CLOSE = 1e-3  # of an image's largest value: what the rounding of another batch size never reaches


def layered(module, layers, latent, inputs=None, output=None):
    """Return a module as numbered layers, for `flow.Flow`; arguments and errors as of `flow.Flow.from_module`.

    The result has `origin`, which says how it was cut and why, and `single`: whether images must be drawn one by one.
    """
    before = torch.get_rng_state()
    try:
        return _layered(module, layers, latent, inputs, output)
    finally:
        torch.set_rng_state(before)  # a module that draws noise uses none of it up


def _layered(module, layers, latent, inputs, output):
    name, module, shape = type(unwrapped(module)).__name__, prepared(module), _shape(latent)
    layers = [_named(module, layer) for layer in ([layers] if isinstance(layers, str) else layers)]
    given = Inputs(module, inputs)
    hooks = hooked.Hooked(module, layers, shape, given, output)
    z = latents(range(3), math.prod(shape)).to(hooks.place)
    noise, images = _still(hooks, z)
    network, why = hooks, "it draws noise" if noise else None
    if not noise:
        try:
            network = traced.Traced(module, layers, shape, given, hooks.output)
            if not _alike(drawn(network, z), images):
                network, why = hooks, "torch.fx traces it to another image"
        except traced.Untraceable as error:
            why = str(error)
    cost = f"hooks, since {why}: to resume costs a whole pass" if network is hooks else "traced"
    network.origin = f"{name}, cut behind {', '.join(layers)} ({cost})"
    apart = torch.cat([drawn(network, row[None], i, len(z)) for i, row in enumerate(z)])
    network.single = not _alike(apart, images)
    if network.single:
        warnings.warn("an image of this module depends on the others of its batch: drawing one by one", stacklevel=4)
    return network


def drawn(network, z, first=0, total=None):
    """Draw images of latents z (B, D), the rows of a batch of `total` from `first` on."""
    rows, h = slice(first, first + len(z)), z
    with torch.no_grad():
        extras = network.given.rows(rows, total or len(z), z.device, check=False)
        if hasattr(network, "walk"):
            return network.walk(h, lambda layer, h: h, 0, extras, network.n_layers)[-1][1]
        for layer in range(1, network.n_layers + 1):
            h, extras = network.advance(layer, h, extras)
    return h


def _still(hooks, z):
    """Fix the noise that a module draws, if it draws any; returns whether, and the images."""
    images = [drawn(hooks, z) for _ in range(2)]
    if torch.equal(*images):
        return False, images[0]
    noise = Noise.of(lambda count: drawn(hooks, z[:count]))
    if noise.by_image:
        hooks.noise = noise
        images = [drawn(hooks, z) for _ in range(2)]
    if not _alike(*images):
        raise ValueError(
            "the module draws another image of the same latent each time, and not by torch's random numbers: "
            "take the randomness out of its forward"
        )
    if noise.by_image:
        said = (
            "the module draws noise in its forward: it is fixed here, so that a latent gives one image in every batch"
        )
        warnings.warn(said, stacklevel=5)
    return bool(noise.by_image), images[0]


def _alike(found, expected):
    return found.shape == expected.shape and bool((found - expected).abs().max() <= CLOSE * expected.abs().max())


def unwrapped(module):
    """Return the module within what training or compiling has put around it."""
    while isinstance(module, WRAPPERS) or hasattr(module, "_orig_mod"):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module
    return module


def prepared(module):
    """Return a copy in eval mode and float32 whose activations do not work in place; warns once if it was converted.

    Raises ValueError for what is no torch module, or one whose parts cannot be looked into.
    """
    module = unwrapped(module)
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        what = "compiled by torch.jit, which hides its parts" if isinstance(module, nn.Module) else "no torch module"
        raise ValueError(
            f"a {type(module).__name__} is {what}: build the generator from its class, an nn.Module, and give it the "
            "weights with load_state_dict"
        )
    # What a pass left behind, such as weights that weight_norm computes anew, is copied without its gradients.
    held = [value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
    memo = {id(value): value.detach().clone() for value in held if not value.is_leaf}
    module = copy.deepcopy(module, memo).eval().requires_grad_(False)
    for part in module.modules():
        if getattr(part, "inplace", False):  # would overwrite a featuremap somebody has recorded
            part.inplace = False
    held = {value.dtype for value in (*module.parameters(), *module.buffers()) if value.is_floating_point()}
    others = sorted(str(dtype).removeprefix("torch.") for dtype in held - {torch.float32})
    if others:
        warnings.warn(f"the module has weights in {', '.join(others)}: computing in float32 from here on", stacklevel=5)
        module = module.float()
    return module


def _named(module, layer):
    """Return a layer's name as the module has it, without what a wrapper had put before it."""
    known = dict(module.named_modules())
    for prefix in ("module.", "_orig_mod."):
        layer = layer if layer in known else str(layer).removeprefix(prefix)
    return layer


def candidates(module, latent, inputs=None):
    """List what can be a layer: {name of a submodule: (U, H, W)}, in the order in which they are done."""
    module, shape = prepared(module), _shape(latent)
    return hooked.featuremaps(module, shape, Inputs(module, inputs))


def _shape(latent):
    """Return the shape of one latent, given as that or as its dimension."""
    try:
        shape = (latent,) if hasattr(latent, "__index__") else tuple(latent)
        return tuple(operator.index(size) for size in shape)
    except TypeError:
        raise ValueError(f"latent must be a number or a shape such as (100, 1, 1), got {latent!r}") from None


class Inputs(nn.Module):
    """What a module's forward takes beside the latents: tensors, of one row for all images or a row each, and others.

    NumPy arrays and numbers count as tensors, and like the module they are float32. `first` is the parameter of the
    latents: the first that is not given. Raises ValueError, naming them, for inputs that the forward asks for and does
    not get, and for others.
    """

    def __init__(self, module, inputs=None):
        super().__init__()
        inputs, asked = dict(inputs or {}), _parameters(module)
        self.first = next((p.name for p in asked if p.name not in inputs), asked[0].name)
        others = [p for p in asked if p.name != self.first]
        self.by_name = self.first != asked[0].name
        named = {p.name: p for p in others if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        missing = [name for name, p in named.items() if p.default is p.empty and name not in inputs]
        if missing:
            example = ", ".join(f'"{name}": ...' for name in missing)
            raise ValueError(
                f"the module's forward takes {' and '.join(missing)} beside the latents {self.first}: pass "
                f"inputs={{{example}}}, each a tensor with one row for all images or a row per image, or a plain value"
            )
        unknown = [name for name in inputs if name not in named]
        if unknown and not any(p.kind == p.VAR_KEYWORD for p in others):
            takes = ", ".join(named) or "nothing"
            raise ValueError(f"the module's forward takes no {unknown[0]} (beside the latents it takes {takes})")
        self.names, self.plain = [], {}
        for name, value in inputs.items():
            if isinstance(value, np.ndarray | np.generic):
                value = torch.from_numpy(np.array(value))
            if isinstance(value, torch.Tensor):
                value = (value.float() if value.is_floating_point() else value).detach().clone()
                self.register_buffer(f"given_{name}", value[None] if value.ndim == 0 else value)
                self.names.append(name)
            else:
                self.plain[name] = value
        # What is not given has its default, which a trace needs to be told.
        self.defaults = {name: p.default for name, p in named.items() if name not in inputs}

    def rows(self, rows, total, device, check=True):
        """Return the tensors' rows of some of `total` images: {name: (B, ...)}; ValueError for another number."""
        found = {}
        for name in self.names:
            value = getattr(self, f"given_{name}")
            if check and len(value) not in (1, total):
                raise ValueError(
                    f"the input {name} has {len(value)} rows, but {total} images were asked for: pass a row per image, "
                    "or one row (1, ...) for all"
                )
            count = rows.stop - rows.start
            own = value.expand(count, *value.shape[1:]) if len(value) == 1 else value[rows]
            found[name] = own.to(device)
        return found

    def run(self, module, z, rows):
        """Call a module on latents (B, ...) as it takes them, with these rows of the tensors and the other inputs."""
        given = {**rows, **self.plain}
        return module(**{self.first: z}, **given) if self.by_name else module(z, **given)

    def get_extra_state(self):
        """Return the plain inputs as text, so that results kept for other ones are told apart."""
        return repr(sorted(self.plain.items()))

    def set_extra_state(self, state):
        """Inputs belong to the module they were made for and are not loaded."""


def _parameters(module):
    found = list(inspect.signature(module.forward).parameters.values())
    if not found:
        raise ValueError("the module's forward takes nothing: it must map latents to images")
    return found
