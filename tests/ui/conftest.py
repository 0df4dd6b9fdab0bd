"""Notebooks of a few cells, opened and run in a live JupyterLab by a real browser."""

import json
import urllib.parse
import urllib.request

import nbformat
import pytest

SETTINGS = {  # cells are drawn even where they are scrolled out of sight, and no news covers a corner
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
}


class Lab:
    """A page of JupyterLab with one notebook."""

    def __init__(self, address, page):
        self.address, self.page = address, page

    def put(self, path, content):
        """Send JSON to the server."""
        body = json.dumps(content).encode()
        request = urllib.request.Request(f"{self.address}/{urllib.parse.quote(path)}", body, method="PUT")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=20).close()

    def write(self, name, cells):
        """Put a notebook with these code cells on the server."""
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
        notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
        self.put(f"api/contents/{name}", {"type": "notebook", "content": notebook})

    def open(self, name):
        """Open a notebook and wait for its kernel."""
        for plugin, settings in SETTINGS.items():
            self.put(f"lab/api/settings/{plugin}", {"raw": json.dumps(settings)})
        self.page.goto(f"{self.address}/doc/tree/{name}?reset")
        self.page.get_by_text("| Idle").wait_for(timeout=60_000)  # Run does nothing before

    def run_all(self):
        """Run all cells, without waiting for the last one."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def picture(self, number=0):
        """The pixels that a view's picture shows now, as a data URL."""
        image = self.page.locator("img.jupyter-widgets").nth(number)
        return image.evaluate(
            """async image => {
                await image.decode();
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                canvas.getContext("2d").drawImage(image, 0, 0);
                return canvas.toDataURL();
            }"""
        )


@pytest.fixture
def jupyter(lab, page):
    """A page on the live JupyterLab."""
    from playwright.sync_api import expect

    expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong
    return Lab(lab, page)
