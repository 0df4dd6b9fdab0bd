"""See any torch module as numbered layers by forward hooks at its submodules, whatever its forward does in between.

Nothing is traced, so a module may branch on its data, loop, or return several things. A pass records and edits all
layers at once; to go on from a layer, the whole module runs again, with the outputs up to that layer put in place.
"""

import contextlib
import difflib
import math

import torch
from torch import nn


class Hooked(nn.Module):
    """A generator as numbered layers, for `flow.Flow`: see `flow.Flow.from_module`.

    module: as `own_module.prepared` returns it. layers: names of its submodules in the order in which they run; the
    image is one more. shape: of one latent. given: its `own_module.Inputs`. output: which part of what it returns is
    the image. Raises ValueError for a name that is not there, is not run exactly once or out of order, and for outputs
    that are no featuremaps. extras: the latents, and the featuremaps of the layers before, by number.
    """

    def __init__(self, module, layers, shape, given, output=None):
        super().__init__()
        self.module, self.names, self.shape, self.given, self.output = module, list(layers), tuple(shape), given, output
        self.latent, self.n_layers, self.noise = math.prod(self.shape), len(self.names) + 1, None
        known = dict(module.named_modules())
        for name in self.names:
            if name not in known:
                close = difflib.get_close_matches(name, known, 3) or list(known)[1:6]
                raise ValueError(f"the module has no part {name!r}: did you mean {', '.join(close)}?")
        if not self.names:
            raise ValueError("name at least one layer: Flow.candidates lists what can be one")
        self._check()

    @property
    def place(self):
        """The device of the module's first tensor."""
        return next((value.device for value in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    def advance(self, layer, h, extras):
        """Compute one layer from the one before, by a whole pass. See `flow.Flow`."""
        return self.walk(h, lambda layer, h: h, layer - 1, extras, layer)[-1][1:]

    def walk(self, h, edit, start, extras, until):
        """Compute layers start+1..until in one pass: [(layer, featuremap, extras)], each after edit(layer, featuremap).

        h: the featuremap of layer `start`, or the latents (B, D); extras: those that came with it.
        """
        before = {k: extras[str(k)] for k in range(1, start)} | ({start: h} if start else {})
        z, given = extras["z"] if start else h, {name: extras[name] for name in self.given.names}
        seen, ran = {}, []

        def passed(layer, found):
            """Take note of what a layer gave; return what the module goes on with in its place."""
            ran.append(layer)
            if layer <= start:
                return before[layer].to(found).clone()  # as what comes next may work in place
            seen[layer] = edit(layer, self._featuremap(layer, found, len(z)))
            if layer == until:
                raise _Reached
            return seen[layer].to(found.dtype, copy=True)

        still = self.noise.fixed(len(z)) if self.noise else contextlib.nullcontext()
        with self._hooks(passed), still, contextlib.suppress(_Reached):
            result = self.given.run(self.module, z.reshape(-1, *self.shape), given)
            self.output = key_of_image(result, self.output)
            passed(self.n_layers, part(result, self.output))
        self._check_order(ran, until)
        steps, kept = [], {"z": z, **given, **{str(k): before[k] for k in before}}
        for layer in range(start + 1, until + 1):
            steps.append((layer, seen[layer], dict(kept)))
            kept[str(layer)] = seen[layer]
        return steps

    @contextlib.contextmanager
    def _hooks(self, passed):
        parts = dict(self.module.named_modules())
        handles = []
        try:
            for layer, name in enumerate(self.names, start=1):
                hook = lambda module, given, found, layer=layer: passed(layer, found)  # noqa: E731
                handles.append(parts[name].register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _featuremap(self, layer, found, count):
        name, tensor = [*self.names, "image"][layer - 1], isinstance(found, torch.Tensor)
        if not tensor or found.ndim != 4 or len(found) != count:
            got = tuple(found.shape) if tensor else type(found).__name__
            raise ValueError(f"the output of {name} must be featuremaps (B, U, H, W), got {got} for B = {count}")
        if not found.is_floating_point():
            raise ValueError(f"the output of {name} must be floats, an image's about [-1, 1], got {found.dtype}")
        return found.float()

    def _check_order(self, ran, until):
        for layer, name in enumerate(self.names[:until], start=1):
            if ran.count(layer) != 1:
                times = f"{ran.count(layer)} times"
                raise ValueError(f"layer {name!r} runs {times} on the way to the image, it must run once")
        if ran != sorted(ran):
            late = next(b for a, b in zip(ran, ran[1:]) if a > b)
            raise ValueError(f"layer {self.names[late - 1]!r} runs too late: name the layers in order")

    def _check(self):
        """Run two latents through, so that what does not fit shows now and by name."""
        z = torch.zeros(2, self.latent, device=self.place)
        with torch.no_grad():
            extras = self.given.rows(slice(0, 2), 2, self.place, check=False)
            tried(self.module, z.view(2, *self.shape), self.given, extras)
            self.walk(z, lambda layer, h: h, 0, extras, self.n_layers)


def tried(module, z, given, rows):
    """Run a module as it is; raises ValueError, in one sentence, where it cannot be run on what it is given."""
    try:
        given.run(module, z, rows)
    except Exception as error:  # a forward may raise anything
        said = (str(error).splitlines() or [""])[0][:150]
        named = ", ".join([*rows, *given.plain])
        beside = f" with {named}" if named else ""
        raise ValueError(
            f"the module does not run on latents {tuple(z.shape)}{beside} ({type(error).__name__}: {said}): check "
            "latent=, and pass by inputs= what its forward needs, numbers of images as tensors with a row for all or a "
            "row per image"
        ) from error


class _Reached(BaseException):
    """Ends a pass behind the last layer that is wanted; no `except Exception` of a module may catch it."""


def featuremaps(module, shape, given):
    """List the submodules that run once and put out featuremaps: {name: (U, H, W)}, in the order they are done."""
    found, twice = {}, set()

    def hook(name):
        def note(module, inputs, value):
            twice.update({name} & found.keys())
            found.setdefault(
                name, tuple(value.shape[1:]) if isinstance(value, torch.Tensor) and value.ndim == 4 else None
            )

        return note

    handles = [part.register_forward_hook(hook(name)) for name, part in module.named_modules() if name]
    try:
        with torch.no_grad():
            rows = given.rows(slice(0, 2), 2, torch.device("cpu"), check=False)
            some = next((value for value in (*module.parameters(), *module.buffers())), torch.zeros(()))
            rows = {name: value.to(some.device) for name, value in rows.items()}
            tried(module, torch.zeros(2, *shape, device=some.device), given, rows)
    finally:
        for handle in handles:
            handle.remove()
    return {name: size for name, size in found.items() if size and name not in twice}


def key_of_image(result, output=None):
    """Return under which index, key or attribute the image is in what a module returns: `output`, or the only one.

    None if it returns the image alone. Raises ValueError, naming what there is, if that is not clear.
    """
    if output is not None:
        try:
            part(result, output)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ValueError(f"the module returns no {output!r}, but {_described(result)}") from None
        return output
    if isinstance(result, torch.Tensor):
        return None
    pictures = [key for key, value in _parts(result).items() if isinstance(value, torch.Tensor) and value.ndim == 4]
    if len(pictures) != 1:
        raise ValueError(f"the module returns {_described(result)}: name the image among them by output=")
    return pictures[0]


def part(result, key):
    """Return a part of what a module returns, by index, key or attribute; all of it for None."""
    if key is None:
        return result
    if isinstance(key, str) and not isinstance(result, dict):
        return getattr(result, key)
    return result[key]


def _parts(result):
    if isinstance(result, dict):
        return dict(result)
    if isinstance(result, tuple | list):
        return dict(enumerate(result))
    return {name: value for name, value in getattr(result, "__dict__", {}).items() if hasattr(value, "shape")}


def _described(result):
    shapes = {key: tuple(v.shape) if hasattr(v, "shape") else type(v).__name__ for key, v in _parts(result).items()}
    inside = ", ".join(f"{key!r}: {shape}" for key, shape in shapes.items())
    return f"a {type(result).__name__}" + (f" of {inside}" if inside else "")
