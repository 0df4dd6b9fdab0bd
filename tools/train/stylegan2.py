"""Train a small StyleGAN2 on rendered churches.

    python -m tools.train.stylegan2 --run runs/stylegan2                    # from scratch, all stages
    python -m tools.train.stylegan2 --run runs/stylegan2 --minutes 60       # goes on where it stopped
    python -m tools.train.stylegan2 --run runs/stylegan2 --curve            # FD of every snapshot
    python -m tools.train.stylegan2 --run runs/stylegan2 --freeze FOLDER    # float32 safetensors

The run folder holds checkpoint.pt (all that is needed to go on), snapshots of the averaged generator,
sample sheets, the renders and log.csv (images, level, losses, FD). Stop it at any time; at most 250 steps are lost.
Recipe: Karras et al. 2020 (non-saturating loss, R1 every 16 steps, averaged generator), with two changes. The noise is
fixed in training too, so that what was trained is what is drawn later. And the networks grow from 16 px: each
resolution puts out an image anyway, and small images are cheap. A new resolution's colours start at zero, so the
generator grows without a jump; the discriminator fades its new resolution in.
"""

import argparse
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from helpers.networks import stylegan2, stylegan2_layers
from tools.train import loop as training
from tools.train.features import scenes
from tools.train.loop import REAL_IDS, Distance, lod_at, real_batch, sample_sheet, save


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
        self.rgb = nn.ModuleDict({str(i): stylegan2_layers.Plain(3, discriminator.channels[i], 1) for i in smaller})

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


class Training(training.Training):
    """A training whose generator grows without a jump and whose mean style is measured."""

    def __init__(self, a):
        stages = len(a.kimg.split(","))
        generator = stylegan2.Generator(map(int, a.generator.split(",")), a.latent, a.style, a.mapping)
        for index in range(len(generator.channels) + 1 - stages, len(generator.channels)):
            nn.init.zeros_(generator.block(index).torgb.weight)
        discriminator = Growing(stylegan2.Discriminator(map(int, a.discriminator.split(","))), stages)
        super().__init__(generator, discriminator, (a.lr, a.lr))

    @torch.no_grad()
    def averaged(self):
        """The averaged generator's weights, with its mean style measured: {key: tensor}."""
        z = torch.randn(10_000, self.average.latent, generator=torch.Generator().manual_seed(5))
        self.average.mapping.w_avg.copy_(self.average.mapping(z).mean(0))
        return training.contiguous(self.average)


def train_step(t, real, lod, a):
    """One discriminator and one generator step; returns the two losses."""
    gamma = a.gamma * (real.shape[-1] / t.g.resolution) ** 2 / 2
    blocks = len(t.g.channels) - int(lod)
    return training.growing_step(t, real, lod, lambda z: t.g.draw(t.g.mapping(z), blocks), gamma, a)


def main():
    a = arguments()
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    t = Training(a)
    checkpoint = training.started(t, a.run)
    if a.freeze:
        return training.freeze(a.freeze, t.averaged(), training.contiguous(t.d.whole), t.seen)
    if a.curve:
        return training.curve(t, a.run)
    kimg = [float(k) for k in a.kimg.split(",")]
    pool = scenes(REAL_IDS, a.run, os.cpu_count() or 1)[0]
    distance, clock = Distance(pool), training.Clock(t)
    while (lod := lod_at(t.seen, kimg, a.fade)) is not None and clock.minutes < a.minutes:
        size = t.g.resolution // 2 ** int(lod)
        losses = train_step(t, real_batch(pool, size, a.batch), lod, a)
        if t.step % 50 == 0:
            clock.tell(*losses, f"lod {lod:4.2f}  ")
        if t.step % 250 == 0:
            save(checkpoint, lambda path: torch.save(t.state(), path))
            sample_sheet(Preview(t.average, lod), lod, a.run / "samples.png")
        if t.step % 1250 == 0:
            save_file(t.averaged(), a.run / f"average-{t.seen // 1000:05d}.safetensors")
            fd = distance(t.average) if lod == 0 else float("nan")
            training.log(a.run, t.seen, f"{lod:.3f}", *(f"{loss:.4f}" for loss in losses), f"{fd:.3f}")
    save(checkpoint, lambda path: torch.save(t.state(), path))


if __name__ == "__main__":
    main()
