import numpy as np
import pytest
import torch

from helpers.interface.tile_rows import GAP, LINE, difference, fitted, panel, wrapped


def plain(count, size=8, value=0.0):
    return torch.full((count, 3, size, size), float(value))


def test_tiles_stand_where_they_should():
    images = torch.stack([plain(1, 8, -1)[0], plain(1, 8, 1)[0]])
    picture = panel([("", images, ["", ""]), ("heading", images.flip(0), ["a", "b"])], size=16, width=60)
    assert picture.dtype == np.uint8 and picture.shape == (16 + GAP + 2 * LINE + 16, 60, 3)
    assert (picture[:16, :16] == 0).all() and (picture[:16, 16:] == 255).all()
    below = 16 + GAP + 2 * LINE
    assert (picture[below:, :16] == 255).all() and (picture[below:, 16 + GAP : 32 + GAP] == 0).all()
    text = picture[16 + GAP : below]
    assert text[:LINE].min() < 128 and text[LINE:, 16 + GAP :].min() < 128  # the heading, the second caption


def test_a_row_wider_than_the_page_widens_it():
    assert panel([("", plain(5), [""] * 5)], size=8, width=20).shape == (8, 5 * 8 + 4 * GAP, 3)


def test_long_text_stays_in_its_place():
    images, width = plain(2, 8, 1), 64 + GAP + 64
    picture = panel([("", images, ["W" * 200, ""])], size=64, width=width)
    assert picture.shape[1] == width and (picture[:LINE, 64:] == 255).all() and picture[:LINE, :64].min() < 128


def test_captions_take_two_lines_where_they_must():
    assert wrapped("one", 200) == ["one"] and wrapped(" ", 200) == []
    first, second = wrapped("change: blue darker, red lighter", 192)
    assert f"{first} {second}" == "change: blue darker, red lighter"
    first, second = wrapped("some words and many more than two lines of this width can hold", 128)
    assert first == "some words and" and second.startswith("many more than") and second.endswith("…")
    assert wrapped("W" * 200, 64)[0].endswith("…")
    images = plain(2, 64, -1)
    picture = panel([("", images, ["change: blue darker, red lighter", "b"])], size=64, width=150)
    assert picture.shape[0] == 2 * LINE + 64 and (picture[2 * LINE :, :64] == 0).all()
    above, beside = picture[:LINE, 64 + GAP :], picture[LINE : 2 * LINE, 64 + GAP :]
    assert (above == 255).all() and beside.min() < 128  # a single line stands next to its tile


@pytest.mark.parametrize("size, expected", [(8, 8), (20, 16), (24, 24), (4, 4)])
def test_sizes_are_whole_multiples_or_averages(size, expected):
    image = torch.rand(1, 3, 8, 8) * 2 - 1
    drawn = fitted(image, size)
    assert drawn.shape == (1, expected, expected, 3)
    if size >= 8:
        once = fitted(image, 8)[0]
        assert (drawn[0] == once.repeat(expected // 8, 0).repeat(expected // 8, 1)).all()
    else:
        mean = (image.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5))[0] + 1) * 127.5
        assert np.abs(drawn[0].astype(float) - mean.permute(1, 2, 0).numpy()).max() <= 1


def test_the_difference_is_signed():
    before = plain(3)
    after = torch.stack([plain(1, 8, 0.5)[0], plain(1, 8, -0.5)[0], plain(1)[0]])
    lighter, darker, equal = difference(before, after)[:, :, 0, 0].int().tolist()
    assert lighter[0] > lighter[2] + 80 and darker[2] > darker[0] + 80
    assert min(equal) > 245 and max(equal) - min(equal) <= 3
    assert torch.equal(difference(before[:1], after[:1]), difference(before[:1], 9 * after[:1]))  # beyond the limit
    half = difference(before[:1], after[:1], limit=1)[0, :, 0, 0].int()
    assert lighter[1] < half[1] < equal[1]


def test_a_caption_each():
    with pytest.raises(ValueError, match="got 1 captions for 2 images"):
        panel([("", plain(2), ["one"])])
