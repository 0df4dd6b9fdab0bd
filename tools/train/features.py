"""Train the two frozen feature networks on rendered churches with defects painted in.

    python -m tools.train.features backbone --run runs/features
    python -m tools.train.features evaluation --run runs/features
    python -m tools.train.features backbone --run runs/features --freeze data/churches

backbone: the classifier's network. Tasks: find corrupted places on a 16x16 and an 8x8 grid, and segmentation.
evaluation: only ever evaluates. Other seed, other renders, other tasks: segmentation, the scene's factors, and
whether a picture is corrupted at all. No network sees a generation, so labels and figures cannot leak into either.

The run folder holds NAME.pt (all that is needed to go on), NAME.csv (validation figures) and the renders. Stop it
at any time with Ctrl-C; the same command goes on where it stopped.
"""

import argparse
import csv
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from helpers.networks import features
from helpers.worlds import churches
from tools.train import corruptions

# Never used for anything else; the generator is trained on 1,000,000 to 1,049,999.
IDS = {"backbone": range(2_000_000, 2_012_000), "evaluation": range(2_100_000, 2_112_000)}
VALIDATION_IDS = range(3_000_000, 3_000_600)
SEEDS = {"backbone": 1, "evaluation": 2}
HEADS = {"backbone": ("segment", "corrupt"), "evaluation": ("segment",)}  # kept when frozen
FACTORS = {"time": churches.TIMES, "tower": churches.TOWERS, "wall": churches.WALLS, "roof": churches.ROOFS,
           "ground": churches.GROUNDS, "trees": range(5), "path": (False, True), "hill": (False, True),
           "lit": (False, True), "snow": (False, True)}  # fmt: skip
IGNORE = -1


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("network", choices=IDS)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--width", type=int, default=24)
    p.add_argument("--images", type=int, default=56_000, help="how many to train on in all")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    p.add_argument("--workers", type=int, default=1, help="processes that render")
    p.add_argument("--float32", action="store_true", help="do without bfloat16 autocast")
    p.add_argument("--freeze", type=Path, help="write the network there as float16 safetensors and stop")
    return p.parse_args()


def scenes(ids, folder, workers):
    """Render ids once and keep them: (images uint8, labels uint8)."""
    path = folder / f"renders-{ids.start}-{ids.stop}.safetensors"
    if not path.exists():
        images, labels = churches.render(ids, workers)
        save_file({"images": images, "labels": labels}, path)
    stored = load_file(path)
    return stored["images"], stored["labels"]


def factor_table(ids):
    """Return each scene's factors as class numbers (N, len(FACTORS)); what cannot be seen is IGNORE."""
    rows = [[values.index(getattr(f, name)) for name, values in FACTORS.items()] for f in churches.factors(ids)]
    table = torch.tensor(rows)
    names = list(FACTORS)
    table[table[:, names.index("snow")] == 1, names.index("ground")] = IGNORE
    return table


def make_batch(rng, images, labels, picks):
    """Corrupt every second pick, flip half, degrade all: (x, segmentation, changed), changed (N, 64, 64) bool."""
    pictures, kept, changes = [], [], []
    for i, pick in enumerate(picks):
        scene = corruptions.Scene(images[pick].numpy().astype(np.float32) / 127.5 - 1, labels[pick].numpy())
        picture, changed = scene.picture, np.zeros((churches.SIZE, churches.SIZE), bool)
        if i % 2:
            other = rng.integers(len(images))
            donor = corruptions.Scene(images[other].numpy().astype(np.float32) / 127.5 - 1, labels[other].numpy())
            picture, changed = corruptions.corrupt(rng, scene, donor)
        step = -1 if rng.random() < 0.5 else 1
        pictures.append(picture[:, :, ::step])
        kept.append(scene.label[:, ::step])
        changes.append(changed[:, ::step])
    x, segmentation, changed = (torch.from_numpy(np.stack(v)) for v in (pictures, kept, changes))
    return corruptions.degrade(rng, x), segmentation.long().masked_fill(changed, IGNORE), changed


def cells(changed, size):
    """Say of each cell whether it is corrupted: 1 from 1/6 of its pixels on, 0 if none, IGNORE between."""
    share = F.avg_pool2d(changed[:, None].float(), churches.SIZE // size)[:, 0]
    target = (share > 1 / 6).float()
    return target.masked_fill((share > 0) & (share <= 1 / 6), IGNORE)


class Training:
    """Everything a step changes, so that one file can save and restore it."""

    def __init__(self, a):
        self.seed, self.seen = SEEDS[a.network], 0
        torch.manual_seed(self.seed)
        self.rng = np.random.default_rng(self.seed)
        dense = a.network == "backbone"
        self.network = features.ResNet18(a.width, "small", 0, len(churches.CLASSES), dense)
        self.tasks = nn.ModuleDict()  # heads that only train; the frozen file leaves them out
        if dense:
            self.tasks.update({"3": nn.Conv2d(4 * a.width, 1, 1), "4": nn.Conv2d(8 * a.width, 1, 1)})
        else:
            self.tasks.update({name: nn.Linear(8 * a.width, len(values)) for name, values in FACTORS.items()})
        self.tasks["whole"] = nn.Linear(8 * a.width, 1)
        self.network.to(memory_format=torch.channels_last)
        self.adam = torch.optim.AdamW([*self.network.parameters(), *self.tasks.parameters()], a.lr, weight_decay=0.01)

    def state(self):
        parts = {name: getattr(self, name).state_dict() for name in ("network", "tasks", "adam")}
        return parts | {"seen": self.seen}

    def restore(self, state):
        for name in ("network", "tasks", "adam"):
            getattr(self, name).load_state_dict(state[name])
        self.seen = state["seen"]
        self.rng = np.random.default_rng([self.seed, self.seen])  # not the draws it began with


def predict(t, x):
    """Return every task's output for prepared images: {name: tensor}."""
    maps = t.network.all_maps(x.contiguous(memory_format=torch.channels_last))
    pooled = maps[4].mean(dim=(2, 3))
    out = {name: head(maps) for name, head in t.network.heads.items()}
    return out | {name: task(maps[int(name)] if name in "34" else pooled) for name, task in t.tasks.items()}


def binary(logits, target, weight):
    """Binary cross-entropy of the cells that are not IGNOREd, positives counting `weight` times."""
    loss = F.binary_cross_entropy_with_logits(
        logits, target.clamp(0, 1), reduction="none", pos_weight=torch.tensor(weight)
    )
    return loss[target != IGNORE].mean()


def losses(out, segmentation, changed, table):
    """Return the weighted loss of each task."""
    out = {name: o.float() for name, o in out.items()}
    whole = (changed.sum((1, 2)) > 8).float()
    loss = {"segment": 0.5 * F.cross_entropy(out["segment"], segmentation, ignore_index=IGNORE)}
    loss["whole"] = (0.2 if "corrupt" in out else 0.5) * binary(out["whole"][:, 0], whole, 1.0)
    for name, size, share in (("corrupt", 16, 1.0), ("3", 16, 0.5), ("4", 8, 1.0)):
        if name in out:
            loss[name] = share * binary(out[name][:, 0], cells(changed, size), 2.0)
    for i, name in enumerate(FACTORS):
        if name in out:
            loss[name] = 0.2 * F.cross_entropy(out[name], table[:, i], ignore_index=IGNORE)
    return loss


def auc(scores, positive):
    """Return the area under the ROC curve of scores (N,) for positive (N,) bool, ties counted half."""
    order, _ = torch.sort(scores[~positive])
    above = torch.searchsorted(order, scores[positive]) + torch.searchsorted(order, scores[positive], right=True)
    return (above.double().mean() / 2 / len(order)).item()


@torch.no_grad()
def validate(t, images, labels, table, a):
    """Return figures on held-out renders, always corrupted in the same way: {name: value}."""
    t.network.eval(), t.tasks.eval()
    rng, outs, segmentations, changes = np.random.default_rng(99), [], [], []
    for part in torch.arange(len(images)).split(50):
        x, segmentation, changed = make_batch(rng, images, labels, part.tolist())
        with torch.autocast("cpu", torch.bfloat16, enabled=not a.float32):
            outs.append({name: o.float() for name, o in predict(t, x).items()})
        segmentations.append(segmentation)
        changes.append(changed)
    t.network.train(), t.tasks.train()
    out = {name: torch.cat([o[name] for o in outs]) for name in outs[0]}
    segmentation, changed = torch.cat(segmentations), torch.cat(changes)
    seen = segmentation != IGNORE
    figures = {"segmentation": (out["segment"].argmax(1) == segmentation)[seen].float().mean().item()}
    intact = ~changed.any(2).any(1)
    hit = changed.sum((1, 2)) > 8
    figures["whole auc"] = auc(out["whole"][intact | hit, 0], hit[intact | hit])
    for name, size in (("corrupt", 16), ("4", 8)):
        if name not in out:
            continue
        target, score = cells(changed, size), out[name][:, 0]
        figures[f"cell auc {size}"] = auc(score[target != IGNORE], target[target != IGNORE] == 1)
        for rate in (0.01, 0.05):
            level = score[intact].flatten().quantile(1 - rate)
            figures[f"recall at {rate} {size}"] = (score[target == 1] > level).float().mean().item()
    for i, name in enumerate(FACTORS):
        if name in out:
            known = table[:, i] != IGNORE
            figures[name] = (out[name].argmax(1) == table[:, i])[known].float().mean().item()
    return figures


def train_step(t, batch, a):
    """Take one optimiser step on (x, segmentation, changed, table); returns the loss."""
    x, segmentation, changed, table = batch
    warm = min(1.0, t.seen / (100 * a.batch) + 0.05)
    for group in t.adam.param_groups:
        group["lr"] = a.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, t.seen / a.images)))
    with torch.autocast("cpu", torch.bfloat16, enabled=not a.float32):
        out = predict(t, x)
    loss = sum(losses(out, segmentation, changed, table).values())
    t.adam.zero_grad()
    loss.backward()
    t.adam.step()
    t.seen += len(x)
    return loss.item()


def freeze(t, a):
    """Write backbone and kept heads as float16: 1.6 million numbers need no more (checked by the tests)."""
    weights = {
        name: (w.half() if w.is_floating_point() else w).contiguous()
        for name, w in t.network.state_dict().items()
        if not name.startswith("heads.") or name.split(".")[1] in HEADS[a.network]
    }
    ids = IDS[a.network]
    notes = {"images": str(t.seen), "seed": str(SEEDS[a.network]), "renders": f"{ids.start} to {ids.stop - 1}"}
    a.freeze.mkdir(parents=True, exist_ok=True)
    save_file(weights, a.freeze / f"{a.network}.safetensors", metadata=notes)


def save(t, path):
    part = path.with_suffix(".part")
    torch.save(t.state(), part)
    os.replace(part, path)


def log(path, seen, figures):
    new = not path.exists()
    with open(path, "a", newline="") as f:
        writer = csv.writer(f)
        if new:
            writer.writerow(["images", *figures])
        writer.writerow([seen, *(f"{v:.4f}" for v in figures.values())])
    print(f"\n{seen} images: " + "  ".join(f"{k} {v:.3f}" for k, v in figures.items()), flush=True)


def main():
    a = arguments()
    a.run.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    t = Training(a)
    checkpoint = a.run / f"{a.network}.pt"
    if checkpoint.exists():
        t.restore(torch.load(checkpoint, weights_only=True))
    if a.freeze:
        return freeze(t, a)
    ids = IDS[a.network]
    images, labels = scenes(ids, a.run, a.workers)
    table = factor_table(ids)
    held_out = *scenes(VALIDATION_IDS, a.run, a.workers), factor_table(VALIDATION_IDS)
    start, first, step = time.time(), t.seen, 0
    while t.seen < a.images and time.time() - start < 60 * a.minutes:
        picks = t.rng.integers(len(images), size=a.batch)
        loss = train_step(t, (*make_batch(t.rng, images, labels, picks), table[picks]), a)
        step += 1
        if step % 20 == 0:
            rate = (t.seen - first) / (time.time() - start)
            print(f"{t.seen:7d} images  loss {loss:.3f}  {rate:5.1f} images/s", end="\r", flush=True)
        if step % 200 == 0:
            save(t, checkpoint)
        if step % 500 == 0:
            log(a.run / f"{a.network}.csv", t.seen, validate(t, *held_out, a))
    save(t, checkpoint)
    log(a.run / f"{a.network}.csv", t.seen, validate(t, *held_out, a))


if __name__ == "__main__":
    main()
