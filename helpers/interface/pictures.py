"""Turn image tensors into pictures: checked pixels, tinted masks, tiles for widgets, the sheets figures are made of."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image

from helpers import env

NORMAL, ARTIFACT, REAL, SELECTED, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"  # Okabe-Ito
COLOURS = {"normal": NORMAL, "artifact": ARTIFACT, "real": REAL, "selected": SELECTED, "reference": GREY}
WIDTH, DPI = 7.2, 100  # inches, dots per inch: 720 px

LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
GAP = 4  # pixels between tiles of a figure

_TINT = np.float32([int(SELECTED[i : i + 2], 16) for i in (1, 3, 5)])


def pixels(images):
    """Check images and turn them into uint8 pixels: (N, 3, H, W) or one (3, H, W) -> array (N, H, W, 3).

    images: float in [-1, 1], clamped here since generators overshoot, or uint8; a list of images is stacked.
    Raises ValueError for another shape or type, for NaN, and for floats that look like 0..255.
    """
    if isinstance(images, list | tuple) and images:
        images = torch.stack([torch.as_tensor(image) for image in images])
    images = torch.as_tensor(images).detach().cpu()
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"images must be (N, 3, H, W) with N of at least 1, got {tuple(images.shape)}")
    if images.dtype != torch.uint8:
        if not images.is_floating_point():
            raise ValueError(f"images must be float in [-1, 1] or uint8, got {images.dtype}: convert them first")
        images = images.float()
        largest = images.abs().max()
        if not torch.isfinite(largest):
            raise ValueError("images hold NaN or infinite values: look at the step that made them")
        if largest > 20:
            raise ValueError(f"images reach {largest:.0f}, expected about [-1, 1]: pass 0..255 images as uint8")
        images = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()


def heats(masks, pictures):
    """Check masks against pixels (N, H, W, 3): (N, H, W), bool or float in [0, 1] -> float32 array (N, H, W)."""
    masks = torch.as_tensor(masks).detach().cpu()
    if masks.ndim == 2:
        masks = masks[None]
    if tuple(masks.shape) != pictures.shape[:3]:
        raise ValueError(f"masks must be {pictures.shape[:3]}, one of its size per image, got {tuple(masks.shape)}")
    heat = masks.float().numpy()
    if not (heat.min() >= 0 and heat.max() <= 1):  # false for NaN, too
        raise ValueError(f"masks must be bool or lie in [0, 1], got {heat.min():.3g} to {heat.max():.3g}")
    return heat


def tint(images, masks, level=0.5, outline=False):
    """Lay masks over images: images as in `pixels`, masks (N, H, W) -> uint8 tensor (N, 3, H, W).

    A bool mask is tinted pink, a float heat in [0, 1] takes the colours of magma. outline=True draws the border
    of the area from `level` up one pixel wide in white, for pictures that no figure outlines.
    """
    flat = pixels(images)
    heat, flat = heats(masks, flat), flat.astype(np.float32)
    if torch.as_tensor(masks).dtype == torch.bool:
        colour, strength = _TINT, 0.45 * heat[..., None]
    else:
        import matplotlib

        colour, strength = 255 * matplotlib.colormaps["magma"](heat)[..., :3], 0.65 * heat[..., None]
    mixed = flat * (1 - strength) + colour * strength
    if outline:
        inside = np.pad(heat >= level, ((0, 0), (1, 1), (1, 1)))
        core = inside[:, 2:, 1:-1] & inside[:, :-2, 1:-1] & inside[:, 1:-1, 2:] & inside[:, 1:-1, :-2]
        mixed[inside[:, 1:-1, 1:-1] & ~core] = 255
    return torch.from_numpy(mixed.round().astype(np.uint8)).permute(0, 3, 1, 2)


def enlarged(picture, height, width):
    """Resize an array (H, W, ...) by repeating pixels, never by blending them."""
    rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), picture.shape))
    return picture[rows[:, None], columns]


def tiles(images, columns=8, zoom=2, gap=2):
    """Lay images out in rows: images as in `pixels` -> uint8 array (height, width, 3), white between the tiles.

    zoom: whole number of pixels per image pixel. gap: pixels between tiles. Fast enough for a slider.
    """
    flat = pixels(images)
    count, high, wide = flat.shape[:3]
    high, wide, columns = high * zoom, wide * zoom, min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (high + gap) - gap, columns * (wide + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(flat):
        y, x = i // columns * (high + gap), i % columns * (wide + gap)
        sheet[y : y + high, x : x + wide] = enlarged(picture, high, wide)
    return sheet


def png(picture):
    """Encode a picture for `ipywidgets.Image`: uint8 array (H, W, 3) or (H, W) -> bytes of a PNG."""
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        raise ValueError(
            f"a picture must be uint8 (H, W, 3), got {picture.dtype} {picture.shape}: make it with `tiles`"
        )
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)  # speed before size: it goes to the next window
    return buffer.getvalue()


def figure(height=3.2, rows=1, columns=1, **options):
    """Make an empty figure of the house's width: returns (Figure, axes), as plt.subplots does.

    height: inches. options: passed to plt.subplots. The figure is not kept by pyplot, so nothing piles up.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(env.STYLE):
        fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), dpi=DPI, **options)
    plt.close(fig)
    return fig, axes


def sheet(pictures, columns=8, titles=None, edges=None, rows=None, title=None, foot=0):
    """Lay pictures (N, H, W, 3) out on one canvas whose data unit is a pixel: (Figure, tile corners, tile size).

    titles, edges, rows and title: as in `show.grid`. foot: pixels left free below the tiles.
    """
    from matplotlib.patches import Rectangle

    count, high, wide = pictures.shape[:3]
    columns = min(columns, count)
    lines = -(-count // columns)
    titles, edges = (_each(given, count, what) for given, what in ((titles, "titles"), (edges, "edges")))
    rows = _each(rows, lines, "row labels")
    left = max(int(7.4 * max(len(part) for part in str(row or "").split("\n"))) for row in rows) + 6 * any(rows)
    # Four columns at least, or few tiles would fill the page; half steps of zoom keep pixels nearly even.
    zoom = ((WIDTH * DPI - left) / max(columns, 4) - GAP) / wide
    zoom = int(2 * zoom) / 2 if zoom >= 2 else zoom
    size = high, wide = int(high * zoom), int(wide * zoom)
    spots, y = [], 24 if title else 2
    for line in range(lines):
        said = [str(t or "") for t in titles[line * columns : (line + 1) * columns]]
        y += 2 + 13 * max(1 + text.count("\n") for text in said) if any(said) else 0
        spots += [(left + 2 + i * (wide + GAP), y) for i in range(len(said))]
        y += high + GAP
    y += foot
    canvas = np.zeros((y, int(WIDTH * DPI), 4), np.uint8)
    for (x, top), picture in zip(spots, pictures):
        canvas[top : top + high, x : x + wide, :3] = enlarged(picture, high, wide)
        canvas[top : top + high, x : x + wide, 3] = 255
    fig, ax = figure(y / DPI, layout="none")
    ax.set_position((0, 0, 1, 1))
    ax.set_axis_off()
    ax.imshow(canvas, extent=(0, canvas.shape[1], y, 0), interpolation="nearest", aspect="auto")
    for i, ((x, top), text, edge) in enumerate(zip(spots, titles, edges)):
        if text:
            ax.text(x, top - 3, text, fontsize=8, va="bottom")
        if edge:
            style = LINES[list(COLOURS).index(edge)] if edge in COLOURS else "-"
            box = {"fill": False, "edgecolor": COLOURS.get(edge, edge), "linewidth": 2.2, "linestyle": style}
            ax.add_patch(Rectangle((x - 1, top - 1), wide + 1, high + 1, **box))
        if i % columns == 0 and rows[i // columns]:
            ax.text(left - 4, top + high / 2, rows[i // columns], fontsize=9, ha="right", va="center")
    if title:
        ax.text(2, 4, title, fontsize=10, va="top")
    return fig, spots, size


def _each(given, count, what):
    given = [None] * count if given is None else list(given)
    if len(given) != count:
        raise ValueError(f"there are {count} places for {what}, got {len(given)}: give one for each")
    return given
