"""Small random files in the layouts that generators are published in, and what each means, written out.

`*_file` makes what a file holds, from the layout's keys and shapes alone; the functions beside it compute images and
D-values from that, as the layout says and in the plainest way, without any module of ours.
"""

import contextlib
import math
import sys
import types

import numpy as np
import torch
from torch.nn import functional as F

SQRT2 = math.sqrt(2)


@contextlib.contextmanager
def pretended(*names):
    """Let classes or functions of these full names be importable, so that a pickle can name them."""
    made = {}
    for full in names:
        module, _, name = full.rpartition(".")
        parts = module.split(".")
        for i in range(len(parts)):
            made.setdefault(".".join(parts[: i + 1]), types.ModuleType(".".join(parts[: i + 1])))
        made[module].__dict__[name] = type(name, (PRETENDED.get(name, object),), {"__module__": module})
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield [made[full.rpartition(".")[0]].__dict__[full.rpartition(".")[2]] for full in names]
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.__setitem__(name, module)


PRETENDED = {"EasyDict": dict}


def normal(*shape):
    return torch.randn(shape)


def lrelu(h):
    return torch.where(h > 0, h, 0.2 * h)


def pixel_norm(h):
    return h / (h.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()


def doubled(h):
    return h.repeat_interleave(2, 2).repeat_interleave(2, 3)


def per_map(bias):
    return bias.view(1, -1, 1, 1)


def deviations(h, group):
    """The deviation of each strided group, one value per image."""
    out = torch.empty(len(h))
    groups = len(h) // group
    for i in range(groups):
        members = h[i::groups]
        out[i::groups] = (members.var(0, unbiased=False) + 1e-8).sqrt().mean()
    return out


def with_map(h, values):
    return torch.cat([h, values.view(-1, 1, 1, 1).expand(-1, 1, *h.shape[2:])], 1)


# GenForce: raw weights, scaled as they are used


def genforce_file(channels=(7, 6, 5), latent=9, dense=None, parts=("generator", "discriminator", "generator_smooth")):
    def generator():
        state = {"lod": torch.tensor(0.0)}
        for b, units in enumerate(channels):
            shapes = (channels[b - 1], 3) if b else (latent, 4)
            state[f"layer{2 * b}.weight"] = normal(units, shapes[0], shapes[1], shapes[1])
            state[f"layer{2 * b + 1}.weight"] = normal(units, units, 3, 3)
            state[f"output{b}.weight"] = normal(3, units, 1, 1)
            state |= {f"{k}.bias": normal(units) for k in (f"layer{2 * b}", f"layer{2 * b + 1}")}
            state[f"output{b}.bias"] = normal(3)
        return state

    def discriminator():
        state, down = {"lod": torch.tensor(0.0)}, channels[::-1]
        for k, units in enumerate(down):
            last = k == len(down) - 1
            state |= {f"input{k}.weight": normal(units, 3, 1, 1), f"input{k}.bias": normal(units)}
            state[f"layer{2 * k}.weight"] = normal(units, units + last, 3, 3)
            state[f"layer{2 * k}.bias"] = normal(units)
            if last:
                hidden = dense or units
                state |= {
                    f"layer{2 * k + 1}.weight": normal(hidden, 16 * units),
                    f"layer{2 * k + 1}.bias": normal(hidden),
                }
                state |= {f"layer{2 * k + 2}.weight": normal(1, hidden), f"layer{2 * k + 2}.bias": normal(1)}
            else:
                after = down[k + 1]
                state |= {
                    f"layer{2 * k + 1}.weight": normal(after, units, 3, 3),
                    f"layer{2 * k + 1}.bias": normal(after),
                }
        return state

    return {part: discriminator() if part == "discriminator" else generator() for part in parts}


def genforce_images(state, z):
    h, blocks = pixel_norm(z)[:, :, None, None], sum(key.startswith("output") for key in state) // 2
    for i in range(2 * blocks):
        h = pixel_norm(h)
        h = doubled(h) if i and i % 2 == 0 else h
        weight, padding = state[f"layer{i}.weight"], 1 if i else 3
        h = F.conv2d(h, weight * SQRT2 / math.sqrt(weight[0].numel()), padding=padding)
        h = lrelu(h + per_map(state[f"layer{i}.bias"]))
    weight = state[f"output{blocks - 1}.weight"]
    rgb = F.conv2d(pixel_norm(h), weight / math.sqrt(weight.shape[1]))
    return rgb + per_map(state[f"output{blocks - 1}.bias"])


def genforce_scores(state, images, group=16):
    def conv(name, h):
        weight = state[f"{name}.weight"]
        h = F.conv2d(h, weight * SQRT2 / math.sqrt(weight[0].numel()), padding=weight.shape[-1] // 2)
        return lrelu(h + per_map(state[f"{name}.bias"]))

    last = sum(key.startswith("input") for key in state) // 2 - 1
    h = conv("input0", images)
    for i in range(2 * last):
        h = conv(f"layer{i}", h)
        h = F.avg_pool2d(h, 2) if i % 2 else h
    h = conv(f"layer{2 * last}", with_map(h, deviations(h, min(group, len(h))))).flatten(1)
    hidden, out = (state[f"layer{2 * last + i}.weight"] for i in (1, 2))
    h = lrelu(h @ hidden.T * SQRT2 / math.sqrt(hidden.shape[1]) + state[f"layer{2 * last + 1}.bias"])
    return (h @ out.T / math.sqrt(out.shape[1]) + state[f"layer{2 * last + 2}.bias"])[:, 0]


# GAN Dissection: the same numbers, one output, another naming


def dissection_file(channels=(7, 6, 5), latent=9, old=False):
    layers = "features.{}" if old else "layer{}"
    state = {}
    for b, units in enumerate(channels):
        shapes = (channels[b - 1], 3) if b else (latent, 4)
        for i, (inputs, kernel) in enumerate((shapes, (units, 3))):
            name = layers.format(2 * b + i + (not old))
            state |= {f"{name}.conv.weight": normal(units, inputs, kernel, kernel), f"{name}.wscale.b": normal(units)}
    name = "output" if old else f"output_{4 * 2**b}x{4 * 2**b}"
    return state | {f"{name}.conv.weight": normal(3, channels[-1], 1, 1), f"{name}.wscale.b": normal(3)}


def dissection_images(state, z):
    h = z[:, :, None, None]
    for i, key in enumerate(key for key in state if key.endswith("conv.weight")):
        weight, bias = state[key], state[key.replace("conv.weight", "wscale.b")]
        h, kernel = pixel_norm(h), weight.shape[-1]
        h = doubled(h) if kernel == 3 and i % 2 == 0 else h
        gain = {4: SQRT2 / 4, 3: SQRT2 / 3, 1: 1}[kernel]
        h = F.conv2d(h, weight, padding=kernel - 1 if kernel == 4 else kernel // 2)
        h = h * (gain / math.sqrt(weight.shape[1])) + per_map(bias)
        h = h if kernel == 1 else lrelu(h)
    return h


# Karras' TensorFlow: (height, width, in, out), dense (in, out), and upsampling fused with the convolution


def tensorflow_file(channels=(7, 6, 5), latent=9, fused=True, dense=8, labels=0, scaled=True, **settings):
    """Return the states (G, D, Gs) of three `tfutil.Network`."""
    size = 4 * 2 ** (len(channels) - 1)
    rng = np.random.default_rng(0)

    def array(*shape):
        spread = 1 if scaled or len(shape) == 1 else 1.4 / math.sqrt(math.prod(shape[:-1]))
        return rng.normal(0, spread, shape).astype(np.float32)

    def generator():
        variables = [("lod", np.float32(0))]
        for b, units in enumerate(channels):
            side, inputs = f"{4 * 2**b}x{4 * 2**b}", channels[b - 1]
            if not b:
                variables += [(f"{side}/Dense/weight", array(latent, units * 16)), (f"{side}/Dense/bias", array(units))]
            elif fused:
                variables += [
                    (f"{side}/Conv0_up/weight", array(3, 3, units, inputs)),
                    (f"{side}/Conv0_up/bias", array(units)),
                ]
            else:
                variables += [
                    (f"{side}/Conv0/weight", array(3, 3, inputs, units)),
                    (f"{side}/Conv0/bias", array(units)),
                ]
            name = f"{side}/{'Conv1' if b else 'Conv'}"
            variables += [(f"{name}/weight", array(3, 3, units, units)), (f"{name}/bias", array(units))]
            name = f"ToRGB_lod{len(channels) - 1 - b}"
            variables += [(f"{name}/weight", array(1, 1, units, 3)), (f"{name}/bias", array(3))]
        return variables

    def discriminator():
        variables = [("lod", np.float32(0))]
        for b, units in enumerate(channels):
            side, name = f"{4 * 2**b}x{4 * 2**b}", f"FromRGB_lod{len(channels) - 1 - b}"
            variables += [(f"{name}/weight", array(1, 1, 3, units)), (f"{name}/bias", array(units))]
            if b:
                down = "Conv1_down" if fused else "Conv1"
                shapes = {"Conv0": (units, units), down: (units, channels[b - 1])}
                for name, (inputs, outputs) in shapes.items():
                    variables += [(f"{side}/{name}/weight", array(3, 3, inputs, outputs))]
                    variables += [(f"{side}/{name}/bias", array(outputs))]
            else:
                inputs = units + (settings.get("mbstd_group_size", 4) > 1)
                variables += [("4x4/Conv/weight", array(3, 3, inputs, units)), ("4x4/Conv/bias", array(units))]
                variables += [("4x4/Dense0/weight", array(16 * units, dense)), ("4x4/Dense0/bias", array(dense))]
                variables += [("4x4/Dense1/weight", array(dense, 1 + labels)), ("4x4/Dense1/bias", array(1 + labels))]
        return variables

    common = {"num_channels": 3, "resolution": size, "label_size": labels, "fused_scale": fused, "use_wscale": scaled}
    state = {"version": 2, "build_module_src": "open('executed', 'w')"}
    return tuple(
        state
        | {"name": name, "build_func_name": f"{name[0]}_paper", "static_kwargs": common | settings, "variables": v}
        for name, v in (("G", generator()), ("D", discriminator()), ("Gs", generator()))
    )


def _tensorflow(state):
    weights = {name: torch.from_numpy(np.asarray(value)) for name, value in state["variables"]}
    scaled = state["static_kwargs"]["use_wscale"]

    def weight(name, fan_in, gain=SQRT2):
        return weights[f"{name}/weight"] * (gain / math.sqrt(fan_in) if scaled else 1)

    return weights, weight


def _box(kernel):
    """Average a (3, 3, ...) kernel with its neighbours: the (4, 4, ...) kernel of the fused layers, times 4."""
    wide = F.pad(kernel, (0, 0, 0, 0, 1, 1, 1, 1))
    return wide[1:, 1:] + wide[:-1, 1:] + wide[1:, :-1] + wide[:-1, :-1]


def tensorflow_images(state, z):
    weights, weight = _tensorflow(state)
    blocks, latent = sum(name.startswith("ToRGB") for name in weights) // 2, z.shape[1]
    h = pixel_norm(z) @ weight("4x4/Dense", latent, SQRT2 / 4)
    h = pixel_norm(lrelu(h.view(len(z), -1, 4, 4) + per_map(weights["4x4/Dense/bias"])))
    names = ["4x4/Conv"] + [f"{4 * 2**b}x{4 * 2**b}/{c}" for b in range(1, blocks) for c in ("Conv0", "Conv1")]
    for name in names:
        inputs = h.shape[1]
        if f"{name}_up/weight" in weights:
            name = f"{name}_up"  # conv2d_transpose of kernel (h, w, out, in), stride 2, "same"
            kernel = _box(weight(name, 9 * inputs)).permute(3, 2, 0, 1)
            h = F.conv_transpose2d(h, kernel, stride=2, padding=1)
        else:
            h = doubled(h) if name.endswith("Conv0") else h
            h = F.conv2d(h, weight(name, 9 * inputs).permute(3, 2, 0, 1), padding=1)
        h = pixel_norm(lrelu(h + per_map(weights[f"{name}/bias"])))
    rgb = F.conv2d(h, weight("ToRGB_lod0", h.shape[1], 1).permute(3, 2, 0, 1))
    return rgb + per_map(weights["ToRGB_lod0/bias"])


def tensorflow_scores(state, images, group=4):
    weights, weight = _tensorflow(state)

    def conv(name, h, down=False):
        kernel = weight(name, math.prod(weights[f"{name}/weight"].shape[:3]))
        kernel = (_box(kernel) / 4 if down else kernel).permute(3, 2, 0, 1)
        h = F.conv2d(h, kernel, padding=kernel.shape[-1] // 2 - down, stride=1 + down)
        return lrelu(h + per_map(weights[f"{name}/bias"]))

    h, size = conv("FromRGB_lod0", images), images.shape[-1]
    while size > 4:
        h = conv(f"{size}x{size}/Conv0", h)
        if f"{size}x{size}/Conv1_down/weight" in weights:
            h = conv(f"{size}x{size}/Conv1_down", h, down=True)
        else:
            h = F.avg_pool2d(conv(f"{size}x{size}/Conv1", h), 2)
        size //= 2
    h = with_map(h, deviations(h, min(group, len(h)))) if group > 1 else h
    h = conv("4x4/Conv", h).flatten(1)
    h = lrelu(h @ weight("4x4/Dense0", h.shape[1]) + weights["4x4/Dense0/bias"])
    return (h @ weight("4x4/Dense1", h.shape[1], 1) + weights["4x4/Dense1/bias"])[:, 0]


# The GAN zoo: He's constant scales the whole result, bias included


def zoo_file(channels=(7, 6, 5), latent=9, classes=0, deviation=True, module=".module", avg=True):
    def generator():
        shapes = {"formatLayer": (16 * channels[0], latent), "groupScale0.0": (channels[0], channels[0], 3, 3)}
        shapes["toRGBLayers.0"] = (3, channels[0], 1, 1)
        for b, (before, units) in enumerate(zip(channels, channels[1:])):
            shapes[f"scaleLayers.{b}.0"] = (units, before, 3, 3)
            shapes[f"scaleLayers.{b}.1"] = (units, units, 3, 3)
            shapes[f"toRGBLayers.{b + 1}"] = (3, units, 1, 1)
        return shapes

    def discriminator():
        shapes = {"groupScaleZero.0": (channels[0], channels[0] + deviation, 3, 3)}
        shapes |= {"groupScaleZero.1": (channels[0], 16 * channels[0]), "decisionLayer": (1 + classes, channels[0])}
        shapes["fromRGBLayers.0"] = (channels[0], 3, 1, 1)
        for b, (before, units) in enumerate(zip(channels, channels[1:])):
            shapes[f"scaleLayers.{b}.0"] = (units, units, 3, 3)
            shapes[f"scaleLayers.{b}.1"] = (before, units, 3, 3)
            shapes[f"fromRGBLayers.{b + 1}"] = (units, 3, 1, 1)
        return shapes

    def drawn(shapes):
        weights = {f"{key}{module}.weight": normal(*shape) for key, shape in shapes.items()}
        return weights | {f"{key}{module}.bias": normal(shape[0]) for key, shape in shapes.items()}

    file = {"netG": drawn(generator()), "netD": drawn(discriminator())}
    return file | ({"avgG": drawn(generator())} if avg else {})


def _zoo(state):
    state = {key.replace(".module", ""): value for key, value in state.items()}

    def layer(name, h):
        weight = state[f"{name}.weight"]
        if weight.ndim == 2:
            h = h @ weight.T + state[f"{name}.bias"]
        else:
            h = F.conv2d(h, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)
        return h * math.sqrt(2 / weight[0].numel())

    return state, layer, sum(key.startswith("scaleLayers") and key.endswith("0.bias") for key in state)


def zoo_images(state, z):
    state, layer, grown = _zoo(state)
    h = pixel_norm(lrelu(layer("formatLayer", pixel_norm(z))).view(len(z), -1, 4, 4))
    h = pixel_norm(lrelu(layer("groupScale0.0", h)))
    for b in range(grown):
        h = doubled(h)
        for i in range(2):
            h = pixel_norm(lrelu(layer(f"scaleLayers.{b}.{i}", h)))
    return layer(f"toRGBLayers.{grown}", h)


def zoo_scores(state, images, crossed=False):
    """crossed: the rule of before July 2019, by which a group's value goes to images that are not its own."""
    state, layer, grown = _zoo(state)
    h = lrelu(layer(f"fromRGBLayers.{grown}", images))
    for b in reversed(range(grown)):
        for i in range(2):
            h = lrelu(layer(f"scaleLayers.{b}.{i}", h))
        h = F.avg_pool2d(h, 2)
    if state["groupScaleZero.0.weight"].shape[1] > h.shape[1]:
        n = len(h)
        group = n if n % min(4, n) else min(4, n)
        values = torch.zeros(n)
        for i in range(n // group if group > 1 else 0):
            mine = slice(i * group, (i + 1) * group)
            members = h[i :: n // group] if crossed else h[mine]
            values[mine] = (members.var(0, unbiased=True) + 1e-8).sqrt().mean()
        h = with_map(h, values)
    h = lrelu(layer("groupScaleZero.0", h)).flatten(1)
    return layer("decisionLayer", lrelu(layer("groupScaleZero.1", h)))[:, 0]
