"""Count, inside a kernel, what costs time in a notebook: images generated, looked at and rendered, and distances.

Seconds differ from machine to machine and from run to run, these counts do not: tests bound them.
"""

from helpers.evidence import frechet
from helpers.flow import Flow
from helpers.networks import efficientnet, features
from helpers.worlds import churches

IMAGES, DISTANCES = 2500, 300  # in a quick round at most: about 20 s of one slow core
seen = {"generated": 0, "looked at": 0, "rendered": 0, "distances": 0}


def start():
    """Count from now on, in this process."""
    _count(Flow, "_walk", "generated", lambda flow, state, *_, **__: len(state.h))
    for network in (features.ResNet18, efficientnet.EfficientNet):
        _count(network, "all_maps", "looked at", lambda network, images: len(images))
    _count(churches, "render", "rendered", lambda ids, *_, **__: len(ids))
    _count(frechet.FrechetTo, "__call__", "distances", lambda *_: 1)


def _count(owner, name, what, weigh):
    function = getattr(owner, name)

    def counted(*arguments, **options):
        seen[what] += weigh(*arguments, **options)
        return function(*arguments, **options)

    setattr(owner, name, counted)
