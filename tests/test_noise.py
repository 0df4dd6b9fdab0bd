import pytest
import torch

from helpers import evaluation, metrics
from helpers.latents import latents


def embed(z):
    return torch.cat([z.cos(), 2 * z[:, :3].sin()], dim=1)


def test_noise_keeps_latents_standard_normal_and_is_always_the_same():
    z = latents(range(4000), 6)
    moved = evaluation.noisy(z, 0.6)
    assert moved.std() == pytest.approx(1, abs=0.03) and torch.equal(moved, evaluation.noisy(z, 0.6))
    assert float((moved * z).mean()) == pytest.approx(0.8, abs=0.03)
    assert torch.equal(evaluation.noisy(z, 0.0), z) and not torch.equal(moved, evaluation.noisy(z, 0.6, seed=1))


@pytest.mark.parametrize("goal", [0.1, 0.5, 0.8])
def test_noise_moves_images_as_far_as_asked(goal):
    z = latents(range(500), 6)
    noise, amount = evaluation.noise_as_far(embed, z, goal)
    assert float(metrics.moved(embed(z), embed(noise)).mean()) == pytest.approx(goal, abs=0.01)
    assert torch.equal(noise, evaluation.noisy(z, amount)) and 0 < amount < 1


def test_the_search_begins_where_little_is_known_to_be_enough():
    z, calls = latents(range(500), 6), []
    found = evaluation.noise_as_far(embed, z, 0.1)[1]
    assert found < 0.25
    assert evaluation.noise_as_far(lambda z: calls.append(z) or embed(z), z, 0.1, steps=6, most=0.25)[1] == found
    assert len(calls) == 7  # the latents as they are, and six tries
    far = evaluation.noise_as_far(embed, z, 0.8)[1]
    assert far > 0.25 and evaluation.noise_as_far(embed, z, 0.8, most=0.25)[1] == far


def test_a_goal_beyond_reach_gets_what_is_nearest():
    z = latents(range(500), 6)
    assert evaluation.noise_as_far(embed, z, 50.0)[1] == 1 - 2**-8
    assert evaluation.noise_as_far(embed, z, 0.0)[1] == 2**-8
