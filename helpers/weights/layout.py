"""What recognising a published layout takes: which network was found, its keys renamed, its settings checked.

A layout is a pair: a pattern that a key of it fits, and a function of (weights {key: tensor}, settings {name: value},
what errors call the file) that returns a Found.
"""

import re
from dataclasses import dataclass, field

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
LABELS = r"(^|\.)(embed\w*|label_weight|shared)(\.|$)"  # what networks with classes have


@dataclass(frozen=True)
class Found:
    """One network of a file under our keys.

    title: the layout's name. network: the module of ours that it belongs to, "pggan", "stylegan2" or "unetgan".
    role: GENERATOR or DISCRIMINATOR. weights: {our key: tensor}. names: {our key: the file's key}, for errors.
    options: what the network's constructor must know beside its sizes. label: the class taken, of a network that has
    classes. note: what the file leaves open and was decided in its place, a sentence for a warning.
    """

    title: str
    network: str
    role: str
    weights: dict
    names: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    label: int | None = None
    note: str = ""


def recognise(layouts, weights, settings, name):
    """Return the Found of the first layout that any key fits, or None.

    Raises ValueError naming keys that are missing or unknown, and settings that would change the numbers and that our
    networks do not have. Explained in notebook 08.
    """
    for marks, layout in layouts:
        if any(re.match(marks, key) for key in weights):
            return layout(weights, settings, name)
    return None


def refuse_labels(weights, name):
    """Raise ValueError if a network has a part that reads class labels."""
    labels = [key for key in weights if re.search(LABELS, key)]
    if labels:
        raise ValueError(f"{name} needs class labels ({labels[0]}): only networks without classes are supported")


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
