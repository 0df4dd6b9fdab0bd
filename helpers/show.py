"""Draw the suite's figures: each function returns a matplotlib Figure and shows nothing."""

from pathlib import Path

import numpy as np

from helpers import env
from helpers.interface.pages import unit_pages
from helpers.interface.pictures import (
    ARTIFACT,
    COLOURS,
    DPI,
    GREY,
    LINES,
    NORMAL,
    REAL,
    SELECTED,
    WIDTH,
    figure,
    heats,
    pixels,
    png,
    sheet,
    tiles,
    tint,
)

__all__ = (  # the colours, and what makes pictures for widgets, are offered here as well
    ["ARTIFACT", "COLOURS", "GREY", "NORMAL", "REAL", "SELECTED", "figure", "png", "tiles", "tint"]
    + ["bars", "compare", "confusion", "curve", "grid", "heatmap", "histogram", "maps", "overlay", "save", "unit_pages"]
)

_OTHERS = ("#E69F00", "#56B4E9", "#000000", NORMAL, ARTIFACT, REAL, SELECTED)  # for names without a fixed colour
_MARKERS = "os^Dvx*"


def grid(images, titles=None, columns=8, edges=None, rows=None, title=None):
    """Show images as tiles: (N, 3, H, W), float in [-1, 1] or uint8 -> Figure.

    titles: a short line above each tile. edges: per tile a colour or a name of COLOURS, or None for no edge.
    rows: a label left of each row. Raises ValueError for other shapes or counts. Used from notebook 00 on.
    """
    return sheet(pixels(images), columns, titles, edges, rows, title)[0]


def overlay(images, masks, titles=None, columns=5, edges=None, rows=None, title=None, level=0.5):
    """Show masks over images, tinted and outlined, so that colour is not the only sign.

    images: as in `grid`. masks: (N, H, W), bool, or a heat in [0, 1], which is drawn in magma with the outline
    at `level`. Raises ValueError when masks do not fit the images. Used from notebook 02 on.
    """
    heat = heats(masks, pixels(images))
    fig, spots, (high, wide) = sheet(pixels(tint(images, masks)), columns, titles, edges, rows, title)
    across = (np.arange(heat.shape[2] + 2) - 0.5) * wide / heat.shape[2]
    down = (np.arange(heat.shape[1] + 2) - 0.5) * high / heat.shape[1]
    for (x, y), one in zip(spots, heat):
        if (one >= level).any():
            closed = np.pad(one, 1)  # so that an outline closes at the picture's border
            for colour, thick in (("white", 2), ("black", 0.8)):  # visible on light and on dark
                fig.axes[0].contour(x + across, y + down, closed, [level], colors=colour, linewidths=thick)
    return fig


def maps(values, titles=None, columns=8, rows=None, title=None, label="", limits=None, centre=None):
    """Show featuremaps or other maps as tiles on one colour scale with its bar: (N, H, W) -> Figure.

    limits: (lowest, highest) of the scale, by default those of the values. centre: the value that is neutral;
    the colours then diverge from it (vlag, not magma). Raises ValueError for another shape and for NaN.
    """
    import matplotlib
    import seaborn as sns

    values = np.asarray(values, np.float32)
    if values.ndim != 3 or not np.isfinite(values).all():
        raise ValueError(f"maps must be (N, H, W) and finite, got {values.shape}: pick one unit or one image")
    low, high = limits or (values.min(), values.max())
    if centre is not None:
        reach = max(high - centre, centre - low)
        low, high = centre - reach, centre + reach
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(low, high), "magma")
    if centre is not None:
        scale.set_cmap(sns.color_palette("vlag", as_cmap=True))
    coloured = [scale.to_rgba(one, bytes=True)[..., :3] for one in values]
    frames = None if centre is None else ["#dddddd"] * len(values)  # neutral fields are nearly white
    fig, spots, _ = sheet(np.stack(coloured), columns, titles, frames, rows, title, foot=34)
    tall = fig.get_figheight() * DPI
    bar = fig.add_axes((spots[0][0] / (WIDTH * DPI), 22 / tall, 0.4, 9 / tall))
    fig.colorbar(scale, cax=bar, orientation="horizontal")
    bar.text(1.03, 0.5, label, transform=bar.transAxes, va="center")
    return fig


def compare(groups, titles=None, edges=None, title=None):
    """Show labelled rows of tiles, such as before and after: {label: (N, 3, H, W)} -> Figure.

    titles and edges: one per column, drawn on the first row. Used in notebook 05.
    """
    stacks = [pixels(images) for images in groups.values()]
    counts = {len(stack) for stack in stacks}
    if len(counts) != 1:
        got = {label: len(stack) for label, stack in zip(groups, stacks)}
        raise ValueError(f"every row must hold the same number of images, got {got}: cut them to one length")
    columns = counts.pop()
    rest = (len(stacks) - 1) * columns * [None]
    titles, edges = (None if given is None else [*given, *rest] for given in (titles, edges))
    return sheet(np.concatenate(stacks), columns, titles, edges, list(groups), title)[0]


def histogram(groups, bins=30, xlabel="", title=None, height=2.8, lines=None):
    """Show the distributions of some groups, with a rug: {name: values} -> Figure.

    Densities, so that groups of different size compare. lines: {name: x}, marked by vertical lines.
    Raises ValueError for an empty or non-finite group. Used in notebooks 01 to 03.
    """
    values = {name: _numbers(given, name) for name, given in groups.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    fig, ax = figure(height)
    for i, (name, x) in enumerate(values.items()):
        colour, style = _colour(name, i), LINES[i % len(LINES)]
        ax.hist(x, edges, density=True, histtype="stepfilled", color=colour, alpha=0.18)
        label = f"{name} ({len(x):,})"
        ax.hist(x, edges, density=True, histtype="step", color=colour, linestyle=style, linewidth=1.6, label=label)
        shown = x if len(x) <= 300 else np.quantile(x, np.linspace(0, 1, 300))
        base = np.full(len(shown), -0.03 * (i + 1))
        transform = ax.get_xaxis_transform()
        ax.plot(shown, base, "|", color=colour, markersize=5, alpha=0.6, transform=transform, clip_on=False)
    for name, x in (lines or {}).items():
        ax.axvline(x, color="black", linewidth=1, linestyle=":")
        ax.annotate(f" {name}", (x, 0.98), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    ax.tick_params("x", pad=4 + 6 * len(values))
    return _labelled(ax, xlabel, "density", title, legend=True)


def curve(x, lines, xlabel="", ylabel="", title=None, height=3.2, ax=None):
    """Show one or more curves over x: {name: y, or (y, low, high) with a band} -> Figure.

    ax: draw into these axes instead of a new figure. Raises ValueError when a curve's length is not that of x.
    Used from notebook 01 on.
    """
    x = _numbers(x, "x")
    fig, ax = figure(height) if ax is None else (ax.figure, ax)
    for i, (name, given) in enumerate(lines.items()):
        y, *band = (np.asarray(part, float) for part in (given if isinstance(given, tuple) else (given,)))
        if any(part.shape != x.shape for part in (y, *band)) or len(band) not in (0, 2):
            shapes = [part.shape for part in (y, *band)]
            raise ValueError(f"curve {name!r} must be y or (y, low, high), each of shape {x.shape}, got {shapes}")
        colour = _colour(name, i)
        if band:
            ax.fill_between(x, *band, color=colour, alpha=0.15, linewidth=0)
        mark, style = _MARKERS[i % len(_MARKERS)], LINES[i % len(LINES)]
        ax.plot(x, y, color=colour, marker=mark, linestyle=style, markersize=4.5, linewidth=1.6, label=name)
    return _labelled(ax, xlabel, ylabel, title, legend=True)


def bars(values, xlabel="", title=None, reference=None, height=None):
    """Show one number per name with its interval: {name: v, or (v, low, high)} -> Figure.

    reference: {name: x}, marked by a dashed line, such as the value without correction.
    """
    fig, ax = figure(height or 0.9 + 0.32 * len(values))
    for i, (name, given) in enumerate(values.items()):
        value, *interval = given if isinstance(given, tuple) else (given,)
        colour = COLOURS.get(name, "black")  # the name stands beside it, so no colour need tell it apart
        if interval:
            ax.plot(interval, (i, i), color=colour, linewidth=2.2, solid_capstyle="butt")
        ax.plot(value, i, _MARKERS[i % len(_MARKERS)], color=colour, markersize=7)
        said = ax.annotate(f"{value:.3g}", (value, i), (0, 7), textcoords="offset points", ha="center", fontsize=8)
        said.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # legible on the reference line
    for name, x in (reference or {}).items():
        ax.axvline(x, color=GREY, linestyle="--", label=name)
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.5, -0.7)
    return _labelled(ax, xlabel, "", title, legend=bool(reference))


def heatmap(
    table, rows=None, columns=None, xlabel="", ylabel="", title=None, centre=None, fmt=".2f", notes=None, height=None
):
    """Show a table of numbers, each written into its field: a 2-D tensor, array or DataFrame -> Figure.

    rows, columns: labels. centre: the value that is neutral; the colours then diverge from it (vlag, not magma).
    notes: texts to write instead of the numbers, in the table's shape.
    """
    import pandas as pd
    import seaborn as sns

    if not isinstance(table, pd.DataFrame):
        if np.ndim(table) != 2:
            raise ValueError(f"a heatmap needs a table with two dimensions, got shape {tuple(np.shape(table))}")
        table = pd.DataFrame(np.asarray(table), rows, columns)
    fig, ax = figure(height or 1.1 + 0.34 * len(table))
    colours = {"cmap": "magma"} if centre is None else {"cmap": "vlag", "center": centre}
    written = {"annot": True, "fmt": fmt} if notes is None else {"annot": np.asarray(notes), "fmt": ""}
    sns.heatmap(table, ax=ax, annot_kws={"size": 8}, linewidths=1, **written, **colours)
    ax.tick_params("y", rotation=0)
    return _labelled(ax, xlabel, ylabel, title)


def confusion(matrix, classes, title=None):
    """Show a confusion matrix, rows the truth: counts (K, K) -> Figure with counts and row shares."""
    matrix = np.asarray(matrix)
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(f"the matrix must be {len(classes)} x {len(classes)} for {list(classes)}, got {matrix.shape}")
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    notes = [[f"{n:,}\n{part:.0%}" for n, part in zip(*both)] for both in zip(matrix, share)]
    height = 1.0 + 0.6 * len(classes)
    return heatmap(share, classes, classes, "predicted", "labelled", title, notes=notes, height=height)


def save(fig, name):
    """Write a figure to figures/<name>.png and .svg, of the checkout or else of the working folder; returns the PNG."""
    folder = (env.ROOT if env.checkout() else Path.cwd()) / "figures"
    folder.mkdir(exist_ok=True)
    for kind in ("svg", "png"):
        path = folder / f"{name}.{kind}"
        fig.savefig(path)
    return path


def _labelled(ax, xlabel, ylabel, title, legend=False):
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title or "", loc="left", fontsize=10)
    if legend:
        ax.legend(frameon=False)
    return ax.figure


def _colour(name, index):
    return COLOURS.get(name, _OTHERS[index % len(_OTHERS)])


def _numbers(values, name):
    values = np.asarray(values, float).reshape(-1)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"{name!r} must hold finite numbers, at least one, got {len(values)}: look at the step before")
    return values
