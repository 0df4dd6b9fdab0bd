"""Train the progressive GAN of the embedded world on rendered churches.

    python tools/train_pggan.py --run runs/pggan                    # from scratch, all stages
    python tools/train_pggan.py --run runs/pggan --minutes 60       # goes on where it stopped
    python tools/train_pggan.py --run runs/pggan --curve            # FD of every snapshot
    python tools/train_pggan.py --run runs/pggan --freeze data/churches

The run folder holds checkpoint.pt (all that is needed to go on), snapshots of the averaged generator,
sample sheets and log.csv (images, losses, FD). Stop it at any time with Ctrl-C.
Recipe: Karras et al. 2018 (equalised learning rate, pixel normalisation, minibatch deviation, fade-in,
averaged generator) with the non-saturating loss and R1 of Mescheder et al. 2018, applied every 16 steps.
"""

import argparse
import copy
import csv
import os
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from helpers import churches, features, metrics, pggan

REAL_IDS = range(1_000_000, 1_050_000)  # never used for anything but this training
LAZY = 16  # R1 every so many steps
ROOT = Path(__file__).parents[1]


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


def real_images(n):
    ids = REAL_IDS[:n]
    return churches.render(ids, workers=os.cpu_count() or 1)[0]


def real_batch(pool, size, n, fade):
    x = pool[torch.randint(len(pool), (n,))]
    flip = torch.rand(n) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(-1), x).float() / 127.5 - 1
    x = F.avg_pool2d(x, x.shape[-1] // size) if size < x.shape[-1] else x
    if fade:
        x = torch.lerp(x, pggan.upsample(F.avg_pool2d(x, 2)), fade)
    return x.contiguous(memory_format=torch.channels_last)


class Training:
    """Everything a step changes, so that one file can save and restore it."""

    def __init__(self, a):
        self.g = pggan.Generator(map(int, a.generator.split(",")), a.latent)
        self.d = pggan.Discriminator(map(int, a.discriminator.split(",")))
        self.average = copy.deepcopy(self.g)
        for module in self.networks.values():
            module.to(memory_format=torch.channels_last)
        if a.init:
            for name, module in self.networks.items():
                module.load_state_dict(load_file(a.init / f"{name}.safetensors"))
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


def lod_at(seen, kimg, fade):
    """Level of detail after `seen` images: 0 is full resolution; None when all stages are done."""
    for stage, thousands in enumerate(kimg):
        if seen < thousands * 1000:
            length = min(fade, thousands / 2) * 1000
            return len(kimg) - 1 - stage + (max(0.0, 1 - seen / length) if stage and length else 0.0)
        seen -= thousands * 1000
    return None


def train_step(t, real, lod, a):
    """One discriminator and one generator step; returns the two losses."""
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=not a.float32)
    n = len(real)
    with autocast:
        fake = t.g(torch.randn(n, a.latent), lod)
    lazy = t.step % LAZY == 0
    if lazy:
        real.requires_grad_(True)
    with autocast:
        d_real, d_fake = t.d(real, lod).float(), t.d(fake.detach().float(), lod).float()
    d_loss = loss = F.softplus(-d_real).mean() + F.softplus(d_fake).mean()
    if lazy:
        (grad,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
        gamma = 0.05 * max(1, real.shape[-1] / 8) ** 2
        loss = loss + LAZY * gamma * grad.square().sum(dim=(1, 2, 3)).mean()
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


@torch.no_grad()
def sample_sheet(generator, lod, path, rows=6, columns=10):
    z = torch.randn(rows * columns, generator.latent, generator=torch.Generator().manual_seed(7))
    x = generator(z) if lod is None else generator(z, lod)  # None: a generator that does not grow
    x = ((x.clamp(-1, 1) + 1) * 127.5).round().byte()
    size = x.shape[-1]
    x = x.view(rows, columns, 3, size, size).permute(0, 3, 1, 4, 2).reshape(rows * size, columns * size, 3)
    Image.fromarray(x.numpy()).resize((columns * 128, rows * 128), Image.NEAREST).save(path)


class Distance:
    """FD of 2,000 averaged generations to 2,000 renders on the evaluation network, once that is trained."""

    def __init__(self, pool):
        self.network = features.load(ROOT / "data/churches/evaluation.safetensors")
        self.real = self.network.pooled(pool[:2000].float() / 127.5 - 1)

    @torch.no_grad()
    def __call__(self, generator):
        z = torch.randn(2000, generator.latent, generator=torch.Generator().manual_seed(11))
        fake = torch.cat([self.network.pooled(generator(part).clamp(-1, 1)) for part in z.split(100)])
        return metrics.frechet_distance(fake, self.real)


def save(path, write):
    """Write through a temporary file, so that a kill leaves the old file whole."""
    part = path.with_suffix(".part")
    write(part)
    os.replace(part, path)


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
        for name, module in (("generator", t.average), ("discriminator", t.d)):
            weights = {k: v.contiguous() for k, v in module.state_dict().items()}
            save_file(weights, a.freeze / f"{name}.safetensors", metadata={"images": str(t.seen)})
        return
    if a.curve:
        distance = Distance(real_images(2000))
        for path in sorted(a.run.glob("average-*.safetensors")):
            t.average.load_state_dict(load_file(path))
            print(f"{path.stem.split('-')[1].lstrip('0'):>6s} kimg  FD {distance(t.average):.3f}", flush=True)
        return
    kimg = [float(k) for k in a.kimg.split(",")]
    pool = real_images(len(REAL_IDS))
    try:
        distance = Distance(pool)
    except FileNotFoundError:  # not trained yet: the log then has no FD
        distance = None
    start, first = time.time(), t.seen
    while (lod := lod_at(t.seen, kimg, a.fade)) is not None and time.time() - start < 60 * a.minutes:
        size = t.g.resolution // 2 ** int(lod)
        d_loss, g_loss = train_step(t, real_batch(pool, size, a.batch, lod - int(lod)), lod, a)
        if t.step % 50 == 0:
            rate = (t.seen - first) / (time.time() - start)
            line = f"{t.seen / 1000:8.1f} kimg  lod {lod:4.2f}  D {d_loss:.3f}  G {g_loss:.3f}  {rate:5.1f} images/s"
            print(line, end="\n" if t.step % 500 == 0 else "\r", flush=True)
        if t.step % 500 == 0:
            save(checkpoint, lambda path: torch.save(t.state(), path))
            sample_sheet(t.average, lod, a.run / "samples.png")
        if t.step % 1250 == 0:
            weights = {k: v.contiguous() for k, v in t.average.state_dict().items()}
            save_file(weights, a.run / f"average-{t.seen // 1000:05d}.safetensors")
            fd = distance(t.average) if distance and lod == 0 else float("nan")
            with open(a.run / "log.csv", "a", newline="") as f:
                csv.writer(f).writerow([t.seen, f"{lod:.3f}", f"{d_loss:.4f}", f"{g_loss:.4f}", f"{fd:.3f}"])
    save(checkpoint, lambda path: torch.save(t.state(), path))


if __name__ == "__main__":
    main()
