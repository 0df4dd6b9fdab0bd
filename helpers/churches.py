"""The renderer of the embedded world under its public name; it stands in `helpers.worlds.churches`."""

from helpers.worlds.churches import *  # noqa: F403
from helpers.worlds.churches import CLASSES, render  # noqa: F401
