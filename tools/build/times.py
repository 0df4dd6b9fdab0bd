"""How long notebooks take: what builds measured, on which processor, and what to expect on this one."""

import contextlib
import json
import os
import platform
import re
import time
from pathlib import Path

import torch

from helpers import domains, env
from tools.build import notebook_rules as rules

FILE, README = env.ROOT / "docs" / "times.json", env.ROOT / "README.md"
IMAGES = 256  # generated to tell how fast a machine is
MARKS = "<!-- times -->", "<!-- /times -->"  # in README.md, around the sentence that names the processor


def stored():
    """Return what the last builds measured: {notebook: {"seconds": ..., "images_per_s": ..., ...}}."""
    return json.loads(FILE.read_text()) if FILE.is_file() else {}


def record(name, row):
    """Add what a build measured, with the machine it ran on, and write the times that people read."""
    row |= {"cores": cores(), "processor": processor(), "device": env.device().type, "images_per_s": round(speed())}
    FILE.write_text(json.dumps(dict(sorted({**stored(), name: row}.items())), indent=1) + "\n")
    write_readme()


def cores():
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor():
    """Name this machine's processor."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def speed():
    """Measure how many churches a second this machine generates, the best of three rounds."""
    domain = domains.load("churches")
    z, best = domain.latents(range(IMAGES)), 0.0
    domain.flow.generate(z[:32])  # the first call prepares memory
    for _ in range(3):
        began = time.perf_counter()
        domain.flow.generate(z)
        best = max(best, len(z) / (time.perf_counter() - began))
    if torch.cuda.is_available() and env.device().type != "cpu":
        torch.cuda.empty_cache()
    return best


def expected(name, here):
    """Tell about how many seconds a notebook takes on a machine that generates `here` images a second, or None.

    With SMOKE=1, how many its quick round takes.
    """
    row = stored().get(name, {})
    seconds = row.get("quick_seconds" if env.smoke() else "seconds")
    return seconds * row["images_per_s"] / here if seconds and "images_per_s" in row else None


def written(seconds):
    """Write seconds as people do: to the next 5, from 100 on to the next 10."""
    step = 5 if seconds < 100 else 10
    return f"{max(step, -(-int(seconds + 0.5) // step) * step)} s"


def together(seconds):
    """Write the seconds of all notebooks as people do, from two minutes on in minutes."""
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else written(seconds)


def where(row):
    """Say on what a time was measured."""
    device = "" if row["device"] == "cpu" else f" and a GPU ({row['device']})"
    return f"{row['cores']} core{'s' * (row['cores'] > 1)} ({row['processor']}){device}"


def set_header(nb, name):
    """Write the time of the last build into the table at the top of a notebook."""
    row = stored().get(name)
    for cell in nb.cells[:4]:
        if row and cell.cell_type == "markdown":
            said = f"| **Time** | about {written(row['seconds'])} on {where(row)} |"
            cell.source = re.sub(r"^\| \*\*Time\*\* \|.*\|$", lambda _, said=said: said, cell.source, flags=re.M)


def write_readme():
    """Write the times of the last builds into the README's table of notebooks, and name the processor."""
    text, rows = README.read_text(encoding="utf-8"), stored()
    for name, row in rows.items():
        line = rf"^(\| \[{name}\]\(.*\|)[^|]*\|$"
        text = re.sub(line, lambda match, row=row: f"{match[1]} {written(row['seconds'])} |", text, flags=re.M)
    machines = sorted({where(row) for row in rows.values()})
    if machines and MARKS[0] in text:
        begin, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
        text = f"{text[:begin]}\nTimes at full size, measured on {' and '.join(machines)}.\n{text[end:]}"
    README.write_text(text, encoding="utf-8")


def estimates(names=()):
    """Measure this machine and return {notebook: expected seconds or None} of the notebooks named."""
    here = speed()
    return {path.stem: expected(path.stem, here) for path in rules.paths(names)}
