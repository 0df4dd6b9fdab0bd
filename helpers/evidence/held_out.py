"""Keep what is measured apart from what it is measured on: which images made the scores, and which are held out."""

from helpers.latents import image_ids


class Scores(dict):
    """What was measured of units, {layer: tensor}, and in `ids` which images it was made from."""

    def __init__(self, scores, ids):
        super().__init__(scores)
        self.ids = frozenset(image_ids(ids))


def check_splits(**splits):
    """Check that named sets of ids have none in common: `check_splits(train=..., test=...)`.

    Raises ValueError that names two overlapping splits and the ids in both.
    """
    names = list(splits)
    for n, a in enumerate(names):
        for b in names[n + 1 :]:
            both = set(splits[a]) & set(splits[b])
            if both:
                raise ValueError(f"splits {a} and {b} share {_named(both)}: cut the ids anew, each into one split")


def protocol(used, ids, in_sample=False):
    """Tell whether ids are "held-out" or "in-sample" for scores or settings made from the ids `used`.

    in_sample: allow the overlap, as the paper does. Raises ValueError that names the overlap if it is not allowed.
    """
    both = set(used) & set(ids)
    if both and not in_sample:
        raise ValueError(
            f"the scores or settings were made from {_named(both)}, which are to be evaluated: take other ids, "
            "or pass in_sample=True for the paper's protocol"
        )
    return "in-sample" if both else "held-out"


def _named(ids):
    shown = ", ".join(map(str, sorted(ids)[:5]))
    return f"{len(ids)} id{'s' * (len(ids) > 1)} ({shown}{', ...' if len(ids) > 5 else ''})"
