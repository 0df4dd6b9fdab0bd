"""Draw the one picture a widget shows: rows of captioned tiles, quickly and without matplotlib figures."""

from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

from helpers.interface.pictures import enlarged, pixels

FONT, LINE, GAP = 16, 21, 8  # pixels: letters, legible on a page of two thirds; a line of them; between tiles
WIDTH = 800  # pixels across, at least: what a heading needs
INK, PAPER = (51, 51, 51), (255, 255, 255)


def panel(rows, size=192, width=WIDTH):
    """Lay rows of captioned tiles out as one picture: uint8 (height, width, 3).

    rows: (heading or "", images as in `pictures.pixels`, one caption per image), all at `size` pixels or the
    nearest whole multiple below. A caption takes two lines where it must; text that does not fit its place is cut.
    Raises ValueError for another number of captions than images.
    """
    drawn, y = [], 0
    for heading, images, captions in rows:
        tiles = fitted(images, size)
        if len(tiles) != len(captions):
            raise ValueError(f"got {len(captions)} captions for {len(tiles)} images: pass one for each")
        captions = [wrapped(str(caption), tiles.shape[2]) for caption in captions]
        head = LINE * (bool(heading) + max(map(len, captions)))
        drawn.append((y, head, heading, tiles, captions))
        y += head + tiles.shape[1] + GAP
    width = max(width, *(len(tiles) * (tiles.shape[2] + GAP) - GAP for *_, tiles, _ in drawn))
    page = Image.new("RGB", (width, y - GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for top, head, heading, tiles, captions in drawn:
        if heading:
            draw.text((0, top), _cut(str(heading), width), INK, _font())
        for i, (tile, lines) in enumerate(zip(tiles, captions)):
            x = i * (tile.shape[1] + GAP)
            for above, line in enumerate(reversed(lines), start=1):
                draw.text((x, top + head - above * LINE), line, INK, _font())
            page.paste(Image.fromarray(tile), (x, top + head))
    return np.asarray(page)


def wrapped(text, width):
    """Break text into at most two lines of so many pixels; what does not fit the second one is cut."""
    words, first = text.split(), ""
    if not words:
        return []
    while words and _font().getlength(f"{first} {words[0]}".strip()) <= width:
        first = f"{first} {words.pop(0)}".strip()
    if not first:
        first = _cut(words.pop(0), width)
    return [first, _cut(" ".join(words), width)] if words else [first]


def fitted(images, size):
    """Bring images to about `size` pixels: (N, 3, H, W) -> uint8 (N, h, w, 3); whole multiples, or averaged down."""
    images = torch.as_tensor(images)
    if images.shape[-2] > size:
        shrunk = F.interpolate(images.float(), size=(size, images.shape[-1] * size // images.shape[-2]), mode="area")
        images = shrunk.to(images.dtype)
    flat = pixels(images)
    zoom = max(1, size // flat.shape[1])
    return np.stack([enlarged(one, flat.shape[1] * zoom, flat.shape[2] * zoom) for one in flat])


def difference(before, after, limit=0.5):
    """Colour what changed: images (N, 3, H, W), twice -> uint8 (N, 3, H, W), red brighter, blue darker, white equal.

    The mean change over the colours; `limit`, in units of the images' [-1, 1], has the full colour.
    """
    change = (after.float() - before.float()).mean(dim=1)
    steps = ((change / limit).clamp(-1, 1) * 127.5 + 127.5).round().long()
    return _diverging()[steps].permute(0, 3, 1, 2)


@cache
def _diverging():
    low, middle, high = np.array([(35, 105, 189), (250, 250, 250), (169, 55, 59)])
    steps = np.linspace(-1, 1, 256)[:, None]
    return torch.from_numpy(
        (middle + np.where(steps < 0, middle - low, high - middle) * steps).round().astype(np.uint8)
    )


@cache
def _font():
    return ImageFont.load_default(FONT)


def _cut(text, width):
    while text and _font().getlength(text) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text
