"""A live JupyterLab in a real browser, for all tests of a module."""

import pytest

from tests.ui.lab_page import Lab


@pytest.fixture(scope="module")
def jupyter(lab, browser):
    """A page of 1400 x 1000 pixels on the live JupyterLab."""
    from playwright.sync_api import expect

    expect.set_options(timeout=300_000)  # a busy machine is slow, not wrong
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(300_000)
    yield Lab(lab, page)
    page.close()
