"""Lay corrected pictures out for blind raters."""

import torch

from helpers import domains
from tools.label import picture_sheets
from tools.measure.corrections.ways import SURE, SURE_NEAR, VOTED

ARTIFACTS, NORMALS = 200, 100  # pictures of each that raters see
AGAIN = {"original": slice(0, 40), SURE: slice(100, 140)}  # artifacts that a later sitting sees as before, to compare


def sheets(study, out, keys, seed=3):
    """Write the sheets of single pictures and of pairs, and their keys."""
    artifacts, normals = study.domain.split(domains.TEST)
    artifacts, normals = artifacts[:ARTIFACTS], normals[:NORMALS]
    ways, amounts = study.ways, {}

    def smallest(ids):
        missing = [i for i in ids if i not in amounts]
        if missing:
            amounts.update(zip(missing, study.amounts(missing, all=True).tolist()))
        return study.shifted(ids, torch.tensor([amounts[i] for i in ids]))

    ways = {name: ways[name] for name in VOTED} | {SURE: smallest}
    shown = [(i, name) for name in VOTED for i in artifacts]
    shown += [(i, name) for name in ("original", SURE) for i in normals]
    keys.mkdir(parents=True, exist_ok=True)
    picture_sheets.make_pictures(out / "pictures", keys / "pictures.csv", ways, shown, seed)
    pairs = [(i, SURE) for i in artifacts]
    picture_sheets.make_pairs(out / "pairs", keys / "pairs.csv", ways["original"], {SURE: ways[SURE]}, pairs, seed)


def neighbour_sheets(study, out, keys):
    """Write the sheets of a later sitting, on shifts by the difference of an image's neighbours, and their keys."""
    artifacts, normals = study.domain.split(domains.TEST)
    artifacts, normals = artifacts[:ARTIFACTS], normals[: NORMALS // 2]
    ways = {name: study.ways[name] for name in ("original", SURE, SURE_NEAR)}
    shown = [(i, SURE_NEAR) for i in (*artifacts, *normals)]
    shown += [(i, "original") for i in (*artifacts[AGAIN["original"]], *normals)]
    shown += [(i, SURE) for i in artifacts[AGAIN[SURE]]]
    keys.mkdir(parents=True, exist_ok=True)
    picture_sheets.make_pictures(out / "neighbour_pictures", keys / "neighbour_pictures.csv", ways, shown, seed=11)
    pairs, near = [(i, SURE_NEAR) for i in artifacts], {SURE_NEAR: ways[SURE_NEAR]}
    picture_sheets.make_pairs(
        out / "neighbour_pairs", keys / "neighbour_pairs.csv", ways["original"], near, pairs, seed=12
    )
