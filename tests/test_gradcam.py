import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import classifier, gradcam
from helpers.classifier import ARTIFACT, NORMAL, REAL, Head
from helpers.networks import features


@pytest.fixture(scope="module")
def head():
    g = torch.Generator().manual_seed(0)
    return Head(torch.randn(3, 10, generator=g), torch.randn(3, generator=g))


@pytest.fixture(scope="module")
def maps():
    return torch.randn(6, 10, 8, 8, generator=torch.Generator().manual_seed(1)).relu()


class Small(nn.Module):
    """Two convolutions, global average pooling and one linear layer."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 3, 2, padding=1), nn.Linear(10, 3)

    def maps(self, images):
        return self.two(self.one(images).relu()).relu()


def autograd_cam(maps, head, target):
    """Grad-CAM as equations 1 and 2 have it: the gradient's mean weighs each featuremap, then ReLU."""
    maps = maps.detach().requires_grad_()
    score = F.linear(maps.mean(dim=(2, 3)), *head)[:, target].sum()
    (slope,) = torch.autograd.grad(score, maps)
    alpha = slope.mean(dim=(2, 3), keepdim=True)
    return (alpha * maps).sum(dim=1).relu().detach()


def shown(cam, size):
    """Upsample each map, then bring it to [0, 1]; a map that is nowhere positive stays zero."""
    out = []
    for one in cam:
        big = F.interpolate(one[None, None], size=(size, size), mode="bilinear", align_corners=False)[0, 0]
        span = big.max() - big.min()
        out.append((big - big.min()) / span if span > 0 else torch.zeros_like(big))
    return torch.stack(out)


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# The closed form is Grad-CAM


@pytest.mark.parametrize("target", [NORMAL, ARTIFACT, REAL])
@pytest.mark.parametrize("size", [8, 32, 64])
def test_the_closed_form_equals_autograd_on_a_small_network(target, size):
    torch.manual_seed(2)
    network = Small().requires_grad_(False)  # frozen, as the classifier's backbone is
    with torch.no_grad():
        recorded = network.maps(torch.randn(5, 3, 16, 16))
    head = Head(network.fc.weight, network.fc.bias)
    expected = shown(autograd_cam(recorded, head, target), size)
    assert expected.amax(dim=(1, 2)).max() == 1
    close(gradcam.gradcam(recorded, head, target, size=size), expected)


def test_the_closed_form_equals_autograd_on_the_feature_network():
    torch.manual_seed(3)
    network = features.ResNet18(width=4, stem="small", classes=0).eval().requires_grad_(False)
    recorded = network.maps(torch.rand(4, 3, 64, 64) * 2 - 1)
    head = Head(torch.randn(3, network.units), torch.zeros(3))
    assert recorded.shape == (4, 32, 8, 8)
    close(gradcam.gradcam(recorded, head), shown(autograd_cam(recorded, head, ARTIFACT), 64))


def test_the_average_evidence_plus_the_bias_is_the_score(maps, head):
    logits = F.linear(maps.mean(dim=(2, 3)), *head)
    for target in range(3):
        found = gradcam.evidence(maps, head, target)
        close(found.mean(dim=(1, 2)) + head.bias[target], logits[:, target])
    found = gradcam.evidence(maps, head, ARTIFACT, against=NORMAL).mean(dim=(1, 2))
    close(found + head.bias[ARTIFACT] - head.bias[NORMAL], classifier.artifact_score(head, maps.mean(dim=(2, 3))))
    found = gradcam.evidence(maps, head, REAL, against="others").mean(dim=(1, 2))
    close(found + head.bias[REAL] - head.bias[:2].mean(), logits[:, REAL] - logits[:, :2].mean(dim=1))


def test_artifact_is_the_default_and_each_image_stands_alone(maps, head):
    found = gradcam.gradcam(maps, head)
    assert found.shape == (6, 64, 64) and found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, gradcam.gradcam(maps, head, ARTIFACT))
    assert not torch.allclose(found, gradcam.gradcam(maps, head, NORMAL))
    for i in range(6):
        close(gradcam.gradcam(maps[i : i + 1], head)[0], found[i])
    assert len(gradcam.gradcam(maps[:0], head)) == 0


def test_the_peak_is_one_and_the_scale_of_an_image_does_not_matter(maps, head):
    found = gradcam.gradcam(maps, head)
    assert (found.amax(dim=(1, 2)) == 1).all() and (found.amin(dim=(1, 2)) == 0).all()
    scale = torch.tensor([1e-3, 0.1, 1, 5, 100, 1e4])[:, None, None, None]
    close(gradcam.gradcam(scale * maps, head), found)
    assert torch.equal(gradcam.binary_mask(gradcam.gradcam(4 * maps, head)), gradcam.binary_mask(found))


# The gauge


@pytest.mark.parametrize("against", [NORMAL, REAL, "others"])
def test_only_the_contrastive_map_is_free_of_the_heads_gauge(maps, head, against):
    v = torch.randn(10, generator=torch.Generator().manual_seed(4))
    shifted = Head(head.weight + v, head.bias)
    pooled = maps.mean(dim=(2, 3))
    close(classifier.predict(shifted, pooled), classifier.predict(head, pooled))
    close(gradcam.gradcam(maps, shifted, against=against), gradcam.gradcam(maps, head, against=against))
    assert (gradcam.gradcam(maps, shifted) - gradcam.gradcam(maps, head)).abs().max() > 0.1


# Nothing positive, baselines


def test_a_map_that_is_nowhere_positive_is_empty(head):
    only = Head(-torch.ones(3, 10), torch.zeros(3))
    maps = torch.rand(3, 10, 8, 8)
    found = gradcam.gradcam(maps, only)
    assert torch.equal(found, torch.zeros(3, 64, 64)) and not gradcam.binary_mask(found).any()
    maps[1] = 0
    assert not gradcam.gradcam(maps, head).isnan().any()
    mixed = torch.cat([maps[:1], -maps[:1]])
    found = gradcam.gradcam(mixed, only)
    assert not found[0].any() and found[1].max() == 1  # one empty map does not empty its neighbours


def test_a_baseline_removes_what_is_always_lit(maps, head):
    raw = gradcam.evidence(maps, head)
    usual = raw.mean(0)
    close(gradcam.gradcam(maps, head, baseline=usual), shown((raw - usual).relu(), 64))
    close(gradcam.gradcam(maps, head, baseline=torch.zeros(8, 8)), gradcam.gradcam(maps, head))
    assert not gradcam.gradcam(maps, head, baseline=raw.amax(0) + 1).any()
    for shape in ((4, 4), (8,)):
        with pytest.raises(ValueError, match=r"baseline must be a map \(8, 8\), got"):
            gradcam.gradcam(maps, head, baseline=torch.zeros(shape))


# Binary masks


def test_binary_masks_include_their_level_but_never_zero():
    cam = torch.tensor([[[0.0, 0.2, 0.3], [0.49, 0.5, 0.51], [0.8, 0.99, 1.0]]])
    for level, expected in {0: 8, 0.2: 8, 0.3: 7, 0.5: 5, 0.8: 3, 1: 1}.items():
        mask = gradcam.binary_mask(cam, level)
        assert mask.dtype == torch.bool and mask.shape == cam.shape and mask.sum() == expected, level
        assert not mask[0, 0, 0]
    assert torch.equal(gradcam.binary_mask(cam), gradcam.binary_mask(cam, 0.5))


def test_a_higher_level_gives_a_smaller_mask(maps, head):
    cam = gradcam.gradcam(maps, head)
    masks = [gradcam.binary_mask(cam, level) for level in (0.2, 0.3, 0.5, 0.8)]
    for larger, smaller in zip(masks, masks[1:]):
        assert (smaller & ~larger).sum() == 0 and smaller.sum() < larger.sum()
    assert masks[-1].any(dim=2).any(dim=1).all()


# A planted defect is found


def planted(n, seed):
    """Smooth scenes: normal as they are, artifacts with a square of noise, reals of another tint; and the squares."""
    g = torch.Generator().manual_seed(seed)
    images = F.interpolate(torch.rand(3 * n, 3, 4, 4, generator=g) - 0.5, size=(64, 64), mode="bilinear")
    targets, squares = torch.arange(3).repeat(n), torch.zeros(3 * n, 64, 64, dtype=torch.bool)
    for i in (targets == ARTIFACT).nonzero().flatten().tolist():
        top, left = torch.randint(0, 48, (2,), generator=g).tolist()
        squares[i, top : top + 16, left : left + 16] = True
        images[i, :, top : top + 16, left : left + 16] = torch.rand(3, 16, 16, generator=g) * 2 - 1
    images[targets == REAL, 0] += 0.4
    return images, targets, squares


@torch.no_grad()
@pytest.mark.parametrize("against", [None, NORMAL, "others"])
def test_a_planted_square_is_found(against):
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.ReLU(), nn.AvgPool2d(8))  # random, on an 8x8 grid
    images, targets, _ = planted(60, 0)
    head = classifier.fit(network(images).mean(dim=(2, 3)), targets)
    images, targets, squares = planted(40, 1)
    artifacts = targets == ARTIFACT
    maps, squares = network(images[artifacts]), squares[artifacts]
    cam = gradcam.gradcam(maps, head, against=against)
    peaks = cam.flatten(1).argmax(dim=1)
    assert squares.flatten(1).gather(1, peaks[:, None]).float().mean() > 0.9  # the pointing game
    mask = gradcam.binary_mask(cam)
    iou = (mask & squares).sum(dim=(1, 2)) / (mask | squares).sum(dim=(1, 2))
    assert iou.mean() > 0.6  # a square in the wrong place would score 0.06


# Bad input


def test_bad_arguments_are_refused(maps, head):
    for wrong in (maps[:, :9], maps[0], maps.mean(dim=(2, 3))):
        with pytest.raises(ValueError, match=r"the head reads featuremaps \(N, 10, h, w\), got"):
            gradcam.gradcam(wrong, head)
    for target in (3, -1, "artifact"):
        with pytest.raises(ValueError, match=f"target must be a class number below 3, got {target!r}"):
            gradcam.gradcam(maps, head, target)
    for against in (3, -1, "other", ARTIFACT):
        with pytest.raises(ValueError, match=f"against must be .*, got {against!r}"):
            gradcam.gradcam(maps, head, ARTIFACT, against)
    for level in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"the level of a mask lies in \[0, 1\], got"):
            gradcam.binary_mask(torch.zeros(1, 4, 4), level)
    for value in (torch.nan, torch.inf):
        bad = maps.clone()
        bad[4, 3, 2, 2] = value
        with pytest.raises(ValueError, match="featuremaps of image 4 .* not finite"):
            gradcam.gradcam(bad, head)
