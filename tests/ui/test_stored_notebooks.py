"""The stored notebooks in the working copy that `make lab` opens, as a reader first sees them."""

from pathlib import PurePosixPath

import pytest

from helpers import env
from tools.build import notebook_rules


@pytest.mark.parametrize("path", notebook_rules.paths(["00", "09"]), ids=lambda path: path.stem)
def test_the_first_screen_shows_the_key_figure_and_links_that_lead_somewhere(jupyter, path):
    jupyter.open(f"notebooks/{path.name}")
    first = jupyter.page.locator(".jp-Cell").first
    figure = first.get_by_role("img")
    figure.evaluate("image => image.decode()")  # raises where there is no picture
    width, top = figure.evaluate("image => [image.naturalWidth, image.getBoundingClientRect().top]")
    assert width > 400 and 0 < top < 600  # seen without scrolling
    every = jupyter.page.locator(".jp-RenderedMarkdown a").evaluate_all("links => links.map(a => a.href)")
    files = {PurePosixPath(href.partition("/files/")[2].partition("?")[0]) for href in every if "/files/" in href}
    assert all((env.ROOT / file).exists() for file in files), files
