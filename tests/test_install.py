"""The package, built, and installed from git into a fresh environment, used from elsewhere without the repository."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile

import pytest

from helpers import env

SOURCES = ("helpers", "pyproject.toml", "LICENSE", "README.md")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel made from a source distribution, as `pip install git+...` makes one: (wheel, source distribution)."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in SOURCES:
        source = env.ROOT / name
        copied = shutil.copytree if source.is_dir() else shutil.copy
        copied(source, copy / name)
    script = "from setuptools import build_meta; import sys; print(build_meta.build_sdist(sys.argv[1]))"
    run([sys.executable, "-c", script, str(out)], copy)
    (sdist,) = out.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*pip, "-w", str(out), str(sdist)], out)
    (wheel,) = out.glob("*.whl")
    return wheel, sdist


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The packages of a fresh environment into which pip installed the package from a git repository's address.

    What it needs is lent by the environment of the tests, and pip, which may fetch nothing, finds that it is all there.
    """
    if shutil.which("git") is None:
        pytest.skip("this test needs git")
    source, own = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("fresh")
    for name in SOURCES:
        (shutil.copytree if (env.ROOT / name).is_dir() else shutil.copy)(env.ROOT / name, source / name)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        run([*git, *command], source)
    run([sys.executable, "-m", "venv", "--without-pip", str(own)], own)
    (folder,) = own.glob("lib/python3*/site-packages")
    (folder / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python(folder)), "install", "--quiet", "--no-build-isolation"]
    run([*pip, "--no-index", f"git+{source.as_uri()}"], own)
    return folder


def python(site):
    """The interpreter of an environment, by the folder of its packages."""
    return site.parents[2] / "bin" / "python"


def run(command, folder, **variables):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HELPERS_", "PYTHONPATH"))}
    done = subprocess.run(
        command, cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_module_is_in_the_wheel_and_the_source_distribution(built):
    modules = {str(path.relative_to(env.ROOT)) for path in (env.ROOT / "helpers").rglob("*.py")}
    assert modules <= set(zipfile.ZipFile(built[0]).namelist())
    with tarfile.open(built[1]) as sdist:
        assert modules <= {name.partition("/")[2] for name in sdist.getnames()}


USE = """
import os, sys
from pathlib import Path
import torch
from torch import nn
import helpers
assert Path(helpers.__file__).is_relative_to(sys.argv[1]), helpers.__file__
from helpers import correct, domains, env, labels, show, store, survey, units, widgets
from helpers.flow import Flow
from helpers.latents import latents
torch.manual_seed(0)
module = nn.Sequential(nn.ConvTranspose2d(6, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())
flow, z = Flow.from_module(module, ["1"], (6, 1, 1)), latents(range(8), 6)
scores = {1: torch.rand(8)}
images = flow.generate(z, correct.sequential(scores, stop_layer=1))
print("drawn", tuple(images.shape), env.device().type)
print("kept", store.memo("a sum", lambda: float(sum(range(5)))))
print("saved", show.save(show.grid(images), "corrected"))
try:
    print("loaded", domains.load("churches").name)
except (FileNotFoundError, ValueError) as error:
    print("refused", type(error).__name__, error)
"""


def test_it_works_from_any_folder_and_says_where_its_data_is(site, tmp_path):
    (tmp_path / "use.py").write_text(USE)
    said = run([python(site), "use.py", str(site)], tmp_path, XDG_CACHE_HOME=str(tmp_path / "c"))
    assert "drawn (8, 3, 8, 8)" in said and "kept 10.0" in said
    assert (tmp_path / "figures" / "corrected.png").is_file()
    assert len(list((tmp_path / "c" / "helpers" / "cache").glob("a-sum-*"))) == 1
    assert re.search(
        "refused FileNotFoundError data/churches comes with the repository, not with the installed package: clone the "
        "repository and set HELPERS_DATA to its data folder",
        said,
    )
    assert sorted(path.name for path in site.iterdir() if "dist-info" not in path.name) == ["helpers", "lent.pth"]


def test_with_the_data_of_a_clone_it_is_the_whole_suite(site, tmp_path):
    (tmp_path / "use.py").write_text(USE)
    variables = {"HELPERS_DATA": str(env.ROOT / "data"), "HELPERS_CACHE": "0"}
    assert "loaded churches" in run([python(site), "use.py", str(site)], tmp_path, **variables)


def test_what_is_installed_with_it_is_what_requirements_say():
    given = tomllib.loads((env.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (env.ROOT / "requirements.txt").read_text().splitlines()
    wanted = {line.partition("#")[0].strip() for line in lines}
    assert set(given) <= wanted
    groups = "\n".join(lines).split("\n\n")
    packaged = [line.partition("#")[0].strip() for group in groups[2:4] for line in group.splitlines()[1:]]
    assert {*packaged, "ipywidgets>=8.1", "ipyevents>=2.0.2"} == set(given)
