"""What a survey of everything holds, compared field by field: several test files ask it."""

import torch

from tests.rounding import close

FIELDS = ("thresholds", "rates", "position_rates", "top", "means", "deviations")
RATES = ("rates", "position_rates")


def assert_same(found, expected):
    for name in FIELDS:
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert list(mine) == list(theirs)
        for layer in theirs:
            if name in RATES:  # where rounding decides, an activation may fall on either side of its threshold
                torch.testing.assert_close(mine[layer], theirs[layer], rtol=0, atol=1.01 / expected.images)
            else:
                close(mine[layer], theirs[layer])
    assert found.images == expected.images
