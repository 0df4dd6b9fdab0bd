"""Turn image ids into latents: the same on every machine, in every order and for every batch size."""

import numpy as np
import torch


def latents(ids, dim):
    """Return the standard normal latent of each image id: float32 (N, dim), on the CPU.

    ids: iterable of int in [0, 2**32). An id always gives the same latent, whatever else is asked for.
    Raises ValueError for an id outside the range or a dimension below 1. Used in every notebook.
    """
    ids = [int(i) for i in ids]
    bad = [i for i in ids if not 0 <= i < 2**32]
    if bad:
        raise ValueError(f"image ids must be integers from 0 to 2**32 - 1, got {bad[0]}")
    if dim < 1:
        raise ValueError(f"a latent needs at least one dimension, got {dim}")
    z = np.empty((len(ids), dim), np.float32)
    for row, i in zip(z, ids):
        # RandomState's stream is frozen by NumPy's policy, unlike Generator's and torch's.
        row[:] = np.random.RandomState(i).standard_normal(dim)
    return torch.from_numpy(z)


def batches(items, size=64):
    """Yield consecutive slices of `items` (a tensor, list or range) of at most `size` elements."""
    if size < 1:
        raise ValueError(f"a batch needs at least one item, got size {size}")
    for start in range(0, len(items), size):
        yield items[start : start + size]
