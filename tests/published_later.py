"""As `published`, for StyleGAN2: NVIDIA's pickles, made from a network, and GenForce's files with their maths."""

import collections
import math

import numpy as np
import torch
from torch.nn import functional as F

from tests.published import SQRT2, deviations, lrelu, normal, per_map, pretended, with_map

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"


class Persistent:
    """Pickles as a module of NVIDIA's does: source code, and a state of plain dicts."""

    def __init__(self, rebuild, state):
        self.rebuild, self.state = rebuild, state

    def __reduce__(self):
        source = "open('executed', 'w')"
        return self.rebuild, (
            {"type": "class", "version": 6, "module_src": source, "class_name": "X", "state": self.state},
        )


def persistent(module, rebuild, easy, attributes, path=""):
    state = {"_init_args": (), "_init_kwargs": easy(a=1), "weight_gain": np.float64(0.1)} | vars(module)
    state |= {name: collections.OrderedDict(getattr(module, name)) for name in ("_parameters", "_buffers")}
    children = {
        name: persistent(child, rebuild, easy, attributes, f"{path}.{name}".strip("."))
        for name, child in module.named_children()
    }
    if path == "b4":
        mbstd = {"_parameters": {}, "_buffers": {}, "_modules": {}, "num_channels": 1} | attributes("b4.mbstd")
        children["mbstd"] = Persistent(rebuild, mbstd)
    return Persistent(rebuild, state | {"_modules": collections.OrderedDict(children)} | attributes(path))


def nvidia_file(networks, attributes, dump):
    """Pickle {name: module}, each module with what `attributes(path)` says of it."""
    with pretended(PERSISTENT, "dnnlib.util.EasyDict") as (rebuild, easy):
        contents = {name: persistent(network, rebuild, easy, attributes) for name, network in networks.items()}
        return dump(contents | {"training_set_kwargs": easy(path="x"), "augment_pipe": None})


def genforce_style_file(channels=(7, 6, 5), latent=9, style=8, mapping=3):
    generator = {"truncation.w_avg": normal(style), "synthesis.early_layer.const": normal(1, channels[0], 4, 4)}
    for i in range(mapping):
        generator[f"mapping.dense{i}.weight"] = normal(style, style if i else latent) * 100
        generator[f"mapping.dense{i}.bias"] = normal(style) * 100
    for i in range(2 * len(channels) - 1):
        size, units, inputs = 4 * 2 ** ((i + 1) // 2), channels[(i + 1) // 2], channels[i // 2]
        layers = {f"synthesis.layer{i}": (units, inputs, 3)}
        if i % 2 == 0:
            layers[f"synthesis.output{i // 2}"] = (3, units, 1)
        for name, (outputs, count, kernel) in layers.items():
            generator[f"{name}.weight"] = normal(outputs, count, kernel, kernel)
            generator |= {f"{name}.bias": normal(outputs), f"{name}.style.bias": normal(count)}
            generator[f"{name}.style.weight"] = normal(count, style)
        generator[f"synthesis.layer{i}.noise"] = normal(1, 1, size, size)
        generator[f"synthesis.layer{i}.noise_strength"] = torch.tensor(0.3)
        if i % 2:
            generator[f"synthesis.layer{i}.filter.kernel"] = filters(4)
    generator["synthesis.upsample.kernel"] = filters(4)

    down, last = channels[::-1], 2 * len(channels) - 2
    shapes = {"input0": (down[0], 3, 1, 1), f"layer{last}": (channels[0], channels[0] + 1, 3, 3)}
    shapes |= {f"layer{last + 1}": (channels[0], 16 * channels[0]), f"layer{last + 2}": (1, channels[0])}
    discriminator = {}
    for k, (units, after) in enumerate(zip(down, down[1:])):
        shapes |= {f"layer{2 * k}": (units, units, 3, 3), f"layer{2 * k + 1}": (after, units, 3, 3)}
        discriminator[f"skip_layer{k}.weight"] = normal(after, units, 1, 1)
        discriminator |= {f"{name}.filter.kernel": filters(1) for name in (f"skip_layer{k}", f"layer{2 * k + 1}")}
    discriminator |= {f"{name}.weight": normal(*shape) for name, shape in shapes.items()}
    discriminator |= {f"{name}.bias": normal(shape[0]) for name, shape in shapes.items()}
    averaged = {key: value + 0.1 * torch.randn_like(value) for key, value in generator.items()}
    return {"generator": generator, "discriminator": discriminator, "generator_smooth": averaged}


def filters(gain):
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps)[None, None] / 64 * gain


def smooth(h, pad, gain, stride=1):
    n, maps = h.shape[:2]
    h = F.conv2d(F.pad(h, pad).reshape(n * maps, 1, *F.pad(h, pad).shape[2:]), filters(gain), stride=stride)
    return h.view(n, maps, *h.shape[2:])


def genforce_style_images(state, z):
    """One image at a time, each with its own modulated weights."""
    images = []
    for one in z:
        w = one[None] / (one.pow(2).mean() + 1e-8).sqrt()
        for i in range(sum(key.startswith("mapping.dense") for key in state) // 2):
            weight, bias = state[f"mapping.dense{i}.weight"], state[f"mapping.dense{i}.bias"]
            w = lrelu(w @ weight.T * 0.01 / math.sqrt(weight.shape[1]) + 0.01 * bias) * SQRT2

        def modulated(name, w=w):
            weight = state[f"{name}.weight"]
            style = w @ state[f"{name}.style.weight"].T / math.sqrt(w.shape[1]) + state[f"{name}.style.bias"] + 1
            return weight / math.sqrt(weight[0].numel()) * style[0][None, :, None, None]

        h, image = state["synthesis.early_layer.const"], None
        for i in range(sum(key.endswith("noise") for key in state)):
            name = f"synthesis.layer{i}"
            weight = modulated(name)
            weight = weight / (weight.pow(2).sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            if i % 2:
                h = F.conv_transpose2d(h, weight.flip(2, 3).transpose(0, 1), stride=2)
                h = smooth(h, (1, 1, 1, 1), 4)
            else:
                h = F.conv2d(h, weight, padding=1)
            h = h + state[f"{name}.noise"] * state[f"{name}.noise_strength"] + per_map(state[f"{name}.bias"])
            h = lrelu(h) * SQRT2
            if i % 2 == 0:
                name = f"synthesis.output{i // 2}"
                colours = F.conv2d(h, modulated(name)) + per_map(state[f"{name}.bias"])
                if image is not None:
                    wide = torch.zeros(1, 3, 2 * image.shape[2], 2 * image.shape[3])
                    wide[:, :, ::2, ::2] = image
                    colours = colours + smooth(wide, (2, 1, 2, 1), 4)
                image = colours
        images.append(image)
    return torch.cat(images)


def genforce_style_scores(state, images, group=4):
    def conv(name, h, down=False):
        weight = state[f"{name}.weight"]
        weight = weight / math.sqrt(weight[0].numel())
        kernel = weight.shape[-1]
        if down:
            h = smooth(h, (2, 2, 2, 2) if kernel == 3 else (1, 1, 1, 1), 1)
        h = F.conv2d(h, weight, padding=0 if down else kernel // 2, stride=2 if down else 1)
        return lrelu(h + per_map(state[f"{name}.bias"])) * SQRT2 if f"{name}.bias" in state else h

    blocks = sum(key.startswith("skip_layer") and key.endswith("weight") for key in state)
    h = conv("input0", images)
    for k in range(blocks):
        shortcut = conv(f"skip_layer{k}", h, down=True)
        h = (conv(f"layer{2 * k + 1}", conv(f"layer{2 * k}", h), down=True) + shortcut) / SQRT2
    h = conv(f"layer{2 * blocks}", with_map(h, deviations(h, min(group, len(h))))).flatten(1)
    for i, name in enumerate((f"layer{2 * blocks + 1}", f"layer{2 * blocks + 2}")):
        weight = state[f"{name}.weight"]
        h = h @ weight.T / math.sqrt(weight.shape[1]) + state[f"{name}.bias"]
        h = h if i else lrelu(h) * SQRT2
    return h[:, 0]
