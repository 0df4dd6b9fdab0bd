"""A stand-in for a GPU that is not there: tensors that claim to lie on one, hold their numbers here, and do not mix.

What torch refuses of a real GPU is refused: an operation on tensors of two devices, and NumPy on one that lies
elsewhere. So code that leaves a tensor behind on the wrong device fails, and code that does not gives its numbers.
"""

import contextlib
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

HERE, THERE = torch.device("cpu"), torch.device("cuda", 0)
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Elsewhere(torch.Tensor):
    """A tensor on the device that is not there; `held` has its numbers."""

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",  # what torch takes it for where it would ask a driver
            dispatch_device=True,  # what it says when asked, see below
            requires_grad=False,
        )
        made.held = held
        return made

    # Where torch's own methods would ask a driver before they dispatch.

    def __getitem__(self, index):
        return Elsewhere(self.held[tree_map(held, index)])

    def __setitem__(self, index, value):
        self.held[tree_map(held, index)] = held(value)  # which a real one copies across devices

    def copy_(self, source, non_blocking=False):
        return torch.ops.aten.copy_.default(self, source, non_blocking)

    def nonzero(self):
        return torch.ops.aten.nonzero.default(self)

    def item(self):
        return self.held.item()

    def tolist(self):
        return self.held.tolist()

    def __float__(self):
        return float(self.held)

    def __int__(self):
        return int(self.held)

    def __bool__(self):
        return bool(self.held)

    def __repr__(self):
        return f"Elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.prim.device.default:
            return THERE
        return computed(func, args, kwargs or {})


def held(value):
    return value.held if isinstance(value, Elsewhere) else value


def computed(func, args, kwargs):
    """Compute an operation on what is held, if all of it lies on one device, and put the result there."""
    given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    places = {type(value) is Elsewhere for value in given if value.ndim}  # numbers without an axis go with anything
    asked = kwargs.get("device")
    if func not in COPIES and len(places) > 1:
        shapes = [(value.device.type, tuple(value.shape)) for value in given]
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} got {shapes}")
    there = (
        torch.device(asked) == THERE or torch.device(asked).type == THERE.type
        if asked is not None
        else any(type(value) is Elsewhere for value in given)
    )
    if asked is not None:
        kwargs = kwargs | {"device": HERE}
    if kwargs.get("pin_memory"):
        kwargs = kwargs | {"pin_memory": False}
    found = func(*tree_map(held, args), **tree_map(held, kwargs))
    if func is torch.ops.aten.copy_.default or func._schema.is_mutable and isinstance(args[0], torch.Tensor):
        return args[0]
    return tree_map(lambda value: Elsewhere(value) if isinstance(value, torch.Tensor) and there else value, found)


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.prim.device.default:
            return THERE if isinstance(args[0], Elsewhere) else HERE
        return computed(func, args, kwargs or {})


class _Event:
    """What waits for a copy: it must have been recorded."""

    def __init__(self):
        self.recorded = False

    def record(self, stream=None):
        self.recorded = True

    def synchronize(self):
        assert self.recorded


def _numbered(to):
    """Give a device that has no number one: torch would ask the driver which is meant."""

    def moved(tensor, *args, **kwargs):
        def number(value):
            given = isinstance(value, str | torch.device) and torch.device(value).type == THERE.type
            return THERE if given else value

        return to(tensor, *map(number, args), **{key: number(value) for key, value in kwargs.items()})

    return moved


def _made(make):
    """Let `torch.tensor` put numbers of Python there, which it does without dispatching."""

    def made(data, *args, device=None, **kwargs):
        there = device is not None and torch.device(device).type == THERE.type
        found = make(data, *args, device=HERE if there else device, **kwargs)
        return found.to(THERE) if there else found

    return made


@contextlib.contextmanager
def gpu():
    """Let tensors be made on, and moved to, a GPU that is not there."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    patches = {"_lazy_init": lambda: None, "is_available": lambda: True, "device_count": lambda: 1}
    patches |= {"Event": _Event, "current_stream": lambda device=None: None}
    try:
        with contextlib.ExitStack() as stack:
            for name, value in patches.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, value))
            stack.enter_context(mock.patch.object(torch, "tensor", _made(torch.tensor)))
            stack.enter_context(mock.patch.object(torch.Tensor, "to", _numbered(torch.Tensor.to)))
            stack.enter_context(_Mode())
            yield THERE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
