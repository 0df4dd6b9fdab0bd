"""How much the choices matter that the paper leaves open."""

import torch
from scipy.stats import spearmanr

from helpers import classifier, domains, env, evaluation, gradcam, survey, units
from helpers.flow import Flow, State
from helpers.networks import pggan
from tools.measure.evaluate.grid import chosen
from tools.measure.evaluate.results import read
from tools.measure.evaluate.settings import PORTION, SCALE, STOP, TOP
from tools.measure.evaluate.study import spread
from tools.measure.evaluate.ways import sequential

EDITED = {"normalise by the maximum": "max", "normalise over all layers": "global", "raw scores": "none"}
LONGER = "one layer more (inclusive loop)"


def options(study):
    """Every choice by itself: rank correlation with the default, and FD on the tuning split."""
    setting = chosen(read("grid"), "sequential")
    ids = spread(study.domain.split(domains.TRAIN)[0], 400)
    variants, rows = scored(study, ids), []
    default = variants.pop("default")()
    for name in env.progress(["default", *variants, *EDITED, LONGER], "options"):
        found = variants[name]() if name in variants else default
        asked = {"normalise": EDITED[name]} if name in EDITED else {}
        asked |= {"inclusive_loop": True} if name == LONGER else {}
        rho = [float(spearmanr(found[k], default[k]).statistic) for k in default]
        row = {"option": name, "rho_layer_1": rho[0], "rho_layer_6": rho[-1], "rho_mean": sum(rho) / len(rho)}
        for where, values in (("tuned", setting), ("paper", (STOP, PORTION, SCALE))):
            if name == LONGER and where == "paper":
                found = study.ds  # scores of that layer, too
            how = sequential(evaluation.Scores(found, ids), *values, **asked)
            row[f"fd_{where}"] = study.reference.fd(study.corrected(study.tune, how))
            row[f"fd_normals_{where}"] = study.reference.fd(study.corrected(study.tune_normals, how))
        rows.append(row)
    return {"options": rows}


def scored(study, ids):
    """Name the readings that change the scores of layers 1 to STOP: {option: function of nothing -> scores}."""
    z, masks = study.domain.latents(ids), study.domain.masks(ids)
    layers = {k: study.thresholds[k] for k in range(1, STOP + 1)}
    order = torch.randperm(len(masks), generator=torch.Generator().manual_seed(0))
    behind = Flow(pggan.Layers(study.flow.network.generator, post_pn=True))

    def scores(masks=masks, levels=layers, flow=study.flow, **asked):
        return units.defective_scores(flow, z, masks, levels, **asked)

    def plain_masks():
        images = study.domain.images(ids)
        return gradcam.binary_mask(gradcam.gradcam(study.domain.maps(images), study.domain.head))

    def representative(place):
        return representative_scores(study, list(layers), place)

    return {
        "default": scores,
        "threshold after upsampling": lambda: scores(order="netdissect"),
        "upsampled map binary at 0.5": lambda: scores(binarise_upsampled=0.5),
        "IoU of sums": lambda: scores(reduce="pooled"),
        "mask level 0.3": lambda: scores(study.domain.masks(ids, 0.3)),
        "mask level 0.7": lambda: scores(study.domain.masks(ids, 0.7)),
        "masks by the paper's GradCAM": lambda: scores(plain_masks()),
        "masks of other artifacts": lambda: scores(masks[order]),
        "threshold share 0.02": lambda: scores(levels=survey.thresholds(study.flow, study.pool, 0.02, list(layers))),
        "after pixel normalisation": lambda: scores(
            levels=survey.thresholds(behind, study.pool, layers=list(layers)), flow=behind
        ),
        "representative images, mean at the unit's layer": lambda: representative("layer"),
        "representative images, mean of the latents": lambda: representative("latent"),
        "representative images, mean of the pictures": lambda: representative("picture"),
        "random units": lambda: units.random_scores(study.flow, 0, list(layers)),
    }


def representative_scores(study, layers, place):
    """Score units by how much their representative image looks like an artifact: {layer: (U,)} in [0, 1].

    place: where a unit's TOP images are averaged: at its own "layer", as `concepts.representative_image` does, which
    would make one image at a time, or as "latent" or "picture". No mask takes part, only the classifier.
    """
    flow, z, out = study.flow, study.pool, {}
    pictures = flow.generate(z).clamp(-1, 1) if place == "picture" else None
    for layer in layers:
        top = study.tops[layer][:, :TOP]
        if place == "layer":
            h = flow.state(z, layer).h
            images = flow.resume(State(layer, torch.stack([h[rows].mean(dim=0) for rows in top])))
        elif place == "latent":
            images = flow.generate(z[top].mean(dim=1))
        else:
            images = torch.stack([pictures[rows].mean(dim=0) for rows in top])
        features = study.domain.maps(images.clamp(-1, 1)).mean(dim=(2, 3))
        out[layer] = classifier.predict(study.domain.head, features)[:, classifier.ARTIFACT]
    return out
