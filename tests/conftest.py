"""What all tests share: no progress bars, a cache of their own, the devices present, a live JupyterLab, a browser."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import pytest

# Before any import of the helpers, and inherited by the kernels that tests start.
_own = tempfile.TemporaryDirectory(prefix="helpers-tests-")
os.environ |= {"HELPERS_PROGRESS": "0", "HELPERS_CACHE": _own.name, "MPLBACKEND": "Agg"}

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # cores of its own: threads of several processes slow each other down
    cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))

from helpers import env  # noqa: E402
from tools.build import working_copy  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def pytest_report_header():
    browser = next(filter(None, map(shutil.which, BROWSERS)), "none: browser tests are skipped")
    return [f"devices: {', '.join(env.devices())}", f"browser: {browser}"]


@pytest.fixture(params=env.devices())
def device(request, monkeypatch):
    """Each device present, in turn; HELPERS_DEVICE names it as well."""
    import torch

    monkeypatch.setenv("HELPERS_DEVICE", request.param)
    return torch.device(request.param)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Base address of a live JupyterLab on a working copy, as `make lab` opens one, its kernels in smoke size."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = tmp_path_factory.mktemp("lab")
    (own / "root").mkdir()
    working_copy.refresh(own / "root" / "notebooks")
    for path in (*env.ROOT.glob("docs/**/*"), *env.ROOT.glob("data/*/README.md")):  # what notebooks show and lead to
        if path.is_file():
            copy = own / "root" / path.relative_to(env.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    folders = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR", "LAB_WORKSPACES_DIR", "LAB_SETTINGS_DIR")
    folders = {f"JUPYTER{'' if name.startswith('LAB') else '_'}{name}": str(own / name) for name in folders}
    kernels = {"SMOKE": "1", "IPYTHONDIR": str(own / "ipython"), "PYTHONPATH": str(env.ROOT)}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    # A server for this test only, on the loopback interface.
    command += ["--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"]
    command += [f"--ServerApp.root_dir={own / 'root'}"]
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"} | folders | kernels
    with (own / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}/api/status", server, own / "log")
        yield address
    finally:
        server.terminate()
        server.wait(20)


def _wait(address, server, log, seconds=600):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not answer at {address}:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def browser():
    """A Chromium, or a skip that says what to install."""
    api = pytest.importorskip("playwright.sync_api", reason="browser tests need: pip install playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("browser tests need a Chromium: apt-get install chromium, or install Google Chrome")
    # Closed after each module: its event loop would get in the way of tests that run kernels.
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A fresh page of 1400 x 1000 pixels."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    yield page
    page.close()
