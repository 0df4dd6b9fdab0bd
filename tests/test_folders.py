import os

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.worlds import folders


def save(path, size=(16, 16), colour=(10, 20, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for i in range(7):
        save(tmp_path / ("deep/er" if i % 2 else "") / f"{i}.png", colour=(i, 2 * i, 3 * i))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_come_by_id_as_they_are(folder):
    found = folders.open_folder(folder, 16)
    images, maps = found(range(7))
    assert len(found) == 7 and maps is None
    assert images.dtype == torch.uint8 and images.shape == (7, 3, 16, 16)
    colours = [int(name.removeprefix("deep/er/").removesuffix(".png")) for name in found.names]
    assert sorted(colours) == list(range(7)) and colours != list(range(7))  # no run of names is a run of ids
    for image, i in zip(images, colours):
        assert image.flatten(1).unique(dim=1).flatten().tolist() == [i, 2 * i, 3 * i]
    assert torch.equal(found([5, 2])[0], images[[5, 2]]) and found([])[0].shape == (0, 3, 16, 16)


def test_ids_do_not_depend_on_where_the_folder_lies(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("moved") / "there"
    os.symlink(folder, other)
    assert folders.open_folder(str(other), 8).names == folders.open_folder(folder, 16).names


def test_only_what_is_asked_for_is_read(folder):
    (folder / "broken.png").write_bytes(b"\x89PNG broken")
    found = folders.open_folder(folder, 16)
    bad = found.names.index("broken.png")
    assert len(found([i for i in range(8) if i != bad])[0]) == 7
    with pytest.raises(ValueError, match="broken.png is no image that can be read .*: replace or remove it"):
        found([bad])


def test_a_truncated_image_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="a.jpg is no image that can be read .*truncated"):
        folders.open_folder(tmp_path, 64)([0])


def test_other_sizes_are_cut_to_the_middle_square_and_resized_and_this_is_said(tmp_path):
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 200  # the middle square
    Image.fromarray(image).save(tmp_path / "wide.png")
    with pytest.warns(UserWarning, match=r"are not all 10 x 10: .* cut to their middle square and resized"):
        found = folders.open_folder(tmp_path, 10)([0])[0]
    assert found.shape == (1, 3, 10, 10) and bool((found == 200).all())


def test_grey_transparent_and_turned_images_become_upright_colour(tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 128)).save(tmp_path / "clear.png")
    turned = Image.new("RGB", (8, 8))
    turned.paste((255, 0, 0), (0, 0, 8, 4))  # red above, but the camera lay on its side
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    found = folders.open_folder(tmp_path, 8)
    images = dict(zip(found.names, found(range(3))[0]))
    assert images["grey.png"].unique().tolist() == [77]
    assert images["clear.png"][:, 0, 0].tolist() == [1, 2, 3]
    assert images["turned.png"][0, 0, -1] == 255 and images["turned.png"][0, 0, 0] == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_of_16_bits_are_scaled(tmp_path, channels):
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert Image.open(tmp_path / "deep.png").mode.startswith("I")
    found = folders.open_folder(tmp_path, 16, channels)([0])[0]
    assert found.shape == (1, channels, 16, 16)
    assert found[0, channels - 1].flatten().tolist() == list(range(256))


def test_a_folder_may_be_read_in_grey(folder):
    Image.new("1", (16, 16), 1).save(folder / "bits.png")
    grey, colour = (folders.open_folder(folder, 16, channels)(range(8))[0] for channels in (1, 3))
    assert grey.shape == (8, 1, 16, 16)
    expected = (colour.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)  # ITU-R 601
    assert (grey[:, 0].float() - expected).abs().max() <= 1


def test_hidden_files_are_left_out(folder):
    before = folders.open_folder(folder, 16).names
    for name in ("._0.png", "deep/._1.png", ".thumbnails/x.png", "__MACOSX/deep/._er.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    assert folders.open_folder(folder, 16).names == before


def test_a_folder_that_is_called_like_an_image_is_none(folder):
    save(folder / "album.png" / "inside.png")
    found = folders.open_folder(folder, 16).names
    assert "album.png/inside.png" in found and "album.png" not in found and len(found) == 8


def test_a_hidden_folder_itself_can_be_opened(tmp_path):
    save(tmp_path / ".data" / "a.png")
    assert folders.open_folder(tmp_path / ".data", 16).names == ("a.png",)


def test_ids_beyond_the_folder_are_refused(folder):
    found = folders.open_folder(folder, 16)
    for ids in ([7], [0, 10_000]):
        with pytest.raises(ValueError, match=rf"has 7 images, ids 0 to 6, but image {ids[-1]} was asked for"):
            found(ids)
    for bad in (-1, 1.5):
        with pytest.raises(ValueError, match=f"image ids must be integers from 0 .*, got {bad}"):
            found([0, bad])


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="holds no image .*unpack the real images there"):
        folders.open_folder(tmp_path, 16)
    for path in (tmp_path / "elsewhere", tmp_path / "notes.txt"):
        with pytest.raises(FileNotFoundError, match="there is no folder .*: check the path"):
            folders.open_folder(path, 16)


def test_files_that_changed_are_another_folder(folder):
    before = folders.open_folder(folder, 16)
    assert folders.open_folder(folder, 16) == before
    os.utime(save(folder / "0.png", colour=(200, 0, 0)), ns=(1, 1))
    after = folders.open_folder(folder, 16)
    assert after.names == before.names and after != before
    (folder / "9.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(ValueError, match="9.png is no image that can be read"):
        folders.open_folder(folder, 16)(range(8))
