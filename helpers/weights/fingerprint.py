"""Tell one computation from another: what a function does, and the content of what it refers to."""

import hashlib
import inspect
from dataclasses import fields, is_dataclass

import numpy as np
import torch

NUMBERS = "biufc"  # the kinds of NumPy dtype that are numbers: bool, int, uint, float, complex


def code(fn, path=()):
    """Describe a function: its name, bytecode and the plain values, tensors, networks and own functions it refers to.

    Raises TypeError for anything that cannot be looked into, such as a partial: wrap it in a lambda.
    """
    if not inspect.isfunction(fn):
        if inspect.isbuiltin(fn) or inspect.isclass(fn):
            return f"{fn.__module__}.{fn.__qualname__}"
        raise TypeError(f"memo takes a plain function, got {type(fn).__name__}: wrap it in a lambda")
    used = {name: cell.cell_contents for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ())}
    if not fn.__module__.startswith("helpers."):  # those sources are in the key already
        used |= {name: fn.__globals__[name] for name in _names(fn.__code__) if name in fn.__globals__}
    seen = []
    for name, value in sorted(used.items()):
        own = inspect.isfunction(value) and value.__module__ == fn.__module__ and value not in path
        seen.append((name, code(value, (*path, fn)) if own and value is not fn else content(value)))
    whole = fn.__module__, fn.__qualname__, _bytecode(fn.__code__), content((fn.__defaults__, fn.__kwdefaults__)), seen
    return hashlib.sha256(str(whole).encode()).hexdigest()


def _own(module):
    """Describe what no weight tells: a module's own numbers, texts and flags, such as a slope, and its class's code."""
    plain = sorted((name, repr(value)) for name, value in vars(module).items() if _is_plain(value))
    kinds = [kind for kind in type(module).__mro__ if kind.__module__.split(".")[0] not in ("torch", "helpers")]
    found = [(name, inspect.unwrap(fn)) for kind in kinds for name, fn in vars(kind).items() if inspect.isfunction(fn)]
    return type(module).__qualname__, plain, [(name, _bytecode(fn.__code__)) for name, fn in found]


def _is_plain(value):
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _names(code):
    inner = [_names(const) for const in code.co_consts if inspect.iscode(const)]
    return set(code.co_names).union(*inner)


def _bytecode(code):
    consts = [_bytecode(const) if inspect.iscode(const) else content(const) for const in code.co_consts]
    return str((code.co_code.hex(), consts, code.co_names))


def content(value):
    """Describe a value by its content where that is plain, by its type's name where it is not."""
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(flat).hexdigest()}"
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in NUMBERS:
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value)).hexdigest()}"
    if isinstance(value, dict):
        return str([(repr(key), content(item)) for key, item in value.items()])
    if isinstance(value, list | tuple | set | frozenset):
        items = [content(item) for item in value]
        return str(sorted(items) if isinstance(value, set | frozenset) else items)
    if value is None or isinstance(value, bool | int | float | str | range):
        return repr(value)
    if inspect.isfunction(value):
        return _bytecode(value.__code__)
    kind = type(value).__qualname__
    if isinstance(value, torch.nn.Module):
        built = [(name, _own(part)) for name, part in value.named_modules()]
        return f"{kind} {content(value.state_dict())} {built}"
    if is_dataclass(value) and not isinstance(value, type):  # a domain, a table of labels, a folder of images
        return f"{kind} {content({field.name: getattr(value, field.name) for field in fields(value)})}"
    network = getattr(value, "network", None)  # a flow
    if isinstance(network, torch.nn.Module):
        return f"{kind} {content(network)}"
    return getattr(value, "__qualname__", kind)
