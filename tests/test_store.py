import hashlib
import json
import os

import numpy as np
import pytest
import torch

from helpers import store
from tools.build import manifest

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("HELPERS_DATA", str(tmp_path))
    monkeypatch.delenv("HELPERS_CACHE", raising=False)
    folder = tmp_path / "world"
    (folder / "more").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(CONTENT)
    (folder / "more" / "labels.csv").write_text("id,label\n")
    (folder / "README.md").write_text("a data card is not listed")
    manifest.record("world")
    return folder


def later(path):
    """Give a file another time, as a change made later would."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def test_manifest_lists_sizes_and_hashes(data):
    entries = json.loads((data / "manifest.json").read_text())
    assert list(entries) == ["more/labels.csv", "weights.bin"]
    assert entries["weights.bin"] == {"sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": 2048}


def test_manifest_replaces_single_entries(data):
    (data / "weights.bin").write_bytes(b"new")
    (data / "more" / "labels.csv").write_text("changed, but not recorded")
    entries = manifest.record("world", ["weights.bin"])
    assert entries["weights.bin"]["bytes"] == 3 and entries["more/labels.csv"]["bytes"] == 9
    with pytest.raises(FileNotFoundError, match="name it relative to that folder"):
        manifest.record("world", ["world/weights.bin"])


def test_fetch_returns_checked_files(data):
    assert store.fetch("world/weights.bin").read_bytes() == CONTENT
    assert store.fetch("world/more/labels.csv").read_text() == "id,label\n"


def test_fetch_hashes_a_file_once_until_it_changes(data, monkeypatch):
    store.fetch("world/weights.bin")
    hashed = []
    monkeypatch.setattr(store, "sha256", lambda path: hashed.append(path) or "0" * 64)
    store.fetch("world/weights.bin")
    assert not hashed
    later(data / "weights.bin")
    with pytest.raises(ValueError, match="was altered"):
        store.fetch("world/weights.bin")
    assert hashed == [data / "weights.bin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:1000], r"is truncated: 1000 bytes, expected 2048, run `git checkout -- data/world/weights.bin`"),
        (CONTENT + b"x", "is too long: 2049 bytes"),
        (CONTENT[:-1] + b"x", "was altered: its sha256 starts .* the manifest says .* run `git checkout"),
        (b"version https://git-lfs.example/spec/v1\noid sha256:00\n", "Git LFS pointer.*run `git lfs pull`"),
    ],
    ids=["truncated", "too long", "altered", "pointer"],
)
def test_fetch_refuses_faulty_files(data, content, message):
    (data / "weights.bin").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        store.fetch("world/weights.bin")


def test_fetch_says_how_to_restore_a_missing_file(data):
    (data / "weights.bin").unlink()
    with pytest.raises(FileNotFoundError, match="data/world/weights.bin is missing: run `git checkout"):
        store.fetch("world/weights.bin")


@pytest.mark.parametrize("name", ["world/other.bin", "world/../world/weights.bin", "world", "world/"])
def test_fetch_knows_only_the_manifest(data, name):
    with pytest.raises(ValueError, match="there is no data file .* lists: more/labels.csv, weights.bin"):
        store.fetch(name)


@pytest.mark.parametrize("name", ["mars/weights.bin", "../world/weights.bin", "/etc/passwd", ""])
def test_fetch_knows_only_folders_with_a_manifest(data, name):
    with pytest.raises(ValueError, match="there is no data folder .* there is: world"):
        store.fetch(name)


def same(a, b):
    if isinstance(a, torch.Tensor | np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(map(same, a.values(), b.values()))
    return type(a) is type(b) and a == b


VALUES = [
    None,
    True,
    7,
    0.1,
    "text with \n ü",
    float("inf"),
    torch.arange(6.0).view(2, 3).T,
    torch.zeros(0, 4, dtype=torch.bool),
    torch.tensor(3, dtype=torch.int64),
    torch.ones(2, dtype=torch.bfloat16),
    np.arange(5, dtype=np.uint8),
    np.float32(0.5),
    np.int64(4),
    [],
    {},
    (1, [2.5, None], {"a": (), 3: torch.ones(2), "3": [torch.eye(2, dtype=torch.float64)]}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_memo_returns_what_was_computed(data, value, capsys):
    count = Count()

    def compute():
        count.calls += 1
        return value

    for _ in range(2):
        assert same(store.memo("a value", compute), value)
    assert count.calls == 1
    assert capsys.readouterr().out.startswith("cached: delete ")


class Count:
    """Counts calls; as an object without plain content it is not part of a key."""

    calls = 0


def hits(capsys):
    return capsys.readouterr().out.count("cached:")


def square(x, offset=0):
    return torch.tensor(float(x * x + offset))


def test_memo_keys_on_params_name_code_and_switches(data, capsys, monkeypatch):
    assert store.memo("square", square, x=3).item() == 9
    assert store.memo("square", square, offset=1, x=3).item() == 10
    assert store.memo("Square", square, x=4).item() == 16
    assert store.memo("other", square, x=3).item() == 9
    assert store.memo("square", lambda x: square(x) + 1, x=3).item() == 10
    assert hits(capsys) == 0
    monkeypatch.setenv("SMOKE", "1")
    store.memo("square", square, x=3)
    assert hits(capsys) == 0
    monkeypatch.delenv("SMOKE")
    store.memo("square", square, x=3)
    store.memo("square", square, x=3, offset=1)
    assert hits(capsys) == 2
    (data / "weights.bin").write_bytes(b"other weights")
    manifest.record("world")
    store.memo("square", square, x=3)
    assert hits(capsys) == 0


def test_memo_keys_on_what_the_function_refers_to(data, capsys):
    z, n, nested = torch.arange(4.0), 2, {"masks": [np.ones(3)]}

    def compute():
        return z * n + sum(float(m.sum()) for m in nested["masks"])

    assert store.memo("closure", compute).tolist() == [3, 5, 7, 9]
    n = 3
    assert store.memo("closure", compute).tolist() == [3, 6, 9, 12]
    z = z + 1
    assert store.memo("closure", compute).tolist() == [6, 9, 12, 15]
    nested["masks"].append(np.ones(1))
    assert store.memo("closure", compute).tolist() == [7, 10, 13, 16]
    assert hits(capsys) == 0
    z = z.clone()
    assert store.memo("closure", compute).tolist() == [7, 10, 13, 16]
    assert hits(capsys) == 1


def test_memo_sees_globals_used_inside_inner_functions(data, capsys):
    scope = {"n": 2, "__name__": "__main__"}
    exec("def step(i): return n * i if i else step(i + 1)", scope)
    exec("def compute(): return [n * i for i in range(3)], step(0)", scope)
    assert store.memo("inner", scope["compute"]) == ([0, 2, 4], 2)
    scope["n"] = 5
    assert store.memo("inner", scope["compute"]) == ([0, 5, 10], 5)
    assert hits(capsys) == 0


def entry(data):
    (path,) = (data.parent / "cache").iterdir()
    return path


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_memo_recomputes_a_damaged_entry(data, capsys, damage):
    def compute():
        return {"x": torch.arange(100.0), "note": "kept"}

    store.memo("damaged", compute)
    path = entry(data)
    whole = path.read_bytes()
    faults = {
        "truncated": whole[:-40],
        "flipped": whole[:-9] + b"\x7f" + whole[-8:],
        "empty": b"",
        "foreign": b"{}" * 50,
    }
    path.write_bytes(faults[damage])
    assert store.memo("damaged", compute)["x"][99] == 99
    assert "is damaged" in capsys.readouterr().out
    store.memo("damaged", compute)
    assert hits(capsys) == 1


def test_memo_leaves_no_part_files_and_never_pickles(data):
    store.memo("clean", square, x=2)
    assert entry(data).suffix == ".safetensors"
    assert b"\x80\x04" not in entry(data).read_bytes()[:2]


def test_memo_computes_where_it_cannot_write(data, monkeypatch):
    monkeypatch.setenv("HELPERS_CACHE", str(data / "weights.bin"))  # a file stands where the folder should be
    with pytest.warns(UserWarning, match="could not be written .*computed, not cached"):
        assert store.memo("blocked", square, x=3).item() == 9


def test_memo_survives_a_full_disk(data, monkeypatch):
    def full(self, whole):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert store.memo("full", square, x=3).item() == 9
    assert not list((data.parent / "cache").iterdir())


def test_memo_can_be_switched_off(data, monkeypatch, capsys):
    monkeypatch.setenv("HELPERS_CACHE", "0")
    for _ in range(2):
        assert store.memo("off", square, x=3).item() == 9
    assert hits(capsys) == 0 and not (data.parent / "cache").exists()


def test_memo_refuses_params_that_are_not_json(data):
    with pytest.raises(TypeError, match="params of memo must be plain JSON values .*let fn refer to tensors"):
        store.memo("bad", square, x=torch.ones(1))


@pytest.mark.parametrize("value", [{1, 2}, object(), {(1, 2): 3}, np.array(["a"]), torch.ones(2).to_sparse()])
def test_memo_refuses_results_it_cannot_keep(data, value):
    with pytest.raises(TypeError, match="memo cannot keep a .*: return tensors"):
        store.memo("bad", lambda: value)


def test_memo_refuses_callables_it_cannot_look_into(data):
    with pytest.raises(TypeError, match="wrap it in a lambda"):
        store.memo("bad", torch.nn.Linear(1, 1))


def test_replace_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        store.replace(path, None)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_rows_are_those_of_a_setting(data):
    (data / "draws.csv").write_text("layer,seed,FD\n1,0,2.5\n6,0,3.5\n6,1,4.5\n6,2,5.5\n")
    manifest.record("world")
    assert store.measured("world/draws.csv").FD.tolist() == [2.5, 3.5, 4.5, 5.5]
    assert store.measured("world/draws.csv", layer=6, seed=range(1, 3)).FD.tolist() == [4.5, 5.5]
    assert len(store.measured("world/draws.csv", layer=6, seed=range(1, 4))) == 0  # one of them was never measured
    assert len(store.measured("world/draws.csv", layer=1, seed=range(2))) == 0
    assert store.measured("world/draws.csv", layer=6, seed=[0]).FD.tolist() == [3.5]
    assert len(store.measured("world/draws.csv", layer=7)) == 0
    assert len(store.measured("world/draws.csv", layer=[1, 6], seed=[0])) == 2
    assert len(store.measured("world/draws.csv", layer=[1, 6], seed=[0, 1])) == 0  # layer 1 has no seed 1
    with pytest.raises(KeyError, match="units"):
        store.measured("world/draws.csv", units=5)
    (data / "draws.csv").write_text("layer,seed,FD\n")
    with pytest.raises(ValueError, match="truncated"):
        store.measured("world/draws.csv", layer=6)


@pytest.mark.parametrize("name", ["world/other.csv", "mine/draws.csv", "my own photos!/draws.csv"])
def test_a_world_without_the_table_has_no_rows(data, name):
    assert len(store.measured(name, layer=6)) == 0
