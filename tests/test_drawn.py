import nbformat
import numpy as np
import torch

from helpers import show
from tools.build import drawn, kernels


def said(figure):
    return drawn.described(figure).split("\n")


def test_bars_tell_values_intervals_and_references():
    lines = said(show.bars({"a": (0.47, 0.43, 0.52), "b": 3}, "AUC", "Judges", {"chance": 0.5}))
    assert lines == ["Figure.", "Judges", "0.47", "3", "a", "b", "chance"] + lines[7:]
    assert "0.43 0.52" in lines and lines.count("0.5 0.5") == 1


def test_curves_tell_their_points_and_bands():
    y = np.array([1.25, 2.5, 5])
    text = drawn.described(show.curve([1, 2, 3], {"fd": (y, y - 0.125, y + 0.125)}, title="FD"))
    assert "1.25 2.5 5" in text and "1.125" in text and "5.125" in text and "fd" in text


def test_a_line_of_many_points_is_a_shape():
    fig, ax = show.figure()
    ax.plot(np.arange(drawn.MOST + 1) + 0.5)
    assert said(fig) == ["Figure."]
    ax.bar([0], [3.5])
    ax.scatter([7, 8], [0.25, 2])
    assert said(fig) == ["Figure.", "0.8", "3.5", "7 8", "0.25 2"]


def test_sheets_tell_what_is_written_on_them_and_heatmaps_their_fields():
    images = torch.zeros(2, 3, 8, 8)
    assert said(show.grid(images, titles=["id 900", "D 0.93"], title="Two")) == ["Figure.", "id 900", "D 0.93", "Two"]
    fields = ["0.12", "1.00", "3.00", "4.00"]
    assert said(show.heatmap([[0.123, 1], [3, 4]], [5, 6], ["a", "b"]))[:7] == ["Figure.", *fields, "a", "b"]


def test_a_kernel_stores_the_numbers_beside_the_picture():
    source = "from helpers import show\nshow.bars({'a': 0.47})"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    with kernels.kernel(nb) as client:
        kernels.describe_figures(client)
        kernels.execute(client, nb)
    data = nb.cells[0].outputs[0].data
    assert data["text/plain"].startswith("Figure.\n0.47\n") and "image/png" in data
