"""Decide the device, seed everything, switch to smoke size and check the installation: one place for all of it."""

import os
import random
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

import helpers
from helpers import reading

ROOT = Path(__file__).resolve().parents[1]

STYLE = {
    "figure.figsize": (7.2, 3.2),
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.constrained_layout.use": True,
    "image.interpolation": "nearest",
    "image.cmap": "magma",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def checkout():
    """Tell whether the package stands in a checkout of the repository, beside its data, or was installed without it."""
    return (ROOT / "pyproject.toml").is_file()


def device():
    """Choose the device to compute on: HELPERS_DEVICE if set, otherwise cuda, mps or cpu, the first there is.

    Returns a torch.device. Raises ValueError when HELPERS_DEVICE names no device, or one that is not here.
    The CPU is the reference: other devices agree with it within a tolerance. Explained in notebook 00.
    """
    wanted = os.environ.get("HELPERS_DEVICE", "").strip()
    here = devices()
    if not wanted:
        return torch.device(here[-1])
    try:
        chosen = torch.device(wanted)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"HELPERS_DEVICE is {wanted!r}, expected cpu, cuda, cuda:N or mps: correct or unset it")
    if chosen.type not in here or (chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()):
        raise ValueError(
            f"HELPERS_DEVICE is {wanted!r}, but torch {torch.__version__} only sees {', '.join(here)}: "
            "unset it or install the torch built for that device"
        )
    return chosen


def devices():
    """List the kinds of device present, the reference first and the preferred one last."""
    kinds = ["cpu"]
    if torch.backends.mps.is_available():
        kinds.append("mps")
    if torch.cuda.is_available():
        kinds.append("cuda")
    return kinds


def to_memory(tensor):
    """Begin to copy a tensor to main memory; returns a function that waits for it and gives the copy.

    A GPU goes on computing meanwhile. The copy lands in page-locked memory, of which there is never more than what is
    under way: torch uses it again as soon as what the function gave has been copied on and dropped.
    """
    if tensor.device.type != "cuda":
        here = tensor.cpu()
        return lambda: here
    landing = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    landing.copy_(tensor, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(tensor.device))

    def landed():
        done.synchronize()
        return landing

    return landed


def smoke():
    """Tell whether SMOKE=1 asks for the small, quick sizes."""
    return os.environ.get("SMOKE", "0") not in ("", "0")


def scaled(full, smoke_size):
    """Return `full`, or `smoke_size` when SMOKE=1: the one switch between real results and a quick run."""
    return smoke_size if smoke() else full


def start(notebook, seed=0):
    """Seed torch, NumPy and random, set the figure style and print what the notebook runs on.

    notebook: its number or name, "03" or "03_defective_scores". Returns the torch.device.
    Warns when the stored notebook was built with another version of the helpers. In a quick round, or with another
    first cell, a line below each result that the text reads says which run the text speaks of.
    """
    seed_all(seed)
    torch.set_float32_matmul_precision("highest")
    import matplotlib.pyplot as plt  # here, so that worker processes need not load it

    plt.rcParams.update(STYLE)
    _compare_versions(str(notebook))
    for path in sorted((ROOT / "notebooks").glob(f"{notebook}*.ipynb"))[:1]:
        reading.follow(path, smoke())
    size = "SMOKE on: small sizes, numbers mean little" if smoke() else "SMOKE off: full size"
    print(f"notebook {notebook} | helpers {helpers.__version__} | seed {seed} | {size}")
    print(f"torch {torch.__version__} | device {_named(device())} | CPU threads {torch.get_num_threads()}")
    return device()


def seed_all(seed):
    """Seed torch, NumPy and random; latents do not depend on it, see `latents`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for libraries that still draw from the global stream
    torch.manual_seed(seed)


def progress(iterable=None, desc=None, total=None, unit="it"):
    """Wrap an iterable in a progress bar that appears after two seconds; HELPERS_PROGRESS=0 turns it off.

    Yields the items unchanged; without an iterable, call `update(n)` on what it returns, and `close()`. It shows in
    notebooks and where stderr is a terminal. A finished bar disappears, so that stored pages hold none.
    """
    ipython = sys.modules.get("IPython")
    notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    off = os.environ.get("HELPERS_PROGRESS", "1") == "0" or not (notebook or sys.stderr.isatty())
    return tqdm(iterable, desc=desc, total=total, unit=unit, disable=off, delay=2, leave=False)


def environment():
    """Check the installation: a table (check, found, verdict), the verdict OK or what to do. See notebook 00."""
    import pandas as pd

    rows = [_check_python(), _check_torch(), *_check_widgets(), _check_device(), _check_memory()]
    return pd.DataFrame(rows, columns=["check", "found", "verdict"])


def _check_python():
    found = "{}.{}.{}".format(*sys.version_info)
    return "kernel Python", found, "OK" if sys.version_info >= (3, 11) else "start a kernel with Python 3.11 or newer"


def _check_torch():
    modern = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)
    return "torch", torch.__version__, "OK" if modern else "pip install 'torch>=2.6'"


def _check_widgets():
    kernel, lab, server = (_version(name) for name in ("ipywidgets", "jupyterlab_widgets", "jupyterlab"))
    # Kernel side and Lab side speak one protocol only within these majors.
    advice = "pip install 'ipywidgets>=8,<9', then restart the kernel"
    yield "widgets, kernel side (ipywidgets)", kernel or "missing", "OK" if _major(kernel) == 8 else advice
    advice = "pip install 'jupyterlab_widgets>=3,<4' where JupyterLab runs, then reload the page"
    if lab is None and server is None:
        advice = f"JupyterLab runs from another environment; if sliders do not show: {advice}"
    yield "widgets, Lab side (jupyterlab_widgets)", lab or "missing", "OK" if _major(lab) == 3 else advice


def _check_device():
    try:
        return "device", _named(device()), "OK"
    except ValueError as error:
        return "device", os.environ["HELPERS_DEVICE"], str(error)


def _check_memory():
    free = free_memory()
    if free is None:
        return "free memory", "unknown", "OK if 2 GB or more are free"
    verdict = "OK" if free >= 2 * 2**30 else "close other programs: 2 GB are needed"
    return "free memory", f"{free / 2**30:.1f} GB", verdict


def free_memory():
    """Return the bytes of main memory that are free for use, or None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def _named(chosen):
    if chosen.type != "cuda":
        return chosen.type
    free, total = torch.cuda.mem_get_info(chosen)
    return f"{chosen} ({torch.cuda.get_device_name(chosen)}, {free / 2**30:.0f} of {total / 2**30:.0f} GB free)"


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _major(version):
    return int(version.split(".")[0]) if version else None


def _compare_versions(notebook):
    import json

    for path in sorted((ROOT / "notebooks").glob(f"{notebook}*.ipynb")):
        try:
            built = json.loads(path.read_text(encoding="utf-8"))["metadata"]["helpers"]["version"]
        except (KeyError, ValueError):
            continue  # never built, or being edited
        if built != helpers.__version__:
            warnings.warn(
                f"{path.name} was built with helpers {built}, this is {helpers.__version__}: "
                "update both from the same commit",
                stacklevel=3,
            )
