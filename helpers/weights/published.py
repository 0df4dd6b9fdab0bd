"""The weight files that others published: which there are, from where, under which licence, and with which sha256.

Nothing is downloaded unless asked for. The public entry is `store.fetch("published/NAME")`. An address stands here
only if the authors' own pages or code give it; what they say of a file's sha256 is compared, anything else is
recorded on first use and must not change from then on.
"""

import difflib
import hashlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple

from helpers.weights.download import download

HASHES = "hashes.json"


class Entry(NamedTuple):
    """One published file. sha256: what is known of it, in full or the first digits; "" if nothing is."""

    file: str
    what: str
    licence: str
    urls: tuple = ()  # mirrors that answer with the file itself
    page: str = ""  # where a person finds it, if no program can
    sha256: str = ""
    note: str = ""


KARRAS = "Karras et al.'s weights and what derives from them: CC BY-NC 4.0, not for commercial use"
NVIDIA = "NVIDIA Source Code License: research and evaluation only, not for commercial use"
DISSECT = "PGGAN generator, GAN Dissection layout, {} px, no discriminator"
DRIVE = "https://drive.google.com/file/d/{}/view"
ZOO = "https://github.com/genforce/genforce/blob/master/MODEL_ZOO.md"

REGISTRY = {
    "resnet18": Entry(
        "resnet18-f37072fd.pth",
        "ResNet-18 with ImageNet weights, torchvision layout: the backbone of the paper's classifier",
        "torchvision: BSD 3-Clause; trained on ImageNet, whose images are for non-commercial research",
        ("https://download.pytorch.org/models/resnet18-f37072fd.pth",),
        sha256="f37072fd",
    ),
    "inception": Entry(
        "weights-inception-2015-12-05-6726825d.pth",
        "the standard Inception, for FID through torch-fidelity",
        "Apache License 2.0",
        (
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
        ),
        sha256="6726825d",
    ),
}
# The second generation of GAN Dissection's files has the sha256 in its names; its code gives both hosts.
for _name, _digits in {
    "bedroom": "d8a89ff1",
    "churchoutdoor": "7e701dd5",
    "conferenceroom": "21e85882",
    "diningroom": "3aa0ab80",
    "kitchen": "67f1e16c",
    "livingroom": "5ef336dd",
    "restaurant": "b8578299",
    "celebhq": "620d161c",
}.items():
    _file = f"proggan_{_name}-{_digits}.pth"
    _hosts = "https://dissect.csail.mit.edu/models/", "http://gandissect.csail.mit.edu/models/"
    _what = DISSECT.format(1024 if _name == "celebhq" else 256)
    _urls, _note = tuple(host + _file for host in _hosts), "gandissect.csail.mit.edu was reported down in 2023"
    REGISTRY[f"pggan-{_name}"] = Entry(_file, _what, KARRAS, _urls, sha256=_digits, note=_note)
    if _name != "celebhq":
        _url = f"http://netdissect.csail.mit.edu/data/ganmodel/karras/{_name}_lsun.pth"
        REGISTRY[f"gandissect-{_name}"] = Entry(f"{_name}_lsun.pth", _what, KARRAS, (_url,))
for _name, (_file, _id) in {
    "celebahq": ("celebahq-1024x1024", "188K19ucknC6wg1R6jbuPEhTq9zoufOx4"),
    "churchoutdoor": ("lsun-churchoutdoor-256x256", "1yGlooC5u4KuiOMzuJiA1W-MW4WB-wqnf"),
    "bedroom": ("lsun-bedroom-256x256", "1xbb2xakSn22lZoUcdaydQaBHoBSiUt6T"),
}.items():
    _what = "PGGAN generator, its average and discriminator, Karras' TensorFlow pickle"
    REGISTRY[f"karras-{_name}"] = Entry(f"karras2018iclr-{_file}.pkl", _what, KARRAS, page=DRIVE.format(_id))
for _name, (_file, _digits) in {
    "celebahq256": ("celebaHQ_s6_i80000", "6196db68"),
    "celebahq512": ("celebaHQ16_december_s7_i96000", "9c72988c"),
    "dtd": ("testDTD_s5_i96000", "04efa39f"),
    "celeba": ("celebaCropped_s5_i83000", "2b0acc76"),
}.items():
    _file = f"{_file}-{_digits}.pth"
    _what, _url = "PGGAN, GAN zoo layout, with discriminator", f"https://dl.fbaipublicfiles.com/gan_zoo/PGAN/{_file}"
    REGISTRY[f"ganzoo-{_name}"] = Entry(_file, _what, "pytorch_GAN_zoo: BSD 3-Clause", (_url,), sha256=_digits)
for _name in ("ffhq", "metfaces", "afhqcat", "afhqdog", "afhqwild", "brecahad"):  # cifar10 needs classes: not read
    _what = "StyleGAN2, NVIDIA's pickle, with average and discriminator"
    _url = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/{_name}.pkl"
    REGISTRY[f"stylegan2-{_name}"] = Entry(f"stylegan2-{_name}.pkl", _what, NVIDIA, (_url,))
for _name, _file in {"generator": "G_ema_ep_82", "discriminator": "D_ep_82"}.items():
    _page = "https://www.dropbox.com/sh/7vql1ao1u853wwf/AAABs7JO27da49_GveaEXl4Ma?dl=0"
    _what, _licence = f"U-net GAN {_name}, FFHQ, 256 px", "code AGPL-3.0; no licence is stated for the weights"
    REGISTRY[f"unetgan-ffhq-{_name}"] = Entry(f"unetgan_ffhq_{_file}.pth", _what, _licence, page=_page)
for _name in ("pggan-celebahq-1024x1024", "pggan-bedroom-256x256", "pggan-churchoutdoor-256x256"):
    _note = "its links have been dead since 2026-02 (GenForce, issue 44), so only a copy you have will do"
    _what = "PGGAN, GenForce layout, with average and discriminator"
    REGISTRY[f"genforce-{_name}"] = Entry(f"genforce_{_name}.pth", _what, KARRAS, page=ZOO, note=_note)

_verified = {}  # path -> (mtime, size) at the time it was found right, so that each file is hashed once


def fetch(name, folder, download_it=False):
    """Return the path of a published file after checking it; see `store.fetch`, which gives its `folder`.

    HELPERS_PUBLISHED names another folder to keep these files in. Raises ValueError for an unknown name and for a
    file that is not the published one, FileNotFoundError, saying what to put where, OSError if no mirror gives it.
    """
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, 4, 0.4) or REGISTRY
        raise ValueError(f"there is no published file {name!r} in the registry, did you mean {', '.join(near)}?")
    entry, folder = REGISTRY[name], Path(os.environ.get("HELPERS_PUBLISHED") or folder).expanduser()
    path = folder / entry.file
    if not path.is_file():
        if not (download_it and entry.urls):
            raise FileNotFoundError(_by_hand(name, entry, folder))
        _fetch(name, entry, path)
    now = path.stat()
    if _verified.get(path) == (now.st_mtime_ns, now.st_size):
        return path
    recorded = _recorded(folder)
    problem = _fault(path, entry, recorded)
    if problem:
        raise ValueError(f"{path} {problem}: move it away and fetch it again")
    if entry.file not in recorded:
        _record(name, entry, path, recorded)
    _verified[path] = now.st_mtime_ns, now.st_size
    return path


def sha256(path):
    """Hash a file without loading it whole; returns the hexadecimal digest."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_hand(name, entry, folder):
    where = " or ".join((*entry.urls, *([entry.page] if entry.page else [])))
    text = f"published/{name} ({entry.what}) is not there: put {entry.file} into {folder}, from {where}"
    text += f" ({entry.note})" if entry.note else ""
    text += f", under its licence ({entry.licence})"
    ask = f'; or ask for the download: store.fetch("published/{name}", download=True)'
    return text + (ask if entry.urls else "; no program can fetch it from there, a person has to")


def _fetch(name, entry, path):
    recorded, said = _recorded(path.parent), []

    def announce(url, total):
        size = "of unknown size" if total is None else f"{total / 1e6:.1f} MB"
        if url not in said:
            print(f"published/{name}: {entry.what}\nlicence: {entry.licence}\ndownloading {size} from {url}")
        said.append(url)

    try:
        download(entry.urls, path, lambda part: _fault(part, entry, recorded), announce)
    except OSError as error:
        if error.errno:  # the disk, not the network
            raise
        raise OSError(f"{error}; {_by_hand(name, entry, path.parent)}") from None


def _fault(path, entry, recorded):
    """Say what is wrong with a file, from its beginning and its sha256, or return None."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "is empty"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|script|!--)", head.lower()):
        return "is a web page, not the file"
    if head.startswith(b"version") and b"git-lfs" in head:
        return "is a Git LFS pointer, not the file"
    found, before = sha256(path), recorded.get(entry.file, {}).get("sha256", "")
    if not found.startswith(entry.sha256):
        return f"is another file: its sha256 starts {found[:12]}, published is {entry.sha256[:12]}"
    if before and found != before:
        return f"has changed: its sha256 starts {found[:12]}, on first use it was {before[:12]} (see {HASHES})"
    return None


def _recorded(folder):
    path = folder / HASHES
    try:
        recorded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if isinstance(recorded, dict) and all(isinstance(entry["sha256"], str) for entry in recorded.values()):
            return recorded
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is damaged: correct it, or delete it to record the files' sha256 anew")


def _record(name, entry, path, recorded):
    recorded = recorded | {entry.file: {"sha256": sha256(path), "bytes": path.stat().st_size}}
    found, part = recorded[entry.file]["sha256"], path.with_name(f".{HASHES}.{os.getpid()}")
    known = f"is the published one (it starts {entry.sha256})" if entry.sha256 else "was recorded on first use"
    try:
        part.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(path.with_name(HASHES))
    except OSError as error:
        warnings.warn(f"{path.with_name(HASHES)} could not be written ({error}): a change goes unseen", stacklevel=4)
    finally:
        part.unlink(missing_ok=True)
    print(f"published/{name}: sha256 {found[:12]}... {known}")
