import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import classifier, domains, features, gradcam, pggan, store
from helpers.domains import POOL, REAL_REFERENCE, REAL_TEST, REAL_TRAIN, TEST, TRAIN, TUNE, Domain
from helpers.flow import Flow
from helpers.labels import Labels
from helpers.latents import latents

has_data = pytest.mark.skipif(
    not (store.data_root() / "churches" / store.MANIFEST).exists(),
    reason=f"data/churches is not complete yet: it has no {store.MANIFEST} (python -m tools.manifest churches)",
)


def render(ids):
    """Grey levels that say which id they stand for."""
    images = torch.tensor(list(ids), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16)
    return images, images[:, 0] * 0


@pytest.fixture(scope="module")
def domain():
    torch.manual_seed(0)
    flow = Flow(pggan.Layers(pggan.Generator((12, 10, 8), latent=9)), batch=7)
    discriminator = pggan.Discriminator((11, 10, 8)).eval()
    for name, value in discriminator.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(value, std=0.3)
    networks = [features.ResNet18(2, "small", classes=0).eval() for _ in range(2)]
    table = Labels(
        ids=[5, 3, 8, 1, 950, 901],
        labels=["artifact", "normal", "artifact", "normal", "artifact", "normal"],
        types=["stain", "", "fusion", "", "other", ""],
        raters=["ann"] * 6,
    )
    return Domain(
        name="tiny",
        flow=flow,
        discriminator=discriminator,
        backbone=networks[0],
        head=classifier.Head(torch.randn(3, 16), torch.randn(3)),
        detector=classifier.Head(torch.stack([torch.zeros(16), torch.randn(16)]), torch.zeros(2)),
        baseline=0.1 * torch.randn(2, 2),
        evaluation=networks[1],
        render=render,
        classes=("nothing",),
        labels=table,
    )


@pytest.fixture(scope="module")
def images(domain):
    return domain.images(range(70))


def close(a, b, tolerance=2e-5):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=tolerance)


# Ids


def test_the_ranges_of_ids_do_not_overlap():
    for group in ((TRAIN, TEST, POOL), (REAL_TRAIN, REAL_TEST, REAL_REFERENCE)):
        for i, one in enumerate(group):
            for other in group[i + 1 :]:
                assert not set(one) & set(other)
    assert len(TRAIN) + len(TEST) >= 1000 and len(POOL) >= 10_000


def test_what_is_evaluated_was_never_trained_on():
    from tools import train_features, train_pggan

    trained = {*train_pggan.REAL_IDS, *train_features.VALIDATION_IDS}
    trained.update(*train_features.IDS.values())
    assert not trained & {*REAL_TRAIN, *REAL_TEST, *REAL_REFERENCE}


# Images


def test_images_by_id_are_clamped_generations(domain, images):
    raw = domain.flow.generate(latents(range(70), 9))
    assert torch.equal(domain.latents([7, 2]), latents([7, 2], 9))
    assert torch.equal(images, raw.clamp(-1, 1)) and raw.abs().max() > 1
    close(domain.images([40, 3]), images[[40, 3]])
    edits = {3: torch.zeros_like}
    assert torch.equal(domain.images([7], edits), domain.flow.generate(latents([7], 9), edits).clamp(-1, 1))


def test_real_images_span_minus_one_to_one(domain):
    found = domain.real([0, 51, 255])
    assert found.dtype == torch.float32 and found.shape == (3, 3, 16, 16)
    close(found[:, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]), 1e-6)


def test_split_sorts_the_ids_given_into_artifacts_and_normals(domain):
    assert domain.split(TRAIN) == ([5, 8], [3, 1])
    assert domain.split(TEST) == ([950], [901])
    assert domain.split([8, 901, 77]) == ([8], [901])
    assert domain.split(POOL) == ([], [])


# The classifier's view


def test_maps_and_classes_are_those_of_the_backbone_and_the_head(domain, images):
    maps = domain.maps(images)
    assert maps.shape == (70, 16, 2, 2) and not maps.requires_grad
    close(maps, torch.cat([domain.backbone.maps(image[None]) for image in images]).detach())
    close(maps.mean(dim=(2, 3)), domain.backbone.pooled(images))
    found = domain.classify(images)
    assert torch.equal(found, classifier.predict(domain.head, domain.backbone.pooled(images)).argmax(1))


def test_cams_show_the_detectors_evidence_above_the_baseline(domain, images):
    raw = gradcam.evidence(domain.maps(images), domain.detector) - domain.baseline
    big = F.interpolate(raw.relu()[:, None], size=(16, 16), mode="bilinear", align_corners=False)[:, 0]
    span = big.amax(dim=(1, 2), keepdim=True) - big.amin(dim=(1, 2), keepdim=True)
    expected = torch.where(span > 0, (big - big.amin(dim=(1, 2), keepdim=True)) / span, 0.0)
    found = domain.cams(images)
    close(found, expected)
    assert 0 < expected.any(dim=2).any(dim=1).sum()
    for level in (0.5, 0.3):
        masks = domain.masks(range(70), level)
        assert masks.dtype == torch.bool and masks.shape == (70, 16, 16)
        assert torch.equal(masks, (found >= level) & (found > 0))
    assert torch.equal(domain.masks([9, 4]), domain.masks(range(70))[[9, 4]])


def test_no_ids_give_no_images_and_no_masks(domain):
    assert domain.images([]).shape == (0, 3, 16, 16) and domain.maps(domain.images([])).shape[0] == 0
    assert domain.masks([]).shape == (0, 16, 16)


# D-values


@torch.no_grad()
def test_a_d_value_is_that_of_an_image_among_its_own_copies(domain, images):
    found = domain.d_values(images)
    assert found.shape == (70,) and found.dtype == torch.float32
    for i in (0, 33, 69):
        copies = domain.discriminator(images[i].expand(4, -1, -1, -1))
        close(found[i], copies[0])
    assert found.std() > 1e-3


@torch.no_grad()
def test_d_values_do_not_depend_on_the_batch_but_a_plain_batch_does(domain, images):
    found, order = domain.d_values(images), torch.randperm(70, generator=torch.Generator().manual_seed(1))
    close(domain.d_values(images[order]), found[order])
    close(torch.cat([domain.d_values(image[None]) for image in images]), found)
    for some in (1, 3, 7, 32):
        close(domain.d_values(images[:some]), found[:some])
    plain, shuffled = domain.discriminator(images[:64]), domain.discriminator(images[order][:64])
    known = [i for i in range(64) if order[i] < 64]
    assert (shuffled[known] - plain[order[known]]).abs().max() > 1e-3  # what the protocol avoids
    assert len(domain.d_values(images[:0])) == 0


@torch.no_grad()
def test_companions_are_one_fixed_company_for_every_image(domain, images):
    company = images[60:63]
    found = domain.d_values(images[:10], company)
    for i in range(10):
        close(found[i], domain.discriminator(torch.cat([images[i : i + 1], company]))[0])
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    close(domain.d_values(images[order], company), found[order])
    close(domain.d_values(images[:10], company.flip(0)), found)
    assert (found - domain.d_values(images[:10])).abs().max() > 1e-3


def test_companions_that_are_no_images_of_this_size_are_refused(domain, images):
    for wrong in (images[0], images[:3, :, :8, :8], images[:3, 0], images[:0]):
        with pytest.raises(ValueError, match=r"companions must be images \(K, 3, 16, 16\), got"):
            domain.d_values(images[:10], wrong)


def test_scoring_needs_no_gradients_and_leaves_the_network_alone(domain, images):
    before = {key: value.clone() for key, value in domain.discriminator.state_dict().items()}
    assert not domain.d_values(images[:5]).requires_grad
    assert all(torch.equal(value, before[key]) for key, value in domain.discriminator.state_dict().items())
    assert domain.discriminator.group == 4


def test_an_unknown_domain_is_refused():
    for name in ("bedrooms", "", None):
        with pytest.raises(ValueError, match=f"unknown domain {name!r}: .*'churches'"):
            domains.load(name)


# The shipped domain


@pytest.fixture(scope="module")
def churches():
    return domains.load("churches")


@has_data
def test_the_churches_are_whole(churches):
    assert churches.name == "churches"
    assert churches.flow.resolution(churches.flow.n_layers) == 64 and churches.flow.n_layers == 11
    found = churches.images(TEST[:20])
    assert found.shape == (20, 3, 64, 64) and found.isfinite().all()
    assert found.std(dim=0).mean() > 0.1 and found.std(dim=(1, 2, 3)).min() > 0.05  # neither collapsed nor blank
    real = churches.real(REAL_TEST[:20])
    assert real.shape == found.shape and -1 <= real.min() and real.max() <= 1


@has_data
def test_the_weights_stay_within_their_budgets():
    size = {name: store.fetch(f"churches/{name}.safetensors").stat().st_size for name in (
        "generator", "discriminator", "backbone", "evaluation",
    )}  # fmt: skip
    assert size["generator"] + size["discriminator"] <= 15e6
    assert size["backbone"] + size["evaluation"] <= 12e6


@has_data
def test_the_discriminator_knows_real_churches_from_noise(churches):
    real = churches.d_values(churches.real(REAL_TEST[:40]))
    g = torch.Generator().manual_seed(0)
    noise = churches.d_values(torch.rand(40, 3, 64, 64, generator=g) * 2 - 1)
    assert real.median() > noise.median()
    close(churches.d_values(churches.real(REAL_TEST[5:6])), real[5:6], 1e-3)


@has_data
def test_the_feature_networks_are_two_and_see_the_same_images_differently(churches):
    images = churches.images(TEST[:8])
    backbone, evaluation = churches.backbone.pooled(images), churches.evaluation.pooled(images)
    assert churches.backbone.maps(images).shape[-1] >= 8
    assert backbone.shape != evaluation.shape or not torch.allclose(backbone, evaluation, atol=0.1)


@has_data
def test_the_labels_are_of_known_ids_each_once(churches):
    parts = [part for ids in (TRAIN, TUNE, TEST) for part in churches.split(ids)]
    every = sum(parts, [])
    assert len(every) == len(set(every)) == 3500  # an id labelled twice would sit on both sides, or count twice
    assert set(churches.labels.ids) == set(every) == {*TRAIN, *TUNE, *TEST}
    assert list(map(len, (TRAIN, TUNE, TEST))) == [2000, 300, 1200]
    assert min(map(len, parts[:4])) >= 100 and min(map(len, parts[4:])) >= 300


@has_data
def test_the_shipped_head_tells_held_out_artifacts_better_than_chance(churches):
    artifacts, normals = churches.split(TEST)
    ids = normals[:150] + artifacts[:150]
    pooled = churches.maps(churches.images(ids)).mean(dim=(2, 3))
    targets = torch.tensor([int(i in set(artifacts)) for i in ids])
    assert classifier.report(churches.head, pooled, targets).auc.low > 0.5
    assert (churches.classify(churches.real(REAL_TEST[:50])) == classifier.REAL).float().mean() > 0.5


@has_data
def test_masks_cover_little_of_normal_images_and_hardly_any_artifact_goes_without(churches):
    artifacts, normals = churches.split(TEST)
    assert churches.masks(normals[:150]).float().mean() <= 0.2
    assert churches.masks(artifacts[:150]).any(dim=2).any(dim=1).float().mean() > 0.9
