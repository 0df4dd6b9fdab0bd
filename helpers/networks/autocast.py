"""Compute a network's layers in bfloat16 where torch's autocast finds it safe; what leaves a layer is float32."""

from functools import partial

import torch
from torch import nn


class Autocast(nn.Module):
    """Layers computed under autocast: see `flow.Flow.autocast`."""

    def __init__(self, network):
        super().__init__()
        self.network, self.latent, self.n_layers = network, network.latent, network.n_layers
        self.given, self.origin = (
            getattr(network, "given", None),
            f"{getattr(network, 'origin', '')} under autocast".strip(),
        )

    def advance(self, layer, h, extras):
        """Compute one layer: see `flow.Flow`."""
        with torch.autocast(h.device.type, torch.bfloat16):
            return _float(*self.network.advance(layer, h, extras))

    @property
    def walk(self):
        """Several layers in one pass, if the network has that."""
        return partial(self._walked, self.network.walk)

    def _walked(self, walk, h, *more):
        with torch.autocast(h.device.type, torch.bfloat16):
            return [(layer, *_float(h, extras)) for layer, h, extras in walk(h, *more)]


def _float(h, extras):
    return h.float(), {k: value.float() if value.is_floating_point() else value for k, value in extras.items()}
