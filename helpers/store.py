"""Hand out shipped data files only after checking them, and remember the results of expensive steps."""

import hashlib
import json
import math
import os
import re
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from helpers import env
from helpers.weights import published
from helpers.weights.fingerprint import NUMBERS, code, content
from helpers.weights.published import sha256

MANIFEST = "manifest.json"
_verified = {}  # path -> (mtime, size) at the time its hash was right, so that each file is hashed once


def data_root():
    """Return the folder of the data: HELPERS_DATA if set, otherwise data/ of this checkout.

    A package that was installed without the repository has no data; what it caches goes to the user's cache folder.
    """
    if given := os.environ.get("HELPERS_DATA"):
        return Path(given).expanduser()
    if env.checkout():
        return env.ROOT / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "helpers"


def fetch(name, download=False):
    """Return the path of a shipped or a published data file after checking it.

    name: like "churches/generator.safetensors", whose size and sha256 must be its folder's manifest's; or
    "published/NAME", a name of `published.REGISTRY`, whose file lies in data/published or HELPERS_PUBLISHED and is
    downloaded from its authors if it is not there and download=True, its licence shown first.
    Raises ValueError for an unknown name and for a truncated or altered file, FileNotFoundError for a missing one,
    OSError if a download fails. Used by every notebook through `domains`.
    """
    folder, _, rest = str(name).partition("/")
    if folder == "published":
        return published.fetch(rest, data_root() / folder, download)
    if download:
        raise ValueError(f"{name!r} is shipped, not downloaded: leave download out")
    path, entries = data_root() / str(name), _manifest(folder)
    if rest not in entries:
        raise ValueError(f"there is no data file {name!r}, the manifest of data/{folder} lists: {', '.join(entries)}")
    repair = f"run `git checkout -- data/{name}` to restore it"
    if not path.is_file():
        raise FileNotFoundError(f"data/{name} is missing: {repair}")
    now = path.stat()
    if _verified.get(path) == (now.st_mtime_ns, now.st_size):
        return path
    expected = entries[rest]
    with path.open("rb") as file:
        head = file.read(60)
    if head.startswith(b"version") and b"git-lfs" in head:
        raise ValueError(f"data/{name} is a Git LFS pointer, not the file itself: run `git lfs pull`")
    if now.st_size != expected["bytes"]:
        what = "truncated" if now.st_size < expected["bytes"] else "too long"
        raise ValueError(f"data/{name} is {what}: {now.st_size} bytes, expected {expected['bytes']}, {repair}")
    found = sha256(path)
    if found != expected["sha256"]:
        raise ValueError(
            f"data/{name} was altered: its sha256 starts {found[:12]}, the manifest says {expected['sha256'][:12]}, "
            f"{repair}, or `python -m tools.build.manifest {folder}` if the change was meant"
        )
    _verified[path] = (now.st_mtime_ns, now.st_size)
    return path


def measured(name, /, **setting):
    """Return the rows of a shipped table that were measured in a setting: a DataFrame, empty where there are none.

    name: like "churches/random_units.csv", whose domain may have no such table. setting: the value that a column must
    have, or a list, tuple or range of values; every combination of them must be there, or nothing is returned. Raises
    what `fetch` raises for a damaged file, and KeyError for a column that is not there. Shown in notebook 03, which
    measures what is not stored.
    """
    import pandas as pd  # here, so that worker processes need not load it

    folder, _, rest = name.partition("/")
    if not (data_root() / folder / MANIFEST).is_file() or rest not in _manifest(folder):
        return pd.DataFrame()
    table, asked = pd.read_csv(fetch(name)), {}
    for column, value in setting.items():
        asked[column] = set(value) if isinstance(value, list | tuple | range) else {value}
        table = table[table[column].isin(asked[column])]
    found = set(zip(*(table[column] for column in asked), strict=True))
    return table if len(found) == math.prod(map(len, asked.values())) or not asked else table.iloc[:0]


def _manifest(folder):
    path = data_root() / folder / MANIFEST
    if not re.fullmatch(r"[\w-]+", folder) or not path.is_file():
        known = sorted(p.parent.name for p in data_root().glob(f"*/{MANIFEST}"))
        if not known and not env.checkout():
            raise FileNotFoundError(
                f"data/{folder} comes with the repository, not with the installed package: clone the repository and "
                "set HELPERS_DATA to its data folder; your own files and modules need none of it"
            )
        raise ValueError(f"there is no data folder {folder!r} with a manifest, there is: {', '.join(known) or 'none'}")
    return json.loads(path.read_text(encoding="utf-8"))


def memo(name, fn, /, **params):
    """Return fn(**params), from the cache if this very computation was done before.

    name: a few words, part of the entry's file name. params: plain JSON values. The result may hold tensors,
    arrays, numbers, strings, None, and lists, tuples and dicts of these; tensors come back on the CPU.
    An entry stands for name, params, the code of fn and the tensors and plain values it refers to, the sources of
    the helpers, the shipped data, the device and the SMOKE switch. What else fn refers to must follow from these.
    HELPERS_CACHE=0 computes always, another value is the folder to use instead of data/cache.
    Raises TypeError for params or results of other types. Explained in notebook 00.
    """
    folder = os.environ.get("HELPERS_CACHE") or data_root() / "cache"
    entry = f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{_key(name, fn, params)}.safetensors"
    path = None if str(folder) == "0" else Path(folder) / entry
    if path and path.is_file():
        try:
            value = read(path)
        except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
            print(f"cache entry {_short(path)} is damaged ({error}): computing it again")
        else:
            print(f"cached: delete {_short(path)} to recompute")
            return value
    tensors = {}
    tree = _pack(fn(**params), tensors)
    if path:
        try:
            _write(path, tree, tensors)
        except OSError as error:
            warnings.warn(f"{_short(path)} could not be written ({error}): computed, not cached", stacklevel=2)
    return _unpack(tree, tensors)


def _key(name, fn, params):
    try:
        # Sorted, because keyword order does not change what is computed.
        plain = json.dumps([name, params], sort_keys=True)
    except TypeError as error:
        raise TypeError(
            f"the params of memo must be plain JSON values ({error}): pass ids and numbers, and let fn refer to tensors"
        ) from None
    parts = [plain, code(fn), str(env.smoke()), env.device().type]
    # Figures and widgets compute nothing, so editing them keeps the cache.
    shows, package = ("show", "widgets", "interface"), Path(__file__).parent
    sources = [p for p in package.rglob("*.py") if p.relative_to(package).parts[0].removesuffix(".py") not in shows]
    parts += [sha256(path) for path in sorted([*sources, *data_root().glob(f"*/{MANIFEST}")])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _pack(value, tensors):
    """Turn a result into plain JSON, moving its tensors and arrays to `tensors`."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        return {"tensor": _stored(value.detach().cpu().contiguous().clone(), tensors)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in NUMBERS:
        whole = np.array(value, order="C")
        return {"array" if kind is np.ndarray else "number": _stored(torch.from_numpy(whole), tensors)}
    if kind in (list, tuple):
        return {kind.__name__: [_pack(item, tensors) for item in value]}
    if kind is dict and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}
    raise TypeError(
        f"memo cannot keep a {kind.__name__}: return tensors, arrays, numbers, strings, None, "
        "or lists, tuples and dicts (keys str or int) of these"
    )


def _stored(tensor, tensors):
    key = str(len(tensors))
    tensors[key] = tensor
    return key


def _unpack(tree, tensors):
    if not isinstance(tree, dict):
        return tree
    ((kind, item),) = tree.items()
    if kind == "tensor":
        return tensors[item]
    if kind in ("array", "number"):
        array = tensors[item].numpy()
        return array if kind == "array" else array[()]
    if kind == "dict":
        return {key: _unpack(value, tensors) for key, value in item}
    return {"list": list, "tuple": tuple}[kind](_unpack(value, tensors) for value in item)


def _checksum(tree, tensors):
    digest = hashlib.sha256(tree.encode())
    for key in sorted(tensors):
        digest.update(content(tensors[key]).encode())
    return digest.hexdigest()


def write(path, value):
    """Write a value of the kinds that `memo` keeps to a file with a checksum, as a whole or not at all."""
    tensors = {}
    _write(path, _pack(value, tensors), tensors)


def _write(path, tree, tensors):
    tree = json.dumps(tree)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = save(tensors, metadata={"tree": tree, "sha256": _checksum(tree, tensors)})
    replace(path, whole)


def read(path):
    """Read what `write` wrote; raises SafetensorError, ValueError, KeyError or TypeError if it is damaged."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    if header["sha256"] != _checksum(header["tree"], tensors):
        raise ValueError("its checksum differs")
    return _unpack(json.loads(header["tree"]), tensors)


def replace(path, whole):
    """Write bytes to a file so that a reader, or a crash, only ever meets the old or the new content.

    Raises OSError, with the name of this file and no other, where it cannot be written.
    """
    path = Path(path).resolve()  # replace the file, not a link to it
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(whole)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise type(error)(f"cannot write {path} ({error.strerror or error}): free space or another place") from error
    finally:
        part.unlink(missing_ok=True)


def _short(path):
    return path.relative_to(env.ROOT) if path.is_relative_to(env.ROOT) else path
