"""Load weight files into networks, safely: own and published ones, recognised by what is in them.

Nothing in a file is ever executed: safetensors and torch files are read as tensors, pickles through `unpickle`.
What a published layout says, and how it becomes ours, is in `pggan_layouts` and `stylegan2_layouts`.
"""

import re
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from helpers.flow import Flow
from helpers.networks import pggan, stylegan2, unetgan
from helpers.weights import pggan_layouts, stylegan2_layouts, unpickle
from helpers.weights.layout import DISCRIMINATOR, GENERATOR

# What files call their networks, best first; our own trainers' checkpoints have an OWN part.
OWN = "average"
AVERAGED = (OWN, "generator_smooth", "G_ema", "Gs", "avgG", "g_ema")
PARTS = {GENERATOR: (*AVERAGED, "generator", "G", "netG", "g"), DISCRIMINATOR: ("discriminator", "D", "netD", "d")}
MODULES = {"pggan": pggan, "stylegan2": stylegan2, "unetgan": unetgan}


def load_generator(path, post_pn=False):
    """Load a generator as a Flow; layout and sizes are inferred from the file, never from its name.

    path: own weights (.safetensors), or a published file: PGGAN in GenForce's, GAN Dissection's, Karras' TensorFlow or
    the GAN zoo's layout, StyleGAN2 in NVIDIA's or GenForce's, U-net GAN. Where a file has the moving average of the
    weights, that is taken, with a warning where it has only the raw ones; `flow.origin` says what was taken.
    post_pn: count a PGGAN unit's activation after pixel normalisation instead of before.
    Raises FileNotFoundError, or ValueError naming what the file lacks or is instead. Explained in notebook 08.
    """
    network, found, origin = _load(path, GENERATOR)
    if post_pn and found.network != "pggan":
        raise ValueError(f"{Path(path).name} has no pixel normalisation ({found.title}): leave post_pn out")
    flow = Flow(MODULES[found.network].Layers(network, *([post_pn] if found.network == "pggan" else [])))
    flow.origin = origin
    return flow


def load_discriminator(path, group=None):
    """Load a discriminator: a module from images (B, 3, R, R) in [-1, 1] to D-values (B,).

    path: as in `load_generator`, from which the errors are too; GAN Dissection's files hold no discriminator.
    group: how many images share a minibatch deviation, by default as the file or its layout says, 4 for own files.
    The module's `origin` says what was taken.
    """
    network, _, network.origin = _load(path, DISCRIMINATOR, group)
    return network.requires_grad_(False)


def _load(path, role, group=None):
    path = Path(path)
    contents, settings = _read(path)
    part = _choose(_parts(contents), role, path.name)
    weights, more = _tensors(_parts(contents)[part], path.name)
    settings = settings | more
    found = stylegan2_layouts.find(weights, settings, path.name) or pggan_layouts.find(weights, settings, path.name)
    if not found:
        keys = ", ".join(list(weights)[:3]) or "no tensors"
        raise ValueError(f"{path.name} is no progressive GAN, StyleGAN2 or U-net GAN that is known: it has {keys}")
    if found.role != role:
        raise ValueError(f"{path.name} holds a {found.role}: load it with load_{found.role}")
    origin = f"{path.name}: {found.title}" + (f", {part}" if part else "")
    if role == GENERATOR:
        raw = part and part not in AVERAGED
        which = "raw weights, the file has no moving average" if raw else "moving average of the weights"
        origin += f" ({which})" if part else " (the file does not say whether it is a moving average)"
        if raw:
            warnings.warn(
                f"{path.name} has no moving average: loaded the raw {part}, whose images are worse", stacklevel=3
            )
    return _build(found, path.name, group), found, origin


# From a file to named tensors


def _read(path):
    """Return what a file holds, and what is known of it beside that."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no weight file {path}: check the path")
    name = path.name
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        if not head:
            raise ValueError(f"{name} is empty: fetch it again")
        if head.startswith(b"version") and b"git-lfs" in head:
            raise ValueError(f"{name} is a Git LFS pointer, not the weights: run `git lfs pull` where it came from")
        if re.match(rb"\s*<(!doctype|html|head|body|\?xml)", head.lower()):
            raise ValueError(
                f"{name} is a web page, not the weights: the link is dead or asks to confirm, fetch it by hand"
            )
        if head.startswith((b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46")):  # a zip archive, or torch's old mark
            contents = unpickle.read_torch(file, name)
            return contents, _settings(contents)
        if head[0] == 0x80:
            return unpickle.read(file, name), {}
    if head[8:9] != b"{" and path.suffix != ".safetensors":
        raise ValueError(
            f"{name} is no weight file: allowed are .safetensors, .pth of torch.save, and .pkl of Karras' and NVIDIA's"
        )
    try:
        return load_file(path), {"own": True}
    except SafetensorError as error:
        raise ValueError(f"{name} is truncated or not a safetensors file ({error}): fetch it again") from None


def _settings(contents):
    if not isinstance(contents, dict):
        return {}
    config = contents.get("config")
    settings = config.state if isinstance(config, unpickle.Kept) else config if isinstance(config, dict) else {}
    return settings | {"own": OWN in contents}


def _parts(contents):
    """Return the networks of a file by name; a lone one has the name ""."""
    if isinstance(contents, (tuple, list)) and len(contents) == 3:  # Karras' order
        contents = dict(zip(("G", "D", "Gs"), contents))
    for wrapper in ("models", "state_dict"):
        if isinstance(contents, dict) and isinstance(contents.get(wrapper), dict):
            contents = contents[wrapper]
    if isinstance(contents, dict):
        names = [name for names in PARTS.values() for name in names]
        known = {name: contents[name] for name in names if isinstance(contents.get(name), (dict, unpickle.Kept))}
        return known or {"": contents}
    return {"": contents}


def _choose(parts, role, name):
    for part in ("", *PARTS[role]):
        if part in parts:
            return part
    raise ValueError(f"{name} holds no {role}, only {' and '.join(parts)}")


def _tensors(part, name):
    """Return ({key: float32 tensor}, {setting: value}) of one network."""
    settings = {}
    if isinstance(part, unpickle.Kept):
        try:
            part, settings = _network(part, set())
        except (TypeError, ValueError, AttributeError):
            raise ValueError(f"{name} holds an object that is no network as Karras or NVIDIA publish them") from None
    values = {key: unpickle.tensor(value) for key, value in part.items()} if isinstance(part, dict) else {}
    weights = {str(key): value.to(torch.float32, copy=True) for key, value in values.items() if value is not None}
    for key, value in weights.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} has values in {key} that are not finite: fetch it again")
    if weights and all(key.startswith("module.") for key in weights):  # it was trained on several GPUs
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    return weights, settings


def _network(kept, seen, prefix=""):
    """Return ({key: value}, {setting: value}) of a network of TensorFlow, or of a module with its children."""
    seen.add(id(kept))  # a broken file may hold a module within itself
    state = kept.state
    if "variables" in state:
        return dict(state["variables"]), dict(state.get("static_kwargs", {}))
    plain = (bool, int, float, str, type(None))
    settings = {f"{prefix}{key}": value for key, value in state.items() if isinstance(value, plain)}
    tensors = {
        f"{prefix}{key}": value for kind in ("_parameters", "_buffers") for key, value in state.get(kind, {}).items()
    }
    for key, child in state.get("_modules", {}).items():
        if isinstance(child, unpickle.Kept) and id(child) not in seen:
            more_tensors, more_settings = _network(child, seen, f"{prefix}{key}.")
            tensors, settings = tensors | more_tensors, settings | more_settings
    return tensors, settings


# From named tensors to a network


def _build(found, name, group):
    weights, sizes = found.weights, {"pggan": _pggan, "stylegan2": _stylegan2, "unetgan": _unetgan}[found.network]
    options = found.options | ({} if group is None else {"group": group})
    if found.network == "unetgan" and group is not None:
        raise ValueError(f"{name} has no minibatch deviation ({found.title}): leave group out")

    def shape(key, axes=4):
        there = found.names.get(key, key)
        if key not in weights:
            raise ValueError(f"{name} is incomplete: it lacks {there}")
        if weights[key].ndim != axes or 0 in weights[key].shape:
            raise ValueError(f"{name} has {there} of shape {tuple(weights[key].shape)}, not of such a layer's")
        return weights[key].shape

    # The first weights are drawn for nothing: where that is slow only their shapes are made, and no seed is used up.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if found.network == "unetgan" else "cpu"):
        network = sizes(found.role, weights, shape, options)
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


def _pggan(role, weights, shape, options):
    layers = pggan_layouts.count(weights, r"layer(\d+)\.")
    if role == GENERATOR:
        blocks = max(pggan_layouts.count(weights, r"output(\d+)\."), (layers + 1) // 2)
        channels = [shape(f"layer{2 * b + 1}.weight")[0] for b in range(blocks)]
        return pggan.Generator(channels, shape("layer0.weight")[1], **options)
    blocks = max(pggan_layouts.count(weights, r"input(\d+)\."), (layers - 1) // 2)
    channels = [shape(f"input{b}.weight")[0] for b in reversed(range(blocks))]
    return pggan.Discriminator(channels, dense=shape(f"layer{2 * blocks - 1}.weight", 2)[0], **options)


def _stylegan2(role, weights, shape, options):
    prefix = "synthesis." if role == GENERATOR else ""
    found = [re.match(rf"{prefix}b(\d+)\.", key) for key in weights]
    sizes = [2**i for i in range(2, max((int(size[1]) for size in found if size), default=4).bit_length())]
    if role == GENERATOR:
        channels = [shape(f"synthesis.b{size}.conv1.weight")[0] for size in sizes]
        mapping = pggan_layouts.count(weights, r"mapping\.fc(\d+)\.")
        latent, style = shape("mapping.fc0.weight", 2)[1], shape("mapping.w_avg", 1)[0]
        return stylegan2.Generator(channels, latent, style, mapping, **options)
    channels = [shape(f"b{size}.conv{0 if size > 4 else ''}.weight")[0] for size in sizes]
    return stylegan2.Discriminator(channels, **options)


def _unetgan(role, weights, shape, options):
    blocks = pggan_layouts.count(weights, r"blocks\.(\d+)\.")
    if role == DISCRIMINATOR:
        return unetgan.Discriminator([shape(f"blocks.{i}.0.conv1.weight")[0] for i in range(blocks // 2)])
    outputs, latent = shape("linear.weight", 2)
    channels = [outputs // 16, *(shape(f"blocks.{i}.0.conv1.weight")[0] for i in range(blocks))]
    return unetgan.Generator(channels, latent, shape("blocks.0.0.bn1.gain.0.weight", 2)[0])
