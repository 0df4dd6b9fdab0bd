from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from helpers import env, show
from helpers.interface import pictures


def pixels_of(fig):
    """Render a figure: uint8 (H, W, 3)."""
    buffer = BytesIO()
    fig.savefig(buffer, format="png", dpi=show.DPI)
    return np.asarray(Image.open(buffer).convert("RGB"))


def ramp(n=3, size=8):
    """Images whose red is the column, green the row, blue the image's number: every pixel can be told apart."""
    rows, columns = np.mgrid[:size, :size] * 20
    images = np.stack([np.stack([columns, rows, np.full((size, size), 40 * i)]) for i in range(n)])
    return torch.from_numpy(images.astype(np.uint8))


def texts(ax):
    return [text.get_text() for text in ax.texts]


FIGURES = {
    "grid": lambda: show.grid(ramp()),
    "overlay": lambda: show.overlay(ramp(), torch.eye(8).bool().expand(3, 8, 8)),
    "maps": lambda: show.maps(torch.rand(3, 4, 4), label="activation"),
    "compare": lambda: show.compare({"before": ramp(), "after": ramp()}),
    "histogram": lambda: show.histogram({"real": [1, 2, 3], "artifact": torch.rand(50)}, xlabel="D"),
    "curve": lambda: show.curve([1, 2], {"a": [1, 2]}, "x", "y"),
    "bars": lambda: show.bars({"a": 1.0, "b": (2.0, 1.5, 2.5)}, "FD"),
    "heatmap": lambda: show.heatmap(torch.eye(3)),
    "confusion": lambda: show.confusion([[3, 1], [0, 4]], ["no", "yes"]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_returned_at_720_pixels_and_not_kept(name):
    plt.close("all")
    fig = FIGURES[name]()
    assert isinstance(fig, Figure) and not plt.get_fignums()
    assert pixels_of(fig).shape[1] == 720


def test_float_images_are_clamped_and_scaled():
    images = torch.tensor([-3.0, -1, 0, 1, 2]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert pictures.pixels(images)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_bytes_pass_unchanged_and_single_images_count_as_one():
    assert (pictures.pixels(ramp()) == ramp().permute(0, 2, 3, 1).numpy()).all()
    assert pictures.pixels(ramp()[1]).shape == (1, 8, 8, 3)
    assert pictures.pixels(list(ramp())).shape == (3, 8, 8, 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 8, 8, 3), r"must be \(N, 3, H, W\).*got \(2, 8, 8, 3\)"),
        (torch.zeros(0, 3, 8, 8), "N of at least 1"),
        (torch.zeros(8, 8), r"got \(8, 8\)"),
        (torch.full((1, 3, 8, 8), float("nan")), "NaN"),
        (torch.full((1, 3, 8, 8), 200.0), r"reach 200, expected about \[-1, 1\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "int64: convert them first"),
    ],
)
def test_images_of_another_kind_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        show.grid(images)


@pytest.mark.parametrize("zoom", [1, 3])
def test_tiles_repeat_pixels_and_leave_white_gaps(zoom):
    sheet = show.tiles(ramp(3), columns=2, zoom=zoom, gap=2)
    side = 8 * zoom
    assert sheet.shape == (2 * side + 2, 2 * side + 2, 3) and sheet.dtype == np.uint8
    expected = ramp(3)[1].permute(1, 2, 0).numpy().repeat(zoom, 0).repeat(zoom, 1)
    assert (sheet[:side, side + 2 :] == expected).all()
    assert (sheet[:, side : side + 2] == 255).all() and (sheet[side + 2 :, side:] == 255).all()


def test_enlarged_takes_the_nearest_pixel_at_any_size():
    assert pictures.enlarged(np.arange(4).reshape(2, 2), 3, 5).tolist() == [
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
        [2, 2, 2, 3, 3],
    ]


def test_png_round_trip():
    sheet = show.tiles(ramp())
    assert (np.asarray(Image.open(BytesIO(show.png(sheet)))) == sheet).all()
    with pytest.raises(ValueError, match="make it with `tiles`"):
        show.png(np.zeros((4, 4, 3)))


def test_grid_places_each_image_with_its_pixels():
    images = ramp(6, size=64)
    drawn = pixels_of(show.grid(images, columns=5))
    # Five columns of 64 pixel images are shown at exactly twice their size, 2 pixels from the corner, 4 apart.
    for i, image in enumerate(images[:5]):
        x = 2 + i * 132
        expected = image.permute(1, 2, 0).numpy().repeat(2, 0).repeat(2, 1)
        assert np.abs(drawn[2:130, x : x + 128].astype(int) - expected).max() <= 1
    assert (drawn[134:262, 134:] == 255).all()


@pytest.mark.parametrize("columns", range(1, 13))
def test_tiles_fit_beside_row_labels_of_any_length(columns):
    images = np.zeros((columns, 64, 64, 3), np.uint8)
    for length in range(17):
        _, spots, (_, wide) = pictures.sheet(images, columns, rows=["x" * length])
        assert spots[-1][0] + wide <= 720 - 2, length


def test_grid_writes_titles_rows_and_edges():
    fig = show.grid(
        ramp(4),
        ["a", "b", "c", None],
        columns=2,
        edges=["artifact", None, "#123456", "normal"],
        rows=["r", "s"],
        title="T",
    )
    assert sorted(texts(fig.axes[0])) == ["T", "a", "b", "c", "r", "s"]
    edges = fig.axes[0].patches
    assert [to_hex(edge.get_edgecolor()).upper() for edge in edges] == [show.ARTIFACT, "#123456", show.NORMAL]
    assert edges[0].get_linestyle() != edges[2].get_linestyle()


@pytest.mark.parametrize("option", [{"titles": ["a"]}, {"edges": [None]}, {"rows": ["a", "b"]}])
def test_grid_refuses_labels_of_another_count(option):
    with pytest.raises(ValueError, match="places for .* give one for each"):
        show.grid(ramp(3), **option)


def test_tint_colours_the_mask_only():
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[1, 2:6, 2:6] = True
    tinted = show.tint(ramp(), masks)
    changed = (tinted != ramp()).any(1)
    assert tinted.dtype == torch.uint8 and (changed == masks).all()
    assert tinted[1, :, 3, 3].tolist() == [round(0.55 * v + 0.45 * c) for v, c in zip((60, 60, 40), (204, 121, 167))]


def test_tint_outlines_the_border_in_white():
    masks = torch.zeros(1, 8, 8)
    masks[0, 2:6, 2:6] = 0.6
    white = (show.tint(ramp(1), masks, level=0.5, outline=True) == 255).all(1)[0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    expected[3:5, 3:5] = False
    assert (white == expected).all()
    assert not (show.tint(ramp(1), masks, level=0.7, outline=True) == 255).all(1).any()


def test_overlay_outlines_the_mask_where_it_lies():
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[1, 16:32, 8:40] = True
    ax = show.overlay(ramp(2, size=64), masks).axes[0]
    assert len(ax.collections) == 2  # white under black, on the second image only
    box = ax.collections[0].get_datalim(ax.transData)
    zoom, left = 2.5, 2 + 160 + 4
    assert np.allclose([box.x0, box.x1], [left + 8 * zoom, left + 40 * zoom], atol=0.5)
    assert np.allclose(sorted([box.y0, box.y1]), [2 + 16 * zoom, 2 + 32 * zoom], atol=0.5)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.zeros(2, 8, 8), r"must be \(3, 8, 8\).*got \(2, 8, 8\)"),
        (torch.zeros(3, 4, 4), r"got \(3, 4, 4\)"),
        (torch.full((3, 8, 8), 2.0), r"lie in \[0, 1\], got 2 to 2"),
        (torch.full((3, 8, 8), float("nan")), r"lie in \[0, 1\], got nan"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, message):
    for draw in (show.overlay, show.tint):
        with pytest.raises(ValueError, match=message):
            draw(ramp(), masks)


def test_maps_share_one_scale():
    values = torch.tensor([0.0, 1.0, 4.0]).view(3, 1, 1).expand(3, 2, 2)
    fig = show.maps(values, label="activation")
    drawn = pixels_of(fig)
    for i, colour in enumerate(plt.get_cmap("magma")([0.0, 0.25, 1.0])[:, :3] * 255):
        middle = drawn[60, 2 + i * 180 + 60]
        assert np.abs(middle - colour).max() <= 2
    assert fig.axes[1].get_xlim() == (0, 4) and texts(fig.axes[1]) == ["activation"]


def test_maps_diverge_around_the_centre():
    fig = show.maps(torch.tensor([[[-1.0, 3.0]]]), centre=0)
    assert fig.axes[1].get_xlim() == (-3, 3)
    with pytest.raises(ValueError, match=r"must be \(N, H, W\) and finite, got \(2, 3, 4, 4\)"):
        show.maps(torch.zeros(2, 3, 4, 4))


def test_compare_needs_rows_of_one_length():
    fig = show.compare({"before": ramp(3), "after": ramp(3)}, titles=["a", "b", "c"])
    assert sorted(texts(fig.axes[0])) == ["a", "after", "b", "before", "c"]
    with pytest.raises(ValueError, match="same number of images, got {'before': 3, 'after': 2}"):
        show.compare({"before": ramp(3), "after": ramp(2)})


def test_histogram_shows_densities_and_tells_groups_apart_without_colour():
    rng = np.random.default_rng(0)
    groups = {"artifact": rng.normal(0, 1, 2000), "normal": rng.normal(3, 1, 100)}
    ax = show.histogram(groups, bins=40, lines={"cut": 1.5}).axes[0]
    filled, line, *_ = [patch for patch in ax.patches]
    assert to_hex(line.get_edgecolor()).upper() == show.ARTIFACT
    corners = filled.get_xy()
    assert abs(np.trapezoid(corners[:, 1], corners[:, 0])) == pytest.approx(1, abs=1e-6)
    handles, labels = ax.get_legend_handles_labels()
    assert labels == ["artifact (2,000)", "normal (100)"]
    assert len({handle.get_linestyle() for handle in handles}) == 2 and "cut" in texts(ax)[0]
    rugs = [line for line in ax.lines if line.get_marker() == "|"]
    assert [len(rug.get_xdata()) for rug in rugs] == [300, 100]


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_histogram_refuses_groups_without_numbers(values):
    with pytest.raises(ValueError, match="'real' must hold finite numbers"):
        show.histogram({"real": values})


def test_curve_draws_lines_bands_and_different_marks():
    fig = show.curve([0, 1, 2], {"normal": [1, 2, 3], "other": ([3, 2, 1], [2, 1, 0], [4, 3, 2])}, "n", "FD", "falls")
    ax = fig.axes[0]
    first, second = ax.lines
    assert first.get_ydata().tolist() == [1, 2, 3] and to_hex(first.get_color()).upper() == show.NORMAL
    assert first.get_marker() != second.get_marker() and first.get_linestyle() != second.get_linestyle()
    (band,) = ax.collections
    assert band.get_datalim(ax.transData).bounds == (0, 0, 2, 4)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("n", "FD", "falls")


@pytest.mark.parametrize("y", [[1, 2], ([1, 2, 3], [1, 2, 3]), ([1, 2, 3], [1, 2], [1, 2, 3])])
def test_curve_refuses_other_lengths(y):
    with pytest.raises(ValueError, match="curve 'a' must be y or"):
        show.curve([0, 1, 2], {"a": y})


def test_bars_show_values_intervals_and_the_reference():
    ax = show.bars({"none": 30.0, "ds": (25.0, 23.0, 28.0)}, "FD", reference={"start": 29}).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["none", "ds"] and texts(ax) == ["30", "25"]
    assert [23.0, 28.0] in [list(line.get_xdata()) for line in ax.lines]
    assert ax.get_legend_handles_labels()[1] == ["start"]


def test_bars_keep_the_house_colours_for_the_names_they_belong_to():
    names = ["as they are", "normal", "b", "c", "d", "artifact", "e", "f"]
    values = {name: (float(i), i - 0.5, i + 0.5) for i, name in enumerate(names)}
    ax = show.bars(values, reference={"start": 1.0}).axes[0]
    drawn = {
        name: {line.get_color() for line in ax.lines if set(line.get_ydata()) == {i}} for i, name in enumerate(names)
    }
    assert drawn.pop("normal") == {show.NORMAL} and drawn.pop("artifact") == {show.ARTIFACT}
    assert set().union(*drawn.values()) == {"black"}


def test_heatmap_writes_its_numbers():
    fig = show.heatmap([[1, 2.5], [3, -4]], ["a", "b"], ["x", "y"], fmt=".1f", centre=0)
    assert texts(fig.axes[0]) == ["1.0", "2.5", "3.0", "-4.0"]
    with pytest.raises(ValueError, match=r"two dimensions, got shape \(3,\)"):
        show.heatmap([1, 2, 3])


def test_confusion_writes_counts_and_row_shares():
    fig = show.confusion(torch.tensor([[30, 10], [0, 5]]), ["no", "yes"])
    assert texts(fig.axes[0]) == ["30\n75%", "10\n25%", "0\n0%", "5\n100%"]
    assert fig.axes[0].get_xlabel() == "predicted"
    with pytest.raises(ValueError, match="the matrix must be 3 x 3"):
        show.confusion([[1, 2], [3, 4]], ["a", "b", "c"])


@pytest.mark.parametrize("checkout", [True, False])
def test_save_writes_png_and_svg(tmp_path, monkeypatch, checkout):
    monkeypatch.setattr(env, "ROOT", tmp_path if checkout else tmp_path / "site-packages")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)  # where an installed package writes to
    path = show.save(show.grid(ramp()), "00_tiles")
    assert path == tmp_path / "figures" / "00_tiles.png" and Image.open(path).width == 720
    assert "<svg" in path.with_suffix(".svg").read_text()


def test_house_colours_are_fixed():
    assert (show.NORMAL, show.ARTIFACT, show.REAL) == ("#0072B2", "#D55E00", "#009E73")
    assert (show.SELECTED, show.GREY) == ("#CC79A7", "#999999")
