"""What the three GAN trainers share: the state of a training, its adversarial step, its images, sheets and distance."""

import copy
import csv
import os
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from helpers import metrics
from helpers.networks import features, pggan
from helpers.worlds import churches

REAL_IDS = range(1_000_000, 1_050_000)  # never used for anything but this training
LAZY = 16  # R1 every so many steps
ROOT = Path(__file__).parents[1]


class Training:
    """Everything a step changes, so that one file can save and restore it. rates: of generator and discriminator."""

    def __init__(self, generator, discriminator, rates):
        self.g, self.d, self.average = generator, discriminator, copy.deepcopy(generator)
        for module in self.networks.values():
            module.to(memory_format=torch.channels_last)
        self.g_adam, self.d_adam = (
            torch.optim.Adam(module.parameters(), rate, (0.0, 0.99)) for module, rate in zip((self.g, self.d), rates)
        )
        self.step = self.seen = 0

    @property
    def networks(self):
        return {"generator": self.g, "discriminator": self.d, "average": self.average}

    def state(self):
        parts = {name: module.state_dict() for name, module in self.networks.items()}
        return parts | {"g_adam": self.g_adam.state_dict(), "d_adam": self.d_adam.state_dict(),
                        "step": self.step, "seen": self.seen, "rng": torch.get_rng_state()}  # fmt: skip

    def restore(self, state):
        """Go on from a state, at the learning rates given to this training."""
        for name, module in self.networks.items():
            module.load_state_dict(state[name])
        for name in ("g_adam", "d_adam"):
            adam = getattr(self, name)
            rates = [group["lr"] for group in adam.param_groups]
            adam.load_state_dict(state[name])
            for group, rate in zip(adam.param_groups, rates):
                group["lr"] = rate
        self.step, self.seen = state["step"], state["seen"]
        torch.set_rng_state(state["rng"])

    def learn_to_tell(self, loss):
        """Move the discriminator."""
        self.d_adam.zero_grad()
        loss.backward()
        self.d_adam.step()

    def learn_to_draw(self, loss_of, autocast):
        """Move the generator by the loss that a function gives, the discriminator at rest; returns the loss."""
        self.d.requires_grad_(False)
        with autocast:
            loss = loss_of()
        self.g_adam.zero_grad()
        loss.backward()
        self.g_adam.step()
        self.d.requires_grad_(True)
        return loss

    def follow(self, images, half_life):
        """Let the averaged generator follow, and count a step of so many images. half_life: in thousands of images."""
        keep = 0.5 ** (images / (1000 * half_life)) if self.seen > 20_000 else 0.98
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.g.parameters()):
                slow.lerp_(fast, 1 - keep)
        self.step += 1
        self.seen += images


def autocast(float32):
    return torch.autocast("cpu", torch.bfloat16, enabled=not float32)


def growing_step(t, real, lod, draw, gamma, a):
    """One step of both networks with lazy R1; draw: latents -> images; gamma: R1's weight. Returns the two losses."""
    n, lazy = len(real), t.step % LAZY == 0
    with autocast(a.float32):
        fake = draw(torch.randn(n, a.latent))
    if lazy:
        real.requires_grad_(True)
    with autocast(a.float32):
        d_real, d_fake = t.d(real, lod).float(), t.d(fake.detach().float(), lod).float()
    d_loss = loss = F.softplus(-d_real).mean() + F.softplus(d_fake).mean()
    if lazy:
        (grad,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
        loss = loss + LAZY * gamma * grad.square().sum(dim=(1, 2, 3)).mean()
    t.learn_to_tell(loss)
    g_loss = t.learn_to_draw(lambda: F.softplus(-t.d(fake.float(), lod).float()).mean(), autocast(a.float32))
    t.follow(n, a.half_life)
    return d_loss.item(), g_loss.item()


def lod_at(seen, kimg, fade):
    """Level of detail after `seen` images: 0 is full resolution; None when all stages are done."""
    for stage, thousands in enumerate(kimg):
        if seen < thousands * 1000:
            length = min(fade, thousands / 2) * 1000
            return len(kimg) - 1 - stage + (max(0.0, 1 - seen / length) if stage and length else 0.0)
        seen -= thousands * 1000
    return None


def real_images(n):
    return churches.render(REAL_IDS[:n], workers=os.cpu_count() or 1)[0]


def real_batch(pool, size, n, fade=0.0):
    x = pool[torch.randint(len(pool), (n,))]
    flip = torch.rand(n) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(-1), x).float() / 127.5 - 1
    x = F.avg_pool2d(x, x.shape[-1] // size) if size < x.shape[-1] else x
    if fade:
        x = torch.lerp(x, pggan.upsample(F.avg_pool2d(x, 2)), fade)
    return x.contiguous(memory_format=torch.channels_last)


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


class Clock:
    """The progress line: how far, which losses, how fast since the start."""

    def __init__(self, t):
        self.t, self.start, self.first = t, time.time(), t.seen

    @property
    def minutes(self):
        return (time.time() - self.start) / 60

    def tell(self, d_loss, g_loss, what=""):
        rate = (self.t.seen - self.first) / (60 * self.minutes)
        line = f"{self.t.seen / 1000:8.1f} kimg  {what}D {d_loss:.3f}  G {g_loss:.3f}  {rate:5.1f} images/s"
        print(line, end="\n" if self.t.step % 500 == 0 else "\r", flush=True)


def started(t, run):
    """Prepare a run folder, go on from its checkpoint if there is one, and return the checkpoint's path."""
    run.mkdir(parents=True, exist_ok=True)
    if (run / "checkpoint.pt").exists():
        t.restore(torch.load(run / "checkpoint.pt", weights_only=True))
    return run / "checkpoint.pt"


def contiguous(module):
    return {key: value.contiguous() for key, value in module.state_dict().items()}


def freeze(folder, generator, discriminator, seen):
    """Write both networks' weights {key: tensor} as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, weights in (("generator", generator), ("discriminator", discriminator)):
        save_file(weights, folder / f"{name}.safetensors", metadata={"images": str(seen)})


def curve(t, run):
    """Print the FD of every snapshot of a run."""
    distance = Distance(real_images(2000))
    for path in sorted(run.glob("average-*.safetensors")):
        t.average.load_state_dict(load_file(path))
        print(f"{path.stem.split('-')[1].lstrip('0'):>6s} kimg  FD {distance(t.average):.3f}", flush=True)


def log(run, *row):
    with open(run / "log.csv", "a", newline="") as file:
        csv.writer(file).writerow(row)


def save(path, write):
    """Write through a temporary file, so that a kill leaves the old file whole."""
    part = path.with_suffix(".part")
    write(part)
    os.replace(part, path)
