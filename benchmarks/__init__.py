"""Measure what README states, each as a ratio of two ways in one process."""

import statistics
import time


def seconds(function):
    """Return how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(slow, fast, rounds):
    """Time two functions in turns: (median of slow / fast, median seconds of slow, median seconds of fast)."""
    pairs = [(seconds(slow), seconds(fast)) for _ in range(rounds)]
    return statistics.median(s / f for s, f in pairs), *(statistics.median(column) for column in zip(*pairs))
