"""Every hostile file here would leave a file behind if it were opened with plain pickle, which is tried as well."""

import builtins
import collections
import copyreg
import functools
import io
import operator
import os
import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from helpers import checkpoints
from helpers.weights import unpickle
from tests import published


def read(raw):
    return unpickle.read(io.BytesIO(raw), "weights.pkl")


def through(value, protocol=4):
    return read(pickle.dumps(value, protocol))


CARELESS = {"weights_" + "only": False}  # in parts, as no file of the repository may spell it


# What may be in a file


ARRAYS = [
    np.arange(6, dtype=">f4").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.ones((), np.float16),
    np.array([True, False]),
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_arrays_come_back(array, protocol):
    found = unpickle.tensor(through(array, protocol))
    assert found.shape == array.shape and np.array_equal(found.numpy(), array)
    assert found.numpy().dtype == array.dtype.newbyteorder("=") and found.is_contiguous()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_come_back(protocol):
    turned = torch.arange(12.0).view(3, 4).T
    for original in (turned, turned[1:, ::2], torch.tensor(3), turned.half(), turned.bfloat16(), torch.zeros(0, 2)):
        found = unpickle.tensor(through({"w": original}, protocol)["w"])
        assert torch.equal(found, original) and found.dtype == original.dtype and found.is_contiguous()
    parameter = torch.nn.Parameter(torch.randn(2, 3))
    found = unpickle.tensor(through(parameter, protocol))
    assert torch.equal(found, parameter.data) and not found.requires_grad


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_back(protocol):
    values = {"a": [1, 2.5, None, True], "b": ("x", b"\x00\xff"), 3: {1, 2}, "n": np.float32(1.5), "i": np.int64(7)}
    found = through(collections.OrderedDict(values), protocol)
    assert found == values and list(found) == list(values)
    assert type(found["n"]) is float and type(found["i"]) is int
    state = torch.nn.Linear(3, 2).state_dict()  # an OrderedDict with an attribute
    assert list(through(state, protocol)) == ["weight", "bias"]


def test_numpys_old_and_new_module_names_are_known():
    raw = pickle.dumps(np.arange(3.0), 2)
    old, new = b"numpy.core.multiarray", b"numpy._core.multiarray"
    assert (old in raw) != (new in raw)
    for text in (raw.replace(new, old), raw.replace(old, new) if old in raw else raw):
        assert unpickle.tensor(read(text)).tolist() == [0, 1, 2]


def test_objects_become_stand_ins_that_only_keep():
    with published.pretended("tfutil.Network", "dnnlib.util.EasyDict") as (network, easy):
        made = network()
        made.version, made.static_kwargs, made.build_module_src = 2, easy(fused=True), "open('executed', 'w')"
        raw = pickle.dumps((made, easy(a=1)))
    kept, items = read(raw)
    assert type(kept) is unpickle.Kept and kept.state["static_kwargs"] == {"fused": True}
    assert kept.state["build_module_src"] == "open('executed', 'w')" and items == {"a": 1}
    assert kept.get("version") == 2 and kept.get("nothing", 5) == 5


def test_torchs_files_may_hold_stand_ins_beside_tensors(tmp_path):
    with published.pretended("models.utils.config.BaseConfig", "dnnlib.util.EasyDict") as (base, easy):
        config = base()
        config.__dict__.update(
            depth=[5, 6], more=types.SimpleNamespace(a=1), rate=np.float32(0.5), table=np.arange(2.0)
        )
        for zipped in (True, False):
            stream = io.BytesIO()
            contents = {"config": config, "more": easy(a=1), "w": torch.ones(2)}
            torch.save(contents, stream, _use_new_zipfile_serialization=zipped)
            stream.seek(0)
            found = unpickle.read_torch(stream, "x.pth")
            assert found["config"].get("depth") == [5, 6] and found["config"].get("rate") == 0.5
            assert found["config"].get("more").state == {"a": 1}
            assert unpickle.tensor(found["config"].get("table")).tolist() == [0, 1]
            assert found["more"] == {"a": 1} and torch.equal(unpickle.tensor(found["w"]), torch.ones(2))


# Hostile files


class Gadget:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Told(Gadget):
    """Hands a state to whatever it makes."""

    def __init__(self, function, args, state):
        self.call = function, args, state


class RunsItsState:
    """Stands for a class of a file whose state is run, as that of Karras' networks is."""

    def __setstate__(self, state):
        exec(state["build_module_src"])


def touch(path):
    return f"open({str(path)!r}, 'w').close()"


def nested(path):
    """A tensor whose numbers are a torch file that is hostile."""
    inner = io.BytesIO()
    torch.save(Gadget(os.system, f"touch {path}"), inner, _use_new_zipfile_serialization=False)
    return Gadget(careless_storage, inner.getvalue())


def careless_storage(raw):
    return torch.load(io.BytesIO(raw), **CARELESS)


careless_storage.__module__, careless_storage.__qualname__ = "torch.storage", "_load_from_bytes"


def built(path):
    """BUILD, twice, on an ordered dict: its first state gives it a __setstate__, its second one calls that."""
    name = lambda module, what: b"c" + module.encode() + b"\n" + what.encode() + b"\n"  # noqa: E731
    text = lambda value: b"X" + len(value).to_bytes(4, "little") + value.encode()  # noqa: E731
    first = b"}" + text("__setstate__") + name("builtins", "exec") + b"sb"
    return b"\x80\x02" + name("collections", "OrderedDict") + b")R" + first + text(touch(path)) + b"b."


HOSTILE = {
    "os.system": lambda path: pickle.dumps(Gadget(os.system, f"touch {path}")),
    "eval": lambda path: pickle.dumps(Gadget(builtins.eval, touch(path))),
    "exec": lambda path: pickle.dumps(Gadget(builtins.exec, touch(path))),
    "exec, protocol 0": lambda path: b"\x80\x02" + pickle.dumps(Gadget(builtins.exec, touch(path)), 0),
    "subprocess": lambda path: pickle.dumps(Gadget(subprocess.call, ["touch", str(path)])),
    "open": lambda path: pickle.dumps(Gadget(open, str(path), "w")),
    "partial": lambda path: pickle.dumps(Gadget(functools.partial(os.mkdir, str(path)))),
    "methodcaller": lambda path: pickle.dumps(Gadget(operator.methodcaller("touch"), path)),
    "inside a weight dict": lambda path: pickle.dumps({"layer0.weight": Gadget(os.mkdir, str(path))}),
    "inside a storage": lambda path: pickle.dumps({"layer0.weight": nested(path)}),
    "BUILD": built,
    "__setstate__": lambda path: pickle.dumps(Told(RunsItsState, (), {"build_module_src": touch(path)})),
    "numpy": lambda path: pickle.dumps(Gadget(np.lib.format.open_memmap, str(path), "w+", np.float32, (1,))),
    "torch.load": lambda path: pickle.dumps(Gadget(torch.save, [1], str(path))),
}


@pytest.fixture
def trap(tmp_path):
    return tmp_path / "sprung"


@pytest.mark.parametrize("how", HOSTILE)
def test_the_trap_works_with_plain_pickle(trap, how, monkeypatch):
    monkeypatch.setattr(torch.storage, "_load_from_bytes", careless_storage)  # as torch's own once was
    raw = HOSTILE[how](trap)
    assert not trap.exists()
    with np.errstate(all="ignore"):
        pickle.loads(raw)
    assert trap.exists()


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("name", ["w.pkl", "w.pth", "w.safetensors", "w"])
def test_hostile_pickles_are_refused(tmp_path, trap, how, name, monkeypatch):
    with monkeypatch.context() as careless:
        careless.setattr(torch.storage, "_load_from_bytes", careless_storage)
        raw = HOSTILE[how](trap)
    (tmp_path / name).write_bytes(raw)
    for load in (checkpoints.load_generator, checkpoints.load_discriminator):
        with pytest.raises(ValueError, match=f"^{name} asks for [^ ]+, which no weight file needs") as caught:
            load(tmp_path / name)
        assert "allowed are plain values, NumPy arrays, tensors" in str(caught.value) and "\n" not in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors", "w"])
def test_hostile_torch_files_are_refused(tmp_path, trap, zipped, name):
    path = tmp_path / name
    torch.save({"w": torch.ones(2), "x": Gadget(os.mkdir, str(trap))}, path, _use_new_zipfile_serialization=zipped)
    for load in (checkpoints.load_generator, checkpoints.load_discriminator):
        with pytest.raises(ValueError, match=f"^{name} asks for posix.mkdir, which no weight file needs"):
            load(path)
    assert not trap.exists()
    torch.load(io.BytesIO(path.read_bytes()), **CARELESS)
    assert trap.exists()


def test_a_networks_source_is_never_run(tmp_path, trap):
    """Both kinds of published pickle carry source code that their own readers run."""
    state = published.tensorflow_file()[0] | {"build_module_src": touch(trap)}
    with published.pretended("tfutil.Network") as (network,):
        made = network()
        made.__dict__.update(state)
        (tmp_path / "karras.pkl").write_bytes(pickle.dumps((made, made, made)))
        network.__setstate__ = RunsItsState.__setstate__
        pickle.loads((tmp_path / "karras.pkl").read_bytes())
    assert trap.exists()
    trap.unlink()
    assert checkpoints.load_generator(tmp_path / "karras.pkl").n_layers == 7
    assert not trap.exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_programs_and_foreign_archives_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "program.pth")
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    for name in ("program.pth", "arrays.npz", "text.zip"):
        with pytest.raises(ValueError, match=f"^{name} ") as caught:
            checkpoints.load_generator(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_names_that_only_resemble_allowed_ones_are_refused():
    for module, name in [
        ("torch._utils", "_rebuild_tensor"),
        ("collections", "OrderedDict.__init__"),
        ("numpy", "load"),
        ("tfutil", "Network.__init__.__globals__"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("builtins", "set.__class__"),
    ]:
        raw = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name)) + b"\x93."
        with pytest.raises(unpickle.Refused, match=rf"asks for {module}.{name}, "):
            read(raw)


def test_numbers_kept_elsewhere_and_extensions_are_refused():
    with pytest.raises(unpickle.Refused, match="an object kept elsewhere"):
        read(b"\x80\x02X\x01\x00\x00\x00aQ.")
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(unpickle.Refused, match="asks for os.system"):
            read(b"\x80\x02\x82\xf0.")
    finally:
        copyreg.remove_extension("os", "system", 240)


def test_a_file_cannot_alter_the_stand_ins():
    text = lambda value: b"X" + len(value).to_bytes(4, "little") + value.encode()  # noqa: E731
    for full in unpickle.ALLOWED:
        module, _, what = full.rpartition(".")
        name = b"c" + module.encode() + b"\n" + what.encode() + b"\n"
        for state in (b"}" + text("x") + b"K\x01s", b"N}" + text("__setstate__") + name + b"s\x86"):
            with pytest.raises(ValueError, match="truncated or damaged"):  # attributes, and those of slots
                read(b"\x80\x02" + name + state + b"b.")
        assert not hasattr(unpickle.ALLOWED[full], "x")
    assert unpickle.Kept.__setstate__ is not unpickle.Kept and not hasattr(unpickle.Scalar, "__setstate__")
    # On an instance a state is only kept, whatever it is called.
    name = b"ctfutil\nNetwork\n"
    kept = read(b"\x80\x02" + name + b")\x81}" + text("__setstate__") + name + b"sb}b.")
    assert type(kept) is unpickle.Kept and kept.state == {}


def test_a_type_of_numbers_is_not_shared_with_numpy():
    dtype = pickle.dumps(np.dtype(">f4"), 2)
    kept = read(dtype)
    assert kept.numpy() == np.dtype(">f4") and np.dtype("f4").byteorder == "="


@pytest.mark.parametrize("code", ["O8", "V8", "S3", "U2", "f16", "M8", "O", "f4,f4"])
def test_arrays_of_other_things_than_numbers_are_refused(code):
    raw = pickle.dumps(np.zeros(2, np.float32), 2)
    assert raw.count(b"f4") == 1
    broken = raw.replace(b"X\x02\x00\x00\x00f4", b"X" + len(code).to_bytes(4, "little") + code.encode())
    with pytest.raises(ValueError, match="weights.pkl is truncated or damaged"):
        read(broken)


@pytest.mark.parametrize("shape", [(3, 3), (10**6, 10**6), (-1, 2)])
def test_tensors_beyond_their_numbers_are_refused(shape):
    parts = torch.ones(4).__reduce_ex__(2)[1]
    for stride in ((1, 1), (10**6, 1), (-1, 1), (0, 0)):
        rebuilt = Gadget(torch._utils._rebuild_tensor_v2, parts[0], 0, shape, stride, False, collections.OrderedDict())
        with pytest.raises(ValueError, match="weights.pkl is truncated or damaged"):
            read(pickle.dumps(rebuilt))


def test_no_byte_lost_goes_unnoticed():
    raw = pickle.dumps({"w": torch.ones(3), "a": np.ones(3), "n": 1})
    for keep in range(2, len(raw), 7):
        with pytest.raises(ValueError, match="weights.pkl is truncated or damaged|asks for"):
            read(raw[:keep])


def test_random_damage_never_runs_or_escapes():
    raw, rng = bytearray(pickle.dumps({"w": torch.ones(3), "a": np.ones(3), "n": [1, "x"]})), np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        broken = bytearray(raw)
        for place in rng.integers(2, len(raw), 3):
            broken[place] = rng.integers(256)
        try:
            read(bytes(broken))
        except ValueError:
            refused += 1
    assert refused > 200


def test_nothing_is_imported_that_a_file_names(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with pytest.raises(unpickle.Refused):
        read(b"\x80\x02cthis\ns\n.")
    assert "this" not in sys.modules
