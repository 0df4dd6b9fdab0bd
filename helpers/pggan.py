"""The progressive GAN's networks under their public name; they stand in `helpers.networks.pggan`."""

from helpers.networks.pggan import *  # noqa: F403
from helpers.networks.pggan import Discriminator, Generator  # noqa: F401
