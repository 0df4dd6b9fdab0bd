"""Make contact sheets to judge defect masks by eye: each held-out artifact beside itself with the mask's outline.

    python -m tools.label.mask_sheets --out FOLDER                # the masks that the suite uses
    python -m tools.label.mask_sheets --out FOLDER --source paper # GradCAM of the plain artifact score
    python -m tools.label.mask_sheets --out FOLDER --domain faces

The rater writes one line per image into mask_votes.csv of the domain's folder in data: id,source,hit,rater, hit 1 or 0
by the criterion of the churches' data card. Notebook 02 computes the hit rate and its interval from these votes.
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

from helpers import domains, gradcam
from helpers.interface import pictures
from tools.label.sheets import sheet

ZOOM = 3


def masks(domain, images, source):
    """Return the masks of one source, "suite" or "paper": bool (N, 64, 64)."""
    if source == "suite":
        return gradcam.binary_mask(domain.cams(images))
    return gradcam.binary_mask(gradcam.gradcam(domain.maps(images), domain.head))


def pairs(images, lit):
    """Lay each image beside its outlined copy: (N, 3, H, W), bool (N, H, W) -> uint8 (2N, 3H, 3W, 3)."""
    large = F.interpolate(images, scale_factor=ZOOM, mode="bicubic").clamp(-1, 1)
    outlined = pictures.tint(large, lit.repeat_interleave(ZOOM, 1).repeat_interleave(ZOOM, 2), outline=True)
    plain = torch.from_numpy(pictures.pixels(large)).permute(0, 3, 1, 2)
    return torch.stack([plain, outlined], dim=1).flatten(0, 1).permute(0, 2, 3, 1).numpy()


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--domain", choices=(*domains.EMBEDDED, domains.FACES), default="churches")
    p.add_argument("--source", choices=("suite", "paper"), default="suite")
    p.add_argument("--count", type=int, default=100, help="so many held-out artifacts")
    p.add_argument("--rows", type=int, default=4)
    a = p.parse_args(words)
    if min(a.count, a.rows) < 1:
        p.error("--count and --rows must be at least 1")
    try:
        domain = domains.load(a.domain)
    except (ValueError, OSError) as error:
        raise SystemExit(f"mask_sheets: {error}") from error
    ids = domain.split(domains.TEST)[0][: a.count]
    a.out.mkdir(parents=True, exist_ok=True)
    per_sheet = 3 * a.rows
    for number, start in enumerate(range(0, len(ids), per_sheet), start=1):
        part = ids[start : start + per_sheet]
        images = domain.images(part)
        names = [name for i in part for name in (i, f"{i} mask")]
        sheet(pairs(images, masks(domain, images, a.source)), names, 6, 1).save(a.out / f"{a.source}-{number:02d}.png")
    print(f"{number} sheets of {len(ids)} artifacts in {a.out}")


if __name__ == "__main__":
    main()
