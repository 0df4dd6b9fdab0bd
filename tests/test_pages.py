import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import show
from helpers.flow import Flow
from helpers.interface import pictures
from helpers.latents import latents
from helpers.networks import pggan
from tests.networks import tiny_generator

NAMED = pd.DataFrame(
    {"layer": [6, 2], "unit": [3, 0], "concept": ["<door>", "sky"], "iou": [0.25, 0.01], "quality": [0.1, 0.0],
     "threshold": [0.1, 1e9], "fraction": [0.02, 0.0], "interpretable": [True, False]}
)  # fmt: skip


@pytest.fixture
def made(tmp_path):
    flow, z = Flow(pggan.Layers(tiny_generator())), latents(range(9), 9)
    top = {6: torch.arange(8).repeat(8, 1) % 7, 2: torch.full((12, 8), 4)}
    return flow, z, top, tmp_path / "units.html"


def strips(text):
    found = re.findall(r"base64,([^']+)'", text)
    return [np.asarray(Image.open(BytesIO(base64.b64decode(one)))) for one in found]


def test_the_file_holds_every_unit_and_its_pictures(made):
    flow, z, top, path = made
    assert show.unit_pages(path, flow, z, top, NAMED, count=2, title="A & B") == path
    text = path.read_text(encoding="utf-8")
    HTMLParser().feed(text)
    assert "layer 6, unit 3: &lt;door&gt;<" in text and "IoU 0.250" in text and "<door>" not in text
    assert "layer 2, unit 0: sky (below the limit)" in text and "A &amp; B" in text
    assert not re.search(r"(src|href)=.(?!data:)", text)  # nothing is fetched from elsewhere
    assert list(path.parent.iterdir()) == [path]
    first, second = strips(text)
    plain = pictures.tiles(flow.generate(z[:2]), columns=2)
    np.testing.assert_array_equal(first[: len(plain)], plain)
    assert not np.array_equal(first[-len(plain) :], plain)  # tinted where the unit fires
    np.testing.assert_array_equal(second[: len(plain)], second[-len(plain) :])  # it fires nowhere


def test_what_does_not_fit_is_named_and_nothing_is_written(made):
    flow, z, top, path = made
    with pytest.raises(ValueError, match="no units"):
        show.unit_pages(path, flow, z, top, NAMED[:0])
    with pytest.raises(ValueError, match="layer 2 has no top images"):
        show.unit_pages(path, flow, z, {6: top[6]}, NAMED)
    with pytest.raises(OSError, match="cannot write"):
        show.unit_pages(path.parent / "nowhere" / "x.html", flow, z, top, NAMED)
    assert not path.exists()
