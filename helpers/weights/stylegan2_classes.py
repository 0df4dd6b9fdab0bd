"""Take one class of a StyleGAN2 that was trained with classes: what is left is a network without any.

For one class the label's embedding y is a constant vector. In the generator it enters the mapping's first layer beside
z, so that it becomes part of that layer's bias; in the discriminator the score is the product of two vectors, one of
which the label alone decides, so that it becomes part of the last layer's weights. Both are computed in float64.
Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix; the published keys.
"""

import math
import operator

from helpers.networks.pggan import EPSILON
from helpers.networks.stylegan2_layers import GAIN, activate
from helpers.weights.layout import GENERATOR, count

RATE = 0.01  # of the mapping's layers; the embedding has 1


def of_class(weights, label, role, name):
    """Return the weights, under the same keys, of the network that a label k makes of one with n classes.

    Raises ValueError for a label that is None or no class, and for shapes that do not fit.
    """
    embedding, offset = weights["mapping.embed.weight"], weights.get("mapping.embed.bias")
    classes = embedding.shape[-1]
    try:
        chosen = operator.index(label)
    except (TypeError, ValueError):
        chosen = -1
    if isinstance(label, bool) or chosen not in range(classes):
        got = "" if label is None else f", got label={label!r}"
        raise ValueError(f"{name} was trained with {classes} classes: load it with label=0 to {classes - 1}{got}")
    try:
        y = embedding.double()[:, chosen] / math.sqrt(classes) + offset.double()
        y = y / (y.square().mean() + EPSILON).sqrt()
        weights = {key: value for key, value in weights.items() if not key.startswith("mapping.embed.")}
        return (_generator if role == GENERATOR else _discriminator)(weights, y)
    except (KeyError, RuntimeError, AttributeError, IndexError) as error:
        raise ValueError(f"{name} does not fit: its mapping is not one of {classes} classes ({error})") from None


def _generator(weights, y):
    both, bias = weights["mapping.fc0.weight"].double(), weights["mapping.fc0.bias"].double()
    latent, whole = both.shape[1] - len(y), both.shape[1]
    bias = bias + both[:, latent:] @ y / math.sqrt(whole)  # the rate scales both
    weight = both[:, :latent] * math.sqrt(latent / whole)  # as its own fan-in is smaller
    return weights | {"mapping.fc0.weight": weight.float(), "mapping.fc0.bias": bias.float()}


def _discriminator(weights, y):
    for i in range(count(weights, r"mapping\.fc(\d+)\.")):
        weight, bias = (weights[f"mapping.fc{i}.{kind}"].double() for kind in ("weight", "bias"))
        y = activate(weight @ y * (RATE / math.sqrt(len(y))) + bias * RATE) * GAIN
    weights = {key: value for key, value in weights.items() if not key.startswith("mapping.")}
    for kind in ("weight", "bias"):
        mapped = y @ weights[f"b4.out.{kind}"].double() / math.sqrt(len(y))
        weights[f"b4.out.{kind}"] = mapped.float().reshape(1, -1) if kind == "weight" else mapped.float().reshape(1)
    return weights
