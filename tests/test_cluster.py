"""Surveys on real clusters of this machine: the same numbers as alone, also when a worker is killed on the way."""

import logging
import os

import pytest
import torch
from safetensors.torch import save_file

from helpers import checkpoints, env, survey
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from helpers.streaming import engines
from tests.networks import Mortal, tiny_generator
from tests.surveys import assert_same

EXTRAS = "cluster tests need: pip install -r requirements-cluster.txt"


@pytest.fixture(scope="module", autouse=True)
def processes(tmp_path_factory):
    """What worker processes inherit: where the code is, one thread each, and no files outside the tests' folder."""
    own = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(env.ROOT), os.environ.get("PYTHONPATH")])))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("IPYTHONDIR", str(own))
        patch.chdir(own)
        yield


@pytest.fixture(scope="module")
def ipyparallel_client():
    ipp = pytest.importorskip("ipyparallel", reason=EXTRAS)
    options = {"controller_ip": "127.0.0.1", "engine_timeout": 600, "log_level": logging.ERROR}
    with ipp.Cluster(n=2, **options) as client:
        client.wait_for_engines(2, timeout=600)
        yield client


@pytest.fixture(scope="module")
def dask_client():
    distributed = pytest.importorskip("distributed", reason=EXTRAS)
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster,
        distributed.Client(cluster, timeout=600) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def z():
    return latents(range(300), 9)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(survey, "SHARD", 30)


def assert_survives(client, z, folder):
    flow = Flow(Mortal(folder / "killed", z[100, 0]))
    expected = survey.survey(flow, z)
    assert not (folder / "killed").exists()
    assert_same(survey.survey(flow, z, map=client), expected)
    assert (folder / "killed").exists(), "no worker was killed: the test shows nothing"


def assert_checks_weights(client, z, folder):
    """Workers that load the generator themselves: the same file is fine, another one is refused."""
    generator = tiny_generator()
    for name in ("same", "other"):
        save_file(generator.state_dict(), folder / f"{name}.safetensors")
    flow = engines.Loaded(checkpoints.load_generator, str(folder / "same.safetensors"))
    assert_same(survey.survey(flow, z, map=client), survey.survey(flow, z))
    flow = engines.Loaded(checkpoints.load_generator, str(folder / "other.safetensors"))
    assert flow.n_layers == 7  # loaded here, before the file changes
    with torch.no_grad():
        generator.layer2.weight[0] += 1
    save_file(generator.state_dict(), folder / "other.safetensors")
    with pytest.raises(ValueError, match=r"the worker on .* has other weights .* load the same file on every machine"):
        survey.thresholds(flow, z, map=client)


def assert_hands_errors_on(client):
    network = tiny_generator()
    with torch.no_grad():
        network.layer2.bias[6] = torch.nan
    with pytest.raises(ValueError, match="layer 3, unit 6 has activations that are not finite"):
        survey.survey(Flow(pggan.Layers(network)), latents(range(40), 9), map=client)


def test_an_ipyparallel_cluster_gives_the_same_numbers(ipyparallel_client, z):
    flow = Flow(pggan.Layers(tiny_generator()))
    expected, view = survey.survey(flow, z), ipyparallel_client[:]
    balanced = ipyparallel_client.load_balanced_view()
    for engine in (ipyparallel_client, view, balanced, view.map_sync, balanced.map_sync, balanced.imap):
        assert_same(survey.survey(flow, z, map=engine), expected)


def test_an_ipyparallel_cluster_is_checked(ipyparallel_client, z, tmp_path):
    assert_checks_weights(ipyparallel_client, z, tmp_path)
    assert_hands_errors_on(ipyparallel_client)


def test_an_ipyparallel_engine_may_die(ipyparallel_client, z, tmp_path):
    assert_survives(ipyparallel_client, z, tmp_path)
    assert len(ipyparallel_client.ids) == 1


def test_a_dask_cluster_gives_the_same_numbers(dask_client, z, tmp_path):
    flow = Flow(pggan.Layers(tiny_generator()))
    expected = survey.survey(flow, z)
    assert_same(survey.survey(flow, z, map=dask_client), expected)
    assert_same(survey.survey(flow, z, map=dask_client.get_executor()), expected)
    assert_same(survey.survey(flow, z, map=dask_client, resume=tmp_path), expected)
    assert len(list(tmp_path.iterdir())) == 10


def test_a_dask_cluster_is_checked(dask_client, z, tmp_path):
    assert_checks_weights(dask_client, z, tmp_path)
    assert_hands_errors_on(dask_client)


def test_a_dask_worker_may_die(dask_client, z, tmp_path):
    assert_survives(dask_client, z, tmp_path)
