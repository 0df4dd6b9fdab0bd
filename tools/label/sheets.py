"""Make numbered contact sheets of generations, to label them by eye.

    python -m tools.label.sheets --ids 0:1000 --out sheets
    python -m tools.label.sheets --ids data/churches/labels.csv --count 200 --shuffle 7 --out sheets/second
    python -m tools.label.sheets --domain faces --ids 0:1000 --out sheets    # of another embedded domain
    python -m tools.label.sheets --generator my.safetensors --ids 0:1000 --out sheets    # of a file of your own

Every tile has its image id above it. Label with the criteria of the data card, one line per image in the CSV form
of `helpers/labels.py`. For a second pass, --shuffle mixes the order, so that it says nothing about the first one;
--count keeps that many of the mixed ids. --real N hides N rendered scenes among churches, to see how often the rater
calls a flawless image an artifact: tiles are then numbered 1, 2, ... and key.csv says, afterwards, what was what.
"""

import argparse
import csv
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from helpers import checkpoints, domains, labels, store
from helpers.latents import batches, latents
from helpers.worlds import churches, faces

FILTERS = {"nearest": Image.Resampling.NEAREST, "bicubic": Image.Resampling.BICUBIC}
REAL_IDS = range(4_000_000, 5_000_000)  # scenes that nothing is trained or tested on
FONT, STRIP, GAP = 15, 19, 4  # pixels: letters, the strip above a tile that holds them, between tiles
PAPER = (176, 176, 176)  # night scenes would drown beside white


def arguments(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ids", required=True, help='such as "0:1000", "0:100,250,300:310", or a label file')
    p.add_argument("--out", type=Path, required=True, help="folder for sheet-001.png, ...")
    p.add_argument("--domain", choices=(*domains.EMBEDDED, domains.FACES), default="churches")
    p.add_argument("--generator", type=Path, help="a weight file instead of a domain's generator")
    p.add_argument("--zoom", type=int, default=3, help="screen pixels per image pixel")
    p.add_argument("--filter", choices=FILTERS, default="bicubic", help="how to enlarge")
    p.add_argument("--columns", type=int, default=8)
    p.add_argument("--rows", type=int, default=5)
    p.add_argument("--shuffle", type=int, metavar="SEED", help="mix the order")
    p.add_argument("--count", type=int, help="only so many, after mixing")
    p.add_argument("--real", type=int, default=0, metavar="N", help="hide N rendered scenes among them")
    a = p.parse_args(words)
    if min(a.zoom, a.columns, a.rows) < 1 or a.real < 0 or (a.count is not None and a.count < 1):
        p.error("--zoom, --columns, --rows and --count must be at least 1, --real at least 0")
    if a.real and a.domain == domains.FACES:
        p.error("--real hides renders of churches: the faces have no real images")
    return a


def parse_ids(text):
    """Turn "0:3,7" or the path of a label file into a list of ids; raises ValueError for anything else."""
    if Path(text).is_file():
        return list(dict.fromkeys(labels.read(text).ids))
    if not re.fullmatch(r"\d+(:\d+)?(,\d+(:\d+)?)*", text):
        raise ValueError(f'--ids must look like "0:1000" or "0:100,250", or be a label file, got {text!r}')
    parts = [[int(n) for n in part.split(":")] for part in text.split(",")]
    ids = [i for start, *stop in parts for i in range(start, stop[0] if stop else start + 1)]
    return list(dict.fromkeys(ids))


def generator(domain, path=None):
    """Load what draws the images: an embedded domain's generator, without its networks, or a file -> Flow."""
    if path is None and domain == domains.FACES:
        return faces.generator()
    return checkpoints.load_generator(path or store.fetch(f"{domain}/generator.safetensors"))


def order(ids, shuffle=None, count=None, real=0):
    """Return what to show, in order: a list of (source, id) with source "generated" or "real"."""
    rng = np.random.RandomState(shuffle or 0)
    ids = ids if shuffle is None else rng.permutation(ids)
    tiles = [("generated", int(i)) for i in ids[:count]]
    for i in rng.choice(REAL_IDS, real, replace=False):
        tiles.insert(rng.randint(len(tiles) + 1), ("real", int(i)))
    return tiles


def pictures(flow, tiles):
    """Draw (source, id) tiles -> uint8 (N, R, R, 3)."""
    ids = {source: [i for s, i in tiles if s == source] for source in ("generated", "real")}
    drawn = {}
    if ids["generated"]:
        images = flow.generate(latents(ids["generated"], flow.latent)).clamp(-1, 1)
        drawn["generated"] = iter(((images + 1) * 127.5).round().byte())
    if ids["real"]:
        drawn["real"] = iter(churches.render(ids["real"])[0])
    return torch.stack([next(drawn[source]) for source, _ in tiles]).permute(0, 2, 3, 1).numpy()


def sheet(images, names, columns, zoom, filter="bicubic"):
    """Lay images uint8 (N, R, R, 3) out in rows, each under its name -> PIL image."""
    size, font = images.shape[1] * zoom, ImageFont.load_default(FONT)
    cell, rows = (size + GAP, size + STRIP + GAP), -(-len(images) // columns)
    page = Image.new("RGB", (columns * cell[0] + GAP, rows * cell[1] + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for n, (image, name) in enumerate(zip(images, names, strict=True)):
        x, y = GAP + n % columns * cell[0], GAP + n // columns * cell[1]
        draw.text((x + 2, y), str(name), fill="black", font=font)
        page.paste(Image.fromarray(image).resize((size, size), FILTERS[filter]), (x, y + STRIP))
    return page


def main(words=None):
    a = arguments(words)
    try:
        tiles = order(parse_ids(a.ids), a.shuffle, a.count, a.real)
        flow = generator(a.domain, a.generator)
    except (ValueError, OSError) as error:
        raise SystemExit(f"label_sheets: {error}") from error
    a.out.mkdir(parents=True, exist_ok=True)
    names = list(range(1, len(tiles) + 1)) if a.real else [i for _, i in tiles]
    if a.real:
        with open(a.out / "key.csv", "w", newline="") as file:
            csv.writer(file).writerows(
                [("number", "source", "id"), *((n, *t) for n, t in zip(names, tiles, strict=True))]
            )
    per_sheet = a.columns * a.rows
    for number, page in enumerate(batches(range(len(tiles)), per_sheet), start=1):
        rows = slice(page.start, page.stop)
        images = pictures(flow, tiles[rows])
        sheet(images, names[rows], a.columns, a.zoom, a.filter).save(a.out / f"sheet-{number:03d}.png")
        print(f"\r{number} of {-(-len(tiles) // per_sheet)} sheets", end="", flush=True)
    print(f" in {a.out}")


if __name__ == "__main__":
    main()
