"""A page of JupyterLab, and the widgets on it, as a person uses them."""

import json
import re
import urllib.parse
import urllib.request

import nbformat

SETTINGS = {  # cells are drawn even where they are scrolled out of sight, and no news covers a corner
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
}


class View:
    """The output of one cell, as a person sees it."""

    def __init__(self, page, cell):
        self.page, self.cell = page, page.locator(".jp-Cell").nth(cell)
        self.text, self.box, self.role = self.cell.get_by_text, self.cell.get_by_label, self.cell.get_by_role

    def press(self, name):
        """Click a button by its name."""
        self.role("button", name=name, exact=True).click()

    def enter(self, label, value):
        """Write into the box with this label and press Enter."""
        self.box(label, exact=True).fill(str(value))
        self.page.keyboard.press("Enter")

    def picture(self, number=0):
        """The pixels that a picture of the cell shows now, as a data URL."""
        return (
            self.cell.locator("img.jupyter-widgets")
            .nth(number)
            .evaluate(
                """async image => {
                await image.decode();
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                canvas.getContext("2d").drawImage(image, 0, 0);
                return canvas.toDataURL();
            }"""
            )
        )


class Lab:
    """A page of JupyterLab with one notebook."""

    def __init__(self, address, page):
        self.address, self.page = address, page

    def put(self, path, content):
        """Send JSON to the server."""
        body = json.dumps(content).encode()
        request = urllib.request.Request(f"{self.address}/{urllib.parse.quote(path)}", body, method="PUT")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=300).close()

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
        self.idle()  # Run does nothing before

    def idle(self):
        """Wait until the kernel has nothing to do."""
        self.page.get_by_text("| Idle").wait_for()

    def menu(self, *names):
        """Choose from the menu bar."""
        for name in names:
            self.page.get_by_role("menuitem", name=name, exact=True).click()

    def run_all(self):
        """Run all cells; on a page that never ran any, once more where nothing came of it: the kernel may be late."""
        from playwright.sync_api import expect

        first = self.page.locator(".jp-CodeCell .jp-InputPrompt").first
        for _ in range(10):
            self.menu("Run", "Run All Cells")
            try:
                return expect(first).to_have_text(re.compile(r"\[(\*|\d+)\]"), timeout=30_000)
            except AssertionError:
                pass
        raise AssertionError("Run All Cells runs nothing")

    def theme(self, name):
        """Choose the light or the dark theme."""
        self.menu("Settings")
        for item in ("Theme", f"JupyterLab {name.title()}"):
            self.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()
        self.page.locator(f"body[data-jp-theme-light='{str(name == 'light').lower()}']").wait_for(state="attached")

    def kinds(self):
        """What kind the notebook's cells are of, in order."""
        names = self.page.locator(".jp-Notebook .jp-Cell").evaluate_all("cells => cells.map(cell => cell.className)")
        return [re.search("jp-(Code|Markdown|Raw)Cell", name)[1] for name in names]
