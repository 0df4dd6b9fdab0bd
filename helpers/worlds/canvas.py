"""Draw the picture and the label map of a scene in step: shapes, colours and grain for `churches`."""

import numpy as np
from PIL import Image, ImageDraw


def noise(rng, size, cells):
    """Draw smooth random grain in about [0, 1]: float32 (size, size), `cells` random values along each side."""
    grid = Image.fromarray(rng.random_sample((cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((size, size), Image.BICUBIC))


def jitter(rng, colour, spread):
    """Vary a colour (r, g, b): brightness and tint, by about `spread` of 255."""
    bright, *tint = 0.7 * spread * rng.standard_normal(4)
    return tuple(min(255, max(0, int(c + bright + t))) for c, t in zip(colour, tint))


def shade(colour, factor):
    """Darken or lighten a colour by a factor."""
    return tuple(min(255, max(0, int(c * factor))) for c in colour)


def blend(a, b, share):
    """Mix two colours: `share` of b."""
    return tuple(int(x * (1 - share) + y * share) for x, y in zip(a, b))


class Canvas:
    """Picture (background: uint8 (S, S, 3)) and label map (0 at first), drawn in step so that they cannot disagree."""

    def __init__(self, background):
        self.picture = Image.fromarray(background)
        self.map = Image.new("L", self.picture.size, 0)
        self._pens = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.map)

    def polygon(self, points, colour, label):
        points = [(float(x), float(y)) for x, y in points]
        for pen, fill in zip(self._pens, (colour, label)):
            pen.polygon(points, fill=fill)

    def box(self, x0, y0, x1, y1, colour, label):
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, label)

    def ellipse(self, x0, y0, x1, y1, colour, label):
        for pen, fill in zip(self._pens, (colour, label)):
            pen.ellipse([float(x0), float(y0), float(x1), float(y1)], fill=fill)

    def line(self, points, colour, label, width):
        points = [(float(x), float(y)) for x, y in points]
        for pen, fill in zip(self._pens, (colour, label)):
            pen.line(points, fill=fill, width=width)

    def arch(self, x, y, width, height, colour, label):
        """A box with a round top; (x, y) is the centre of the box."""
        top = y - height / 2
        self.ellipse(x - width / 2, top - width / 2, x + width / 2, top + width / 2, colour, label)
        self.box(x - width / 2, top, x + width / 2, y + height / 2, colour, label)
