"""What is studied: a generator with its discriminator, feature networks, real images and labelled ids."""

from dataclasses import dataclass, replace

import torch
from safetensors.torch import load_file

from helpers import checkpoints, classifier, env, gradcam, latents, store
from helpers import labels as label_table
from helpers.flow import Flow
from helpers.networks import features
from helpers.networks.sized import Sized
from helpers.worlds import churches, faces, folders, own_files
from helpers.worlds.absent import Absent
from helpers.worlds.splits import FIT, POOL, REAL_REFERENCE, REAL_TEST, REAL_TRAIN, REFERENCE, TEST, TRAIN, TUNE  # noqa: F401

# The embedded domains: three generators of one world. They share its renders and the first one's feature networks.
EMBEDDED = ("churches", "churches-stylegan2", "churches-unetgan")
FACES = "faces"  # a generator that others published: its weights come with packages of the index


@dataclass(frozen=True)
class Domain:
    """Everything a notebook needs to know about its subject.

    flow: the generator. discriminator: images (B, 3, R, R) -> D-values (B,). backbone: the classifier's frozen
    features. head: the linear layer of three classes on them. detector, baseline: the local head that draws the
    masks, and the mean evidence (h, w) it gives to normal images (see `classifier.fit_local`, `gradcam`).
    evaluation: another network, which only ever measures. render: ids -> uint8 images and label maps;
    classes: the names of their labels. labels: the table of labelled generations.
    A part that was not given to `load` is a `absent.Absent`: using it raises a ValueError that says what to give.
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

    def has(self, part):
        """Tell whether the domain has a part, such as "discriminator", "render" (real images) or "labels"."""
        return not isinstance(getattr(self, part), Absent)

    def reference(self, count=None):
        """Return the images that distances are measured to, by `reference_ids`: `reference_name` says what they are."""
        return (self.real if self.has("render") else self.images)(self.reference_ids(count))

    def reference_ids(self, count=None):
        """Return the ids of `count` real images at most, or without real ones of labelled normal generations."""
        return (REAL_REFERENCE if self.has("render") else self.split(REFERENCE)[1])[:count]

    @property
    def reference_name(self):
        """What `reference` gives, in words."""
        return "real images" if self.has("render") else "labelled normal generations"

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

    def artifact_scores(self, images):
        """Tell how much more artifact than normal images look to the classifier, below 0 for normal: (N,)."""
        return classifier.artifact_score(self.head, self.maps(images).mean(dim=(2, 3)))

    def cams(self, images):
        """Map where each image looks defective, by the local head: (N, H, W) in [0, 1]."""
        return gradcam.gradcam(self.maps(images), self.detector, baseline=self.baseline, size=images.shape[-1])

    def masks(self, ids, level=0.5):
        """Return the defect masks L_a of generations by id: bool (N, R, R)."""
        side = self.flow.resolution(self.flow.n_layers)
        images = (self.images(part) for part in latents.batches(list(ids), _chunk(256, side)))
        masks = (gradcam.binary_mask(self.cams(part), level) for part in images)
        return torch.cat([torch.zeros(0, side, side, dtype=torch.bool), *masks])

    def d_values(self, images, companions=None):
        """Score images by the discriminator's raw output, each independently of its batch: (N,).

        A PGGAN discriminator compares the images of a batch (minibatch deviation), so its output depends on
        the company. Here an image stands in a group of its own copies (deviation 0); or, with
        companions (3, 3, R, R), in a group with these fixed images. A U-net GAN's compares nothing.
        Raises ValueError for companions of another shape. Explained in notebook 01.
        """
        if companions is not None and (len(companions) == 0 or companions.shape[1:] != images.shape[1:]):
            shape = ", ".join(map(str, images.shape[1:]))
            raise ValueError(f"companions must be images (K, {shape}), got {tuple(companions.shape)}")
        device = next(self.discriminator.parameters()).device
        out = [torch.zeros(0)]
        with torch.no_grad():
            for part in latents.batches(images, _chunk(64, images.shape[-1])):
                part = part.to(device)
                group = [part, *(c.to(device).expand_as(part) for c in (() if companions is None else companions))]
                grouped = {"group": len(group)} if hasattr(self.discriminator, "group") else {}
                # Groups are strided: an image and its companions lie len(part) apart; or they follow each other.
                axis = 1 if getattr(self.discriminator, "consecutive", False) else 0
                scores = self.discriminator(torch.stack(group, dim=axis).flatten(0, 1), **grouped)
                out.append(scores.unflatten(0, (-1, len(group)) if axis else (len(group), -1)).select(axis, 0).cpu())
        return torch.cat(out)


def load(
    name="churches",
    weights=None,
    discriminator=None,
    images=None,
    labels=None,
    backbone=None,
    evaluation=None,
    download=False,
    label=None,
):
    """Load a domain: the first line of every notebook.

    name: one of `EMBEDDED` or "faces", which take nothing else ("churches" is the suite's PGGAN, "faces" a DCGAN that
    others published); or any name for your own files:
    weights, discriminator: weight files, or names of `published.REGISTRY`; one file may hold both networks; or a Flow
    and a module of your own.
    images: a folder of real images, cut and resized to the generator's size, in grey if it draws in grey. labels: a
    CSV of `widgets.labeller` with ids of TRAIN (2,000, as in the paper), TUNE and TEST; the heads are fitted on those
    of TRAIN and kept in the cache. backbone: a ResNet-18 weight file, by default the published ImageNet one where
    there are labels.
    evaluation: None for the suite's own network, "inception" for FID's. download: fetch published files if need be.
    label: the class, of networks with classes.
    Raises ValueError for what does not fit, FileNotFoundError for what is missing. Explained in notebook 08.
    """
    given = weights, discriminator, images, labels, backbone, evaluation, label
    if name in (*EMBEDDED, FACES):
        if download or any(part is not None for part in given):
            raise ValueError(f"{name!r} is an embedded domain and takes no files: give yours a name of its own")
        return Domain(name, **faces.parts()) if name == FACES else _embedded(name)
    if weights is None or not isinstance(name, str) or not name:
        raise ValueError(
            f"unknown domain {name!r}: there are {', '.join((*EMBEDDED, FACES))}; others need a name and weights"
        )
    device, table = env.device(), None
    flow = own_files.generator(weights, download, label)
    flow.network.to(device)
    colours, side, _ = flow.shape(flow.n_layers)
    if labels is not None:
        table = own_files.usable(label_table.read(labels), labels)
    network = backbone if backbone is not None or table is None else "resnet18"
    if network is not None:
        network = Sized(features.load(own_files.located(network, download)), own_files.SIDE, "ResNet-18").to(device)
    heads = Absent("heads, since it has no labels", "labels=, a CSV of widgets.labeller")
    domain = Domain(
        name=name,
        flow=flow,
        discriminator=own_files.discriminator(discriminator, download, label, side),
        backbone=network or Absent("backbone", "backbone=, such as the published 'resnet18'"),
        head=heads,
        detector=heads,
        baseline=heads,
        evaluation=own_files.evaluation(evaluation, download).to(device),
        render=Absent("real images", "images=, a folder")
        if images is None
        else folders.open_folder(images, side, colours),
        classes=(),
        labels=Absent("labels", "labels=, a CSV of widgets.labeller") if table is None else table,
    )
    return domain if table is None else replace(domain, **_fitted(domain))


def _chunk(count, side):
    """Fewer images at a time where they are larger than 64 pixels, but some."""
    return max(4, count * 64**2 // max(side, 64) ** 2)


def _fitted(domain):
    """Fit the heads on the labels of TRAIN and as many real images as REAL_TRAIN has, or the folder."""
    train = set(TRAIN)
    ids = [i for i in domain.labels.ids if i in train]
    here = 0 if isinstance(domain.render, Absent) else len(domain.render)
    artifacts = set(domain.labels.artifacts)
    said = torch.tensor([classifier.ARTIFACT if i in artifacts else classifier.NORMAL for i in ids])
    if len(said.unique()) < 2:
        raise ValueError(f"of the labels, {len(ids)} are of domains.TRAIN: artifacts and normals are needed among them")

    def heads(ids, real):
        side = domain.flow.resolution(domain.flow.n_layers)
        sources = [(domain.images, part) for part in latents.batches(ids, _chunk(256, side))]
        sources += [(domain.real, part) for part in latents.batches(real, _chunk(256, side))]
        sources = env.progress(sources, desc="fitting the heads")
        maps = torch.cat([domain.maps(source(part)) for source, part in sources])
        targets = torch.cat([said, torch.full((len(real),), classifier.REAL)])
        detector = classifier.fit_local(maps, targets)
        baseline = gradcam.evidence(maps[targets == classifier.NORMAL], detector).mean(dim=0)
        head = classifier.fit(maps.mean(dim=(2, 3)), targets) if real else None
        return head and list(head), list(detector), baseline

    head, detector, baseline = store.memo(f"heads of {domain.name}", heads, ids=ids, real=list(REAL_TRAIN[:here]))
    parts = {"detector": classifier.Head(*detector), "baseline": baseline}
    lack = Absent("classifier of three classes, since it has no real images", "images=, a folder")
    return parts | {"head": classifier.Head(*head) if head else lack}


def _embedded(name):
    device, shared = env.device(), EMBEDDED[0]
    flow = checkpoints.load_generator(store.fetch(f"{name}/generator.safetensors"))
    flow.network.to(device)
    heads = load_file(store.fetch(f"{name}/heads.safetensors"))
    return Domain(
        name=name,
        flow=flow,
        discriminator=checkpoints.load_discriminator(store.fetch(f"{name}/discriminator.safetensors")).to(device),
        backbone=features.load(store.fetch(f"{shared}/backbone.safetensors")).to(device),
        head=classifier.Head(heads["weight"], heads["bias"]),
        detector=classifier.Head(heads["detector.weight"], heads["detector.bias"]),
        baseline=heads["baseline"],
        evaluation=features.load(store.fetch(f"{shared}/evaluation.safetensors")).to(device),
        render=churches.render,
        classes=churches.CLASSES,
        labels=label_table.read(store.fetch(f"{name}/labels.csv")),
    )
