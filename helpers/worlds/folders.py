"""Real images from a folder of files, by id: read when asked for, so that a folder of any size costs no memory."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from helpers.latents import image_ids

KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Folder:
    """Images by id: ids -> (uint8 (N, channels, size, size), None), None because nobody knows their label maps.

    names: the files below `path`, in the order of their ids. channels: 3, or 1 for grey. state: a digest of the files'
    sizes and times, so that nothing kept in the cache is taken for files that have changed. Images of another size are
    cut to the middle square and resized, with one warning. Raises ValueError for an id the folder is too small for, and
    for a damaged file.
    """

    path: str
    names: tuple
    size: int
    channels: int = 3
    state: str = ""

    def __len__(self):
        return len(self.names)

    def __call__(self, ids):
        ids = image_ids(ids)
        beyond = [i for i in ids if i >= len(self)]
        if beyond:
            raise ValueError(
                f"{self.path} has {len(self)} images, ids 0 to {len(self) - 1}, but image {beyond[0]} was asked for: "
                "put more images there, or ask for less"
            )
        images = np.empty((len(ids), self.size, self.size, self.channels), np.uint8)
        for row, i in zip(images, ids):
            row[:] = self._read(Path(self.path, self.names[i])).reshape(row.shape)
        return torch.from_numpy(images).permute(0, 3, 1, 2), None

    def _read(self, path):
        try:
            with Image.open(path) as file:
                image = _eight_bits(ImageOps.exif_transpose(file)).convert("RGB" if self.channels == 3 else "L")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is no image that can be read ({error}): replace or remove it") from None
        if image.size != (self.size, self.size):
            warnings.warn(
                f"images in {self.path} are not all {self.size} x {self.size}: "
                "those of another size are cut to their middle square and resized",
                stacklevel=4,
            )
            side, (width, height) = min(image.size), image.size
            left, top = (width - side) // 2, (height - side) // 2
            image = image.crop((left, top, left + side, top + side))  # first, so that nothing bleeds in from outside
            image = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        return np.asarray(image)


def _eight_bits(image):
    """Scale grey images of 16 bits, which a conversion would cut off at 255, to 8."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))


def open_folder(path, size, channels=3):
    """Return the images below a folder as a Folder of size x size pixels, in colour or grey.

    Hidden files are left out, such as those that a Mac leaves beside the ones it copied. Ids follow the hashes of the
    files' names: the same on every machine, and any range of ids is a fair sample.
    Raises FileNotFoundError without such a folder, ValueError if no image is in it.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path} of real images: check the path")
    found = (file for file in path.rglob("*") if file.suffix.lower() in KINDS and not file.is_dir())
    files = [file.relative_to(path) for file in found]
    names = [file.as_posix() for file in files if not any(part.startswith(".") for part in file.parts)]
    if not names:
        raise ValueError(f"{path} holds no image ({', '.join(KINDS)}): unpack the real images there")
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    files = [path / name for name in order]
    stats = [file.stat() if file.exists() else file.lstat() for file in files]  # a broken link, refused when it is read
    state = hashlib.sha256(str([(found.st_size, found.st_mtime_ns) for found in stats]).encode()).hexdigest()
    return Folder(str(path), tuple(order), size, channels, state)
