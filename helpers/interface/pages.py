"""Write pages of units into one HTML file that needs nothing else: what each unit fires for, and what it is named."""

import base64
import html
from pathlib import Path

import torch
from torch.nn import functional as F

from helpers import store
from helpers.interface.pictures import png, tiles, tint

STYLE = (
    "body{font:15px sans-serif;margin:2em auto;max-width:60em}section{margin:1.4em 0}h2{font-size:1em;margin:.3em 0}"
)
STYLE += "img{image-rendering:pixelated;max-width:100%}p{margin:.2em 0;color:#444}"


def unit_pages(path, flow, z, top, named, count=8, title="Units"):
    """Write the top images of units, tinted where each is above its threshold, with its concept: one HTML file.

    z: the latents (N, D) that `top`, {layer: (U, k)} of `survey.top_images`, numbers the rows of. named: rows of
    `dissection.table`, in the order wanted. count: top images per unit. The pictures are in the file itself; it is
    written as a whole or not at all. Returns its path.
    Raises ValueError for no units or a layer without top images, OSError where the file cannot be written.
    """
    if not len(named):
        raise ValueError("there are no units to write pages of: pass some rows of dissection.table")
    if lacking := sorted(set(named.layer) - set(top)):
        raise ValueError(f"layer {lacking[0]} has no top images, there are those of {', '.join(map(str, top))}")
    name = html.escape(title)
    parts = [f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>']
    parts.append(f"<h1>{name}</h1><p>{len(named)} units; in each of its top images, pink is where the unit fires.</p>")
    for row in named.itertuples():
        recorded = flow.record(z[top[row.layer][row.unit][:count]], [row.layer, flow.n_layers])
        images, h = recorded[flow.n_layers], recorded[row.layer][:, [row.unit]]
        active = F.interpolate((h > row.threshold).float(), images.shape[-2:], mode="bilinear")[:, 0] >= 0.5
        sheet = tiles(torch.cat([tint(images, torch.zeros_like(active)), tint(images, active)]), columns=len(images))
        picture = base64.b64encode(png(sheet)).decode()
        concept = html.escape(str(row.concept)) + ("" if row.interpretable else " (below the limit)")
        where, label = f"layer {row.layer}, unit {row.unit}", html.escape(str(row.concept))
        parts.append(f"<section><h2>{where}: {concept}</h2><p>IoU {row.iou:.3f}, active on {row.fraction:.1%} of the")
        parts.append(f"pixels, above {row.threshold:.3g}</p><img alt='Top images of {where}, named {label}'")
        parts.append(f"src='data:image/png;base64,{picture}'></section>")
    store.replace(path := Path(path), "\n".join([*parts, "</html>\n"]).encode())
    return path
