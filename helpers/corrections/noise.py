"""Noise on the latents: what a correction is compared with that knows nothing of artifacts."""

import torch

from helpers import metrics
from helpers.latents import exact


def noisy(z, amount, seed=0):
    """Move latents at random, by a share of them in [0, 1]: what a correction is compared with that knows nothing."""
    z = exact(z)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
    return (1 - amount**2) ** 0.5 * z + amount * noise


def noise_as_far(embed, z, goal, seed=0, steps=8, most=1.0):
    """Find the noise that moves images as far as a correction did: -> (latents (N, D), its amount).

    embed: a function of latents -> features of their images (N, F), such as the evaluation network's. goal: the mean of
    `moved`. steps: halvings of [0, most] tried; the nearest counts. most: below 1 where little is likely to be enough;
    where it is not, all of [0, 1] is searched. Explained in notebook 05.
    """
    plain, low, high, tried = embed(z), 0.0, most, {}
    for _ in range(steps):
        middle = (low + high) / 2
        tried[middle] = float(metrics.moved(plain, embed(noisy(z, middle, seed))).mean())
        low, high = (middle, high) if tried[middle] < goal else (low, middle)
    if high == most < 1:  # nothing tried was far enough
        return noise_as_far(embed, z, goal, seed, steps)
    amount = min(tried, key=lambda a: abs(tried[a] - goal))
    return noisy(z, amount, seed), amount
