"""Know the layouts that progressive GANs are published in, and turn each into ours, value by value.

Ours is GenForce's: raw weights, scaled by gain / sqrt(fan-in) at run time, biases unscaled (see `pggan.Scaled`). The
others keep the same numbers under other names, axes and factors; what they mean is written beside each conversion.
Sources: Karras et al. 2018 (section 4.1, appendix A) and the published files' keys and shapes.
"""

import math
import re

import torch

from helpers.networks import pggan
from helpers.weights.layout import DISCRIMINATOR, GENERATOR, Found, count, power_of_two, rename, require


def _genforce(weights, settings, name):
    role = DISCRIMINATOR if any(key.startswith("input") for key in weights) else GENERATOR
    ours = {key: value for key, value in weights.items() if key != "lod"}  # how far it had grown
    # The group is in no file: our own networks have 4, GenForce's 16.
    own = settings.get("own") and "lod" not in weights
    options = {} if role == GENERATOR else {"group": 4 if own else 16}
    return _found("PGGAN, GenForce layout", role, ours, {}, options)


def _dissection(weights, settings, name):
    old = any(key.startswith("features.") for key in weights)
    blocks = max(1, (count(weights, r"features\.(\d+)\." if old else r"layer(\d+)\.") + old) // 2)
    power_of_two([int(n) for key in weights for n in re.findall(r"^output_(\d{1,6})x", key)], name)
    last = "output" if old else "output_{0}x{0}".format(4 * 2 ** (blocks - 1))
    theirs = {f"layer{i}": f"features.{i}" if old else f"layer{i + 1}" for i in range(2 * blocks)}
    theirs[f"output{blocks - 1}"] = last
    names = _keys(theirs, ".conv.weight", ".wscale.b")
    ours = rename(weights, names, name, r"\.wscale\.scale$")
    return _found("PGGAN, GAN Dissection layout", GENERATOR, ours, names, {"grown": True})


def _tensorflow(weights, settings, name):
    sizes = {int(n) for key in weights for n in re.findall(r"^(\d{1,6})x", key)}
    size = power_of_two(sizes | {int(settings.get("resolution", 4))}, name)
    blocks = int(math.log2(size)) - 1
    role = DISCRIMINATOR if any(key.startswith("FromRGB") for key in weights) else GENERATOR
    require(settings, {"use_leakyrelu": True, "use_pixelnorm": True, "normalize_latents": True}, name)
    options, theirs, fused = {}, {}, any(re.search("Conv0_up|Conv1_down", key) for key in weights)
    side = lambda block: f"{4 * 2**block}x{4 * 2**block}"  # noqa: E731
    if role == GENERATOR:
        require(settings, {"label_size": 0, "pixelnorm_epsilon": pggan.EPSILON}, name)
        for block in range(blocks):
            first, second = ("Conv0_up" if fused else "Conv0", "Conv1") if block else ("Dense", "Conv")
            theirs[f"layer{2 * block}"] = f"{side(block)}/{first}"
            theirs[f"layer{2 * block + 1}"] = f"{side(block)}/{second}"
            theirs[f"output{block}"] = f"ToRGB_lod{blocks - 1 - block}"
    else:
        options = {"group": settings.get("mbstd_group_size", 4), "fused": fused}
        for level in range(blocks):
            block = blocks - 1 - level
            theirs[f"input{level}"] = f"FromRGB_lod{level}"
            pair = "Conv0", "Conv1_down" if fused else "Conv1"
            for i, layer in enumerate(pair if block else ("Conv", "Dense0", "Dense1")):
                theirs[f"layer{2 * level + i}"] = f"{side(block)}/{layer}"

    def convert(own, key, weight, bias):
        if key == "4x4/Dense":  # seen as a 4x4 convolution of one pixel, whose kernel comes out turned
            weight = weight.view(len(weight), -1, 4, 4).permute(1, 0, 2, 3).flip(2, 3)
        elif key == "4x4/Dense1":  # the score, before the scores of classes
            weight, bias = weight.t()[:1], bias[:1]
        elif key == "4x4/Dense0":
            weight = weight.t()
        elif key.endswith("Conv0_up"):  # (k, k, out, in) of a transposed convolution: turned as well
            weight = weight.permute(2, 3, 0, 1).flip(2, 3)
        else:
            weight = weight.permute(3, 2, 0, 1)
        if not settings.get("use_wscale", True):
            gain = 1 if own.startswith("output") or key == "4x4/Dense1" else math.sqrt(2)
            weight = weight * (math.sqrt(math.prod(weight.shape[1:])) / gain)
        return weight, bias

    names = _keys(theirs, "/weight", "/bias")
    ours = _converted(rename(weights, names, name, "^lod$"), theirs, convert, name)
    return _found("PGGAN, Karras' TensorFlow layout", role, ours, names, options)


def _zoo(weights, settings, name):
    role = DISCRIMINATOR if any(re.match("fromRGB|groupScaleZero|decision", key) for key in weights) else GENERATOR
    require(settings, {"leakyReluLeak": pggan.SLOPE, "equalizedlR": True, "alpha": 0}, name)
    blocks, theirs = 1 + count(weights, r"scaleLayers\.(\d+)\."), {}
    if role == GENERATOR:
        require(settings, {"perChannelNormalization": True, "lossCriterion": "WGANGP"}, name)
        theirs = {"layer0": "formatLayer", "layer1": "groupScale0.0"}
        for block in range(blocks):
            theirs[f"output{block}"] = f"toRGBLayers.{block}"
            for i in range(2 if block else 0):
                theirs[f"layer{2 * block + i}"] = f"scaleLayers.{block - 1}.{i}"
    else:
        for level in range(blocks):
            block = blocks - 1 - level
            theirs[f"input{level}"] = f"fromRGBLayers.{block}"
            last = ("groupScaleZero.0", "groupScaleZero.1", "decisionLayer")
            for i, layer in enumerate((f"scaleLayers.{block - 1}.{i}" for i in range(2)) if block else last):
                theirs[f"layer{2 * level + i}"] = layer

    def convert(own, key, weight, bias):
        bias = bias * math.sqrt(2 / math.prod(weight.shape[1:]))  # scaled like the weight
        if key == "formatLayer":  # its fan-in is z's dimension, ours that of a 4x4 convolution; a bias per cell
            weight = 4 * weight.view(-1, 4, 4, weight.shape[1]).permute(0, 3, 1, 2).flip(2, 3)
            bias = bias.view(-1, 4, 4)
        elif key == "decisionLayer":  # gain sqrt(2), ours 1; the score comes before those of classes
            weight, bias = weight[:1] * math.sqrt(2), bias[:1]
        elif key.startswith("toRGBLayers"):
            weight = weight * math.sqrt(2)
        return weight, bias

    inner = ".module" if any(".module." in key for key in weights) else ""
    names = _keys(theirs, f"{inner}.weight", f"{inner}.bias")
    ours = _converted(rename(weights, names, name), theirs, convert, name)
    options = {"cells": True} if role == GENERATOR else {"group": None, "deviation": pggan.unbiased_deviation}
    return _found("PGGAN, GAN zoo layout", role, ours, names, options)


# What a key of each layout looks like; the first that fits any key is taken.
LAYOUTS = (
    (r"\d+x\d+/|(From|To)RGB_lod", _tensorflow),
    (r"formatLayer|groupScale|toRGBLayers|fromRGBLayers|decisionLayer", _zoo),
    (r"layer\d+\.conv\.|features\.\d+\.conv\.|output_\d+x", _dissection),
    (r"layer\d+\.(weight|bias)|output\d+\.|input\d+\.", _genforce),
)


def _keys(prefixes, weight, bias):
    pairs = {f"{own}.weight": f"{theirs}{weight}" for own, theirs in prefixes.items()}
    return pairs | {f"{own}.bias": f"{theirs}{bias}" for own, theirs in prefixes.items()}


def _converted(ours, prefixes, convert, name):
    for own, theirs in prefixes.items():
        weight, bias = ours[f"{own}.weight"], ours[f"{own}.bias"]
        try:
            ours[f"{own}.weight"], ours[f"{own}.bias"] = convert(own, theirs, weight, bias)
        except (RuntimeError, IndexError, ZeroDivisionError):
            shapes = f"{tuple(weight.shape)} and {tuple(bias.shape)}"
            raise ValueError(f"{name} has {theirs} of shape {shapes}, which are not such a layer's") from None
    return ours


def _found(title, role, weights, names, options):
    layers = count(weights, r"layer(\d+)\.")
    last = f"layer{layers - 3}.weight"
    if role == DISCRIMINATOR and last in weights and weights[last].ndim == 4:
        units, inputs = weights[last].shape[:2]
        if units == inputs:  # made without minibatch deviation: it gets weight 0
            grown = math.sqrt((inputs + 1) / inputs) * weights[last]  # as the fan-in grows by one
            weights[last] = torch.cat([grown, torch.zeros_like(grown[:, :1])], dim=1)
            options = options | {"group": 1, "deviation": pggan.minibatch_deviation}
    return Found(title, "pggan", role, weights, names, options)
