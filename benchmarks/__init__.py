"""Measure what README states, each as a ratio of two ways in one process.

Every module here has `rows(rounds)`, which yields (name, goal, ratio, seconds of the first way, of the second, note).
A goal is ">= 10" or "<= 1.15", or a number for ">=", or None where none was set.
"""

import cProfile
import pstats
import re
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


def met(ratio, goal):
    """Tell whether a ratio reaches its goal; None where there is none."""
    if goal is None:
        return None
    sign, number = goal.split() if isinstance(goal, str) else (">=", goal)
    return ratio >= float(number) if sign == ">=" else ratio <= float(number)


def why(function, ratio, goal, top=6):
    """Say by a profile where a function's time goes, "; its time: conv2d 64 %, ...", or "" if the goal was met."""
    if met(ratio, goal) is not False:
        return ""
    profile = cProfile.Profile()
    profile.runcall(function)
    found = pstats.Stats(profile)
    spent = sorted(((numbers[2], where) for where, numbers in found.stats.items()), reverse=True)[:top]
    return "; its time: " + ", ".join(f"{_plain(where)} {100 * part / found.total_tt:.0f} %" for part, where in spent)


def _plain(where):
    """A profiled function's name without its address."""
    file, _, name = where
    built_in = re.search(r"(\w+)'? of|\.?(\w+)>", name)
    if file == "~":
        return next(filter(None, built_in.groups())) if built_in else name.strip("<>")
    return f"{file.rsplit('/', 1)[-1].removesuffix('.py')}.{name}"
