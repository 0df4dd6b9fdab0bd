"""From a weight file to named networks: what format it is by its first bytes, and which tensors in it are a network."""

import re
import struct

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from helpers.weights import unpickle

HEADER = 100_000_000  # bytes: the longest header that safetensors itself reads
ZIP, OLD = b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"  # what torch.save writes, and wrote before 1.6
KINDS = ".safetensors, .pth of torch.save, and .pkl of Karras' and NVIDIA's"


def read(path):
    """Return what a file holds, and whether it is safetensors; recognised by its content, never by its name alone.

    Raises FileNotFoundError, or ValueError for a file that is no weight file, damaged, or asks for code to run.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no weight file {path}: check the path")
    name = path.name
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        problem = fetched_instead(head)
        if problem:
            raise ValueError(f"{name} {problem}")
        if not _safe(head):  # looked at first: the length it begins with may look like any other format's mark
            if head.startswith((ZIP, OLD)):
                return unpickle.read_torch(file, name), False
            if head[0] == 0x80:
                return unpickle.read(file, name), False
            if path.suffix != ".safetensors":
                raise ValueError(f"{name} is no weight file: allowed are {KINDS}")
    try:
        return load_file(path), True
    except SafetensorError as error:
        raise ValueError(f"{name} is truncated or not a safetensors file ({error}): fetch it again") from None


def fetched_instead(head):
    """Say from a file's first bytes what was fetched instead of weights and what to do, or return None."""
    if not head:
        return "is empty: fetch it again"
    if head.startswith(b"version") and b"git-lfs" in head:
        return "is a Git LFS pointer, not the weights: run `git lfs pull` where it came from"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|script|!--)", head.lower()):
        return "is a web page, not the weights: the link is dead or asks to confirm, fetch it by hand"
    return None


def _safe(head):
    """Tell whether bytes begin as safetensors do: the length of a header in 8 bytes, then the header."""
    return head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= HEADER


def networks(contents, known):
    """Find the networks in what a file holds, however deep they lie in dicts and behind which common prefix.

    known: function of {key: value} -> whether these keys are those of a network. Returns {name: network}, a dict of
    values or an `unpickle.Kept`; the name is what the file has around it, such as "generator_smooth" or
    "state_dict.generator", and "" where the file is the network.
    """
    if isinstance(contents, (tuple, list)) and len(contents) == 3:  # Karras' order
        contents = dict(zip(("G", "D", "Gs"), contents))
    return _found(contents, known, depth=8)


def _found(part, known, depth):
    part = _numbered(part)
    if isinstance(part, unpickle.Kept):
        return {"": part} if {"variables", "_parameters", "_modules"} & part.state.keys() else {}
    if not isinstance(part, dict) or not depth:
        return {}
    if known(part):
        return {"": part}
    inside = {}
    for key, value in part.items():  # a level down is a dict within, or what stands before the first dot of a key
        first, dot, rest = str(key).partition(".")
        if isinstance(value, dict | list | tuple | unpickle.Kept):
            inside.setdefault(str(key), value)
        elif dot and isinstance(inside.setdefault(first, {}), dict):
            inside[first][rest] = value
    found = {}
    for first, part in inside.items():
        found |= {".".join(filter(None, (first, name))): one for name, one in _found(part, known, depth - 1).items()}
    return found


def _numbered(part):
    """Return a list, as of the state dicts of several networks, as a dict by number; anything else as it is."""
    return dict(enumerate(part)) if isinstance(part, list | tuple) else part


def keys(contents, most=3):
    """Return the names of the first tensors in what a file holds, as far as it is dicts and lists."""
    named, todo = [], [("", contents)]
    while todo and len(named) < most:
        prefix, part = todo.pop(0)
        part = _numbered(part)
        for key, value in part.items() if isinstance(part, dict) else ():
            if unpickle.tensor(value) is not None:
                named.append(f"{prefix}{key}")
            elif isinstance(value, dict | list | tuple):
                todo.append((f"{prefix}{key}.", value))
    return named[:most]


def tensors(network, name):
    """Return ({key: float32 tensor}, {setting: value}) of one network; ValueError for values that are not finite."""
    settings = {}
    if isinstance(network, unpickle.Kept):
        try:
            network, settings = _module(network, set())
        except (TypeError, ValueError, AttributeError):
            raise ValueError(f"{name} holds an object that is no network as Karras or NVIDIA publish them") from None
    values = {key: unpickle.tensor(value) for key, value in network.items()}
    weights = {str(key): value.to(torch.float32, copy=True) for key, value in values.items() if value is not None}
    for key, value in weights.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} has values in {key} that are not finite: fetch it again")
    return weights, settings


def _module(kept, seen, prefix=""):
    """Return ({key: value}, {setting: value}) of a network of TensorFlow, or of a module with its children."""
    seen.add(id(kept))  # a broken file may hold a module within itself
    state = kept.state
    if "variables" in state:
        return dict(state["variables"]), dict(state.get("static_kwargs", {}))
    plain = (bool, int, float, str, type(None))
    settings = {f"{prefix}{key}": value for key, value in state.items() if isinstance(value, plain)}
    held = {
        f"{prefix}{key}": value for kind in ("_parameters", "_buffers") for key, value in state.get(kind, {}).items()
    }
    for key, child in state.get("_modules", {}).items():
        if isinstance(child, unpickle.Kept) and id(child) not in seen:
            more_held, more_settings = _module(child, seen, f"{prefix}{key}.")
            held, settings = held | more_held, settings | more_settings
    return held, settings
