"""Rank the units of a planted generator, and tell how well the planted ones are found."""

import torch
from torch.nn import functional as F

from helpers import gradcam, units
from helpers.evidence import ground_truth
from helpers.flow import State
from tools.measure.planted.settings import LABELS, LAYERS, MASKS, USUAL, Row
from tools.measure.planted.shared import SHARED, Masks

PASSED = ("maxima", "shares")
TOP = 50  # images of a unit whose features are compared with renders: 5 % of RANK
CANDIDATES = 10  # units per layer whose ablation effect is measured


def overlapping(planting, rank, maps, levels, artifacts, seed, full):
    """Defective scores {(method, masks, labels): scores}, by exact and learned masks, and {labels: Masks}."""
    scores, learned = {}, {}
    exact = units.ious(planting.flow, rank.z[artifacts], rank.regions[artifacts], levels)
    order = torch.randperm(len(artifacts), generator=torch.Generator().manual_seed(seed))
    shuffled = units.ious(planting.flow, rank.z[artifacts], rank.regions[artifacts[order]], levels)
    for labels in LABELS if full else (USUAL,):
        known, shown = artifacts < labels, artifacts[artifacts < labels]
        scores["DS", "exact", labels] = {k: v[known].mean(dim=0) for k, v in exact.items()}
        less = {k: (v[known] - shuffled[k][known]).mean(dim=0) for k, v in exact.items()}
        scores["DS less shuffled", "exact", labels] = less
        learned[labels] = Masks(maps, rank, labels)
        for name in MASKS if full else MASKS[:2]:
            masks = gradcam.binary_mask(learned[labels].cams(maps[shown], rank.images[shown], name))
            if masks.any():
                scores["DS", name, labels] = units.defective_scores(planting.flow, rank.z[shown], masks, levels)
    return scores, learned


def surveyed(flow, rank):
    """Top images and activation rates as by `survey`: only images in which a planted unit fires are passed again."""
    maxima, shares = ({layer: part.clone() for layer, part in SHARED["rank", name].items()} for name in PASSED)
    again = rank.fires.nonzero().flatten()
    for rows, recorded in flow.stream(rank.z[again], LAYERS):
        for layer, h in recorded.items():
            maxima[layer][again[rows]], shares[layer][again[rows]] = (
                h.amax(dim=(2, 3)),
                (h > 0).float().mean(dim=(2, 3)),
            )
    tops = {layer: part.argsort(dim=0, descending=True, stable=True)[:TOP].T for layer, part in maxima.items()}
    return tops, {layer: part.mean(dim=0) for layer, part in shares.items()}


def reasons(planting, layer, scores):
    """Rows that tell why units that were not planted score high: they look like planted ones, or lie behind them."""
    h = torch.cat([h[layer] for _, h in planting.flow.stream(SHARED["fresh"], [layer])])
    likeness = torch.corrcoef(h.transpose(0, 1).flatten(1))[list(planting.units[layer])]
    others = torch.ones(likeness.shape[1], dtype=torch.bool)
    others[list(planting.units[layer])] = False
    first = scores[layer].argsort(descending=True)[: len(likeness)]
    intruders = first[others[first]]
    behind = torch.cat([torch.full((len(s),), k > layer) for k, s in scores.items()])
    last = behind[torch.cat(list(scores.values())).argsort(descending=True)[:20]].float().mean()
    here = "planted layer"
    nearest, any_other = likeness[:, others].amax(1).mean(), likeness[:, others].amax(0).mean()
    exact = {"method": "DS", "masks": "exact", "labels": USUAL}
    rows = [
        Row("why", "likeness of a planted unit's nearest other", float(nearest), scope=here),
        Row("why", "likeness of any other", float(any_other), scope=here),
        Row("why", "intruders", len(intruders) / len(first), scope=here, **exact),
        Row("why", "share of the top 20 behind the planted layer", float(last), scope="all layers", **exact),
    ]
    if len(intruders):
        near = float(likeness[:, intruders].amax(0).mean())
        rows.append(Row("why", "likeness of intruders", near, scope=here, **exact))
    return rows


def precisions(scores, planted_units, layer):
    """Average precision among the units of all layers, of those up to the planted one, and of that one alone.

    Where not all of those layers have scores, there is none.
    """
    scopes = {"all layers": LAYERS, "up to the planted layer": range(1, layer + 1), "planted layer": [layer]}
    scored = {name: layers for name, layers in scopes.items() if set(layers) <= set(scores)}
    return {name: ground_truth.average_precision(scores, planted_units, layers) for name, layers in scored.items()}


def effects(flow, z, masks, scores, head, layers=LAYERS):
    """Score the best candidates by how much evidence of a defect their ablation takes out of the masks.

    An intervention tells the unit that draws from those that merely fire with it. The other units keep their order,
    below the candidates. layers: whose units are scored, in rising order.
    """
    domain, state, out = SHARED["domain"], State(0, z), {}
    inside = F.adaptive_avg_pool2d(masks[:, None].float(), SHARED["real", "maps"].shape[-2:])[:, 0]
    inside = inside / inside.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    plain = (gradcam.evidence(domain.maps(flow.generate(z)), head) * inside).sum(dim=(1, 2))
    for layer in range(1, layers[-1] + 1):
        state = flow.advance(state, layer)
        if layer not in layers:
            continue
        best = scores[layer].argsort(descending=True, stable=True)[:CANDIDATES]
        h = state.h.repeat(len(best), 1, 1, 1, 1)
        h[torch.arange(len(best)), :, best] = 0
        left = gradcam.evidence(domain.maps(flow.resume(State(layer, h.flatten(0, 1)))), head)
        drop = plain - (left.unflatten(0, (len(best), len(z))) * inside).sum(dim=(2, 3))
        out[layer] = scores[layer] - 1000
        out[layer][best] = drop.mean(dim=1)
    return out
