"""What a survey of everything holds, compared field by field: several test files ask it."""

import torch

FIELDS = ("thresholds", "rates", "position_rates", "top", "means", "deviations")


def assert_same(found, expected):
    for name in FIELDS:
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert list(mine) == list(theirs)
        for layer in theirs:
            torch.testing.assert_close(mine[layer], theirs[layer], rtol=1e-6, atol=1e-6)
    assert found.images == expected.images
