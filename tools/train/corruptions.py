"""Paint defects into renders, as a generator makes them, to train the feature networks on.

Each kind is a function (rng, scene, donor) -> picture, listed in `KINDS` at the end. A scene is a picture, float32
(3, 64, 64) in [-1, 1], with its label map; the donor is another scene. The kinds imitate what PGGAN really does wrong:
floating and ghost spires, stains, smears, melted outlines, doubled towers, lost or stray windows, ring-shaped clouds,
blotched ground, night scenes that fall apart, checked texture. `degrade` is the harmless part of a generator's look
(softness, halos, lattice, colour casts, lost grain) and goes over intact and corrupted pictures alike, so that a
network cannot tell them apart by it.
"""

import io
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from helpers.worlds import churches as c

SIZE = c.SIZE
BUILDING = (c.WALL, c.ROOF, c.WINDOW, c.DOOR, c.CROSS)
_Y, _X = np.mgrid[:SIZE, :SIZE].astype(np.float32)


class Scene(NamedTuple):
    """A picture (3, 64, 64) float32 in [-1, 1] and its label map (64, 64)."""

    picture: np.ndarray
    label: np.ndarray


def _upsampler(cells):
    eye = Image.fromarray(np.eye(cells, dtype=np.float32))
    return np.asarray(eye.resize((cells, SIZE), Image.BICUBIC))


_UP = {cells: _upsampler(cells) for cells in range(2, 33)}


def field(rng, cells, channels=1):
    """Draw smooth noise of about unit deviation with `cells` bumps across: (channels, 64, 64)."""
    up = _UP[cells]
    return np.einsum("yi,cij,xj->cyx", up, rng.standard_normal((channels, cells, cells)).astype(np.float32), up) * 1.3


def blob(rng, at, low=4, high=16, wobble=0.3):
    """Draw a soft, irregular spot of half-size low..high px around at=(y, x): (64, 64) in [0, 1]."""
    ry, rx = rng.uniform(low, high, 2)
    distance = np.sqrt(((_Y - at[0]) / ry) ** 2 + ((_X - at[1]) / rx) ** 2) + wobble * field(rng, 8)[0]
    return np.clip((1.1 - distance) * rng.uniform(1.5, 8), 0, 1)


def spot(rng, label, classes=None):
    """Choose a pixel (y, x) of the given classes; anywhere if there is none."""
    where = np.argwhere(np.isin(label, classes)) if classes else ()
    return where[rng.integers(len(where))] if len(where) else rng.uniform(8, 56, 2)


def mostly_building(rng, label):
    """Choose where a defect goes: on the church in 60 of 100 cases, else anywhere."""
    return spot(rng, label, BUILDING if rng.random() < 0.6 else None)


def mix(picture, other, alpha):
    return picture + (other - picture) * alpha


def shifted(array, dy, dx):
    """Move a (..., 64, 64) array by whole pixels, repeating its border."""
    ys, xs = np.clip(np.arange(SIZE) - int(dy), 0, SIZE - 1), np.clip(np.arange(SIZE) - int(dx), 0, SIZE - 1)
    return array[..., ys[:, None], xs]


def fill(picture, hole):
    """Fill a boolean hole from its surroundings, nearest first: what lies behind a part taken away."""
    out, weight = np.zeros_like(picture), np.full((SIZE, SIZE), 1e-6, np.float32)
    keep = (~hole).astype(np.float32)
    for sigma, share in ((2, 1.0), (6, 0.02), (20, 0.0004)):
        out += share * ndimage.gaussian_filter(picture * keep, (0, sigma, sigma))
        weight += share * ndimage.gaussian_filter(keep, sigma)
    return np.where(hole, out / weight, picture)


def warped(picture, dy, dx):
    """Look up picture at y + dy, x + dx (pixels, (64, 64) each)."""
    at = np.stack([_Y + dy, _X + dx])
    return np.stack([ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in picture])


def colour(rng):
    """Draw a stain's colour (3, 1, 1): mostly red, pink, white, dark, orange or green."""
    palette = (
        (0.7, -0.4, -0.4),
        (0.8, 0.1, 0.3),
        (0.9, 0.9, 0.9),
        (-0.8, -0.8, -0.7),
        (0.8, 0.2, -0.5),
        (-0.4, 0.2, -0.4),
    )
    base = palette[rng.integers(len(palette))] if rng.random() < 0.8 else rng.uniform(-1, 1, 3)
    return (np.float32(base) + 0.15 * rng.standard_normal(3)).astype(np.float32)[:, None, None]


def parts(rng, label, classes):
    """Choose one connected part of the given classes: boolean (64, 64), empty if there is none."""
    pieces, n = ndimage.label(np.isin(label, classes))
    return pieces == rng.integers(1, n + 1) if n else np.zeros((SIZE, SIZE), bool)


def tower_rows(label):
    """Return the rows where the church is less than half as wide as at its widest, top first: its tower, if any."""
    width = np.isin(label, BUILDING).sum(1)
    rows = np.flatnonzero(width)
    if not len(rows):
        return rows
    top = rows[0]
    body = top + int(np.argmax(width[top:] >= 0.5 * width.max()))
    return np.arange(top, body)


def stain(rng, scene, donor):
    spread = blob(rng, mostly_building(rng, scene.label), 3, 13) * rng.uniform(0.3, 1)
    if rng.random() < 0.4:
        spread = spread * np.isin(scene.label, (scene.label[tuple(np.int64(spot(rng, scene.label)))],))
    return mix(scene.picture, colour(rng) + 0.15 * field(rng, 16, 3), spread)


def smear(rng, scene, donor):
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(6, 16)
    steps = np.linspace(0, length, 8)
    drawn = np.mean([shifted(scene.picture, s * np.sin(angle), s * np.cos(angle)) for s in steps], 0)
    return mix(scene.picture, drawn, blob(rng, mostly_building(rng, scene.label), 5, 16))


def warp(rng, scene, donor):
    spread = blob(rng, spot(rng, scene.label, (*BUILDING, c.TREE)), 6, 18)
    dy, dx = field(rng, int(rng.integers(4, 12)), 2) * spread * rng.uniform(2, 5)
    return warped(scene.picture, dy, dx)


def melt(rng, scene, donor):
    sigma = rng.uniform(1.2, 3.5)
    soft = ndimage.gaussian_filter(scene.picture, (0, sigma, sigma)) + rng.uniform(0, 0.2) * field(rng, 12, 3)
    return mix(scene.picture, soft, blob(rng, spot(rng, scene.label, (*BUILDING, c.TREE)), 5, 15))


def ghost(rng, scene, donor):
    """Another church's upper part, tree or window, half transparent and out of place."""
    kinds = (c.ROOF, c.CROSS, c.WALL, c.WINDOW), (c.ROOF, c.CROSS), (c.TREE,), (c.WINDOW,), (c.CROSS,)
    source = donor if rng.random() < 0.7 else scene
    cut = parts(rng, source.label, kinds[rng.integers(len(kinds))])
    if not cut.any():
        return melt(rng, scene, donor)
    rows = tower_rows(source.label)
    if len(rows) and rng.random() < 0.5:
        cut = np.isin(source.label, BUILDING) & (rows[0] <= _Y) & (_Y < rows[-1] + 3)
    at, centre = spot(rng, scene.label, (c.SKY, *BUILDING)), np.argwhere(cut).mean(0)
    dy, dx = at - centre
    if rng.random() < 0.5:  # a doubled tower stands beside the first, not somewhere in the sky
        dy, dx = rng.uniform(-6, 6), rng.choice((-1, 1)) * rng.uniform(4, 20)
    alpha = ndimage.gaussian_filter(cut.astype(np.float32), rng.uniform(0.3, 1)) * rng.uniform(0.35, 1)
    return mix(scene.picture, shifted(source.picture, dy, dx), shifted(alpha, dy, dx))


def detach(rng, scene, donor):
    """A band of the tower dissolves, and what is above floats, leans or sinks."""
    rows = tower_rows(scene.label)
    building = np.isin(scene.label, BUILDING)
    if len(rows) < 8:
        return erase(rng, scene, donor)
    empty = fill(scene.picture, ndimage.binary_dilation(building & (_Y <= rows[-1] + 1), iterations=2))
    height = rng.integers(3, max(4, min(10, len(rows) // 2)))
    top = rng.integers(rows[0] + 3, max(rows[0] + 4, rows[-1] - height + 2))
    band = ndimage.gaussian_filter(((top <= _Y) & (_Y < top + height)).astype(np.float32), 0.6)
    out = mix(scene.picture, empty, band * rng.uniform(0.6, 1))
    if rng.random() < 0.5:
        above = ndimage.binary_dilation(building & (_Y < top)).astype(np.float32)
        out = mix(out, empty, above)
        dy, dx = rng.integers(-3, 4), rng.integers(-6, 7)
        out = mix(out, shifted(scene.picture, dy, dx), shifted(ndimage.gaussian_filter(above, 0.5), dy, dx))
    return out


def erase(rng, scene, donor):
    """The church is eaten away at a place, or its colour is lost there."""
    hole = np.isin(scene.label, (*BUILDING, c.TREE))
    empty = fill(scene.picture, ndimage.binary_dilation(hole))
    edge = hole & ~ndimage.binary_erosion(hole, iterations=3)
    at = spot(rng, np.where(edge, c.ROOF, c.SKY), (c.ROOF,))
    return mix(scene.picture, empty, blob(rng, at, 4, 11, wobble=0.4) * rng.uniform(0.5, 1))


def windows(rng, scene, donor):
    """Windows and doors vanish, melt or stand where none belong."""
    openings = np.isin(scene.label, (c.WINDOW, c.DOOR))
    out = scene.picture
    if rng.random() < 0.6:
        near = openings & (blob(rng, spot(rng, scene.label, (c.WINDOW, c.DOOR)), 5, 16) > 0.3)
        out = mix(out, fill(out, ndimage.binary_dilation(near)), rng.uniform(0.6, 1))
    for _ in range(rng.integers(1, 4)):
        source = scene if rng.random() < 0.5 else donor
        cut = parts(rng, source.label, (c.WINDOW, c.DOOR))
        if cut.any():
            dy, dx = spot(rng, scene.label, (c.ROOF, c.WALL, c.SKY)) - np.argwhere(cut).mean(0)
            alpha = ndimage.gaussian_filter(cut.astype(np.float32), 0.5) * rng.uniform(0.6, 1)
            out = mix(out, shifted(source.picture, dy, dx), shifted(alpha, dy, dx))
    return out


def blotch(rng, scene, donor):
    spread = blob(rng, mostly_building(rng, scene.label), 9, 26)
    if rng.random() < 0.4:
        kinds = (c.GROUND, c.PATH), (c.SKY,), BUILDING
        spread = spread * np.isin(scene.label, kinds[rng.integers(3)])
    grain = field(rng, int(rng.integers(6, 24)), 3)
    grain = grain if rng.random() < 0.3 else 0.8 * grain[:1] + 0.4 * grain  # mostly of one colour
    return scene.picture + spread * grain * rng.uniform(0.12, 0.5)


def ring(rng, scene, donor):
    y, x = spot(rng, scene.label, (c.SKY,))
    ry, rx = rng.uniform(3, 9, 2)
    distance = np.sqrt(((_Y - y) / ry) ** 2 + ((_X - x) / rx) ** 2) + 0.12 * field(rng, 8)[0]
    band = np.exp(-(((distance - 1) / rng.uniform(0.15, 0.35)) ** 2)) * (scene.label == c.SKY) * rng.uniform(0.4, 1)
    out = mix(scene.picture, np.float32(0.9) * np.ones((3, 1, 1), np.float32), band)
    return out - 0.25 * np.clip(1 - distance, 0, 1) * (scene.label == c.SKY)


def texture(rng, scene, donor):
    angle = rng.choice((0, np.pi / 2, rng.uniform(0, np.pi)))
    wave = np.sin((_Y * np.cos(angle) + _X * np.sin(angle)) * 2 * np.pi / rng.uniform(2, 5) + rng.uniform(0, 6))
    if rng.random() < 0.4:
        wave = wave * np.sin((_X * np.cos(angle) - _Y * np.sin(angle)) * 2 * np.pi / rng.uniform(2, 5))
    spread = blob(rng, mostly_building(rng, scene.label), 6, 18) * rng.uniform(0.15, 0.5)
    return scene.picture + spread * wave * rng.uniform(0.5, 1, (3, 1, 1))


def noise(rng, scene, donor):
    grain = ndimage.gaussian_filter(rng.standard_normal((3, SIZE, SIZE)), (0, 0.6, 0.6))
    return scene.picture + blob(rng, mostly_building(rng, scene.label), 5, 16) * grain * rng.uniform(0.25, 0.8)


def blend(rng, scene, donor):
    """Another scene shines through at a place."""
    return mix(
        scene.picture, donor.picture, blob(rng, mostly_building(rng, scene.label), 6, 18) * rng.uniform(0.35, 0.9)
    )


def collapse(rng, scene, donor):
    """Most of the church falls apart into blotches, as the generator's nights do."""
    centre = np.argwhere(np.isin(scene.label, BUILDING)).mean(0) + rng.normal(0, 4, 2)
    spread = blob(rng, centre, 9, 22, wobble=0.4)
    dy, dx = field(rng, int(rng.integers(5, 14)), 2) * spread * rng.uniform(2.5, 7)
    out = warped(scene.picture, dy, dx)
    dark = np.median(scene.picture, (1, 2), keepdims=True)
    out = mix(out, dark + 0.2 * field(rng, 14, 3), spread * np.clip(field(rng, 7)[0] + 0.2, 0, 1) * rng.uniform(0.3, 1))
    for _ in range(rng.integers(0, 5)):
        glow = (0.9, 0.6, -0.2) if rng.random() < 0.6 else (0.8, 0.7, 0.7) if rng.random() < 0.5 else (0.3, -0.5, -0.5)
        light = np.float32(glow)[:, None, None]
        out = mix(out, light, blob(rng, spot(rng, np.where(spread > 0.3, 1, 0), (1,)), 1.2, 4) * rng.uniform(0.4, 1))
    return out


KINDS = (stain, smear, warp, melt, ghost, detach, erase, windows, blotch, ring, texture, noise, blend, collapse)
WEIGHTS = np.array([3, 2, 3, 2, 4, 3, 3, 1.5, 2.5, 1, 1, 1, 1.5, 1.5])


def corrupt(rng, scene, donor, kinds=None):
    """Paint one to three defects in; returns (picture, changed), changed: boolean (64, 64), where it shows."""
    picture = scene.picture
    chosen = kinds or rng.choice(KINDS, rng.choice((1, 2, 3), p=(0.5, 0.35, 0.15)), p=WEIGHTS / WEIGHTS.sum())
    dark = scene.picture.mean() < -0.55
    if kinds is None and dark and rng.random() < 0.35:
        chosen = (*chosen, collapse)
    for kind in chosen:
        picture = np.clip(kind(rng, Scene(picture, scene.label), donor), -1, 1).astype(np.float32)
    change = ndimage.gaussian_filter(np.abs(picture - scene.picture).mean(0), 0.6)
    return picture, change > (0.08 if dark else 0.11)


def _jpeg(picture, quality):
    file = io.BytesIO()
    pixels = ((picture.clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 127.5 - 1


def degrade(rng, x):
    """Give pictures (N, 3, 64, 64) a generator's harmless look: softness, halos, lattice, casts, lost grain."""
    n = len(x)

    def draw(low, high, share=1.0, shape=(1, 1, 1)):
        values = rng.uniform(low, high, (n, *shape)) * (rng.random((n, 1, 1, 1)) < share)
        return torch.from_numpy(values.astype(np.float32))

    def smooth(cells, channels):
        grid = torch.from_numpy(rng.standard_normal((n, channels, cells, cells)).astype(np.float32))
        return F.interpolate(grid, size=SIZE, mode="bicubic")

    some = np.flatnonzero(rng.random(n) < 0.35)  # lost grain: flat colours with hard edges
    if len(some):
        around = F.unfold(F.pad(x[some], (1, 1, 1, 1), "replicate"), 3).view(len(some), 3, 9, -1)
        x = x.clone()
        x[some] = around.median(2).values.view(len(some), 3, SIZE, SIZE)
    grid = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), (n, 1, SIZE, SIZE), align_corners=False)
    sway = smooth(7, 2) * draw(0, 0.7, 0.6) * 2 / SIZE
    x = F.grid_sample(x, grid + sway.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    soft = F.conv2d(F.pad(x, (1, 1, 1, 1), "replicate"), kernel, groups=3)
    x = x + (soft - x) * draw(-0.6, 1.0, 0.8)
    for cells, most in ((64, 0.04), (24, 0.05), (10, 0.05)):
        x = x + smooth(cells, 3) * draw(0, most, 0.6)
    phase = torch.arange(SIZE) * (2 * np.pi)
    for period in (4, 8):
        across, down = (
            torch.cos(phase / period + 0.5).view(1, 1, 1, -1),
            torch.cos(phase / period + 0.5).view(1, 1, -1, 1),
        )
        x = x + (across * draw(0, 0.04, 0.5) + down * draw(0, 0.04, 0.5)) * (0.6 + 0.4 * smooth(5, 1))
    x = x * draw(0.85, 1.1) + draw(-0.08, 0.08) + draw(-0.05, 0.05, 0.6, (3, 1, 1))
    for i in np.flatnonzero(rng.random(n) < 0.25):
        x[i] = _jpeg(x[i], int(rng.integers(25, 80)))
    return x.clamp(-1, 1)
