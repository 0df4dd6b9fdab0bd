"""Train a small U-net GAN on rendered churches.

    python -m tools.train.unetgan --run runs/unetgan                  # from scratch; the same line goes on
    python -m tools.train.unetgan --run runs/unetgan --minutes 60     # stop after an hour
    python -m tools.train.unetgan --run runs/unetgan --freeze data/unetgan

The run folder holds checkpoint.pt (all that is needed to go on), snapshots of the averaged generator, a sample
sheet, log.csv (images, losses, FD) and the renders. Stop it at any time with Ctrl-C or a kill.
Recipe: Schoenfeld et al. 2020, section 3: the non-saturating loss on the score and, averaged over pixels, on the
map of the U-net discriminator; images that are half real, half generated, on which the map must tell the
halves apart and agree with the maps of the whole images (CutMix, equations 6 to 9); spectral normalisation,
two learning rates, an averaged generator. No layers are grown: all stages train at 64x64 from the start.
"""

import argparse
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from helpers.networks import unetgan
from tools.train import loop as training
from tools.train.features import scenes
from tools.train.loop import REAL_IDS, Distance, contiguous, real_batch, sample_sheet, save


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--generator", default="128,128,128,48,16", help="units per resolution, 4x4 first")
    p.add_argument("--discriminator", default="16,32,64,128", help="units after each halving, 32x32 first")
    p.add_argument("--latent", type=int, default=128)
    p.add_argument("--kimg", type=float, default=2000, help="thousands of images in all")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", default="6e-4,1.2e-3", help="of the generator and of the discriminator")
    p.add_argument("--cutmix", type=float, default=0.25, help="share of steps with mixed images")
    p.add_argument("--warmup", type=float, default=100, help="thousands of images until that share is reached")
    p.add_argument("--half-life", type=float, default=10, help="of the averaged generator, in thousands of images")
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    p.add_argument("--float32", action="store_true", help="do without bfloat16 autocast")
    p.add_argument("--every", type=int, default=1000, help="steps between two snapshots with their FD and sample sheet")
    p.add_argument("--freeze", type=Path, help="write the averaged generator and the discriminator there and stop")
    return p.parse_args()


def begun(a):
    """A training that has not taken a step."""
    generator = unetgan.Generator(map(int, a.generator.split(",")), a.latent)
    discriminator = unetgan.Discriminator(map(int, a.discriminator.split(",")))
    return training.Training(generator, discriminator, map(float, a.lr.split(",")))


def cutmix(real, fake):
    """Paste a box of every real image into the fake one: (mixed (B, 3, H, W), mask (B, H, W), True where real)."""
    n, _, height, width = real.shape
    share = torch.rand(n, 1).sqrt()  # of each side: the box covers a uniform share of the image
    low = torch.rand(n, 2) * (1 - share)
    y, x = torch.arange(height) / height, torch.arange(width) / width
    rows, columns = ((low[:, i, None] <= line) & (line < low[:, i, None] + share) for i, line in enumerate((y, x)))
    mask = (rows[:, :, None] & columns[:, None]) ^ (torch.rand(n) < 0.5)[:, None, None]
    return torch.where(mask[:, None], real, fake), mask


def mixed_loss(d, real, fake, maps):
    """The discriminator's loss on mixed images; maps: what it says of the whole ones, (real, fake)."""
    mixed, mask = cutmix(real, fake)
    score, values = (v.float() for v in d.both(mixed))
    wrong = F.softplus(score).mean() + F.binary_cross_entropy_with_logits(values, mask.float())
    return wrong + (values - torch.where(mask, *maps)).square().mean()


def train_step(t, real, a):
    """One discriminator and one generator step; returns the two losses."""
    autocast, n = training.autocast(a.float32), len(real)
    with autocast:
        fake = t.g(torch.randn(n, a.latent)).float()
        both = t.d.both(torch.cat([real, fake.detach()]))
        (d_real, d_fake), maps = (v.float().split(n) for v in both)
        loss = F.softplus(-d_real).mean() + F.softplus(d_fake).mean()
        d_loss = loss = loss + F.softplus(-maps[0]).mean() + F.softplus(maps[1]).mean()
        if torch.rand(()) < a.cutmix * min(1, t.seen / (1000 * a.warmup)):
            loss = loss + mixed_loss(t.d, real, fake.detach(), maps)
    t.learn_to_tell(loss)
    g_loss = t.learn_to_draw(lambda: sum(F.softplus(-v.float()).mean() for v in t.d.both(fake)), autocast)
    t.follow(n, a.half_life)
    return d_loss.item(), g_loss.item()


@torch.no_grad()
def settle(average, n=500, steps=20):
    """Give averaged weights singular vectors and batch statistics of their own."""
    z = torch.randn(n, average.latent, generator=torch.Generator().manual_seed(5))
    average.train()
    for part in z[: 2 * steps].split(2):  # in training every pass is a step of the power iteration
        average(part)
    unetgan.standing_statistics(average.eval(), z)


def main():
    a = arguments()
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    t = begun(a)
    checkpoint = training.started(t, a.run)
    if a.freeze:
        settle(t.average, 4000)
        return training.freeze(a.freeze, contiguous(t.average), contiguous(t.d), t.seen)
    pool = scenes(REAL_IDS, a.run, os.cpu_count() or 1)[0]
    distance, clock = Distance(pool), training.Clock(t)
    while t.seen < 1000 * a.kimg and clock.minutes < a.minutes:
        losses = train_step(t, real_batch(pool, t.g.resolution, a.batch), a)
        if t.step % 50 == 0:
            clock.tell(*losses)
        if t.step % 250 == 0:
            save(checkpoint, lambda path: torch.save(t.state(), path))
        if t.step % a.every == 0:
            settle(t.average)
            sample_sheet(t.average, None, a.run / "samples.png")
            if t.step % (2 * a.every) == 0:
                save_file(contiguous(t.average), a.run / f"average-{t.seen // 1000:05d}.safetensors")
            fd = distance(t.average)
            training.log(a.run, t.seen, *(f"{loss:.4f}" for loss in losses), f"{fd:.3f}")
    save(checkpoint, lambda path: torch.save(t.state(), path))


if __name__ == "__main__":
    main()
