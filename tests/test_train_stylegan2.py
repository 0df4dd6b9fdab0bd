"""The StyleGAN2 trainer: growing without a jump, steps that learn, a state that is whole."""

import math

import pytest
import torch
from torch.nn import functional as F

from helpers.networks import stylegan2_layers
from tools.train import stylegan2 as tool

WORDS = "--run none --generator 8,8,8,6 --discriminator 8,8,8,6 --latent 7 --style 9 --mapping 2 --kimg 1,1,1 --batch 4"


@pytest.fixture
def training():
    torch.manual_seed(0)
    return tool.Training(tool.arguments(WORDS.split()))


@torch.no_grad()
def test_the_generator_grows_without_a_jump(training):
    w = training.g.mapping(torch.randn(3, 7))
    small = training.g.draw(w, 2)
    assert small.shape[-1] == 8 and small.std() > 0.1
    grown = training.g.draw(w, 3)
    torch.testing.assert_close(grown, stylegan2_layers.upsample(small, training.g.block(2).resample_filter))


@torch.no_grad()
def test_the_discriminator_fades_its_new_resolution_in(training):
    images = torch.randn(4, 3, 16, 16)
    small = training.d(F.avg_pool2d(images, 2), 2.0)
    torch.testing.assert_close(training.d(images, 2 - 1e-9), small, rtol=1e-4, atol=1e-4)
    assert (training.d(images, 1.5) - small).abs().max() > 1e-3
    full = torch.randn(4, 3, 32, 32)
    assert torch.equal(training.d(full, 0.0), training.d.whole(full))


def test_r1_is_the_squared_gradient_of_the_real_images_scores(training):
    a = tool.arguments([*WORDS.split(), "--float32", "--gamma", "2"])
    for adam in (training.g_adam, training.d_adam):
        adam.param_groups[0]["lr"] = 0.0
    real = torch.randn(4, 3, 16, 16)
    torch.manual_seed(3)
    d_loss, g_loss = tool.train_step(training, real.clone(), 1.0, a)
    gradients = {name: p.grad for name, p in training.d.named_parameters() if p.grad is not None}
    training.d.zero_grad()
    copy = real.clone().requires_grad_(True)
    scores = training.d(copy, 1.0)
    torch.manual_seed(3)
    fake = training.d(training.g.draw(training.g.mapping(torch.randn(4, 7)), 3).detach(), 1.0)
    loss = F.softplus(-scores).mean() + F.softplus(fake).mean()
    assert d_loss == pytest.approx(loss.item(), rel=1e-4)
    assert g_loss == pytest.approx(F.softplus(-fake).mean().item(), rel=1e-4)
    (grad,) = torch.autograd.grad(scores.sum(), copy, create_graph=True)
    (loss + 16 * 2 / 2 / 4 * sum(g.pow(2).sum() for g in grad) / 4).backward()
    for name, p in training.d.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], p.grad, rtol=1e-3, atol=1e-4)


def test_steps_move_all_that_is_in_training_and_a_state_goes_on_alike(training):
    a = tool.arguments([*WORDS.split(), "--lr", "0.01"])
    before = {name: value.clone() for name, value in training.g.named_parameters()}
    for _ in range(3):
        losses = tool.train_step(training, torch.randn(4, 3, 16, 16), 1.25, a)
        assert all(math.isfinite(loss) for loss in losses)
    moved = {name for name, value in training.g.named_parameters() if not torch.equal(value, before[name])}
    assert {name for name in before if "b32" not in name} == moved
    state = training.state()
    weights, rng = {k: v.clone() for k, v in training.averaged().items()}, torch.get_rng_state()
    other = tool.Training(tool.arguments(WORDS.split()))
    other.restore(state)
    assert (other.step, other.seen) == (3, 12) and torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(value, weights[name]) for name, value in other.averaged().items())
    noise = [name for name, _ in training.g.named_buffers() if name.endswith("noise_const")]
    assert all(torch.equal(weights[name], training.g.get_buffer(name)) for name in noise) and len(noise) == 7
    average = other.average.mapping(torch.randn(4000, 7)).mean(0)
    torch.testing.assert_close(weights["mapping.w_avg"], average, rtol=0.1, atol=0.1)
