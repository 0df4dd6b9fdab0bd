"""As `published`, for rosinality's StyleGAN2: files of that layout, and the images and D-values that they stand for.

Written from the layout's facts: every convolution is computed image by image, with its own modulated weights, float64.
"""

import argparse
import math

import torch
from torch.nn import functional as F

from tests.published import SQRT2, deviations, lrelu, normal, per_map, with_map


def kernel(total):
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64 * total


def generator(channels=(7, 6, 5), style=8, mapping=3, noises=True):
    state = {"input.input": normal(1, channels[0], 4, 4)}
    for i in range(1, mapping + 1):
        state |= {f"style.{i}.weight": 100 * normal(style, style), f"style.{i}.bias": 100 * normal(style)}

    def modulated(name, units, inputs, size):
        return {
            f"{name}.conv.weight": normal(1, units, inputs, size, size),
            f"{name}.conv.modulation.weight": normal(inputs, style),
            f"{name}.conv.modulation.bias": 1 + 0.3 * normal(inputs),
        }

    for k in range(2 * len(channels) - 1):
        name, units, inputs = f"convs.{k - 1}" if k else "conv1", channels[(k + 1) // 2], channels[k // 2]
        state |= modulated(name, units, inputs, 3)
        state |= {f"{name}.noise.weight": normal(1), f"{name}.activate.bias": normal(units)}
        if k % 2:
            state[f"{name}.conv.blur.kernel"] = kernel(4)
        else:
            colours = f"to_rgbs.{k // 2 - 1}" if k else "to_rgb1"
            state |= modulated(colours, 3, units, 1) | {f"{colours}.bias": normal(1, 3, 1, 1)}
            if k:
                state[f"{colours}.upsample.kernel"] = kernel(4)
        if noises:
            state[f"noises.noise_{k}"] = normal(1, 1, 4 * 2 ** ((k + 1) // 2), 4 * 2 ** ((k + 1) // 2))
    return state


def discriminator(channels=(7, 6, 5)):
    down = channels[::-1]
    state = {"convs.0.0.weight": normal(down[0], 3, 1, 1), "convs.0.1.bias": normal(down[0])}
    for i, (units, after) in enumerate(zip(down, down[1:]), start=1):
        state |= {f"convs.{i}.conv1.0.weight": normal(units, units, 3, 3), f"convs.{i}.conv1.1.bias": normal(units)}
        state |= {f"convs.{i}.conv2.0.kernel": kernel(1), f"convs.{i}.conv2.1.weight": normal(after, units, 3, 3)}
        state |= {f"convs.{i}.conv2.2.bias": normal(after), f"convs.{i}.skip.0.kernel": kernel(1)}
        state[f"convs.{i}.skip.1.weight"] = normal(after, units, 1, 1)
    last = down[-1]
    state |= {"final_conv.0.weight": normal(last, last + 1, 3, 3), "final_conv.1.bias": normal(last)}
    state |= {"final_linear.0.weight": normal(last, 16 * last), "final_linear.0.bias": normal(last)}
    return state | {"final_linear.1.weight": normal(1, last), "final_linear.1.bias": normal(1)}


def converted(channels=(7, 6, 5), **options):
    """What the converter from TensorFlow writes: the average, its mean style, and the two networks on request."""
    raw = generator(channels, **options)
    average = {key: value if "kernel" in key else value + 0.1 * torch.randn_like(value) for key, value in raw.items()}
    return {"g_ema": average, "latent_avg": normal(8), "g": raw, "d": discriminator(channels)}


def trained(channels=(7, 6, 5)):
    """What the trainer writes: optimisers and settings, and no mean style."""
    file = converted(channels)
    del file["latent_avg"]
    optimiser = {"state": {0: {"step": 3, "exp_avg": normal(4)}}, "param_groups": [{"lr": 0.002, "params": [0]}]}
    more = {"g_optim": optimiser, "d_optim": optimiser, "args": argparse.Namespace(size=16, arch="stylegan2")}
    return {key: file[key] for key in ("g", "d", "g_ema")} | more | {"ada_aug_p": 0.0}


def styles(state, z):
    w = z.double() / (z.double().pow(2).mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(1, 1 + sum(key.startswith("style.") for key in state) // 2):
        weight, bias = state[f"style.{i}.weight"].double(), state[f"style.{i}.bias"].double()
        w = lrelu(w @ weight.T * (0.01 / math.sqrt(len(weight))) + 0.01 * bias) * SQRT2
    return w


def padded(h, pad, total):
    """Filter every map by the stored kernel, after padding."""
    maps = h.shape[1]
    return F.conv2d(F.pad(h, pad), kernel(total).to(h).expand(maps, 1, 4, 4), groups=maps)


def images(state, w, noises=None):
    """Draw styles (B, S); noises: of the file, by default."""
    state = {key: value.double() for key, value in state.items()}
    noises = noises or [state[f"noises.noise_{k}"] for k in range(sum(key.startswith("noises.") for key in state))]
    out = []
    for one in w.double():

        def weights(name, one=one):
            weight = state[f"{name}.conv.weight"][0]
            style = state[f"{name}.conv.modulation.weight"] @ one / math.sqrt(len(one))
            style = style + state[f"{name}.conv.modulation.bias"]
            return weight / math.sqrt(weight[0].numel()) * style[None, :, None, None]

        h, image = state["input.input"], None
        for k, noise in enumerate(noises):
            name = f"convs.{k - 1}" if k else "conv1"
            weight = weights(name)
            weight = weight / (weight.pow(2).sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            if k % 2:
                h = padded(F.conv_transpose2d(h, weight.transpose(0, 1), stride=2), (1, 1, 1, 1), 4)
            else:
                h = F.conv2d(h, weight, padding=1)
            h = h + noise.double() * state[f"{name}.noise.weight"] + per_map(state[f"{name}.activate.bias"])
            h = lrelu(h) * SQRT2
            if k % 2 == 0:
                name = f"to_rgbs.{k // 2 - 1}" if k else "to_rgb1"
                colours = F.conv2d(h, weights(name)) + state[f"{name}.bias"]
                if image is not None:
                    wide = torch.zeros(1, 3, 2 * image.shape[2], 2 * image.shape[3], dtype=torch.double)
                    wide[:, :, ::2, ::2] = image
                    colours = colours + padded(wide, (2, 1, 2, 1), 4)
                image = colours
        out.append(image)
    return torch.cat(out)


def scores(state, pictures):
    state = {key: value.double() for key, value in state.items()}

    def conv(weight, h, bias=None):
        """A layer by the keys of its weight and bias; before a stride of 2 stands the filter."""
        weight, down = state[f"{weight}.weight"], ".conv2." in weight or ".skip." in weight
        size = weight.shape[-1]
        h = padded(h, (2, 2, 2, 2) if size == 3 else (1, 1, 1, 1), 1) if down else h
        h = F.conv2d(h, weight / math.sqrt(weight[0].numel()), padding=0 if down else size // 2, stride=1 + down)
        return h if bias is None else lrelu(h + per_map(state[f"{bias}.bias"])) * SQRT2

    h = conv("convs.0.0", pictures.double(), "convs.0.1")
    for i in range(1, 1 + sum(key.endswith("skip.1.weight") for key in state)):
        own = conv(f"convs.{i}.conv1.0", h, f"convs.{i}.conv1.1")
        h = (conv(f"convs.{i}.conv2.1", own, f"convs.{i}.conv2.2") + conv(f"convs.{i}.skip.1", h)) / SQRT2
    values = deviations(h.float(), min(4, len(h))).double()
    h = conv("final_conv.0", with_map(h, values), "final_conv.1").flatten(1)
    for i in (0, 1):
        weight = state[f"final_linear.{i}.weight"]
        h = h @ weight.T / math.sqrt(weight.shape[1]) + state[f"final_linear.{i}.bias"]
        h = h if i else lrelu(h) * SQRT2
    return h[:, 0]
