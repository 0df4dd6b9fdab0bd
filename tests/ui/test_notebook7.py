"""One notebook with widgets in Jupyter Notebook 7, in a real browser; skipped where Notebook 7 is not installed."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import metadata

import pytest

from helpers import env
from tests.ui.lab_page import Lab, View
from tests.ui.test_lab import MASKS, WORLD

pytestmark = pytest.mark.browser


def installed():
    try:
        return int(metadata.version("notebook").split(".")[0]) >= 7
    except metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Base address of a live Notebook 7 on the loopback interface, for this test only."""
    if not installed():
        pytest.skip("this test needs Jupyter Notebook 7: pip install --no-deps -r requirements-places.lock")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = tmp_path_factory.mktemp("notebook7")
    (own / "root").mkdir()
    folders = {f"JUPYTER_{name}": str(own / name) for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
    folders |= {f"JUPYTERLAB_{name}": str(own / name) for name in ("WORKSPACES_DIR", "SETTINGS_DIR")}
    kernels = {"SMOKE": "1", "IPYTHONDIR": str(own / "ipython"), "PYTHONPATH": str(env.ROOT)}
    command = [sys.executable, "-m", "notebook", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += ["--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"]
    command += [f"--ServerApp.root_dir={own / 'root'}"]
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"} | folders | kernels
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 600
    with (own / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None and time.monotonic() < deadline, (own / "log").read_text()[-3000:]
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def test_a_widget_moves_in_notebook_7(server, page):
    from playwright.sync_api import expect

    expect.set_options(timeout=300_000)
    notebook = Lab(server, page)
    notebook.write("masks.ipynb", [WORLD, MASKS])
    page.goto(f"{server}/notebooks/masks.ipynb")
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").first.wait_for(timeout=300_000)
    notebook.run_all()
    view = View(page, 1)
    expect(view.cell.locator("img.jupyter-widgets")).to_be_visible(timeout=300_000)
    before = view.picture()
    view.enter("level", "0.9")
    expect(view.text("from level 0.90 up")).to_be_visible()
    assert view.picture() != before
