import errno
import os
import pathlib
import re
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from helpers import env, survey
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks.pggan import Layers
from helpers.streaming import partials, shards
from tests.networks import tiny_generator
from tests.surveys import assert_same


@pytest.fixture(scope="module")
def flow():
    return Flow(Layers(tiny_generator()), batch=8)


@pytest.fixture(scope="module")
def z():
    return latents(range(70), 9)


@pytest.fixture(scope="module")
def expected(flow, z):
    return survey.survey(flow, z)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(survey, "SHARD", 16)


@pytest.fixture
def computed(monkeypatch):
    """The first images of the shards that are computed from here on."""
    starts, run = [], shards.run

    def watching(flow, make, known, z, start, *rest):
        starts.append(start)
        return run(flow, make, known, z, start, *rest)

    monkeypatch.setattr(shards, "run", watching)
    return starts


# Resuming


def test_a_finished_survey_is_read_and_not_computed_again(flow, z, expected, computed, tmp_path):
    folder = tmp_path / "a" / "b"
    assert_same(survey.survey(flow, z, resume=folder), expected)
    assert computed == [0, 16, 32, 48, 64]
    assert_same(survey.survey(flow, z, resume=str(folder)), expected)
    assert len(computed) == 5 and len(list(folder.iterdir())) == 5


KILLED = """
import os, signal
from pathlib import Path
from helpers import survey
from helpers.flow import Flow
from helpers.latents import latents
from helpers.pggan import Layers
from tests.networks import tiny_generator

survey.SHARD, write = 16, Path.write_bytes

def deadly(path, whole):
    if len(list(path.parent.glob("images-*"))) == 2:  # in the middle of writing the third
        write(path, whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, whole)

Path.write_bytes = deadly
survey.survey(Flow(Layers(tiny_generator()), batch=8), latents(range(70), 9), resume=os.environ["FOLDER"])
"""


def test_a_survey_that_was_killed_goes_on_with_the_next_shard(flow, z, expected, computed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(env.ROOT), "FOLDER": str(tmp_path), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", KILLED], env=environment, timeout=1500, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert len(list(tmp_path.glob("images-*"))) == 2 < len(list(tmp_path.iterdir()))
    with warnings.catch_warnings(action="error"):
        assert_same(survey.survey(flow, z, resume=tmp_path), expected)
    assert computed == [32, 48, 64]


def test_a_longer_survey_goes_on_from_a_shorter_one(flow, z, expected, computed, tmp_path):
    survey.survey(flow, z[:48], resume=tmp_path)
    assert_same(survey.survey(flow, z, resume=tmp_path), expected)
    assert computed == [0, 16, 32, 48, 64]


def test_an_engine_keeps_its_shards_too(flow, z, expected, computed, tmp_path):
    survey.survey(flow, z[:48], resume=tmp_path)
    with ThreadPoolExecutor(2) as pool:
        assert_same(survey.survey(flow, z, map=pool, resume=tmp_path), expected)
    assert sorted(computed) == [0, 16, 32, 48, 64]
    assert_same(survey.survey(flow, z, resume=tmp_path), expected)
    assert len(computed) == 5


def test_the_other_functions_resume_as_well(flow, z, expected, computed, tmp_path):
    for _ in range(2):
        levels = survey.thresholds(flow, z, resume=tmp_path)
        rates = survey.activation_rates(flow, z, resume=tmp_path)
        tops = survey.top_images(flow, z, resume=tmp_path)
        maxima = survey.unit_maxima(flow, z, resume=tmp_path)
    assert len(computed) == 4 * 5
    assert maxima[3].shape == (70, 10)
    for layer in levels:
        assert torch.equal(levels[layer], expected.thresholds[layer])
        assert torch.equal(rates[layer], expected.rates[layer]) and torch.equal(tops[layer], expected.top[layer])


def test_whatever_changes_the_result_changes_the_shards(monkeypatch, flow, z, computed, tmp_path):
    survey.survey(flow, z, resume=tmp_path)
    other = Flow(Layers(tiny_generator()), batch=8)
    with torch.no_grad():
        other.network.generator.layer3.bias[0] += 1e-3
    runs = [
        lambda: survey.survey(other, z, resume=tmp_path),
        lambda: survey.survey(flow, z + 1e-6, resume=tmp_path),
        lambda: survey.survey(flow, z, 0.01, resume=tmp_path),
        lambda: survey.survey(flow, z, k=3, resume=tmp_path),
        lambda: survey.survey(flow, z, by="norm", resume=tmp_path),
        lambda: survey.survey(flow, z, layers=[1, 2], resume=tmp_path),
        lambda: survey.survey(flow, z, above={n: torch.ones(flow.units(n)) for n in flow.layers}, resume=tmp_path),
        lambda: survey.part(flow, z, tmp_path / "part", first=70, resume=tmp_path),
    ]
    for run in runs:
        computed.clear()
        run()
        assert len(computed) == 5
    computed.clear()
    survey.survey(flow, z, resume=tmp_path)
    assert not computed
    monkeypatch.setattr(shards, "_code", lambda flow, make: "a new version")
    survey.survey(flow, z, resume=tmp_path)
    assert len(computed) == 5


def test_the_code_is_that_of_the_network_and_of_what_the_survey_computes_with(monkeypatch, flow, tmp_path):
    make = survey.partial(survey._everything)
    seen = []
    sha256 = shards.store.sha256
    monkeypatch.setattr(shards.store, "sha256", lambda path: seen.append(pathlib.Path(path).stem) or sha256(path))
    before = shards._code(flow, make)
    assert {"pggan", "flow", "bins", "brackets", "quantiles", "statistics", "shards", "survey"} <= set(seen)
    assert not {"show", "widgets", "units", "churches"} & set(seen)
    changed = lambda path: "0" if pathlib.Path(path).stem == "quantiles" else sha256(path)  # noqa: E731
    monkeypatch.setattr(shards.store, "sha256", changed)
    assert shards._code(flow, make) != before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "header", "empty", "garbage"])
def test_a_damaged_shard_is_computed_again_and_said_so(flow, z, expected, computed, tmp_path, damage):
    survey.survey(flow, z, resume=tmp_path)
    computed.clear()
    (file,) = tmp_path.glob("images-32-47-*")
    good = file.read_bytes()
    flipped, header = bytearray(good), bytearray(good)
    flipped[-1000] ^= 4
    header[20] ^= 4
    bad = {"truncated": good[:-7], "flipped": flipped, "header": header, "empty": b"", "garbage": b"x" * 999}[damage]
    file.write_bytes(bad)
    with pytest.warns(UserWarning, match=rf"{re.escape(file.name)} is damaged \(.*\): surveying its images again"):
        assert_same(survey.survey(flow, z, resume=tmp_path), expected)
    assert computed == [32]
    with warnings.catch_warnings(action="error"):
        assert_same(survey.survey(flow, z, resume=tmp_path), expected)
    assert computed == [32]


def only_one(caught, folder):
    mine = [str(one.message) for one in caught if "surveying without keeping shards" in str(one.message)]
    assert len(mine) == 1 and mine[0].startswith(f"{folder} cannot be written (")
    return mine[0]


def test_a_full_disk_degrades_to_computing(monkeypatch, flow, z, expected, computed, tmp_path):
    write, full = pathlib.Path.write_bytes, OSError(errno.ENOSPC, "No space left on device")

    def filling(path, whole):
        if len(list(tmp_path.iterdir())) == 2:
            write(path, whole[:100])
            raise full
        return write(path, whole)

    monkeypatch.setattr(pathlib.Path, "write_bytes", filling)
    with pytest.warns(UserWarning) as caught:
        assert_same(survey.survey(flow, z, resume=tmp_path), expected)
    assert "No space left" in only_one(caught, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 and len(computed) == 5
    monkeypatch.undo()
    monkeypatch.setattr(survey, "SHARD", 16)
    assert_same(survey.survey(flow, z, resume=tmp_path), expected)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.fixture
def unprivileged(tmp_path):
    """Run as an ordinary user, whom a folder's mode keeps out."""
    if os.geteuid():
        yield
        return
    modes = {folder: folder.stat().st_mode for folder in (tmp_path, *tmp_path.parents)}
    closed = {folder: mode for folder, mode in modes.items() if mode & 0o005 != 0o005}
    for folder, mode in closed.items():
        folder.chmod(mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for folder, mode in closed.items():
            folder.chmod(mode)


def test_a_read_only_folder_is_read_but_not_written(flow, z, expected, computed, tmp_path, request):
    folder = tmp_path / "kept"
    survey.survey(flow, z[:32], resume=folder)
    folder.chmod(0o555)
    request.getfixturevalue("unprivileged")
    computed.clear()
    with pytest.warns(UserWarning) as caught:
        assert_same(survey.survey(flow, z, resume=folder), expected)
    only_one(caught, folder)
    assert computed == [32, 48, 64] and len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_made_degrades_to_computing(flow, z, expected, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.warns(UserWarning) as caught:
            assert_same(survey.survey(flow, z, resume=folder), expected)
        only_one(caught, folder)


# Workers and shards


def test_a_worker_with_other_weights_is_refused(flow, z):
    make = survey.partial(survey._maxima, [1], survey.reduction("max"))
    known = partials.weights(flow)
    assert shards.run(flow, make, known, z[:4], 10).start == 10
    with pytest.raises(ValueError, match=rf"other weights \({known[:12]}\) than the caller \(0123456789ab\): load the"):
        shards.run(flow, make, "0123456789abcdef", z[:4], 0)


def test_a_map_that_loses_or_repeats_results_is_refused(flow, z):
    with pytest.raises(ValueError, match="images 16 to 31 are missing"):
        survey.survey(flow, z, map=lambda f, *rows: [f(*row) for n, row in enumerate(zip(*rows)) if n != 1])
    with pytest.raises(ValueError, match="map handed back images 0 to 63 of 0 to 69"):
        survey.survey(flow, z, map=lambda f, *rows: [f(*row) for row in zip(*rows)][:-1])
    with pytest.raises(ValueError, match="images 0 to 15 come twice"):
        survey.survey(flow, z, map=lambda f, *rows: [f(*row) for row in zip(*rows)] * 2)


# Progress


class Bar:
    """Stands in for tqdm, and remembers."""

    made = []

    def __init__(self, iterable=None, **options):
        self.options, self.steps, self.closed = options, [], False
        Bar.made.append(self)

    def update(self, images):
        self.steps.append(images)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed = True


def test_progress_counts_images_batch_by_batch_here_and_shard_by_shard_elsewhere(monkeypatch, flow, z, tmp_path):
    monkeypatch.setattr(env, "tqdm", Bar)
    monkeypatch.setattr(Bar, "made", [])
    survey.survey(flow, z)
    survey.survey(flow, z, map=lambda *args: map(*args))
    survey.survey(flow, z[:32], resume=tmp_path)
    survey.survey(flow, z, resume=tmp_path)
    here, elsewhere, _, rest = Bar.made
    assert here.steps == [8] * 8 + [6] and elsewhere.steps == [16, 16, 16, 16, 6]
    assert sum(rest.steps) == 38 == rest.options["total"]  # what was kept took no time, so it is no progress
    assert here.options["total"] == 70 and here.options["unit"] == " images" and here.options["delay"] == 2
    assert all(bar.closed for bar in Bar.made)
