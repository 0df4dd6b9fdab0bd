"""Render the real images of the embedded world: 64x64 church scenes with exact label maps."""

from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from helpers.latents import image_ids
from helpers.worlds.canvas import Canvas, blend, jitter, noise, shade

SIZE = 64
CLASSES = ("sky", "hill", "ground", "path", "wall", "roof", "window", "door", "cross", "tree")
SKY, HILL, GROUND, PATH, WALL, ROOF, WINDOW, DOOR, CROSS, TREE = range(10)

TIMES = ("day", "haze", "dusk", "overcast", "night")
TOWERS = ("beside", "central", "none")
WALLS = ("cream", "sand", "brick", "grey", "white")
ROOFS = ("red", "slate", "brown", "copper")
GROUNDS = ("grass", "dry", "gravel")

_SCALE = 3  # drawn three times larger, then box-filtered: cheap anti-aliasing
_W = SIZE * _SCALE
_SKIES = (
    ((70, 120, 200), (190, 215, 240)),
    ((120, 150, 190), (220, 220, 215)),
    ((60, 70, 120), (240, 150, 90)),
    ((150, 160, 170), (205, 208, 210)),
    ((20, 28, 60), (70, 80, 120)),
)
_TIME_P = (0.36, 0.19, 0.15, 0.16, 0.14)
_LIGHT = (1.0, 0.95, 0.85, 0.8, 0.5)
_WALL_RGB = ((225, 215, 195), (190, 170, 140), (175, 95, 75), (160, 160, 165), (235, 232, 225))
_ROOF_RGB = ((120, 60, 50), (70, 75, 90), (90, 80, 70), (60, 95, 85))
_GROUND_RGB = ((86, 130, 62), (120, 128, 74), (150, 140, 120))
_SNOW_RGB = (215, 220, 226)
_TREE_RGB = ((50, 95, 45), (80, 110, 50), (160, 110, 50))


class Factors(NamedTuple):
    """What a scene shows, decided before anything is drawn."""

    time: str
    tower: str
    wall: str
    roof: str
    ground: str
    trees: int
    path: bool
    hill: bool
    lit: bool
    snow: bool


def factors(ids):
    """Return the `Factors` of each scene id, as a list in the order of `ids`."""
    return [_factors(_stream(i)) for i in image_ids(ids)]


def render(ids, workers=1):
    """Render scenes from their integer ids; the same id gives the same picture everywhere.

    ids: iterable of int in [0, 2**32). workers: processes to spread the work over.
    Returns (images, labels): uint8 tensors (N, 3, 64, 64) in [0, 255] and (N, 64, 64) with
    indices into `CLASSES`. Raises ValueError for an id outside the range.
    Shown in notebook 00.
    """
    ids = image_ids(ids)
    if workers > 1 and len(ids) > 1:
        with ProcessPoolExecutor(workers) as pool:
            scenes = list(pool.map(_scene, ids, chunksize=max(1, len(ids) // (4 * workers))))
    else:
        scenes = [_scene(i) for i in ids]
    if not scenes:
        return torch.zeros(0, 3, SIZE, SIZE, dtype=torch.uint8), torch.zeros(0, SIZE, SIZE, dtype=torch.uint8)
    images = np.stack([image for image, _ in scenes]).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.stack([label for _, label in scenes]))


def _stream(scene_id):
    # RandomState's stream is frozen by NumPy's policy; Generator's may change between versions.
    return np.random.RandomState((scene_id * 2654435761 + 97) % 2**32)


def _pick(rng, names, p=None):
    edges = np.cumsum(p if p is not None else np.full(len(names), 1 / len(names)))
    return names[min(int(np.searchsorted(edges, rng.random_sample(), side="right")), len(names) - 1)]


def _factors(rng):
    time = _pick(rng, TIMES, _TIME_P)
    return Factors(
        time=time,
        tower=_pick(rng, TOWERS, (0.45, 0.35, 0.2)),
        wall=_pick(rng, WALLS),
        roof=_pick(rng, ROOFS),
        ground=_pick(rng, GROUNDS, (0.56, 0.22, 0.22)),
        trees=_pick(rng, (0, 1, 2), (0.3, 0.45, 0.25)) + _pick(rng, (0, 1, 2), (0.3, 0.45, 0.25)),
        path=rng.random_sample() < 0.6,
        hill=rng.random_sample() < 0.5,
        lit=rng.random_sample() < (0.8 if time == "night" else 0.12),
        snow=rng.random_sample() < 0.1,
    )


def _sky(rng, scene, light):
    top, bottom = (jitter(rng, c, 12) for c in _SKIES[TIMES.index(scene.time)])
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    sky = (np.float32(top) * (1 - ramp) + np.float32(bottom) * ramp) * np.ones((1, SIZE, 1), np.float32)
    if scene.time != "night":
        cloud = 0.6 * noise(rng, SIZE, 4) + 0.4 * noise(rng, SIZE, 10)
        cloud = np.clip((cloud - rng.uniform(0.5, 0.75)) * 4, 0, 1)[..., None] * rng.uniform(0.4, 0.95)
        sky = sky * (1 - cloud) + np.float32((245, 245, 248)) * light * cloud
    return sky.astype(np.uint8).repeat(_SCALE, 0).repeat(_SCALE, 1)


def _land(rng, canvas, scene, light, horizon, cx):
    if scene.hill:
        xs = np.linspace(0, _W, 12)
        waves = 0.5 + 0.5 * np.sin(xs / _W * rng.uniform(3, 7) + rng.uniform(0, 6))
        ys = horizon - rng.uniform(0.04, 0.16) * _W * waves
        colour = blend((90, 120, 110), _SNOW_RGB, 0.45 if scene.snow else 0)
        outline = [(0, horizon + 2), *zip(xs, ys), (_W, horizon + 2)]
        canvas.polygon(outline, jitter(rng, shade(colour, light), 12), HILL)
    colour = _SNOW_RGB if scene.snow else _GROUND_RGB[GROUNDS.index(scene.ground)]
    canvas.box(0, horizon, _W, _W, jitter(rng, shade(colour, light), 12), GROUND)
    if scene.path:
        colour = jitter(rng, shade((170, 155, 130), light), 12)
        left, right = 8 * rng.standard_normal(2)
        near = [(cx + 0.16 * _W + right, _W), (cx - 0.16 * _W + left, _W)]
        canvas.polygon([(cx - 0.05 * _W, horizon), (cx + 0.05 * _W, horizon), *near], colour, PATH)


def _church(rng, canvas, scene, light, horizon, cx):
    w = _W * rng.uniform(0.20, 0.30)
    h = w * rng.uniform(0.75, 1.25)
    wall = jitter(rng, shade(_WALL_RGB[WALLS.index(scene.wall)], light), 10)
    roof = blend(_ROOF_RGB[ROOFS.index(scene.roof)], _SNOW_RGB, 0.5 if scene.snow else 0)
    roof = jitter(rng, shade(roof, light), 10)
    glass = (250, 215, 120) if scene.lit else shade((50, 60, 85), max(light, 0.6))
    base = horizon + rng.uniform(0, 0.03) * _W
    eave = base - h
    ridge = eave - w * rng.uniform(0.45, 0.8)

    side = 1 if rng.random_sample() < 0.5 else -1
    depth = w * rng.uniform(0.5, 1.2)
    x0, x1 = (cx + w / 2, cx + w / 2 + depth) if side > 0 else (cx - w / 2 - depth, cx - w / 2)
    near, far = (x0, x1) if side > 0 else (x1, x0)
    canvas.box(x0, eave, x1, base, shade(wall, 0.8), WALL)
    canvas.polygon([(cx, ridge), (cx + side * depth, ridge), (far, eave), (near, eave)], roof, ROOF)
    count = max(1, int(depth / (w * 0.34)))
    for i in range(count):
        canvas.arch(x0 + (i + 0.5) * depth / count, eave + h * 0.42, w * 0.11, h * 0.34, glass, WINDOW)

    front = [(cx - w / 2, eave), (cx, ridge), (cx + w / 2, eave), (cx + w / 2, base), (cx - w / 2, base)]
    canvas.polygon(front, wall, WALL)
    gable = [(cx - w / 2 - 3, eave + 2), (cx, ridge - 2), (cx + w / 2 + 3, eave + 2)]
    canvas.line(gable, shade(roof, 0.9), ROOF, width=4)
    canvas.ellipse(cx - w * 0.1, eave - w * 0.12, cx + w * 0.1, eave + w * 0.08, glass, WINDOW)
    door_w, door_h = w * rng.uniform(0.2, 0.3), h * rng.uniform(0.34, 0.46)
    wood = jitter(rng, shade((95, 60, 40), light), 12)
    canvas.arch(cx, base - door_h / 2, door_w, door_h, wood, DOOR)

    if scene.tower == "none":
        return
    tw = w * rng.uniform(0.3, 0.42)
    beside = scene.tower == "beside"
    tx = cx - side * (w / 2 + tw * 0.35) if beside else cx
    top = ridge - w * rng.uniform(0.1, 0.55)
    spire = top - w * rng.uniform(0.5, 1.1)
    canvas.box(tx - tw / 2, top, tx + tw / 2, base if beside else ridge + w * 0.2, shade(wall, 0.95), WALL)
    canvas.polygon([(tx - tw / 2 - 2, top), (tx, spire), (tx + tw / 2 + 2, top)], roof, ROOF)
    canvas.arch(tx, top + tw * 0.7, tw * 0.28, tw * 0.5, glass, WINDOW)
    if beside:
        canvas.arch(tx, top + tw * 2.2, tw * 0.24, tw * 0.5, glass, WINDOW)
    iron = shade((60, 55, 50), max(light, 0.7))
    canvas.line([(tx, spire - w * 0.22), (tx, spire + 3)], iron, CROSS, width=4)
    canvas.line([(tx - w * 0.07, spire - w * 0.14), (tx + w * 0.07, spire - w * 0.14)], iron, CROSS, width=4)


def _tree(rng, canvas, light, horizon, cx, side):
    x = cx + side * _W * rng.uniform(0.27, 0.5)
    y = horizon + rng.uniform(0, 0.10) * _W
    r = _W * rng.uniform(0.06, 0.12)
    green = jitter(rng, shade(_pick(rng, _TREE_RGB, (0.6, 0.25, 0.15)), light), 12)
    canvas.polygon([(x - 4, y), (x + 4, y), (x + 3, y - 2 * r), (x - 3, y - 2 * r)], shade((90, 65, 45), light), TREE)
    if rng.random_sample() < 0.35:
        canvas.polygon([(x - r * 0.8, y - r * 0.6), (x, y - r * 3.4), (x + r * 0.8, y - r * 0.6)], green, TREE)
        return
    for angle, bright in zip(rng.uniform(0, 2 * np.pi, 9), rng.uniform(0.8, 1.15, 9)):
        px, py, q = x + np.cos(angle) * r * 0.55, y - 1.9 * r + np.sin(angle) * r * 0.7, r * 0.55
        canvas.ellipse(px - q, py - q, px + q, py + q, jitter(rng, shade(green, bright), 6), TREE)


def _scene(scene_id):
    rng = _stream(scene_id)
    scene = _factors(rng)
    light = _LIGHT[TIMES.index(scene.time)]
    canvas = Canvas(_sky(rng, scene, light))
    horizon = rng.uniform(0.72, 0.84) * _W
    cx = _W * rng.uniform(0.36, 0.64)
    _land(rng, canvas, scene, light, horizon, cx)
    _church(rng, canvas, scene, light, horizon, cx)
    for i in range(scene.trees):
        _tree(rng, canvas, light, horizon, cx, 1 if (i + rng.randint(2)) % 2 else -1)
    label = np.asarray(canvas.map)[_SCALE // 2 :: _SCALE, _SCALE // 2 :: _SCALE].copy()
    grain = (noise(rng, SIZE, SIZE) - 0.5) * 14 + (noise(rng, SIZE, SIZE // 3) - 0.5) * 14
    picture = np.asarray(canvas.picture.resize((SIZE, SIZE), Image.BOX)).astype(np.float32)
    picture += grain[..., None] * (label != SKY)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8), label
