"""Spread the shards of a survey over processes or machines: what `map=` accepts besides functions.

A pool of concurrent.futures, a client or view of ipyparallel and a client of dask are used as they are. Shards go to
whoever is free, a few at a time, and a shard whose worker died goes to another one.
"""

from concurrent.futures import FIRST_COMPLETED, Executor, wait
from functools import lru_cache
from itertools import islice

from helpers.flow import Flow

AHEAD = 2  # shards handed out per worker: one to compute, one to go on with
TRIES = 4  # times that a shard may lose its worker before it is given up


def of(engine):
    """Turn an engine into a function like `map`, whose results come in any order.

    engine: a function like `map`, an Executor of concurrent.futures, a Client or a view of ipyparallel, or a Client
    of dask.distributed. Raises TypeError for anything else.
    """
    package = type(engine).__module__.partition(".")[0]
    if isinstance(engine, Executor):
        room = AHEAD * getattr(engine, "_max_workers", TRIES)
        return lambda work, *columns: _spread(lambda *row: engine.submit(work, *row), room, zip(*columns))
    if package == "distributed":
        return lambda work, *columns: _with_dask(engine, work, columns)
    if package == "ipyparallel":
        return lambda work, *columns: _with_ipyparallel(engine, work, columns)
    if callable(engine):
        return engine
    raise TypeError(
        f"map must be a function like map, an Executor, an ipyparallel client or view, or a dask client, got {engine!r}"
    )


def _with_dask(client, work, columns):
    # A task, not scattered data: dask makes it again if the worker that held it dies.
    held = client.submit(_same, work, pure=False)
    executor = client.get_executor(pure=False)
    room = AHEAD * max(1, sum(client.nthreads().values()))
    yield from _spread(lambda *row: executor.submit(_call, held, *row), room, zip(*columns))


def _with_ipyparallel(view, work, columns):
    client = getattr(view, "client", view)
    targets = getattr(view, "targets", None)
    balanced = client.load_balanced_view(targets if isinstance(targets, list) else None)
    room = AHEAD * max(1, len(client.ids))
    yield from _spread(lambda *row: balanced.apply_async(work, *row), room, zip(*columns), client.purge_local_results)


def _spread(submit, room, rows, forget=lambda future: None):
    """Hand out at most `room` rows at a time and yield their results as they come."""
    waiting = {}  # future -> its row, and how often that may still be handed out
    try:
        while True:
            waiting |= {submit(*row): (row, TRIES - 1) for row in islice(rows, room - len(waiting))}
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                row, left = waiting.pop(future)
                error = future.exception()
                kind = getattr(error, "ename", None)  # the name of an error on an engine of ipyparallel
                if kind == "EngineError" and left:
                    waiting[submit(*row)] = row, left - 1
                elif kind == "ValueError":
                    raise ValueError(error.evalue) from None
                elif error:
                    raise error
                else:
                    yield future.result()
                forget(future)
    finally:
        for future in waiting:
            future.cancel()


def _same(value):
    return value


def _call(work, *row):
    return work(*row)


class Loaded(Flow):
    """A flow that travels to other processes as the call that loads it, and not as its weights.

    load: a function of a module, such as `checkpoints.load_generator`, that returns a Flow. arguments: what to call
    it with, such as a path that is good on every machine. A survey checks that all have loaded the same weights.
    """

    def __init__(self, load, *arguments):
        self.call = load, arguments

    def __getstate__(self):
        return {"call": self.call}

    def __getattr__(self, name):  # reached only for what is missing: all of it, until it is needed
        if name not in ("network", "batch", "origin", "_shapes"):
            raise AttributeError(name)
        vars(self).update(vars(_loaded(*self.call)))
        return vars(self)[name]


@lru_cache(1)  # once per process, not per shard
def _loaded(load, arguments):
    return load(*arguments)
