"""Say in place when a run is not the one that a notebook's text speaks of: a quick round, or other settings."""

import json
import re
import sys

READING = re.compile(r"^\*\*What we see\.\*\*", re.M)  # how a reading begins, in the cell below what it reads
INJECTED = "# Parameters\n"  # how the cell begins that papermill puts behind the first
OTHER = "[other settings: the reading below speaks of the stored run]"
LOADED = re.compile(r"domains\.load\(\"([^\"]+)\"")


def follow(path, quick):
    """Print one line below each result that the text below reads, where this run differs from the stored one.

    path: of the stored notebook, whose first code cell is the one that calls this. quick: whether this is a quick
    round. Outside a notebook nothing happens. Calling it again replaces the earlier call. Used by `env.start`.
    """
    shell = _shell()
    if shell is None:
        return
    if hasattr(shell, "_reading"):
        shell.events.unregister("post_run_cell", shell._reading)
    stored, read, said = _sources(path), None, None

    def say(result):
        nonlocal read, said
        source = (result.info.raw_cell or "").strip()
        if read is None:  # the cell that called this
            read, said = _read(stored), _difference(source, stored, quick)
        elif source.startswith(INJECTED):
            said = said or OTHER
        elif said and source in read and result.success:
            print(said)

    shell._reading = say
    shell.events.register("post_run_cell", say)


def _shell():
    ipython = sys.modules.get("IPython")
    return ipython and ipython.get_ipython()


def _sources(path):
    """List a notebook's cells as (kind, source), or nothing where it cannot be read."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in cells]
    except (OSError, ValueError, KeyError):
        return []


def _read(cells):
    """The code cells with a reading below them."""
    pairs = zip(cells, cells[1:])
    return {code for (kind, code), (_, text) in pairs if kind == "code" and READING.search(text)}


def _difference(source, cells, quick):
    """What sets this run apart from the stored one, as a line to print, or None."""
    first = next((code for kind, code in cells if kind == "code"), source)
    ours, theirs = (LOADED.findall(code)[:1] for code in (source, first))
    if ours and theirs and ours != theirs:
        return f"[{ours[0]}: the reading below speaks of the full run on {theirs[0]}]"
    if quick:
        return "[quick round: the reading below speaks of the full run]"
    return OTHER if source != first else None
