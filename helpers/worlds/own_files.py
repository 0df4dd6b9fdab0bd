"""Find what somebody gives for a domain of their own: weight files by path or published name, and what measures.

Without the standard Inception the suite's own evaluation network measures, and what it gives is a Fréchet distance
with its name, never an FID.
"""

from collections import Counter
from pathlib import Path

from torch import nn

from helpers import checkpoints, env, store
from helpers.flow import Flow
from helpers.networks import features
from helpers.networks.sized import Inception, Sized
from helpers.weights import published
from helpers.worlds.absent import Absent
from helpers.worlds.splits import TEST, TRAIN, TUNE

SIDE = 256  # the classifier sees 256 pixels: ResNet-18's last map is 1/32 of the image, 8 x 8 places


def located(source, download=False):
    """Return the path of a weight file given by path, or by the name of a published one.

    Raises FileNotFoundError for neither, or what `store.fetch` raises.
    """
    name = str(source).removeprefix("published/")
    if name in published.REGISTRY and not Path(source).is_file():
        return store.fetch(f"published/{name}", download)
    if not Path(source).is_file():
        raise FileNotFoundError(
            f"{source} is neither a file nor a published name: check the path, or take one of "
            f"{', '.join(published.REGISTRY)}"
        )
    return Path(source)


def generator(source, download, label):
    """Load what is studied, from a file or a published one; a Flow is taken as it is."""
    if isinstance(source, Flow):
        return source
    return checkpoints.load_generator(located(source, download), label=label)


def discriminator(source, download, label, side):
    """Load what judges images of some size: from a file, or what stands for it where none is given."""
    if source is None:
        return Absent("discriminator", "discriminator=, a file that holds one; it may be the generator's own file")
    if isinstance(source, nn.Module):
        return source.eval().requires_grad_(False).to(env.device())
    network = checkpoints.load_discriminator(located(source, download), label=label)
    wanted = getattr(network, "resolution", 4 * 2 ** (len(network.channels) - 1))
    if wanted != side:
        raise ValueError(f"the discriminator judges images of {wanted} px, the generator draws {side} px: take its own")
    return network.to(env.device())


def evaluation(choice, download=False):
    """Load the network that measures: None for the suite's own, "inception" for the standard one of FID."""
    if choice is None:
        own = features.load(store.fetch("churches/evaluation.safetensors"))
        return Sized(own, 64, "the suite's evaluation network")  # 64 pixels are what it learned from
    if choice != "inception":
        raise ValueError(f"evaluation is None for the suite's own network or 'inception', got {choice!r}")
    return Inception(located("inception", download))


def usable(table, path):
    """Return the label table if every id lies in a split, and is there once."""
    known = {*TRAIN, *TUNE, *TEST}
    beyond = [i for i in table.ids if i not in known]
    if beyond:
        raise ValueError(
            f"{path} labels image {beyond[0]}, which is in no split: label ids of domains.TRAIN, TUNE and TEST, "
            f"{min(known)} to {max(known)}"
        )
    twice = [i for i, count in Counter(table.ids).items() if count > 1]
    if twice:
        raise ValueError(f"{path} labels image {twice[0]} twice: keep the rows of one rater and pass (`labels.only`)")
    return table
