"""From tensors under our keys to the network they belong to: sizes are read from the tensors, every key is used."""

import re

import torch

from helpers.networks import pggan, stylegan2, unetgan
from helpers.weights.layout import GENERATOR, count


def assemble(found, name, options):
    """Build the network of a `layout.Found`. options: of its constructor, beside those found.

    Raises ValueError, with the file's own keys, for tensors that lack, are left over or have a wrong shape.
    """
    weights, options = found.weights, found.options | options

    def shape(key, axes=4):
        there = found.names.get(key, key)
        if key not in weights:
            raise ValueError(f"{name} is incomplete: it lacks {there}")
        if weights[key].ndim != axes or 0 in weights[key].shape:
            raise ValueError(f"{name} has {there} of shape {tuple(weights[key].shape)}, not of such a layer's")
        return weights[key].shape

    def colours(key, axis):
        channels = shape(key)[axis]
        if channels not in (1, 3):
            there, got = found.names.get(key, key), tuple(weights[key].shape)
            raise ValueError(f"{name} has {there} of shape {got}: images of 1 or 3 channels are supported")
        return channels

    make = {"pggan": _pggan, "stylegan2": _stylegan2, "unetgan": _unetgan}[found.network]
    # The first weights are drawn for nothing: where that is slow only their shapes are made, and no seed is used up.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if found.network == "unetgan" else "cpu"):
        network = make(found.role, weights, shape, colours, options)
    own = network.state_dict()
    problems = [f"lacks {found.names.get(key, key)}" for key in own if key not in weights]
    problems += [f"has an unknown {key}" for key in weights if key not in own]
    for key in own:
        if key in weights and weights[key].shape != own[key].shape:
            there, got = found.names.get(key, key), tuple(weights[key].shape)
            problems.append(f"has {there} of shape {got} instead of {tuple(own[key].shape)}")
    if problems:
        raise ValueError(f"{name} does not fit: it {'; '.join(problems[:3])}")
    network.load_state_dict({key: value.contiguous() for key, value in weights.items()}, assign=True)
    return network.eval()


def _pggan(role, weights, shape, colours, options):
    layers = count(weights, r"layer(\d+)\.")
    if role == GENERATOR:
        blocks = max(count(weights, r"output(\d+)\."), (layers + 1) // 2)
        channels = [shape(f"layer{2 * b + 1}.weight")[0] for b in range(blocks)]
        latent, last = shape("layer0.weight")[1], f"output{blocks - 1}.weight"
        return pggan.Generator(channels, latent, colours=colours(last, 0), **options)
    blocks = max(count(weights, r"input(\d+)\."), (layers - 1) // 2)
    channels = [shape(f"input{b}.weight")[0] for b in reversed(range(blocks))]
    dense = shape(f"layer{2 * blocks - 1}.weight", 2)[0]
    return pggan.Discriminator(channels, dense=dense, colours=colours("input0.weight", 1), **options)


def _stylegan2(role, weights, shape, colours, options):
    prefix = "synthesis." if role == GENERATOR else ""
    found = [re.match(rf"{prefix}b(\d+)\.", key) for key in weights]
    sizes = [2**i for i in range(2, max((int(size[1]) for size in found if size), default=4).bit_length())]
    if role == GENERATOR:
        channels = [shape(f"synthesis.b{size}.conv1.weight")[0] for size in sizes]
        options = options | {"colours": colours(f"synthesis.b{sizes[-1]}.torgb.weight", 0)}
        mapping = count(weights, r"mapping\.fc(\d+)\.")
        latent, style = shape("mapping.fc0.weight", 2)[1], shape("mapping.w_avg", 1)[0]
        return stylegan2.Generator(channels, latent, style, mapping, **options)
    channels = [shape(f"b{size}.conv{0 if size > 4 else ''}.weight")[0] for size in sizes]
    return stylegan2.Discriminator(channels, colours=colours(f"b{sizes[-1]}.fromrgb.weight", 1), **options)


def _unetgan(role, weights, shape, colours, options):
    blocks = count(weights, r"blocks\.(\d+)\.")
    if role != GENERATOR:
        return unetgan.Discriminator([shape(f"blocks.{i}.0.conv1.weight")[0] for i in range(blocks // 2)])
    outputs, latent = shape("linear.weight", 2)
    channels = [outputs // 16, *(shape(f"blocks.{i}.0.conv1.weight")[0] for i in range(blocks))]
    return unetgan.Generator(channels, latent, shape("blocks.0.0.bn1.gain.0.weight", 2)[0])
