"""Fit the shipped heads, the classifier and the local detector, on labels of training ids.

    python -m tools.train.heads                        # writes data/churches/heads.safetensors
    python -m tools.train.heads churches-stylegan2     # of another embedded domain, on its labels of the same ids
    python -m tools.train.heads faces                  # two classes, since there are no real images
    python -m tools.build.manifest churches            # or the other domain's name

The churches' heads see the labels that came first (`domains.FIT`), those of the faces all of `domains.TRAIN`, with the
weight penalties that five-fold cross-validation within these ids chose (`--choose` prints it). The same few lines are
the subject of notebook 02, which asserts that it comes to the same heads.
"""

import argparse

import torch
from safetensors.torch import save_file

from helpers import checkpoints, classifier, domains, gradcam, labels, latents, metrics, store
from helpers.networks import features
from helpers.worlds import churches, faces

CHOICES = 0.03, 0.1, 0.3, 1.0, 3.0  # weight penalties of the classifier of faces
CHOSEN, LOCAL = 1.0, 0.1  # of the classifier, and of the local detector


def churches_heads(name):
    """Fit both heads on generations of `domains.FIT` and renders -> (head, detector, maps, targets)."""
    folder = store.data_root() / name
    flow = checkpoints.load_generator(folder / "generator.safetensors")
    backbone = features.load(store.fetch("churches/backbone.safetensors"))
    images, said = generations(flow, labels.read(folder / "labels.csv"), domains.FIT)
    real = churches.render(domains.REAL_TRAIN)[0].float().div(127.5).sub(1)
    maps = seen(backbone, torch.cat([images, real]))
    targets = torch.tensor(said + [classifier.REAL] * len(real))
    return classifier.fit(maps.mean(dim=(2, 3)), targets), classifier.fit_local(maps, targets), maps, targets


def faces_heads():
    """Fit both heads on generations of `domains.TRAIN` -> (head, detector, maps, targets)."""
    table = labels.read(store.data_root() / "faces" / "labels.csv")
    images, said = generations(faces.generator(), table, domains.TRAIN)
    maps, targets = seen(faces.network(*faces.BACKBONE), images), torch.tensor(said)
    head = classifier.fit(maps.mean(dim=(2, 3)), targets, CHOSEN, classes=2)
    return head, classifier.fit_local(maps, targets, LOCAL), maps, targets


def generations(flow, table, ids):
    """Draw the labelled images among ids -> (images, their class numbers)."""
    wanted, artifacts = set(ids), set(table.artifacts)
    ids = [i for i in table.ids if i in wanted]
    return flow.generate(latents.latents(ids, flow.latent)).clamp(-1, 1), [int(i in artifacts) for i in ids]


def seen(backbone, images):
    with torch.no_grad():
        return torch.cat([backbone.maps(part) for part in images.split(64)])


def choose(pooled, targets, folds=5):
    """Cross-validate the classifier's weight penalty on pooled features -> {penalty: AUC}."""
    fold = torch.arange(len(targets)) % folds
    found = {}
    for l2 in CHOICES:
        scores = torch.zeros(len(targets))
        for f in range(folds):
            head = classifier.fit(pooled[fold != f], targets[fold != f], l2, classes=2)
            scores[fold == f] = classifier.artifact_score(head, pooled[fold == f])
        found[l2] = metrics.auc(scores, targets == classifier.ARTIFACT)
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("domain", nargs="?", choices=(*domains.EMBEDDED, domains.FACES), default="churches")
    p.add_argument("--choose", action="store_true", help="print the cross-validation of the faces' classifier")
    a = p.parse_args()
    head, detector, maps, targets = faces_heads() if a.domain == domains.FACES else churches_heads(a.domain)
    if a.choose:
        print(choose(maps.mean(dim=(2, 3)), targets))
    baseline = gradcam.evidence(maps[targets == classifier.NORMAL], detector).mean(dim=0)
    tensors = {"weight": head.weight, "bias": head.bias, "baseline": baseline}
    tensors |= {"detector.weight": detector.weight, "detector.bias": detector.bias}
    save_file(tensors, store.data_root() / a.domain / "heads.safetensors")
    print(f"fitted on {targets.bincount().tolist()} normal, artifact (and real) images")


if __name__ == "__main__":
    main()
