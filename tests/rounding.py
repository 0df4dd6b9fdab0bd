"""How far two results of the same maths in float32 may lie apart, whatever processor rounded them."""

import torch

PART = 1e-4  # of the largest value: some hundred roundings, and far less than any mistake in the maths makes
LEAST = 0.1  # a lone value may lie near zero by chance, the sums behind it do not


def near(found, expected):
    """Tell whether two tensors are equal up to rounding: within PART of the largest value expected."""
    assert found.shape == expected.shape
    return bool((found.double() - expected.double()).abs().max() <= _allowed(expected))


def close(found, expected):
    """Assert that two tensors are equal up to rounding, whatever their precision."""
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=_allowed(expected))


def _allowed(expected):
    return PART * max(LEAST, float(expected.detach().abs().max())) if expected.numel() else 0.0
