"""Train the progressive GAN of the embedded world on rendered churches.

    python -m tools.train.pggan --run runs/pggan                    # from scratch, all stages
    python -m tools.train.pggan --run runs/pggan --minutes 60       # goes on where it stopped
    python -m tools.train.pggan --run runs/pggan --curve            # FD of every snapshot
    python -m tools.train.pggan --run runs/pggan --freeze data/churches

The run folder holds checkpoint.pt (all that is needed to go on), snapshots of the averaged generator,
sample sheets and log.csv (images, losses, FD). Stop it at any time with Ctrl-C.
Recipe: Karras et al. 2018 (equalised learning rate, pixel normalisation, minibatch deviation, fade-in,
averaged generator) with the non-saturating loss and R1 of Mescheder et al. 2018, applied every 16 steps.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from helpers.networks import pggan
from tools.train import loop as training
from tools.train.loop import REAL_IDS, Distance, Training, lod_at, real_batch, real_images, sample_sheet, save


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--generator", default="128,128,128,32,16", help="units per resolution, 4x4 first")
    p.add_argument("--discriminator", default="128,128,64,32,16")
    p.add_argument("--latent", type=int, default=128)
    p.add_argument("--kimg", default="60,100,150,300,900", help="thousands of images per stage")
    p.add_argument("--fade", type=float, default=70, help="thousands of images to fade a stage in, at most")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=1.5e-3)
    p.add_argument("--half-life", type=float, default=10, help="of the averaged generator, in thousands of images")
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    p.add_argument("--float32", action="store_true", help="do without bfloat16 autocast")
    p.add_argument("--init", type=Path, help="folder with generator/discriminator/average.safetensors to start from")
    p.add_argument("--curve", action="store_true", help="print the FD of the snapshots and stop")
    p.add_argument("--freeze", type=Path, help="write the averaged generator and the discriminator there and stop")
    return p.parse_args()


def train_step(t, real, lod, a):
    """One discriminator and one generator step; returns the two losses."""
    gamma = 0.05 * max(1, real.shape[-1] / 8) ** 2
    return training.growing_step(t, real, lod, lambda z: t.g(z, lod), gamma, a)


def main():
    a = arguments()
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    generator = pggan.Generator(map(int, a.generator.split(",")), a.latent)
    t = Training(generator, pggan.Discriminator(map(int, a.discriminator.split(","))), (a.lr, a.lr))
    if a.init:
        for name, module in t.networks.items():
            module.load_state_dict(load_file(a.init / f"{name}.safetensors"))
    checkpoint = training.started(t, a.run)
    if a.freeze:
        return training.freeze(a.freeze, training.contiguous(t.average), training.contiguous(t.d), t.seen)
    if a.curve:
        return training.curve(t, a.run)
    kimg = [float(k) for k in a.kimg.split(",")]
    pool = real_images(len(REAL_IDS))
    try:
        distance = Distance(pool)
    except FileNotFoundError:  # not trained yet: the log then has no FD
        distance = None
    clock = training.Clock(t)
    while (lod := lod_at(t.seen, kimg, a.fade)) is not None and clock.minutes < a.minutes:
        size = t.g.resolution // 2 ** int(lod)
        losses = train_step(t, real_batch(pool, size, a.batch, lod - int(lod)), lod, a)
        if t.step % 50 == 0:
            clock.tell(*losses, f"lod {lod:4.2f}  ")
        if t.step % 500 == 0:
            save(checkpoint, lambda path: torch.save(t.state(), path))
            sample_sheet(t.average, lod, a.run / "samples.png")
        if t.step % 1250 == 0:
            save_file(training.contiguous(t.average), a.run / f"average-{t.seen // 1000:05d}.safetensors")
            fd = distance(t.average) if distance and lod == 0 else float("nan")
            training.log(a.run, t.seen, f"{lod:.3f}", *(f"{loss:.4f}" for loss in losses), f"{fd:.3f}")
    save(checkpoint, lambda path: torch.save(t.state(), path))


if __name__ == "__main__":
    main()
