"""Load weight files into networks, safely: own and published ones, recognised by what is in them.

Nothing in a file is ever executed: safetensors and torch files are read as tensors, pickles through `unpickle`.
What a published layout says, and how it becomes ours, is in the layouts of `helpers.weights`.
"""

import re
import warnings
from pathlib import Path

from helpers.flow import Flow
from helpers.networks import pggan, stylegan2, unetgan
from helpers.weights import contents, pggan_layouts, stylegan2_layouts, stylegan2_rosinality, unetgan_layout, unpickle
from helpers.weights.assemble import assemble
from helpers.weights.layout import DISCRIMINATOR, GENERATOR, recognise

LAYOUTS = [
    *stylegan2_layouts.LAYOUTS,
    *stylegan2_rosinality.LAYOUTS,
    *unetgan_layout.LAYOUTS,
    *pggan_layouts.LAYOUTS,
]
# What files call their networks, word by word; our own trainers' checkpoints have an OWN part.
OWN = "average"
AVERAGED = r"(?i)(?:^|[._])(ema|swa|avg|average|averaged|running|shadow|smooth)(?=[._]|$)|(?:^|\.)(gs|avgg)(?=\.|$)"
NAMED = {
    GENERATOR: r"(?i)(?:^|[._])(g|gen|netg|generator)(?=[._]|$)",
    DISCRIMINATOR: r"(?i)(?:^|[._])(d|dis|disc|netd|discriminator|critic)(?=[._]|$)",
}
GROUPINGS = {"before 2019-07": pggan.crossed_deviation}
LAYERS = {"pggan": pggan.Layers, "stylegan2": stylegan2.Layers, "unetgan": unetgan.Layers}


def load_generator(path, post_pn=False, label=None):
    """Load a generator as a Flow; layout and sizes are inferred from the file, never from its name.

    path: own weights (.safetensors), or a published file: PGGAN in GenForce's, GAN Dissection's, Karras' TensorFlow or
    the GAN zoo's layout, StyleGAN2 in NVIDIA's, GenForce's or rosinality's, U-net GAN. Where a file has the moving
    average of the weights, that is taken, with a warning where it has only the raw ones; `flow.origin` says what was
    taken. post_pn: count a PGGAN unit's activation after pixel normalisation instead of before. label: the class, a
    number from 0, of a StyleGAN2 that was trained with classes.
    Raises FileNotFoundError, or ValueError naming what the file lacks or is instead. Explained in notebook 08.
    """
    network, found, origin = _load(path, GENERATOR, label)
    if post_pn and found.network != "pggan":
        raise ValueError(f"{Path(path).name} has no pixel normalisation ({found.title}): leave post_pn out")
    flow = Flow(LAYERS[found.network](network, *([post_pn] if found.network == "pggan" else [])))
    flow.origin = origin
    return flow


def load_discriminator(path, group=None, label=None, grouping=None):
    """Load a discriminator: a module from images (B, 3, R, R) in [-1, 1] to D-values (B,).

    path, label: as in `load_generator`, from which the errors are too; GAN Dissection's files hold no discriminator.
    group: how many images share a minibatch deviation, by default as the file or its layout says, 4 for own files.
    grouping: "before 2019-07" for the rule that the GAN zoo's code had until then, by which its weights of before 2019
    were probably trained, see `pggan.crossed_deviation`. The module's `origin` says what was taken.
    """
    network, _, network.origin = _load(path, DISCRIMINATOR, label, group, grouping)
    return network.requires_grad_(False)


def _load(path, role, label, group=None, grouping=None):
    path = Path(path)
    held, safe = contents.read(path)
    networks = contents.networks(held, lambda keys: any(re.match(marks, str(k)) for marks, _ in LAYOUTS for k in keys))
    if not networks:
        raise ValueError(_unknown(path.name, contents.keys(held), role))
    name = _choose(networks, role, path.name)
    weights, settings = contents.tensors(networks[name], path.name)
    found = recognise(
        LAYOUTS, weights, _settings(held) | {"own": safe or OWN in held} | settings | {"label": label}, path.name
    )
    if found is None:
        raise ValueError(_unknown(path.name, list(weights)[:3], role))
    if found.role != role:
        raise ValueError(f"{path.name} holds a {found.role}: load it with load_{found.role}")
    if label is not None and found.label is None:
        raise ValueError(f"{path.name} has no classes ({found.title}): leave label out")
    options = _options(found, group, grouping, path.name)
    origin, stage = f"{path.name}: {found.title}", _stage(name, role)
    origin += f", {stage}" if stage else ""
    origin += f", class {int(label)}" if label is not None else ""
    if role == GENERATOR:
        raw = stage and not re.search(AVERAGED, name)
        which = "raw weights, the file has no moving average" if raw else "moving average of the weights"
        origin += f" ({which})" if stage else " (the file does not say whether it is a moving average)"
        if raw:
            warnings.warn(
                f"{path.name} has no moving average: loaded the raw {stage}, whose images are worse", stacklevel=3
            )
    if found.note:
        warnings.warn(f"{path.name} {found.note}", stacklevel=3)
    return assemble(found, path.name, options), found, origin


def _choose(networks, role, name):
    """Return the name of the network that is wanted: the averaged one first, one without a telling name last."""
    other = NAMED[DISCRIMINATOR if role == GENERATOR else GENERATOR]
    wanted = [AVERAGED, NAMED[role], ""] if role == GENERATOR else [NAMED[role], ""]
    mine = [one for one in networks if re.search(NAMED[role], one) or not re.search(other, one)]
    mine = [one for one in mine if role == GENERATOR or not re.search(AVERAGED, one) or re.search(NAMED[role], one)]
    if not mine:
        raise ValueError(f"{name} holds no {role}, only {' and '.join(networks)}")
    best = next(found for mark in wanted if (found := [one for one in mine if re.search(mark, one)]))
    if len(best) > 1:
        raise ValueError(f"{name} holds several networks ({', '.join(best)}): save the one you want by itself")
    return best[0]


def _options(found, group, grouping, name):
    """Return what was asked for of a discriminator as options of its constructor."""
    if group is not None and "group" not in found.options:
        raise ValueError(f"{name} has no minibatch deviation ({found.title}): leave group out")
    if grouping is None:
        return {} if group is None else {"group": group}
    if found.options.get("deviation") is not pggan.unbiased_deviation:
        raise ValueError(f"{name} has one way of grouping images only ({found.title}): leave grouping out")
    if grouping not in GROUPINGS:
        raise ValueError(f"grouping must be {' or '.join(map(repr, GROUPINGS))} or None for today's, got {grouping!r}")
    return {"deviation": GROUPINGS[grouping]} | ({} if group is None else {"group": group})


def _stage(name, role):
    """Return the part of a network's name that says which one it is, without what was only wrapped around it."""
    telling = [part for part in name.split(".") if re.search(f"{AVERAGED}|{NAMED[role].removeprefix('(?i)')}", part)]
    return telling[-1] if telling else ""


def _settings(held):
    """Return what a file says beside its networks: the GAN zoo's config, rosinality's mean style."""
    if not isinstance(held, dict):
        return {}
    config = held.get("config")
    settings = config.state if isinstance(config, unpickle.Kept) else config if isinstance(config, dict) else {}
    beside = {"latent_avg": unpickle.tensor(held["latent_avg"])} if "latent_avg" in held else {}
    return settings | beside


def _unknown(name, keys, role):
    text = (
        f"{name} is no progressive GAN, StyleGAN2 or U-net GAN that is known: it has {', '.join(keys) or 'no tensors'}"
    )
    taker = "domains.load as its discriminator="
    if role == GENERATOR:
        taker = "Flow.from_module with the names of the submodules that shall be layers (Flow.candidates lists them)"
    advice = "; to use it all the same, build your own module, give it these tensors with load_state_dict, and hand it "
    advice += f"to {taker}"
    return text + (advice if keys else "")
