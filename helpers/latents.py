"""Turn image ids into latents: the same on every machine, in every order and for every batch size."""

import numpy as np
import torch


def latents(ids, dim):
    """Return the standard normal latent of each image id: float32 (N, dim), on the CPU.

    ids: iterable of int in [0, 2**32). An id always gives the same latent, whatever else is asked for.
    Raises ValueError for an id outside the range or a dimension below 1. Used in every notebook.
    """
    ids = image_ids(ids)
    if dim < 1:
        raise ValueError(f"a latent needs at least one dimension, got {dim}")
    z = np.empty((len(ids), dim), np.float32)
    for row, i in zip(z, ids):
        # RandomState's stream is frozen by NumPy's policy, unlike Generator's and torch's.
        row[:] = np.random.RandomState(i).standard_normal(dim)
    return torch.from_numpy(z)


def image_ids(ids):
    """Return image ids as a list of int; raises ValueError for what is no whole number in [0, 2**32)."""
    found = []
    for i in ids:
        try:
            found.append(int(i))
        except (TypeError, ValueError, OverflowError):
            found.append(-1)
        mark = isinstance(i, bool | np.bool_) or getattr(i, "dtype", None) == torch.bool  # of a mask, say
        if mark or found[-1] != i or not 0 <= found[-1] < 2**32:
            raise ValueError(f"image ids must be integers from 0 to 2**32 - 1, got {i!r}")
    return found


def exact(values, dtype=torch.float32):
    """Return latents as a tensor of a dtype, from anything that holds numbers: tensors, NumPy arrays, lists.

    Raises ValueError where that dtype cannot hold them exactly, so that nothing is rounded unasked, and for no numbers.
    """
    try:
        given = values if isinstance(values, torch.Tensor) else _tensor(np.asarray(values))
        if given.is_complex():
            raise TypeError
        found = given.detach().to(dtype)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"latents must be real numbers (B, D), got {type(values).__name__}: pass a tensor") from None
    if given.dtype != dtype and not torch.equal(found.to(given.dtype).nan_to_num(), given.nan_to_num()):
        want = str(dtype).removeprefix("torch.")
        raise ValueError(f"latents are {given.dtype} and not exact in {want}: round them first, by z.astype('{want}')")
    return found


def _tensor(array):
    """Return a NumPy array as a tensor, also one that torch refuses: turned round, read-only, of another machine."""
    if array.dtype.kind not in "biuf":
        raise TypeError
    known = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.float64
    return torch.from_numpy(np.require(array, known, "CW"))


def batches(items, size=64):
    """Yield consecutive slices of `items` (a tensor, list or range) of at most `size` elements."""
    if size < 1:
        raise ValueError(f"a batch needs at least one item, got size {size}")
    for start in range(0, len(items), size):
        yield items[start : start + size]
