"""Know the layouts that StyleGAN2 is published in by NVIDIA and by GenForce, and turn each into ours.

Our StyleGAN2 has NVIDIA's keys (see `stylegan2`), so only GenForce's is converted; of a network with classes one class
is taken. Sources: Karras et al. 2020, and the published files' keys and shapes.
"""

import re

from helpers.networks import stylegan2_layers
from helpers.weights import stylegan2_classes
from helpers.weights.layout import DISCRIMINATOR, GENERATOR, Found, count, power_of_two, refuse_labels, rename, require


def _nvidia(weights, settings, name):
    plain = any(re.match(r"b\d+\.", key) for key in weights)
    role = GENERATOR if any(key.startswith("synthesis.") for key in weights) or not plain else DISCRIMINATOR
    power_of_two([int(n) for key in weights for n in re.findall(r"^(?:synthesis\.)?b(\d{1,6})\.", key)], name)
    label = None
    if "mapping.embed.weight" in weights:
        settings = settings | {"c_dim": 0}  # so that what follows sees the network of one class
        label = settings.get("label")
        weights = stylegan2_classes.of_class(weights, label, role, name)
    refuse_labels(weights, name)
    wanted = {"c_dim": 0, "b4.mbstd.num_channels": 1, "mapping.embed.bias_gain": 1}
    for key in settings:
        if key.endswith("architecture"):
            wanted[key] = "skip" if role == GENERATOR else "resnet"
        elif re.search(r"(mapping\.fc\d+|conv[01]?|fromrgb|b4\.fc)\.activation$", key):
            wanted[key] = "lrelu"
        elif re.search(r"mapping\.fc\d+\.bias_gain$", key):
            wanted[key] = 0.01
        elif key.endswith("use_noise"):
            wanted[key] = True
    require(settings, wanted, name)
    clamps = {value for key, value in settings.items() if key.endswith("conv_clamp") and value is not None}
    if len(clamps) > 1:
        raise ValueError(f"{name} clamps its layers at {sorted(clamps)}: one bound for all is supported")
    options = {"conv_clamp": float(clamps.pop())} if clamps else {}
    if role == DISCRIMINATOR:
        group = settings.get("b4.mbstd.group_size", 4)
        options["group"] = group or 2**30  # None: the whole batch
    return Found("StyleGAN2, NVIDIA layout", "stylegan2", role, weights, options=options, label=label)


def _genforce_generator(weights, settings, name):
    refuse_labels(weights, name)
    names = {"mapping.w_avg": "truncation.w_avg", "synthesis.b4.const": "synthesis.early_layer.const"}
    for i in range(count(weights, r"mapping\.dense(\d+)\.")):
        names |= {f"mapping.fc{i}.{kind}": f"mapping.dense{i}.{kind}" for kind in ("weight", "bias")}
    blocks = max(count(weights, r"synthesis\.output(\d+)\."), count(weights, r"synthesis\.layer(\d+)\.") // 2 + 1)
    styled = {"weight": "weight", "bias": "bias", "affine.weight": "style.weight", "affine.bias": "style.bias"}
    noise = {"noise_const": "noise", "noise_strength": "noise_strength"}
    filters = {}
    for i in range(2 * blocks - 1):  # layer 0 is b4.conv1, then two layers per resolution
        block = f"synthesis.b{4 * 2 ** ((i + 1) // 2)}"
        own = f"{block}.conv{1 - i % 2}"
        names |= {f"{own}.{ours}": f"synthesis.layer{i}.{theirs}" for ours, theirs in (styled | noise).items()}
        if i % 2 == 0:
            names |= {f"{block}.torgb.{ours}": f"synthesis.output{i // 2}.{key}" for ours, key in styled.items()}
        filters |= {f"{prefix}.resample_filter": stylegan2_layers.resample_filter() for prefix in (block, own)}
    ours = rename(weights, names, name, r"\.kernel$")
    for own, value in ours.items():
        if own.endswith("affine.bias"):  # stored without the 1 that is added to it
            ours[own] = value + 1
        elif own.endswith("conv0.weight") and value.ndim == 4:  # turned, for a transposed convolution
            ours[own] = value.flip(2, 3)
        elif own.endswith("const"):  # axes of length 1 lead
            ours[own] = value.squeeze(0) if own.endswith("b4.const") else value.squeeze(0).squeeze(0)
    return Found("StyleGAN2, GenForce layout", "stylegan2", GENERATOR, ours | filters, names, {"scaled": True})


def _genforce_discriminator(weights, settings, name):
    refuse_labels(weights, name)
    last = max(2, count(weights, r"layer(\d+)\.") - 3)
    size, layers = 4 * 2 ** (last // 2), {f"b{4 * 2 ** (last // 2)}.fromrgb": "input0"}
    for i in range(last):
        layers[f"b{size >> (i // 2)}.conv{i % 2}"] = f"layer{i}"
    layers |= {f"b4.{own}": f"layer{last + i}" for i, own in enumerate(("conv", "fc", "out"))}
    names = {f"{own}.{kind}": f"{theirs}.{kind}" for own, theirs in layers.items() for kind in ("weight", "bias")}
    names |= {f"b{size >> i}.skip.weight": f"skip_layer{i}.weight" for i in range(last // 2)}
    filtered = {key.rpartition(".")[0] for key in names} - {"b4.fc", "b4.out"} | {
        f"b{size >> i}" for i in range(last // 2)
    }
    filters = {f"{prefix}.resample_filter": stylegan2_layers.resample_filter() for prefix in filtered}
    ours = rename(weights, names, name, r"\.kernel$")
    return Found("StyleGAN2, GenForce layout", "stylegan2", DISCRIMINATOR, ours | filters, names, {"group": 4})


# What a key of each layout looks like; the first that fits any key is taken.
LAYOUTS = (
    (r"synthesis\.b\d+\.|mapping\.fc\d+\.|b\d+\.(fromrgb|conv\d?|skip|fc|out)\.", _nvidia),
    (r"synthesis\.(layer|output|early_layer)|mapping\.dense|truncation\.", _genforce_generator),
    (r"skip_layer\d+\.", _genforce_discriminator),
)
