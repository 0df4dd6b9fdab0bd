"""Say in words, inside a kernel, what a figure shows: what is written in it, and the numbers behind lines and bars.

A figure's plain text stands for the picture where no picture is drawn, and sentences are checked against it.
"""

import numpy as np

MOST = 60  # points of a line that a reader could look up; a longer one is seen as a shape


def start():
    """Let figures that cells show from now on carry their numbers as plain text."""
    from matplotlib.figure import Figure

    Figure.__repr__ = described  # not a formatter: notebooks drop those when they begin to draw


def described(figure):
    """Return the text for a figure, a line for each part of it that has something to say."""
    return "\n".join(["Figure.", *(line for ax in figure.axes for line in _parts(ax))])


def _parts(ax):
    from matplotlib.collections import QuadMesh

    written = [ax.get_title(loc="left"), ax.get_title(), *(text.get_text() for text in ax.texts)]
    yield from filter(None, (" ".join(text.split()) for text in written))
    if not ax.axison:  # a sheet of pictures
        return
    legend = ax.get_legend()
    named = [*ax.get_xticklabels(), *ax.get_yticklabels(), *(legend.get_texts() if legend else ())]
    said = [text.get_text() for text in named]
    yield from (text for text in said if any(map(str.isalpha, text)))  # names, not the numbers of a scale
    for line in ax.lines:
        yield from _values(line.get_xydata())
    for bar in ax.patches:
        if hasattr(bar, "get_width"):
            yield from _values([(bar.get_width(), bar.get_height())])
    for collection in ax.collections:
        if isinstance(collection, QuadMesh):  # the fields of a table, with their numbers written in
            continue
        if len(collection.get_offsets()) > 1:
            yield from _values(collection.get_offsets())
        elif len(collection.get_paths()) <= MOST:  # bands and intervals
            for path in collection.get_paths():
                yield from _values(path.vertices)


def _values(points):
    points = np.ma.filled(np.ma.asarray(points, float), np.nan)
    if 0 < len(points) <= MOST:
        for values in points.T:
            yield " ".join(f"{value:.5g}" for value in values if np.isfinite(value))
