"""Load weight files into networks, safely: tensors only, nothing in a file is ever executed."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from helpers import pggan
from helpers.flow import Flow


def load_generator(path, post_pn=False):
    """Load a PGGAN generator as a Flow; sizes are inferred from the file.

    path: a .safetensors file with `layer{i}.weight/.bias` and `output{b}.weight/.bias`.
    post_pn: count a unit's activation after pixel normalisation instead of before.
    Raises FileNotFoundError, or ValueError naming what the file lacks or is instead.
    """
    weights = _read(path)
    if any(key.startswith("input") for key in weights):
        raise ValueError(f"{Path(path).name} holds a discriminator: load it with load_discriminator")
    blocks = _blocks(max(_count(weights, "output"), (_count(weights, "layer") + 1) // 2), path)
    channels = [_shape(weights, f"layer{2 * b + 1}.weight", path)[0] for b in range(blocks)]
    network = pggan.Generator(channels, _shape(weights, "layer0.weight", path)[1])
    return Flow(pggan.Layers(_fill(network, weights, path), post_pn))


def load_discriminator(path, group=4):
    """Load a PGGAN discriminator: a module from images (B, 3, R, R) in [-1, 1] to D-values (B,).

    group: how many images share a minibatch deviation; the file does not say. Errors as in `load_generator`.
    """
    weights = _read(path)
    if any(key.startswith("output") for key in weights):
        raise ValueError(f"{Path(path).name} holds a generator: load it with load_generator")
    blocks = _blocks(max(_count(weights, "input"), (_count(weights, "layer") - 1) // 2), path)
    channels = [_shape(weights, f"input{b}.weight", path)[0] for b in reversed(range(blocks))]
    return _fill(pggan.Discriminator(channels, group), weights, path).eval().requires_grad_(False)


def _read(path):
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no weight file {path}: check the path")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name} is not a .safetensors file: others can run code when opened, convert it first")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name} is truncated or not a safetensors file ({error}): fetch it again") from None
    for key, value in weights.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{path.name} has values in {key} that are not finite: fetch it again")
    return {key: value.float() for key, value in weights.items()}


def _count(weights, name):
    """Count `name0`, `name1`, ... by the highest number, so that a gap shows up as a key that is lacking."""
    numbers = [re.match(rf"{name}(\d+)\.", key) for key in weights]
    return 1 + max((int(n[1]) for n in numbers if n), default=-1)


def _blocks(blocks, path):
    if not blocks:
        raise ValueError(f"{Path(path).name} is no progressive GAN: it has no layer{{i}}, output{{b}} or input{{b}}")
    return blocks


def _shape(weights, key, path):
    if key not in weights:
        raise ValueError(f"{Path(path).name} is incomplete: it lacks {key}")
    if weights[key].ndim != 4:
        raise ValueError(f"{Path(path).name} has {key} of shape {tuple(weights[key].shape)}, not of a convolution's")
    return weights[key].shape


def _fill(network, weights, path):
    own = network.state_dict()
    problems = [f"lacks {key}" for key in own if key not in weights]
    problems += [f"has an unknown {key}" for key in weights if key not in own]
    problems += [
        f"has {key} of shape {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if problems:
        raise ValueError(f"{Path(path).name} does not fit: it {'; '.join(problems[:3])}")
    network.load_state_dict(weights)
    return network
