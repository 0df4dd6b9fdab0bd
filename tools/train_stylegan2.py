"""Train a small StyleGAN2 on rendered churches.

    python -m tools.train_stylegan2 --run runs/stylegan2                    # from scratch, all stages
    python -m tools.train_stylegan2 --run runs/stylegan2 --minutes 60       # goes on where it stopped
    python -m tools.train_stylegan2 --run runs/stylegan2 --curve            # FD of every snapshot
    python -m tools.train_stylegan2 --run runs/stylegan2 --freeze FOLDER    # float32 safetensors

The run folder holds checkpoint.pt (all that is needed to go on), snapshots of the averaged generator,
sample sheets, the renders and log.csv (images, level, losses, FD). Stop it at any time; at most 250 steps are lost.
Recipe: Karras et al. 2020 (non-saturating loss, R1 every 16 steps, averaged generator), with two changes. The noise is
fixed in training too, so that what was trained is what is drawn later. And the networks grow from 16 px: each
resolution puts out an image anyway, and small images are cheap. A new resolution's colours start at zero, so the
generator grows without a jump; the discriminator fades its new resolution in.
"""

import argparse
import copy
import csv
import os
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from helpers import stylegan2, styleops
from tools.train_features import scenes
from tools.train_pggan import LAZY, REAL_IDS, Distance, lod_at, real_batch, real_images, sample_sheet, save


def arguments(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--generator", default="128,128,96,32,16", help="units per resolution, 4x4 first")
    p.add_argument("--discriminator", default="128,128,64,32,16")
    p.add_argument("--latent", type=int, default=64)
    p.add_argument("--style", type=int, default=128)
    p.add_argument("--mapping", type=int, default=4, help="layers of the mapping network")
    p.add_argument("--kimg", default="60,80,1200", help="thousands of images per stage, the last at full size")
    p.add_argument("--fade", type=float, default=20, help="thousands of images to fade a stage in, at most")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--gamma", type=float, default=0.5, help="weight of R1 at full size; it falls with the pixels")
    p.add_argument("--half-life", type=float, default=10, help="of the averaged generator, in thousands of images")
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    p.add_argument("--float32", action="store_true", help="do without bfloat16 autocast")
    p.add_argument("--curve", action="store_true", help="print the FD of the snapshots and stop")
    p.add_argument("--freeze", type=Path, help="write the averaged generator and the discriminator there and stop")
    return p.parse_args(words)


class Growing(nn.Module):
    """A discriminator that can also read smaller images, for the stages before the last."""

    def __init__(self, discriminator, stages):
        super().__init__()
        self.whole, self.last = discriminator, len(discriminator.channels) - 1
        smaller = range(self.last + 1 - stages, self.last)
        self.rgb = nn.ModuleDict({str(i): styleops.Plain(3, discriminator.channels[i], 1) for i in smaller})

    def from_rgb(self, index, images):
        return (self.whole.block(index).fromrgb if index == self.last else self.rgb[str(index)])(images)

    def forward(self, images, lod):
        """lod: how many resolutions are still to grow; its fraction fades the newest one in."""
        first, fade = self.last - int(lod), lod - int(lod)
        h = self.from_rgb(first, images)
        for index in range(first, 0, -1):
            h = self.whole.block(index)(h)
            if index == first and fade:
                h = torch.lerp(h, self.from_rgb(first - 1, F.avg_pool2d(images, 2)), fade)
        return self.whole.b4(h, self.whole.group)


class Preview:
    """The averaged generator at the size in training, called as a progressive one is."""

    def __init__(self, generator, lod=0.0):
        self.generator, self.latent, self.blocks = generator, generator.latent, len(generator.channels) - int(lod)

    def __call__(self, z, lod=0.0):
        return self.generator.draw(self.generator.mapping(z), self.blocks)


class Training:
    """Everything a step changes, so that one file can save and restore it."""

    def __init__(self, a):
        stages = len(a.kimg.split(","))
        self.g = stylegan2.Generator(map(int, a.generator.split(",")), a.latent, a.style, a.mapping)
        for index in range(len(self.g.channels) + 1 - stages, len(self.g.channels)):
            nn.init.zeros_(self.g.block(index).torgb.weight)
        self.d = Growing(stylegan2.Discriminator(map(int, a.discriminator.split(","))), stages)
        self.average = copy.deepcopy(self.g)
        for module in self.networks.values():
            module.to(memory_format=torch.channels_last)
        self.g_adam = torch.optim.Adam(self.g.parameters(), a.lr, (0.0, 0.99))
        self.d_adam = torch.optim.Adam(self.d.parameters(), a.lr, (0.0, 0.99))
        self.step = self.seen = 0

    @property
    def networks(self):
        return {"generator": self.g, "discriminator": self.d, "average": self.average}

    def state(self):
        parts = {name: module.state_dict() for name, module in self.networks.items()}
        return parts | {"g_adam": self.g_adam.state_dict(), "d_adam": self.d_adam.state_dict(),
                        "step": self.step, "seen": self.seen, "rng": torch.get_rng_state()}  # fmt: skip

    def restore(self, state, lr):
        for name, module in self.networks.items():
            module.load_state_dict(state[name])
        for name in ("g_adam", "d_adam"):
            getattr(self, name).load_state_dict(state[name])
            for group in getattr(self, name).param_groups:
                group["lr"] = lr
        self.step, self.seen = state["step"], state["seen"]
        torch.set_rng_state(state["rng"])

    @torch.no_grad()
    def averaged(self):
        """The averaged generator's weights, with its mean style measured: {key: tensor}."""
        z = torch.randn(10_000, self.average.latent, generator=torch.Generator().manual_seed(5))
        self.average.mapping.w_avg.copy_(self.average.mapping(z).mean(0))
        return {k: v.contiguous() for k, v in self.average.state_dict().items()}


def train_step(t, real, lod, a):
    """One discriminator and one generator step; returns the two losses."""
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=not a.float32)
    n = len(real)
    with autocast:
        fake = t.g.draw(t.g.mapping(torch.randn(n, a.latent)), len(t.g.channels) - int(lod))
    lazy = t.step % LAZY == 0
    if lazy:
        real.requires_grad_(True)
    with autocast:
        d_real, d_fake = t.d(real, lod).float(), t.d(fake.detach().float(), lod).float()
    d_loss = loss = F.softplus(-d_real).mean() + F.softplus(d_fake).mean()
    if lazy:
        (grad,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
        gamma = a.gamma * (real.shape[-1] / t.g.resolution) ** 2
        loss = loss + LAZY * gamma / 2 * grad.square().sum(dim=(1, 2, 3)).mean()
    t.d_adam.zero_grad()
    loss.backward()
    t.d_adam.step()

    t.d.requires_grad_(False)
    with autocast:
        g_loss = F.softplus(-t.d(fake.float(), lod).float()).mean()
    t.g_adam.zero_grad()
    g_loss.backward()
    t.g_adam.step()
    t.d.requires_grad_(True)

    keep = 0.5 ** (n / (1000 * a.half_life)) if t.seen > 20_000 else 0.98
    with torch.no_grad():
        for slow, fast in zip(t.average.parameters(), t.g.parameters()):
            slow.lerp_(fast, 1 - keep)
    t.step += 1
    t.seen += n
    return d_loss.item(), g_loss.item()


def main():
    a = arguments()
    a.run.mkdir(parents=True, exist_ok=True)
    checkpoint = a.run / "checkpoint.pt"
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    t = Training(a)
    if checkpoint.exists():
        t.restore(torch.load(checkpoint, weights_only=True), a.lr)
    if a.freeze:
        discriminator = {k: v.contiguous() for k, v in t.d.whole.state_dict().items()}
        for name, weights in (("generator", t.averaged()), ("discriminator", discriminator)):
            save_file(weights, a.freeze / f"{name}.safetensors", metadata={"images": str(t.seen)})
        return
    if a.curve:
        distance = Distance(real_images(2000))
        for path in sorted(a.run.glob("average-*.safetensors")):
            t.average.load_state_dict(load_file(path))
            print(f"{path.stem.split('-')[1].lstrip('0'):>6s} kimg  FD {distance(t.average):.3f}", flush=True)
        return
    kimg = [float(k) for k in a.kimg.split(",")]
    pool = scenes(REAL_IDS, a.run, os.cpu_count() or 1)[0]
    distance = Distance(pool)
    start, first = time.time(), t.seen
    while (lod := lod_at(t.seen, kimg, a.fade)) is not None and time.time() - start < 60 * a.minutes:
        size = t.g.resolution // 2 ** int(lod)
        d_loss, g_loss = train_step(t, real_batch(pool, size, a.batch, 0), lod, a)
        if t.step % 50 == 0:
            rate = (t.seen - first) / (time.time() - start)
            line = f"{t.seen / 1000:8.1f} kimg  lod {lod:4.2f}  D {d_loss:.3f}  G {g_loss:.3f}  {rate:5.1f} images/s"
            print(line, end="\n" if t.step % 500 == 0 else "\r", flush=True)
        if t.step % 250 == 0:
            save(checkpoint, lambda path: torch.save(t.state(), path))
            sample_sheet(Preview(t.average, lod), lod, a.run / "samples.png")
        if t.step % 1250 == 0:
            save_file(t.averaged(), a.run / f"average-{t.seen // 1000:05d}.safetensors")
            fd = distance(t.average) if lod == 0 else float("nan")
            with open(a.run / "log.csv", "a", newline="") as f:
                csv.writer(f).writerow([t.seen, f"{lod:.3f}", f"{d_loss:.4f}", f"{g_loss:.4f}", f"{fd:.3f}"])
    save(checkpoint, lambda path: torch.save(t.state(), path))


if __name__ == "__main__":
    main()
