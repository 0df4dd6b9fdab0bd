"""Know the layout that the U-net GAN is published in: our networks have its keys, so that nothing is converted.

Source: Schoenfeld et al. 2020, "A U-Net Based Discriminator for Generative Adversarial Networks", and the published
files' keys and shapes.
"""

from helpers.weights.layout import DISCRIMINATOR, GENERATOR, Found, refuse_labels


def _unet(weights, settings, name):
    refuse_labels(weights, name)
    role = DISCRIMINATOR if any(key.startswith("linear_middle.") for key in weights) else GENERATOR
    return Found("U-net GAN", "unetgan", role, weights)


LAYOUTS = ((r"blocks\.\d+\.\d+\.(conv|bn)|linear_middle\.|output_layer\.", _unet),)
