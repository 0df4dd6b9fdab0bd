"""Run the cells of notebooks in clean kernels, and ask a kernel what a notebook cost."""

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from tools.build import notebook_rules as rules

FAILURES = CellExecutionError, CellTimeoutError, DeadKernelError
CHECKOUT = Path(__file__).resolve().parents[2]
HANGS = 3600  # seconds: the slowest cell takes less than one minute on our processor, a machine may be far slower
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
def kernel(nb, timeout=HANGS, **settings):
    """Start a clean kernel for a notebook: a context that gives the nbclient client.

    timeout: seconds per cell. settings: environment variables. The kernel works in notebooks/, without progress
    bars, with a configuration folder of its own; what its cells show lands in `nb`.
    """
    with tempfile.TemporaryDirectory() as own:
        paths = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
        inherited = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
        fixed = {"HELPERS_PROGRESS": "0", "IPYTHONDIR": own, "PYTHONPATH": paths}
        manager = AsyncKernelManager(kernel_spec_manager=ThisPython(), kernel_name="python3")
        resources = {"metadata": {"path": str(rules.FOLDER)}}
        client = NotebookClient(nb, km=manager, timeout=timeout, startup_timeout=600, resources=resources)
        with client.setup_kernel(cleanup_kc=True, env={**inherited, **fixed, **settings}):  # or it would live on
            yield client


def execute(client, nb, cells=None, each=None):
    """Run cells of a notebook in a kernel, by default all, top to bottom; returns seconds. Raises CellExecutionError.

    cells: their indices. each: a function to call after every cell.
    """
    began = time.perf_counter()
    client.nb = nb
    for index in range(len(nb.cells)) if cells is None else cells:
        client.execute_cell(nb.cells[index], index)
        if each:
            each()
    return time.perf_counter() - began


def ask(client, source):
    """Run some lines in a kernel, beside its notebook; returns what they print."""
    probe = nbformat.v4.new_code_cell(source)
    client.nb.cells.append(probe)
    try:
        client.execute_cell(probe, len(client.nb.cells) - 1, store_history=False)
    finally:
        client.nb.cells.pop()
    return "".join(output.text for output in probe.outputs if output.output_type == "stream")


def peak_bytes(client):
    """Return the most memory that a kernel ever held, in bytes."""
    return int(ask(client, PEAK))


def describe_figures(client):
    """Let a kernel store, with each figure that its cells show from now on, the numbers in it as plain text."""
    ask(client, "from tools.build import drawn; drawn.start()")


def count_images(client):
    """Let a kernel count the images that it computes from now on."""
    ask(client, "from tools.build import counting; counting.start()")


def images_computed(client):
    """Return how many images a kernel has computed since `count_images`: a dict, see `counting.seen`."""
    return json.loads(ask(client, "import json; from tools.build import counting; print(json.dumps(counting.seen))"))


def widget_errors(client, nb):
    """List errors that no cell reported: in output widgets, and tracebacks on stderr."""
    shown = [output for state in client.widget_state.values() for output in state.get("outputs", [])]
    found = [f"{output['ename']}: {output['evalue']}" for output in shown if output["output_type"] == "error"]
    streams = [output for cell in rules.code_cells(nb) for output in cell.outputs if output.output_type == "stream"]
    return found + [stream.text for stream in streams if "Traceback (most recent call last)" in stream.text]
