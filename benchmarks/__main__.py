"""Run the benchmarks and write them down as Markdown: python -m benchmarks [--only NAME ...] [--rounds 5].

Prints each table as it comes and puts it into docs/benchmarks.md, in place of the one measured before.
"""

import argparse
import importlib
import platform
import re
from pathlib import Path

import torch

from benchmarks import met
from helpers import env

SECTIONS = {
    "surveys": "Survey",
    "spread": "Memory and workers",
    "scores": "Defective score",
    "dissection": "Dissection",
    "generation": "Generation",
    "painting": "Painting",
    "frechet": "Fréchet distance",
}
PAGE = env.ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench`. Each row compares two ways of doing the same in one process, in turns; the ratio is the median
of several rounds, and the seconds are medians too. A missed goal is **bold**, with where the time goes by a profile.
"""


def machine():
    """Describe what was measured on, without a date."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def lines(rows):
    """Lay rows out as a Markdown table, line by line."""
    yield from ("| ways compared | goal | ratio | seconds | |", "|---|---|---|---|---|")
    for name, goal, ratio, slow, fast, note in rows:
        found = f"{ratio:.3g}" if ratio < 1000 else f"{ratio:.0f}"
        found = f"**{found}**" if met(ratio, goal) is False else found
        goal = "" if goal is None else goal if isinstance(goal, str) else f">= {goal}"
        yield f"| {name} | {goal} | {found} | {slow:.3g} / {fast:.3g} | {note} |"


def write(page, sections):
    """Put sections {title: text} into the page, each in place of the one of that title, and keep the others."""
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    known = dict(re.findall(r"^## ([^\n]+)\n\n(.+?)(?=^## |\Z)", old, re.M | re.S))
    known |= sections
    parts = [f"## {title}\n\n{known[title].strip()}\n" for title in SECTIONS.values() if title in known]
    page.write_text("\n".join([HEAD, *parts]), encoding="utf-8")


def main():
    """Run what the command line asks for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    for name in a.only:
        said = [f"Median of {a.rounds} rounds on {machine()}.\n"]
        print(f"{SECTIONS[name]}\n{said[0]}")
        for line in lines(importlib.import_module(f"benchmarks.{name}").rows(a.rounds)):
            print(line, flush=True)
            said.append(line)
        print()
        write(PAGE, {SECTIONS[name]: "\n".join(said)})


if __name__ == "__main__":
    main()
