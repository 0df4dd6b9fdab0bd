import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

from helpers import checkpoints, survey
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks.pggan import Layers
from helpers.streaming import engines
from tests.networks import tiny_generator


def test_a_function_like_map_stays_what_it_is():
    assert engines.of(map) is map
    with ThreadPoolExecutor(1) as pool:
        assert engines.of(pool.map) == pool.map


def test_an_executor_gets_a_few_rows_at_a_time_and_hands_back_all():
    running, most, lock, second = 0, 0, threading.Lock(), threading.Event()

    class Watching(ThreadPoolExecutor):
        def submit(self, *args):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            return super().submit(*args)

    def work(a, b):
        nonlocal running
        if a == 0:
            assert second.wait(60)  # the first result comes last
        if a == 7:
            second.set()
        with lock:
            running -= 1
        return a * b

    with Watching(2) as pool:
        found = list(engines.of(pool)(work, range(50), range(1, 51)))
    assert sorted(found) == [n * (n + 1) for n in range(50)] and found[0] != 0
    assert 2 <= most <= 2 * engines.AHEAD


def test_an_error_ends_the_work_and_what_waits_is_not_begun():
    begun = []

    def work(n):
        begun.append(n)
        if n == 3:
            raise ValueError("three")
        return n

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="three"):
        list(engines.of(pool)(work, range(100)))
    assert len(begun) <= 4 + engines.AHEAD


class EngineError(Exception):
    """Looks like what ipyparallel hands on when an engine has died."""

    ename = "EngineError"


def test_a_row_whose_engine_died_is_handed_out_again_but_not_for_ever():
    tries, lock = {}, threading.Lock()

    def work(n):
        with lock:
            tries[n] = tries.get(n, 0) + 1
        if (n == 5 and tries[n] < engines.TRIES) or n == forever:
            raise EngineError(f"engine died at {n}")
        return n

    with ThreadPoolExecutor(2) as pool:
        forever = None
        assert sorted(engines.of(pool)(work, range(9))) == list(range(9))
        assert tries[5] == engines.TRIES and all(tries[n] == 1 for n in range(9) if n != 5)
        forever = 7
        tries.clear()
        with pytest.raises(EngineError, match="died at 7"):
            list(engines.of(pool)(work, range(9)))
        assert tries[7] == engines.TRIES


@pytest.mark.parametrize("engine", [3, "dask", None])
def test_what_is_no_engine_is_refused(engine):
    with pytest.raises(TypeError, match="map must be a function like map, an Executor, an ipyparallel client"):
        engines.of(engine)
    flow = Flow(Layers(tiny_generator()))
    with pytest.raises(TypeError, match="map must be"):
        survey.survey(flow, latents(range(30), 9), map=engine)


def test_a_loaded_flow_travels_as_its_call_and_loads_on_first_use(tmp_path):
    generator, path = tiny_generator(), tmp_path / "generator.safetensors"
    save_file(generator.state_dict(), path)
    flow, z = engines.Loaded(checkpoints.load_generator, str(path)), latents(range(5), 9)
    sent = pickle.dumps(flow)
    assert len(sent) < 400 < len(pickle.dumps(Flow(Layers(generator))))
    assert torch.equal(flow.generate(z), Flow(Layers(generator)).generate(z))
    assert len(pickle.dumps(flow)) == len(sent)
    arrived = pickle.loads(sent)
    assert isinstance(arrived, Flow) and "network" not in vars(arrived)
    assert torch.equal(arrived.generate(z), flow.generate(z)) and arrived.units(1) == 12
    assert not hasattr(arrived, "anything")
    with pytest.raises(FileNotFoundError):
        engines.Loaded(checkpoints.load_generator, str(tmp_path / "nothing.safetensors")).generate(z)
