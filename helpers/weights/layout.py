"""What recognising a published layout takes: which network was found, its keys renamed, its settings checked."""

import re
from dataclasses import dataclass, field

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


@dataclass(frozen=True)
class Found:
    """One network of a file under our keys.

    title: the layout's name. network: the module of ours that it belongs to, "pggan", "stylegan2" or "unetgan".
    role: GENERATOR or DISCRIMINATOR. weights: {our key: tensor}. names: {our key: the file's key}, for errors.
    options: what the network's constructor must know beside its sizes.
    """

    title: str
    network: str
    role: str
    weights: dict
    names: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def count(weights, pattern):
    """Count numbered keys by the highest number (of at most two digits), so that a gap shows up as a lacking key."""
    numbers = [re.match(pattern, key) for key in weights]
    return 1 + max((int(n[1]) for n in numbers if n and len(n[1]) < 3), default=-1)


def require(settings, wanted, name):
    """Raise ValueError if a file's settings are other than those our networks have."""
    for setting, value in wanted.items():
        if settings.get(setting, value) != value:
            raise ValueError(
                f"{name} was made with {setting} = {settings[setting]!r}, which is not supported: "
                f"only networks with {setting} = {value!r} are"
            )


def power_of_two(sizes, name):
    """Return the largest of the resolutions, or raise ValueError if one is not 4, 8, 16, ..."""
    for size in sizes:
        if size < 4 or size & (size - 1):
            raise ValueError(f"{name} has a resolution of {size} px, which is not a power of two from 4 up: check it")
    return max(sizes, default=4)


def rename(weights, names, name, ignored="$^"):
    """Look up every key of ours: {our key: their key} -> {our key: tensor}; no key may lack or be left over."""
    problems = [f"lacks {key}" for key in names.values() if key not in weights]
    known = set(names.values())
    problems += [f"has an unknown {key}" for key in weights if key not in known and not re.search(ignored, key)]
    if problems:
        raise ValueError(f"{name} does not fit: it {'; '.join(problems[:3])}")
    return {own: weights[key] for own, key in names.items()}
