import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from helpers.latents import batches, latents


def test_an_id_is_one_latent_whatever_else_is_asked_for():
    z = latents(range(50), 16)
    assert torch.equal(latents([7], 16)[0], z[7])
    assert torch.equal(latents([9, 3, 9], 16), z[[9, 3, 9]])
    # Frozen: labels hang on these numbers.
    torch.testing.assert_close(latents([0], 3)[0], torch.tensor([1.7640524, 0.4001572, 0.9787380]))


def test_latents_are_standard_normal_and_differ():
    z = latents(range(2000), 64)
    assert z.shape == (2000, 64) and z.dtype == torch.float32
    assert abs(float(z.mean())) < 0.01 and abs(float(z.std()) - 1) < 0.01
    nearby = torch.corrcoef(z[:200])
    assert nearby.fill_diagonal_(0).abs().max() < 0.6


def test_bad_ids_are_named():
    marks = (True, np.True_, torch.tensor(True))
    for bad in (-1, 2**32, 1.5, "1", float("nan"), float("inf"), None, Fraction(3, 2), torch.tensor(1.5), *marks):
        with pytest.raises(ValueError, match=f"image ids must be integers from 0 to 2.*, got {re.escape(repr(bad))}"):
            latents([1, bad], 4)
    for good in (2.0, np.int64(2), torch.tensor(2), np.float32(2)):
        assert torch.equal(latents([good], 4), latents([2], 4))
    with pytest.raises(ValueError, match="at least one dimension"):
        latents([1], 0)


def test_batches_cover_everything_once():
    assert [list(b) for b in batches(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batches([], 3)) == []
    with pytest.raises(ValueError, match="size 0"):
        list(batches(range(3), 0))
