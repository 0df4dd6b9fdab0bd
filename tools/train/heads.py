"""Fit the shipped heads, the classifier of three classes and the local detector, on the labels that came first.

    python -m tools.train.heads                        # writes data/churches/heads.safetensors
    python -m tools.train.heads churches-stylegan2     # of another embedded domain, on its labels of the same ids
    python -m tools.build.manifest churches                # or the other domain's name

The same few lines are the subject of notebook 02, which asserts that it comes to the same heads.
"""

import argparse

import torch
from safetensors.torch import save_file

from helpers import checkpoints, classifier, domains, gradcam, labels, latents, store
from helpers.networks import features
from helpers.worlds import churches


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("domain", nargs="?", choices=domains.EMBEDDED, default="churches")
    folder = store.data_root() / p.parse_args().domain
    flow = checkpoints.load_generator(folder / "generator.safetensors")
    backbone = features.load(store.fetch("churches/backbone.safetensors"))
    table = labels.read(folder / "labels.csv")
    fit = set(domains.FIT)
    ids = [i for i in table.ids if i in fit]
    artifacts = set(table.artifacts)
    images = flow.generate(latents.latents(ids, flow.latent)).clamp(-1, 1)
    real = churches.render(domains.REAL_TRAIN)[0].float().div(127.5).sub(1)
    with torch.no_grad():
        maps = torch.cat([backbone.maps(part) for part in torch.cat([images, real]).split(64)])
    targets = torch.tensor([int(i in artifacts) for i in ids] + [classifier.REAL] * len(real))
    head, detector = classifier.fit(maps.mean(dim=(2, 3)), targets), classifier.fit_local(maps, targets)
    baseline = gradcam.evidence(maps[targets == classifier.NORMAL], detector).mean(dim=0)
    tensors = {"weight": head.weight, "bias": head.bias, "baseline": baseline}
    tensors |= {"detector.weight": detector.weight, "detector.bias": detector.bias}
    save_file(tensors, folder / "heads.safetensors")
    print(f"fitted on {len(ids)} generations and {len(real)} renders")


if __name__ == "__main__":
    main()
