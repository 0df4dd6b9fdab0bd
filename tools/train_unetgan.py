"""Train a small U-net GAN on rendered churches.

    python tools/train_unetgan.py --run runs/unetgan                  # from scratch; the same line goes on
    python tools/train_unetgan.py --run runs/unetgan --minutes 60     # stop after an hour
    python tools/train_unetgan.py --run runs/unetgan --freeze data/unetgan

The run folder holds checkpoint.pt (all that is needed to go on), snapshots of the averaged generator, a sample
sheet, log.csv (images, losses, FD) and the renders. Stop it at any time with Ctrl-C or a kill.
Recipe: Schoenfeld et al. 2020, section 3: the non-saturating loss on the score and, averaged over pixels, on the
map of the U-net discriminator; images that are half real, half generated, on which the map must tell the
halves apart and agree with the maps of the whole images (CutMix, equations 6 to 9); spectral normalisation,
two learning rates, an averaged generator. No layers are grown: all stages train at 64x64 from the start.
"""

import argparse
import copy
import csv
import os
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from helpers import unetgan
from tools.train_features import scenes
from tools.train_pggan import REAL_IDS, Distance, real_batch, sample_sheet, save


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


class Training:
    """Everything a step changes, so that one file can save and restore it."""

    def __init__(self, a):
        self.g = unetgan.Generator(map(int, a.generator.split(",")), a.latent)
        self.d = unetgan.Discriminator(map(int, a.discriminator.split(",")))
        self.average = copy.deepcopy(self.g).requires_grad_(False)
        for module in self.networks.values():
            module.to(memory_format=torch.channels_last)
        rates = map(float, a.lr.split(","))
        self.adams = [torch.optim.Adam(m.parameters(), lr, (0.0, 0.99)) for m, lr in zip((self.g, self.d), rates)]
        self.step = self.seen = 0

    @property
    def networks(self):
        return {"generator": self.g, "discriminator": self.d, "average": self.average}

    def state(self):
        parts = {name: module.state_dict() for name, module in self.networks.items()}
        return parts | {"adams": [adam.state_dict() for adam in self.adams], "step": self.step, "seen": self.seen,
                        "rng": torch.get_rng_state()}  # fmt: skip

    def restore(self, state, a):
        for name, module in self.networks.items():
            module.load_state_dict(state[name])
        for adam, old, lr in zip(self.adams, state["adams"], map(float, a.lr.split(","))):
            adam.load_state_dict(old)
            for group in adam.param_groups:
                group["lr"] = lr
        self.step, self.seen = state["step"], state["seen"]
        torch.set_rng_state(state["rng"])


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
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=not a.float32)
    n = len(real)
    with autocast:
        fake = t.g(torch.randn(n, a.latent)).float()
        both = t.d.both(torch.cat([real, fake.detach()]))
        (d_real, d_fake), maps = (v.float().split(n) for v in both)
        loss = F.softplus(-d_real).mean() + F.softplus(d_fake).mean()
        d_loss = loss = loss + F.softplus(-maps[0]).mean() + F.softplus(maps[1]).mean()
        if torch.rand(()) < a.cutmix * min(1, t.seen / (1000 * a.warmup)):
            loss = loss + mixed_loss(t.d, real, fake.detach(), maps)
    t.adams[1].zero_grad()
    loss.backward()
    t.adams[1].step()

    t.d.requires_grad_(False)
    with autocast:
        g_loss = sum(F.softplus(-v.float()).mean() for v in t.d.both(fake))
    t.adams[0].zero_grad()
    g_loss.backward()
    t.adams[0].step()
    t.d.requires_grad_(True)

    keep = 0.5 ** (n / (1000 * a.half_life)) if t.seen > 20_000 else 0.98
    with torch.no_grad():
        for slow, fast in zip(t.average.parameters(), t.g.parameters()):
            slow.lerp_(fast, 1 - keep)
    t.step += 1
    t.seen += n
    return d_loss.item(), g_loss.item()


@torch.no_grad()
def settle(average, n=500, steps=20):
    """Give averaged weights singular vectors and batch statistics of their own."""
    z = torch.randn(n, average.latent, generator=torch.Generator().manual_seed(5))
    average.train()
    for part in z[: 2 * steps].split(2):  # in training every pass is a step of the power iteration
        average(part)
    unetgan.standing_statistics(average.eval(), z)


def contiguous(module):
    return {key: value.contiguous() for key, value in module.state_dict().items()}


def main():
    a = arguments()
    a.run.mkdir(parents=True, exist_ok=True)
    checkpoint = a.run / "checkpoint.pt"
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    t = Training(a)
    if checkpoint.exists():
        t.restore(torch.load(checkpoint, weights_only=True), a)
    if a.freeze:
        settle(t.average, 4000)
        a.freeze.mkdir(parents=True, exist_ok=True)
        for name, module in (("generator", t.average), ("discriminator", t.d)):
            save_file(contiguous(module), a.freeze / f"{name}.safetensors", metadata={"images": str(t.seen)})
        return
    pool = scenes(REAL_IDS, a.run, os.cpu_count() or 1)[0]
    distance = Distance(pool)
    start, first = time.time(), t.seen
    while t.seen < 1000 * a.kimg and time.time() - start < 60 * a.minutes:
        d_loss, g_loss = train_step(t, real_batch(pool, t.g.resolution, a.batch, 0), a)
        if t.step % 50 == 0:
            rate = (t.seen - first) / (time.time() - start)
            line = f"{t.seen / 1000:8.1f} kimg  D {d_loss:.3f}  G {g_loss:.3f}  {rate:5.1f} images/s"
            print(line, end="\n" if t.step % 500 == 0 else "\r", flush=True)
        if t.step % 250 == 0:
            save(checkpoint, lambda path: torch.save(t.state(), path))
        if t.step % a.every == 0:
            settle(t.average)
            sample_sheet(t.average, None, a.run / "samples.png")
            if t.step % (2 * a.every) == 0:
                save_file(contiguous(t.average), a.run / f"average-{t.seen // 1000:05d}.safetensors")
            with open(a.run / "log.csv", "a", newline="") as f:
                row = [t.seen, f"{d_loss:.4f}", f"{g_loss:.4f}", f"{distance(t.average):.3f}"]
                csv.writer(f).writerow(row)
    save(checkpoint, lambda path: torch.save(t.state(), path))


if __name__ == "__main__":
    main()
