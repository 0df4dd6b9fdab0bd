"""Read pickled weight files without running them: an allow-list, and an inert stand-in for everything on it.

A pickle is a program that calls what it names. Here every name it may use leads to a class of this module that only
keeps what it is given; all other names are refused before anything is called. Source code that files carry
(`module_src`, `build_module_src`) stays text.
"""

import io
import math
import re
import warnings
from pickle import Unpickler

import numpy as np
import torch

HOLDS = "plain values, NumPy arrays, tensors and the networks of progressive GANs and StyleGAN2"


class Refused(ValueError):
    """A file that asks for something outside the allow-list."""

    def __init__(self, name, wanted):
        super().__init__(
            f"{name} asks for {wanted}, which no weight file needs and which may run code: allowed are {HOLDS}; "
            "nothing was run, get the file from its publisher or have it converted to .safetensors"
        )


class Frozen(type):
    """A class whose attributes stay: a pickle may otherwise set them on any class that it names."""

    def __setattr__(cls, name, value):
        raise TypeError(f"{cls.__name__} cannot be altered")


class Kept(metaclass=Frozen):
    """Any object of a file: what it was made with (`args`) and its attributes (`state`). It has no behaviour."""

    __slots__ = ("args", "state")  # and no __dict__, so that a file cannot give it a __setstate__ of its own

    def __new__(cls, *args):
        kept = object.__new__(cls)
        kept.args, kept.state = args, {}
        return kept

    def __setstate__(self, state):
        if isinstance(state, tuple) and len(state) == 2:  # attributes, and those in slots
            state = {**(state[0] or {}), **(state[1] or {})}
        self.state = dict(state)

    def get(self, name, default=None):
        """Return an attribute of the object, or the default."""
        return self.state.get(name, default)


class Persistent(Kept):
    """A module as StyleGAN2's pickles describe it; the source code among its fields is left alone."""

    __slots__ = ()

    def __new__(cls, meta):
        kept = super().__new__(cls)
        kept.state = dict(meta["state"])
        return kept


class Mapping(dict, metaclass=Frozen):
    """An ordered dict, or a dict with attribute access: its items only."""

    __slots__ = ()

    def __setstate__(self, state):
        pass


class Dtype(Kept):
    """Type of numbers: `np.dtype` would let a file alter a type that all arrays share."""

    __slots__ = ()

    def __setstate__(self, state):
        self.state = {"order": state[1]}

    def numpy(self):
        code = self.args[0]
        if not re.fullmatch(r"[fiu][1248]|b1", str(code)):
            raise ValueError(f"numbers of type {code!r} are no weights")
        return np.dtype(code).newbyteorder(self.get("order", "="))


class Array(Kept):
    """A NumPy array; its numbers are `value`, a tensor."""

    __slots__ = ("value",)

    def __setstate__(self, state):
        _, shape, dtype, fortran, raw = state
        self.fill(raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw, dtype, shape, order="C", axes=None):
        array = np.frombuffer(raw, dtype.numpy()).reshape(shape, order="C" if order == "K" else order)
        array = array if axes is None else array.transpose(axes)
        native = array.astype(array.dtype.newbyteorder("="), order="C")
        self.value = torch.from_numpy(native)


class Buffer(Array):
    """A NumPy array as newer pickles have it."""

    __slots__ = ()

    def __new__(cls, *parts):
        array = super().__new__(cls)
        array.fill(*parts)
        return array


class Scalar(metaclass=Frozen):
    """A NumPy number, turned into one of Python's."""

    def __new__(cls, dtype, raw):
        return np.frombuffer(raw, dtype.numpy())[0].item()


class Storage(Kept):
    """The numbers behind a tensor: a file within the file, read by torch as tensors and nothing else."""

    __slots__ = ("value",)

    def __new__(cls, raw):
        kept = super().__new__(cls)
        storage = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        if not isinstance(storage, torch.storage.TypedStorage):
            raise ValueError("a tensor's numbers are missing")
        kept.value = torch.empty(0, dtype=storage.dtype).set_(storage)
        return kept


class Tensor(Kept):
    """A tensor; its numbers are `value`."""

    __slots__ = ("value",)

    def __new__(cls, storage, offset, size, stride, *_):
        kept = super().__new__(cls)
        if len(size) != len(stride) or math.prod(size) > storage.value.numel():
            raise ValueError("a tensor of impossible shape")
        kept.value = storage.value.as_strided(size, stride, offset).clone(memory_format=torch.contiguous_format)
        return kept


class Parameter(metaclass=Frozen):
    """A tensor that was trained: the tensor."""

    def __new__(cls, data, *_):
        return data


class Encoded(metaclass=Frozen):
    """Bytes that an old protocol wrote as text."""

    def __new__(cls, text, encoding):
        if encoding != "latin1":
            raise ValueError(f"bytes written as {encoding!r}")
        return text.encode("latin1")


ALLOWED = {
    **dict.fromkeys(("collections.OrderedDict", "dnnlib.util.EasyDict", "dnnlib.EasyDict", "config.EasyDict"), Mapping),
    **dict.fromkeys(("tfutil.Network", "network.Network", "dnnlib.tflib.network.Network"), Kept),
    **dict.fromkeys(
        ("models.utils.config.BaseConfig", "argparse.Namespace", "types.SimpleNamespace", "numpy.ndarray"), Kept
    ),
    **{f"numpy.{core}.multiarray._reconstruct": Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": Scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": Buffer for core in ("core", "_core")},
    "numpy.dtype": Dtype,
    "_codecs.encode": Encoded,
    "builtins.set": set,
    "torch._utils._rebuild_tensor_v2": Tensor,
    "torch._utils._rebuild_parameter": Parameter,
    "torch.storage._load_from_bytes": Storage,
    "torch_utils.persistence._reconstruct_persistent_obj": Persistent,
}
# torch's own reader rebuilds tensors itself; these may stand beside them in its files.
BESIDE_TENSORS = [
    (dict if stand_in is Mapping else stand_in, name)
    for name, stand_in in ALLOWED.items()
    if stand_in in (Kept, Array, Scalar, Dtype, Encoded) or name.endswith("EasyDict")
]


class Reader(Unpickler):
    """Unpickler that knows the allow-list and nothing else."""

    def __init__(self, stream, name):
        super().__init__(stream)
        self.name = name

    def find_class(self, module, name):
        wanted = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if wanted not in ALLOWED:
            raise Refused(self.name, wanted)
        return ALLOWED[wanted]

    def persistent_load(self, pid):
        raise Refused(self.name, f"an object kept elsewhere ({str(pid)[:40]})")


def read(stream, name):
    """Read a pickle into plain values and stand-ins; `tensor` gets at the numbers.

    stream: binary file. name: what errors call it. Raises ValueError (`Refused`) for a file that names anything
    outside the allow-list, ValueError for a broken one. Explained in notebook 08.
    """
    return _guarded(lambda: Reader(stream, name).load(), name)


def read_torch(stream, name):
    """Read a file of `torch.save` into plain values, tensors and stand-ins. Errors as in `read`."""

    def load():
        with torch.serialization.safe_globals(BESIDE_TENSORS):
            return torch.load(stream, map_location="cpu", weights_only=True)

    return _guarded(load, name)


def tensor(value):
    """Return the tensor that a value of a file is, None if it is none."""
    value = getattr(value, "value", None) if isinstance(value, Kept) else value
    return value.detach() if isinstance(value, torch.Tensor) else None


def _guarded(load, name):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about a file is an error below, or does not matter
            return load()
    except Refused:
        raise
    except Exception as error:  # a broken pickle can raise nearly anything
        wanted = re.search(r"(?:GLOBAL|Trying to call reduce for unrecognized function) (\S+)", str(error))
        if wanted:
            raise Refused(name, wanted[1]) from None
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0][:120]
        reason = reason or type(error).__name__
        raise ValueError(f"{name} is truncated or damaged ({reason}): fetch it again") from None
