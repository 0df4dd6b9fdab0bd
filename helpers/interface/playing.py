"""Label some images, measure what artifacts have more than normals, and see on other images what taking it off does."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from helpers import correct, units
from helpers.corrections.edits import Edits
from helpers.interface.labelling import Session
from helpers.interface.tile_rows import panel

LEAST = 2  # images of each class before anything can be measured, and four for two halves
WIDTH, LARGE, SMALL = 824, 192, 96  # pixels: of the picture, the image to label, the tiles of the strip


class Playground:
    """A labelling session that measures as it goes, on images of any generator.

    flow, latents: the generator, and a function of ids -> its latents. ids: images to label; held: images that are
    only shown, original and shifted, and never labelled. path, rater, types: as of `labelling.Session`, which is
    `session`. layer: where units are shifted. every: labels after which the difference is measured anew. embed: a
    function of ids -> features (n, D) by which the least certain image is found, by default the layer's featuremaps.
    Raises ValueError for held images among those to label, and as the session does. Explained in notebook 13.
    """

    def __init__(self, flow, latents, ids, held, path, rater, layer=1, every=10, embed=None, types=("other",)):
        self.session = Session(ids, path, rater, types)
        both = sorted(set(self.session.ids) & {int(i) for i in held})
        if both or not len(held):
            raise ValueError(f"held images are only shown, got {len(held)}, {len(both)} of them to label {both[:3]}")
        if every < 1:
            raise ValueError(f"every is how many labels lie between two measurements, at least 1, got {every}")
        self.flow, self.latents, self.layer, self.every = flow, latents, flow.checked(layer), every
        self.held, self.before = [int(i) for i in held], flow.generate(latents(held)).clamp(-1, 1)
        self._features = (embed or self._featuremaps)(self.session.ids)
        places = torch.randperm(len(self.session.ids), generator=torch.Generator().manual_seed(0)).tolist()
        self._chance = dict(zip(sorted(self.session.ids), places))
        self.differences, self.agreement, self.used = None, math.nan, 0
        self.measure()

    def do(self, action):
        """Do one of the session's actions by name, and measure anew where enough labels have come."""
        self.session.do(action)
        self._due()

    def type(self, text):
        """Do what letters stand for, see `labelling.Session.type`, and measure anew where enough labels have come."""
        try:
            self.session.type(text)
        finally:
            self._due()

    def measure(self):
        """Measure the difference of the classes as labelled so far, and let every other image be the least certain.

        `agreement` is the cosine between the differences that two halves of the labels give: 1 where both say the
        same, about 0 where there is nothing but chance. Without LEAST images of each class nothing is known yet.
        """
        kinds = self.session.labelled
        bad, good = ([i for i, kind in kinds.items() if (kind == "normal") == normal] for normal in (False, True))
        self.used, self.differences, self.agreement = len(kinds), None, math.nan
        if min(len(bad), len(good)) >= LEAST:
            self.differences = self._differences(bad, good)
            self.differences.ids = frozenset(kinds)
            self._suggest(bad, good)
        if min(len(bad), len(good)) >= 2 * LEAST:
            halves = [self._differences(bad[k::2], good[k::2])[self.layer].flatten() for k in (0, 1)]
            self.agreement = float(F.cosine_similarity(*halves, dim=0))

    def edits(self, amount=1.0):
        """Return the shift as measured so far: Edits, empty before anything is known."""
        return Edits() if self.differences is None else correct.shift(self.differences, amount)

    def draw(self, amount=1.0):
        """Draw the image to label and the strip of held images, original and shifted -> (picture, {line: text})."""
        session = self.session
        image = torch.full_like(self.before[:1], 0.8)
        if session.current is not None:
            image = self.flow.generate(self.latents([session.current])).clamp(-1, 1)
        name = "all labelled" if session.current is None else f"image {session.current}"
        after = self.flow.generate(self.latents(self.held), self.edits(amount)).clamp(-1, 1)
        none = [""] * len(self.held)
        names = [f"id {i}" for i in self.held]
        rows = [("held images, as they are", self.before, names), (f"shifted by {amount:g}", after, none)]
        pages = panel([("", image, [name])], LARGE, WIDTH), panel(rows, SMALL, WIDTH)
        wide = max(page.shape[1] for page in pages)
        pages = [np.pad(p, ((0, 0), (0, wide - p.shape[1]), (0, 0)), constant_values=255) for p in pages]
        return np.concatenate(pages), {"state": f"{session}; {self.sure}"}

    @property
    def code(self):
        """The call that reads the labels, "" before the first one."""
        return self.session.code

    @property
    def sure(self):
        """Say how far the difference can be trusted."""
        left = self.every - len(self.session.labelled) % self.every
        soon = f"measured again after {left} more label{'s' * (left > 1)}"
        if self.differences is None:
            return f"no difference yet, it takes {LEAST} artifacts and {LEAST} normals; {soon}"
        if math.isnan(self.agreement):
            return f"difference of {self.used} labels, too few for two halves to agree; {soon}"
        return f"difference of {self.used} labels, whose halves agree {self.agreement:.2f} (0 chance, 1 sure); {soon}"

    def save(self, folder, amount=1.0):
        """Write the edits and the picture into a folder; returns their paths. The labels are in their file already.

        Raises ValueError as long as nothing was measured.
        """
        if self.differences is None:
            raise ValueError(f"there is nothing to save yet: {self.sure}")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        edits, picture = (folder / f"{self.session.rater}-{name}" for name in ("shift.safetensors", "shift.png"))
        correct.write_edits(edits, self.edits(amount), self.flow)
        Image.fromarray(self.draw(amount)[0]).save(picture)
        return edits, picture

    def _due(self):
        count = len(self.session.labelled)
        unknown = self.differences is None and count != self.used
        if count // self.every != self.used // self.every or count < self.used or unknown:
            self.measure()

    def _differences(self, bad, good):
        return units.differences(self.flow, self.latents(bad), self.latents(good), [self.layer])

    def _featuremaps(self, ids):
        return self.flow.record(self.latents(ids), [self.layer])[self.layer].flatten(1)

    def _suggest(self, bad, good):
        """Put the unlabelled images in order: in turn the least certain, nearest the middle of the classes, and any."""
        session, x = self.session, self._features.double()
        row = {image: n for n, image in enumerate(session.ids)}
        x = (x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-6)
        means = [x[[row[i] for i in ids]].mean(dim=0) for ids in (bad, good)]
        doubt = ((x - (means[0] + means[1]) / 2) @ (means[0] - means[1])).abs()
        rest = [i for i in session.ids if i not in session.labelled]
        unsure = sorted(rest, key=lambda i: float(doubt[row[i]]))
        # Every other image comes by chance: borderline ones alone would not tell what the classes differ by.
        turns = dict.fromkeys(i for pair in zip(unsure, sorted(rest, key=self._chance.get)) for i in pair)
        order = [*(i for i in session.ids if i in session.labelled), *turns]
        self._features = self._features[[row[i] for i in order]]
        session.ids = order
        if session.current in rest:
            session.current = rest and next(i for i in order if i not in session.labelled)
