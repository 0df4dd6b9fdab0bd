"""Know the layout of the most used community code of StyleGAN2 (rosinality's), and turn it into ours.

The numbers are the same as ours; names differ, and axes of length 1. No kernel is turned, biases of the modulation hold
their 1, and the filters are stored times 4. What a file cannot tell: before 26 December 2019 that code gave biases of
dense layers the weights' scale; files of those weeks load and draw something else.
Sources: Karras et al. 2020, and the published files' keys and shapes.
"""

import re

import torch

from helpers.latents import latents
from helpers.networks.stylegan2 import Mapping
from helpers.networks.stylegan2_layers import resample_filter
from helpers.weights.layout import DISCRIMINATOR, GENERATOR, Found, count, rename

TITLE = "StyleGAN2, rosinality layout"
CENTRE = 4096  # latents whose mean style is the centre of truncation where the file has none


def _generator(weights, settings, name):
    _check(weights, settings, name)
    weights = dict(weights)
    centre = settings.get("latent_avg", weights.pop("latent_avg", None))  # beside the network, or among its tensors
    names = {"synthesis.b4.const": "input.input"}
    for i in range(count(weights, r"style\.(\d+)\.") - 1):  # style.0 normalises and has no weights
        names |= {f"mapping.fc{i}.{kind}": f"style.{i + 1}.{kind}" for kind in ("weight", "bias")}
    blocks = max(count(weights, r"to_rgbs\.(\d+)\.") + 1, (count(weights, r"convs\.(\d+)\.") + 1) // 2 + 1)
    modulated = {"weight": "conv.weight"} | {f"affine.{k}": f"conv.modulation.{k}" for k in ("weight", "bias")}
    styled = {"bias": "activate.bias", "noise_strength": "noise.weight"}
    quiet, sizes, filters = not any(key.startswith("noises.") for key in weights), {}, {}
    for i in range(2 * blocks - 1):  # 0 is b4.conv1, then two convolutions per resolution
        size = 4 * 2 ** ((i + 1) // 2)
        block, theirs = f"synthesis.b{size}", f"convs.{i - 1}" if i else "conv1"
        own = f"{block}.conv{1 - i % 2}"
        names |= {f"{own}.{ours}": f"{theirs}.{key}" for ours, key in (modulated | styled).items()}
        if quiet:
            sizes[f"{own}.noise_const"] = i, size
        else:
            names[f"{own}.noise_const"] = f"noises.noise_{i}"
        if i % 2 == 0:
            theirs = f"to_rgbs.{i // 2 - 1}" if i else "to_rgb1"
            names |= {
                f"{block}.torgb.{ours}": f"{theirs}.{key}" for ours, key in (modulated | {"bias": "bias"}).items()
            }
        filters |= {f"{prefix}.resample_filter": resample_filter() for prefix in (block, own)}
    ours = rename(weights, names, name, r"\.kernel$")
    ours = {own: _squeezed(own, value) for own, value in ours.items()} | filters
    ours |= {own: latents([2**32 - 1 - i], size**2).view(size, size) for own, (i, size) in sizes.items()}
    if "mapping.fc0.bias" in ours and ours["mapping.fc0.bias"].ndim:
        ours["mapping.w_avg"] = _centre(ours, centre, name)
    note = (
        "has no noise maps: its code then draws other ones for every image, here they are drawn once" if quiet else ""
    )
    names["mapping.w_avg"] = "latent_avg"
    return Found(TITLE, "stylegan2", GENERATOR, ours, names, {"scaled": True}, note=note)


def _discriminator(weights, settings, name):
    _check(weights, settings, name)
    blocks = max(1, count(weights, r"convs\.(\d+)\.") - 1)
    size = 4 * 2**blocks
    parts = {f"b{size}.fromrgb": ("convs.0.0", "convs.0.1"), "b4.conv": ("final_conv.0", "final_conv.1")}
    parts |= {"b4.fc": ("final_linear.0",) * 2, "b4.out": ("final_linear.1",) * 2}
    for i in range(1, blocks + 1):
        block = f"b{size >> (i - 1)}"
        parts[f"{block}.conv0"] = f"convs.{i}.conv1.0", f"convs.{i}.conv1.1"
        parts[f"{block}.conv1"] = f"convs.{i}.conv2.1", f"convs.{i}.conv2.2"  # conv2.0 is the filter
    names = {f"{own}.weight": f"{weight}.weight" for own, (weight, _) in parts.items()}
    names |= {f"{own}.bias": f"{bias}.bias" for own, (_, bias) in parts.items()}
    names |= {f"b{size >> (i - 1)}.skip.weight": f"convs.{i}.skip.1.weight" for i in range(1, blocks + 1)}
    filtered = {key.rpartition(".")[0] for key in names} - {"b4.fc", "b4.out"} | {
        f"b{size >> i}" for i in range(blocks)
    }
    filters = {f"{prefix}.resample_filter": resample_filter() for prefix in filtered}
    ours = rename(weights, names, name, r"\.kernel$") | filters
    return Found(TITLE, "stylegan2", DISCRIMINATOR, ours, names, {"group": 4})


def _check(weights, settings, name):
    """Refuse what has mostly the same keys and is another network: wavelets, another filter."""
    wavelets = [key for key in weights if re.search(r"(^|\.)i?(dwt|wt)\.", key)]
    if wavelets:
        raise ValueError(f"{name} is a SWAGAN ({wavelets[0]}), which draws wavelets: only a StyleGAN2 is supported")
    for key, value in weights.items():
        kernel = resample_filter()
        if key.endswith(".kernel") and (
            value.shape != kernel.shape or not torch.allclose(value / value.sum(), kernel, atol=1e-4)
        ):
            raise ValueError(f"{name} resamples by another filter ({key}) than [1, 3, 3, 1], which is not supported")


LEADING = {
    "conv0.weight": 1,
    "conv1.weight": 1,
    "torgb.weight": 1,
    "b4.const": 1,
    "noise_strength": 1,
    "noise_const": 2,
}


def _squeezed(own, value):
    """Drop the axes of length 1 that the file has around a value; where they are not, the shape will not fit."""
    for _ in range(next((axes for suffix, axes in LEADING.items() if own.endswith(suffix)), 0)):
        value = value.squeeze(0) if value.ndim else value
    return value.flatten() if own.endswith("torgb.bias") else value


def _centre(ours, given, name):
    """Return the mean style: the file's, or that of some thousand latents, as its own code takes it."""
    size = ours["mapping.fc0.bias"].shape[-1:]
    if given is not None:
        if given.ndim == 2 and torch.equal(given, given[:1].expand_as(given)):  # repeated for each layer
            given = given[0]
        if given.shape != size:
            raise ValueError(f"{name} has latent_avg of shape {tuple(given.shape)} instead of {tuple(size)}")
        return given.float()
    own = {key.removeprefix("mapping."): value for key, value in ours.items() if key.startswith("mapping.fc")}
    mapping = Mapping(*size, *size, count(own, r"fc(\d+)\."))
    try:
        mapping.load_state_dict(own, strict=False)
    except RuntimeError:  # a shape that does not fit, which is named where the whole network is made
        return torch.zeros(size)
    with torch.no_grad():
        return mapping(latents(range(CENTRE), *size)).mean(dim=0)


# What a key of each looks like.
LAYOUTS = (
    (r"convs\.\d+\.(conv1|conv2|skip|0)\.|final_(conv|linear)\.", _discriminator),
    (r"(convs\.\d+|conv1)\.(conv|noise|activate)\.|to_rgbs?\d?\.|style\.\d+\.(weight|bias)|input\.input$", _generator),
)
