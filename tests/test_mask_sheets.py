import numpy as np
import pytest
import torch
from PIL import Image

from helpers import domains
from helpers.weights import packages
from tools.label import mask_sheets

NAMES = (
    "churches",
    pytest.param("faces", marks=pytest.mark.skipif(packages.lacking() is not None, reason=str(packages.lacking()))),
)


@pytest.mark.parametrize("name", NAMES)
def test_each_held_out_artifact_stands_beside_itself_with_its_mask(name, tmp_path):
    mask_sheets.main(["--domain", name, "--count", "4", "--rows", "1", "--out", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["suite-01.png", "suite-02.png"]
    domain = domains.load(name)
    ids = domain.split(domains.TEST)[0][:4]
    masks = domain.masks(ids).numpy()
    assert masks.any(axis=(1, 2)).sum() >= 3
    for n in range(4):
        page = np.asarray(Image.open(tmp_path / f"suite-0{1 + n // 3}.png"))
        assert page.shape[0] <= 900 and page.shape[1] <= 1316
        plain, outlined = (page[23:215, 4 + 196 * k : 196 + 196 * k] for k in (2 * (n % 3), 2 * (n % 3) + 1))
        changed = np.abs(plain.astype(int) - outlined).max(axis=2)[1::3, 1::3] > 0
        assert not changed[~masks[n]].any() or changed[~masks[n]].mean() < 0.05  # the outline is a pixel wide
        assert not masks[n].any() or changed[masks[n]].mean() > 0.9


def test_bad_words_and_missing_packages_are_refused_in_one_line(tmp_path, monkeypatch):
    for words in (["--count", "0"], ["--domain", "nowhere"]):
        with pytest.raises(SystemExit, match="2"):
            mask_sheets.main([*words, "--out", str(tmp_path)])

    def missing(name):
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "distribution", missing)
    with pytest.raises(SystemExit, match="mask_sheets: the package .* is not installed: pip install"):
        mask_sheets.main(["--domain", "faces", "--out", str(tmp_path)])


def test_pairs_lie_side_by_side():
    images = torch.zeros(2, 3, 64, 64)
    drawn = mask_sheets.pairs(images, torch.zeros(2, 64, 64, dtype=torch.bool))
    assert drawn.shape == (4, 192, 192, 3) and np.array_equal(drawn[0], drawn[1])
