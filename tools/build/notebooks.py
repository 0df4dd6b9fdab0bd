"""Build, check and run the notebooks: python -m tools.build.notebooks build|verify|links|run [NAME ...].

build   execute at full size in a clean kernel with an empty cache, clean, store outputs, measure time and memory
verify  check that the stored notebooks are fresh, clean and within their budgets
links   write the links between the notebooks
run     execute into executed/ as pages to read in a browser; the stored notebooks stay as they are
NAME is the beginning of a notebook's name, such as 03; without it, all are meant.
"""

import argparse
import base64
import contextlib
import json
import logging
import os
import platform
import re
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

import helpers
from helpers import env
from tools.build import notebook_rules as rules

TIMES = rules.FOLDER / "times.json"
PAGES = env.ROOT / "executed"
KEPT = ("text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/svg+xml")
PEAK = """
try:
    with open("/proc/self/status") as _status:
        print(next(int(line.split()[1]) for line in _status if line.startswith("VmHWM")) * 1024)
except OSError:
    import resource, sys
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


class ThisPython(KernelSpecManager):
    """Find one kernel only: the Python that runs this tool, whatever kernels the machine has."""

    def get_kernel_spec(self, kernel_name):
        """Describe the kernel, for any name."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


@contextlib.contextmanager
def kernel(nb, timeout=600, **settings):
    """Start a clean kernel for a notebook: a context that gives the nbclient client.

    timeout: seconds per cell. settings: environment variables. The kernel works in notebooks/, without progress
    bars, with a configuration folder of its own; what its cells show lands in `nb`.
    """
    with tempfile.TemporaryDirectory() as own:
        paths = os.pathsep.join(filter(None, (str(env.ROOT), os.environ.get("PYTHONPATH"))))
        inherited = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
        fixed = {"HELPERS_PROGRESS": "0", "IPYTHONDIR": own, "PYTHONPATH": paths}
        manager = AsyncKernelManager(kernel_spec_manager=ThisPython(), kernel_name="python3")
        resources = {"metadata": {"path": str(rules.FOLDER)}}
        client = NotebookClient(nb, km=manager, timeout=timeout, resources=resources)
        with client.setup_kernel(env={**inherited, **fixed, **settings}):
            yield client


def execute(client, nb):
    """Run a notebook's cells in a kernel, top to bottom; returns seconds. Raises CellExecutionError."""
    began = time.perf_counter()
    client.nb = nb
    for index, cell in enumerate(nb.cells):
        client.execute_cell(cell, index)
    return time.perf_counter() - began


def peak_bytes(client):
    """Return the most memory that a kernel ever held, in bytes."""
    probe = nbformat.v4.new_code_cell(PEAK)
    client.nb.cells.append(probe)
    client.execute_cell(probe, len(client.nb.cells) - 1)
    client.nb.cells.pop()
    return int(probe.outputs[0].text)


def widget_errors(client, nb):
    """List errors that no cell reported: in output widgets, and tracebacks on stderr."""
    shown = [output for state in client.widget_state.values() for output in state.get("outputs", [])]
    found = [f"{output['ename']}: {output['evalue']}" for output in shown if output["output_type"] == "error"]
    streams = [output for cell in rules.code_cells(nb) for output in cell.outputs if output.output_type == "stream"]
    return found + [stream.text for stream in streams if "Traceback (most recent call last)" in stream.text]


def clean(nb, replaced):
    """Keep of an executed notebook only what a reader sees: text and pictures, no state, times, paths or versions.

    replaced: {machine path: what to write instead}.
    """
    nb.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "helpers": {"version": helpers.__version__, "source_sha256": rules.source_sha256(nb)},
        }
    )
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")})
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_cleaned, cell.outputs) if output]
            for output in cell.outputs:
                _rename(output, replaced)


def _cleaned(output):
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if output.output_type == "error":  # the frames name files of this machine
        output.traceback = [f"{output.ename}: {output.evalue}"]
        return output
    if any("widget" in kind for kind in output.data):
        return None  # the static picture above it stays
    output.data = {kind: data for kind, data in output.data.items() if kind in KEPT}
    output.metadata = {}
    return output if output.data else None


def _rename(output, replaced):
    for old, new in replaced.items():
        if output.output_type == "stream":
            output.text = output.text.replace(old, new)
        elif output.output_type == "error":
            output.evalue = output.evalue.replace(old, new)
            output.traceback = [line.replace(old, new) for line in output.traceback]
        else:
            texts = {kind: text.replace(old, new) for kind, text in output.data.items() if kind != "image/png"}
            output.data.update(texts)


def shrink(nb, budget=rules.BUDGET):
    """Store pictures as small as is needed: all without loss first, then the largest ones in 256 colours."""
    outputs = [
        output for cell in rules.code_cells(nb) for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    for output in outputs:
        _recode(output, lambda picture: picture)
    for output in sorted(outputs, key=lambda output: -len(output.data["image/png"])):
        if len(nbformat.writes(nb)) <= 0.97 * budget:
            break
        # No dithering: its noise would cost more bytes than the colours save.
        _recode(output, lambda picture: picture.quantize(256, dither=Image.Dither.NONE))


def _recode(output, change):
    before = base64.b64decode(output.data["image/png"])
    picture = Image.open(BytesIO(before)).convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    buffer = BytesIO()
    change(Image.alpha_composite(page, picture).convert("RGB")).save(buffer, "PNG", optimize=True)
    if len(buffer.getvalue()) < len(before):
        output.data["image/png"] = base64.b64encode(buffer.getvalue()).decode()


def build(names):
    """Execute and store notebooks; prints a table. Returns the number of failures, whose files stay as they were."""
    failures, every = 0, rules.paths()
    print(f"{'notebook':32}{'seconds':>9}{'peak MB':>9}{'stored KB':>11}")
    for path in rules.paths(names):
        nb = nbformat.read(path, as_version=4)
        rules.set_links(nb, rules.link_line(path, every))
        with tempfile.TemporaryDirectory() as cache:
            try:
                with kernel(nb, HELPERS_CACHE=cache, SMOKE="0") as client:
                    seconds, peak = execute(client, nb), peak_bytes(client)
                    hidden = widget_errors(client, nb)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                hidden = [str(error)]
            if hidden:
                failures += 1
                print(f"{path.stem:32} failed, nothing stored\n" + "\n".join(hidden))
                continue
            root, home = str(env.ROOT), str(Path.home())
            clean(nb, {cache: "data/cache", root + os.sep: "", root: ".", home + os.sep: "~/"})
        shrink(nb)
        nbformat.write(nb, path)
        size = path.stat().st_size
        row = {"seconds": round(seconds, 1), "peak_mb": round(peak / 2**20), "stored_kb": round(size / 1000)}
        _record(path.stem, row)
        print(f"{path.stem:32}{row['seconds']:>9}{row['peak_mb']:>9}{row['stored_kb']:>11}")
    return failures


def _record(name, row):
    times = json.loads(TIMES.read_text()) if TIMES.is_file() else {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    row |= {"cores": cores, "processor": _processor(), "device": env.device().type}
    TIMES.write_text(json.dumps(dict(sorted({**times, name: row}.items())), indent=1) + "\n")


def _processor():
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def verify(names):
    """Print what is wrong with the stored notebooks; returns the number of problems."""
    every, count = rules.paths(), 0
    for path in rules.paths(names):
        for problem in rules.problems(nbformat.read(path, as_version=4), path, every):
            print(f"{path.name}: {problem}")
            count += 1
    print(f"{len(rules.paths(names))} notebooks, {count} problems")
    return count


def links(names):
    """Write the links between the notebooks, leaving all else as it is."""
    every = rules.paths()
    for path in rules.paths(names):
        nb = nbformat.read(path, as_version=4)
        rules.set_links(nb, rules.link_line(path, every))
        nbformat.write(nb, path)
    return 0


def run(names):
    """Execute notebooks into executed/ and say which pages and pictures to open; returns the number of failures."""
    from nbconvert import HTMLExporter

    logging.getLogger("traitlets").setLevel(logging.ERROR)  # nbconvert's remarks on alternative texts
    PAGES.mkdir(exist_ok=True)
    began, failures, pages = time.time(), 0, []
    for path in rules.paths(names):
        nb = nbformat.read(path, as_version=4)
        print(f"{path.stem} ...", flush=True)
        try:
            with kernel(nb) as client:
                print(f"{path.stem}: {execute(client, nb):.0f} s, peak {peak_bytes(client) / 2**20:.0f} MB", flush=True)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failures += 1
            print(f"{path.stem} failed: {error}")
        clean(nb, {})
        html, _ = HTMLExporter().from_notebook_node(nb, {"metadata": {"name": path.stem}})
        pages.append(PAGES / f"{path.stem}.html")
        pages[-1].write_text(re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', html), encoding="utf-8")
    figures = [p for p in sorted((env.ROOT / "figures").glob("*.png")) if p.stat().st_mtime >= began]
    for what, files in (("Pages to open in a browser:", pages), ("Pictures:", figures)):
        if files:
            print(what, *(p.relative_to(env.ROOT) for p in files), sep="\n  ")
    print("To change numbers and move sliders: make lab")
    return failures


def main():
    """Run one command on the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("build", "verify", "links", "run"))
    parser.add_argument("names", nargs="*", help="beginnings of notebook names, such as 03; default: all")
    arguments = parser.parse_args()
    try:
        sys.exit(1 if globals()[arguments.command](arguments.names) else 0)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
