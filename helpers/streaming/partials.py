"""Parts of a survey: what was gathered over some of the images, how it is sent and saved, and how parts are merged."""

import hashlib
from dataclasses import dataclass

import numpy as np

from helpers import store


@dataclass
class Part:
    """What was gathered over images start..stop-1.

    stats: {layer: statistic}, see `statistics`. weights: what `weights` says of the flow that made them, or None where
    no other flow can come in. name: what an error calls it.
    """

    start: int
    stop: int
    weights: str | None
    stats: dict
    name: str = ""

    def packed(self):
        """Return it as plain values and arrays, to be sent or saved."""
        stats = {layer: stat.state() for layer, stat in self.stats.items()}
        return {"start": self.start, "stop": self.stop, "weights": self.weights, "stats": stats}


def unpacked(packed, make, name=""):
    """Return the Part that `Part.packed` packed. make: returns its statistics as they are before the first image."""
    stats = {layer: stat.restore(packed["stats"][layer]) for layer, stat in make().items()}
    return Part(packed["start"], packed["stop"], packed["weights"], stats, name)


def merged(parts):
    """Merge parts, an iterable in any order, into one; the parts given are used up.

    Raises ValueError where images come twice or are missing in between, and where parts differ in weights.
    """
    whole, seen = None, []
    for part in parts:
        if whole is None:
            whole = part
        elif part.weights != whole.weights:
            raise ValueError(
                f"{part.name or f'the part from image {part.start}'} was made with other weights "
                f"({part.weights[:12]}) than {seen[0][2] or f'the part from image {seen[0][0]}'} "
                f"({whole.weights[:12]}): survey all with the same generator"
            )
        else:
            whole.stats = {layer: stat.merge(part.stats[layer]) for layer, stat in whole.stats.items()}
        seen.append((part.start, part.stop, part.name))
    seen.sort()
    for (_, stop, one), (start, other_stop, other) in zip(seen, seen[1:]):
        if start < stop:
            names = f" in {one} and {other}" if other else ""
            raise ValueError(f"images {start} to {min(stop, other_stop) - 1} come twice{names}: survey each image once")
        if start > stop:
            raise ValueError(f"images {stop} to {start - 1} are missing: survey them, then merge all parts")
    whole.start, whole.stop = seen[0][0], seen[-1][1]
    return whole


def weights(flow):
    """Hash the weights of a flow: the same on every machine and device."""
    network = flow.network
    whole = type(network).__qualname__, network.n_layers, network.latent, store.content(network.state_dict())
    return hashlib.sha256(str(whole).encode()).hexdigest()


def marks(z):
    """Reduce each latent to one number, by which those that come twice are found."""
    rows = np.ascontiguousarray(z.numpy()).view(np.uint32).astype(np.int64)
    odd = np.random.RandomState(0).randint(0, 2**62, rows.shape[1]) * 2 + 1
    return np.unique((rows * odd).sum(axis=1))  # modulo 2**64


def check_repeats(known):
    """Raise ValueError if two of several files, {name: `marks` of its latents}, surveyed the same latent."""
    names = np.repeat(list(known), [len(some) for some in known.values()])
    every = np.concatenate(list(known.values()))
    order = every.argsort(kind="stable")
    same = np.flatnonzero(np.diff(every[order]) == 0)
    if len(same):
        one, other = names[order[same[0]]], names[order[same[0] + 1]]
        raise ValueError(f"{one} and {other} have {len(same)} latents in common: survey each image once")
