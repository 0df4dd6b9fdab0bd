"""What is studied: a generator with its discriminator, feature networks, real images and labelled ids."""

from dataclasses import dataclass

import torch
from safetensors.torch import load_file

from helpers import checkpoints, churches, classifier, env, features, gradcam, latents, store
from helpers import labels as label_table
from helpers.flow import Flow

# Ids of generations. The labelled ones are cut once and for all: what is fitted or ranked uses TRAIN, what is chosen
# among settings TUNE, what is reported as held out TEST. POOL is never labelled: top images, thresholds, surveys.
TRAIN, TUNE = (*range(900), *range(1400, 2500)), tuple(range(2500, 2800))
TEST, POOL = (*range(900, 1400), *range(2800, 3500)), range(10_000, 30_000)
# Ids of renders, disjoint from those the networks were trained on.
REAL_TRAIN, REAL_TEST, REAL_REFERENCE = range(0, 1000), range(1000, 2000), range(10_000, 20_000)


@dataclass(frozen=True)
class Domain:
    """Everything a notebook needs to know about its subject.

    flow: the generator. discriminator: images (B, 3, R, R) -> D-values (B,). backbone: the classifier's frozen
    features. head: the linear layer of three classes on them. detector, baseline: the local head that draws the
    masks, and the mean evidence (h, w) it gives to normal images (see `classifier.fit_local`, `gradcam`).
    evaluation: another network, which only ever measures. render: ids -> uint8 images and label maps;
    classes: the names of their labels. labels: the table of labelled generations.
    """

    name: str
    flow: Flow
    discriminator: torch.nn.Module
    backbone: torch.nn.Module
    head: classifier.Head
    detector: classifier.Head
    baseline: torch.Tensor
    evaluation: torch.nn.Module
    render: object
    classes: tuple
    labels: label_table.Labels

    def latents(self, ids):
        """Return the latents of image ids: (N, D)."""
        return latents.latents(ids, self.flow.latent)

    def images(self, ids, edits=None):
        """Generate images by id, clamped to [-1, 1]: (N, 3, R, R)."""
        return self.flow.generate(self.latents(ids), edits).clamp(-1, 1)

    def real(self, ids):
        """Return real images by id: float (N, 3, R, R) in [-1, 1]."""
        return self.render(ids)[0].float().div(127.5).sub(1)

    def split(self, ids):
        """Return (artifact ids, normal ids) among the labelled ids given."""
        wanted = set(ids)
        return tuple([i for i in found if i in wanted] for found in (self.labels.artifacts, self.labels.normals))

    def maps(self, images):
        """Compute the featuremaps that the classifier's head reads, without gradients: (N, D, h, w)."""
        with torch.no_grad():
            device = next(self.backbone.parameters()).device
            parts = [self.backbone.maps(part.to(device)).cpu() for part in images.split(features.BATCH)]
        return torch.cat(parts)

    def classify(self, images):
        """Name each image's class by number, 0 normal, 1 artifact, 2 real: (N,)."""
        return classifier.predict(self.head, self.maps(images).mean(dim=(2, 3))).argmax(dim=1)

    def cams(self, images):
        """Map where each image looks defective, by the local head: (N, H, W) in [0, 1]."""
        return gradcam.gradcam(self.maps(images), self.detector, baseline=self.baseline, size=images.shape[-1])

    def masks(self, ids, level=0.5):
        """Return the defect masks L_a of generations by id: bool (N, R, R)."""
        side = self.flow.resolution(self.flow.n_layers)
        images = (self.images(part) for part in latents.batches(list(ids), 256))
        masks = (gradcam.binary_mask(self.cams(part), level) for part in images)
        return torch.cat([torch.zeros(0, side, side, dtype=torch.bool), *masks])

    def d_values(self, images, companions=None):
        """Score images by the discriminator's raw output, each independently of its batch: (N,).

        A PGGAN discriminator compares the images of a batch (minibatch deviation), so its output depends on
        the company. Here an image stands in a group of its own copies (deviation 0); or, with
        companions (3, 3, R, R), in a group with these fixed images. Raises ValueError for companions of
        another shape. Explained in notebook 01.
        """
        if companions is not None and (len(companions) == 0 or companions.shape[1:] != images.shape[1:]):
            shape = ", ".join(map(str, images.shape[1:]))
            raise ValueError(f"companions must be images (K, {shape}), got {tuple(companions.shape)}")
        device = next(self.discriminator.parameters()).device
        out = [torch.zeros(0)]
        with torch.no_grad():
            for part in latents.batches(images, 64):
                part = part.to(device)
                # Groups are strided: an image and its companions lie len(part) apart.
                group = [part, *(c.to(device).expand_as(part) for c in (() if companions is None else companions))]
                out.append(self.discriminator(torch.cat(group), group=len(group))[: len(part)].cpu())
        return torch.cat(out)


def load(name="churches"):
    """Load a domain: the first line of every notebook.

    Raises ValueError for an unknown name; weight files are checked against their manifest first.
    """
    if name != "churches":
        raise ValueError(f"unknown domain {name!r}: the embedded one is 'churches'")
    device = env.device()
    flow = checkpoints.load_generator(store.fetch("churches/generator.safetensors"))
    flow.network.to(device)
    heads = load_file(store.fetch("churches/heads.safetensors"))
    return Domain(
        name=name,
        flow=flow,
        discriminator=checkpoints.load_discriminator(store.fetch("churches/discriminator.safetensors")).to(device),
        backbone=features.load(store.fetch("churches/backbone.safetensors")).to(device),
        head=classifier.Head(heads["weight"], heads["bias"]),
        detector=classifier.Head(heads["detector.weight"], heads["detector.bias"]),
        baseline=heads["baseline"],
        evaluation=features.load(store.fetch("churches/evaluation.safetensors")).to(device),
        render=churches.render,
        classes=churches.CLASSES,
        labels=label_table.read(store.fetch("churches/labels.csv")),
    )
