"""Fix the noise that a module draws in its forward: the same for every image, in every batch and on every device.

Torch marks the operations that draw random numbers. Each of them, by its place in a pass, gets a seed of its own and is
computed image by image on the processor. Nothing of the global random state is used up.
"""

import contextlib
from functools import partial

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class Noise:
    """The places of a pass where noise is drawn: for each whether its first axis is that of the images."""

    def __init__(self, by_image):
        self.by_image = by_image

    @classmethod
    def of(cls, draw):
        """Find the places from passes of two and of three images: draw is a function of their number.

        A module that draws once per image has more places in the longer pass; those are not known and drawn as they
        come, so that images by themselves have the same noise and images in a batch have not.
        """
        sizes = []
        for count in (2, 3):
            with _Mode(count) as mode:
                draw(count)
            sizes.append(mode.sizes)
        return cls([pair == (2, 3) for pair in zip(*sizes)])

    def fixed(self, count):
        """Return a context in which a pass of so many images draws the fixed noise."""
        return _Mode(count, self.by_image)


class _Mode(TorchDispatchMode):
    def __init__(self, count, by_image=None):
        super().__init__()
        self.count, self.by_image, self.sizes = count, by_image, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        place, inside = len(self.sizes), args[0] if args and isinstance(args[0], torch.Tensor) else None
        if self.by_image and place < len(self.by_image) and self.by_image[place]:
            found = self._each(func, args, kwargs, place)
        else:
            found = _drawn(func, args, kwargs, place)
        first = next((value for value in (found if isinstance(found, tuple) else (found,)) if value.ndim), inside)
        self.sizes.append(len(first) if first is not None and first.ndim else 0)
        return found

    def _each(self, func, args, kwargs, place):
        """Draw for one image after the other by the same random numbers."""
        given = []
        tree_map(lambda value: given.append(value) if isinstance(value, torch.Tensor) else None, (args, kwargs))
        if not given:  # made from a size, of which one row is enough
            args = [self._first(value) for value in args]
            one = _drawn(func, args, {key: self._first(value) for key, value in kwargs.items()}, place)
            return one.expand(self.count, *one.shape[1:]).clone()
        rows = []
        for i in range(self.count):
            own = partial(_row, i, self.count)
            rows.append(_drawn(func, tree_map(own, args), tree_map(own, kwargs), place))
        if func._schema.is_mutable:
            return args[0]
        return tuple(map(torch.cat, zip(*rows))) if isinstance(rows[0], tuple) else torch.cat(rows)

    def _first(self, size):
        return [1, *size[1:]] if isinstance(size, list | tuple) and tuple(size[:1]) == (self.count,) else size


def _row(i, count, value):
    return value[i : i + 1] if isinstance(value, torch.Tensor) and value.ndim and len(value) == count else value


def _drawn(func, args, kwargs, seed):
    """Compute an operation on the processor, from a seed, and put its result where it belongs."""
    places = [value.device for value in args if isinstance(value, torch.Tensor)] + [kwargs.get("device") or "cpu"]
    kwargs = {key: None if key == "generator" else _here(value) for key, value in kwargs.items()}
    if kwargs.get("device") is not None:
        kwargs["device"] = torch.device("cpu")
    moved = [_here(value) for value in args]
    with _seeded(seed):
        found = func(*moved, **kwargs)
    if func._schema.is_mutable and moved and isinstance(args[0], torch.Tensor):
        return args[0] if moved[0] is args[0] else args[0].copy_(moved[0])
    return tree_map(lambda value: value.to(places[0]) if isinstance(value, torch.Tensor) else value, found)


def _here(value):
    return value.cpu() if isinstance(value, torch.Tensor) else value


@contextlib.contextmanager
def _seeded(seed):
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
