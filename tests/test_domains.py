import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from helpers import classifier, correct, domains, gradcam, metrics, store, survey, units
from helpers import labels as label_table
from helpers.domains import POOL, REAL_REFERENCE, REAL_TEST, REAL_TRAIN, TEST, TRAIN, TUNE, Domain
from helpers.flow import Flow
from helpers.labels import Labels
from helpers.latents import latents
from helpers.networks import features, pggan, unetgan
from helpers.weights import published as registry
from tests import published, published_later
from tests.rounding import close

has_data = pytest.mark.skipif(
    not (store.data_root() / "churches" / store.MANIFEST).exists(),
    reason=f"data/churches is not complete yet: it has no {store.MANIFEST} (python -m tools.build.manifest churches)",
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


# Ids


def test_the_ranges_of_ids_do_not_overlap():
    for group in ((TRAIN, TEST, POOL), (REAL_TRAIN, REAL_TEST, REAL_REFERENCE)):
        for i, one in enumerate(group):
            for other in group[i + 1 :]:
                assert not set(one) & set(other)
    assert len(TRAIN) + len(TEST) >= 1000 and len(POOL) >= 10_000


def test_what_is_evaluated_was_never_trained_on():
    from tools.train import features as train_features
    from tools.train import pggan as train_pggan

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
    close(found[:, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))


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


@pytest.mark.parametrize("deviation", [pggan.unbiased_deviation, pggan.crossed_deviation])
def test_companions_stand_with_each_image_however_a_discriminator_groups(domain, images, deviation):
    torch.manual_seed(0)
    zoo = replace(domain, discriminator=pggan.Discriminator((11, 10, 8), None, deviation=deviation).eval())
    company = images[20:23]
    with torch.no_grad():
        each = [zoo.discriminator(torch.cat([image[None], company]))[0] for image in images[:6]]
        alone = [zoo.discriminator(image[None])[0] for image in images[:6]]
    close(zoo.d_values(images[:6], company), torch.stack(each))
    close(zoo.d_values(images[:6]), torch.stack(alone))


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
        with pytest.raises(ValueError, match=f"unknown domain {name!r}: .*churches-stylegan2"):
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
    close(churches.d_values(churches.real(REAL_TEST[5:6])), real[5:6])


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
    assert list(map(len, (TRAIN, TUNE, TEST))) == [2000, 300, 1200] and set(domains.FIT) <= set(TRAIN)
    assert min(map(len, parts[:4])) >= 100 and min(map(len, parts[4:])) >= 300


@pytest.fixture(scope="module", params=domains.EMBEDDED[1:])
def other(request):
    return domains.load(request.param)


@has_data
def test_the_other_embedded_domains_are_whole_and_share_the_world(churches, other):
    drawn, real = other.images(TEST[:20]), other.real(REAL_TEST[:4])
    assert drawn.shape == (20, 3, 64, 64) and drawn.std(dim=0).mean() > 0.1
    assert torch.equal(real, churches.real(REAL_TEST[:4]))
    close(other.evaluation.pooled(real), churches.evaluation.pooled(real))
    assert other.d_values(drawn[:2]).shape == (2,)
    assert not torch.equal(other.images(TEST[:1]), churches.images(TEST[:1]))
    close(other.d_values(drawn)[7:9], other.d_values(drawn[7:9]))
    folder = store.data_root() / other.name
    assert sum((folder / f"{name}.safetensors").stat().st_size for name in ("generator", "discriminator")) <= 15e6


@has_data
def test_the_other_domains_labels_are_of_known_ids_and_agree_with_a_second_look(other):
    parts = [other.split(ids) for ids in (TRAIN[:400], TUNE[:100], TEST[:500])]
    assert [len(a) + len(n) for a, n in parts] == [400, 100, 500] and len(other.labels) == 1000
    assert min(len(side) for part in parts for side in part) >= 20
    second = label_table.read(store.fetch(f"{other.name}/second_pass.csv"))
    assert label_table.agreement(other.labels, second).low > 0.2 and len(second) >= 150


@has_data
def test_the_other_domains_heads_tell_their_held_out_artifacts(other):
    artifacts, normals = other.split(TEST)
    ids = [*artifacts[:100], *normals[:100]]
    evidence = gradcam.evidence(other.maps(other.images(ids)), other.detector).amax(dim=(1, 2))
    assert metrics.auc(evidence, torch.arange(200) < 100) > 0.65


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


# A domain of one's own, at the paper's size: small networks in the published layouts, 256 pixels

UNITS, LATENT = (8, 8, 8, 7, 6, 5, 4), 9
LABELLED = [0, 1, 2, 3, 4, 5, 1400, 1401, 900, 901, 2500]  # eight of TRAIN, two of TEST, one of TUNE
DEFECTS = {1, 3, 4, 1401, 901}


def unet_file():
    torch.manual_seed(2)
    generator = unetgan.Generator(UNITS, LATENT)
    for key, value in generator.state_dict().items():
        if key.endswith("bias"):
            value.normal_()
    return {"G_ema": generator.state_dict(), "D": unetgan.Discriminator(UNITS[:0:-1]).state_dict()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of every kind, a backbone in torchvision's layout, a folder of real images and a label table."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(1)
    torch.save(published.genforce_file(UNITS, LATENT), folder / "pggan.pth")
    torch.save(published_later.genforce_style_file(UNITS, LATENT), folder / "stylegan2.pth")
    torch.save(unet_file(), folder / "unetgan.pth")
    torch.save(published.dissection_file(UNITS, LATENT), folder / "dissection.pth")
    torch.save(published.zoo_file(UNITS, LATENT), folder / "zoo.pth")
    with published.pretended("tfutil.Network") as (network,):
        made = tuple(network() for _ in range(3))
        for one, state in zip(made, published.tensorflow_file(UNITS, LATENT)):
            one.__dict__.update(state)
        (folder / "karras.pth").write_bytes(pickle.dumps(made))
    torch.save(published.genforce_file(UNITS[:5], LATENT), folder / "small.pth")
    torch.save(features.ResNet18(8, "imagenet", classes=10).state_dict(), folder / "resnet18.pth")
    (folder / "real").mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 255, (6, 30, 40, 3), np.uint8)):
        Image.fromarray(image).save(folder / "real" / f"{i}.png")
    rows = [f"{i},{'artifact,stain' if i in DEFECTS else 'normal,'},ann" for i in LABELLED]
    (folder / "labels.csv").write_text("\n".join(["id,label,type,rater", *rows]) + "\n")
    return folder


def own(files, kind, **more):
    parts = {"discriminator": "pggan.pth" if kind == "dissection" else f"{kind}.pth", "backbone": "resnet18.pth"}
    parts |= {"images": "real", "labels": "labels.csv"} | more
    parts = {name: file if file is None else files / file for name, file in parts.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "images in .* are not all 256 x 256")
        return domains.load(f"own {kind}", files / f"{kind}.pth", **parts)


@has_data
@pytest.mark.parametrize(
    ("kind", "layers"),
    [("pggan", 15), ("dissection", 15), ("karras", 15), ("zoo", 15), ("stylegan2", 14), ("unetgan", 14)],
)
def test_every_step_runs_on_published_layouts_at_256_pixels(files, kind, layers):
    domain = own(files, kind)
    flow = domain.flow
    assert domain.name == f"own {kind}" and flow.n_layers == layers and flow.resolution(layers) == 256
    assert domain.evaluation.name == "the suite's evaluation network at 64 px" and domain.classes == ()
    artifacts, normals = domain.split(TRAIN)
    assert artifacts == [1, 3, 4, 1401] and normals == [0, 2, 5, 1400]
    images = domain.images(artifacts)
    assert images.shape == (4, 3, 256, 256) and images.std() > 0.01
    scores = domain.d_values(images)
    close(domain.d_values(images[[2, 0]]), scores[[2, 0]])
    assert scores.shape == (4,) and scores.isfinite().all() and scores.std() > 0
    assert domain.maps(images).shape == (4, 64, 8, 8)  # P6: a grid of at least 7 x 7
    assert domain.cams(images).shape == (4, 256, 256)
    masks = domain.masks(artifacts)
    assert torch.equal(masks, gradcam.binary_mask(domain.cams(images))) and masks.any()
    assert domain.evaluation.pooled(images).shape == (4, domain.evaluation.network.units)

    levels = survey.thresholds(flow, domain.latents(POOL[:6]), layers=[1, 2, 3, 4])
    ds = units.defective_scores(flow, domain.latents(artifacts), masks, levels)
    assert [len(ds[layer]) for layer in (1, 2, 3, 4)] == [flow.units(layer) for layer in (1, 2, 3, 4)]
    edits = correct.sequential(ds, stop_layer=4)
    corrected = domain.images(artifacts, edits)
    assert corrected.shape == images.shape and (corrected - images).abs().max() > 1e-3
    assert torch.equal(domain.images(artifacts), images)
    local = domain.images(artifacts[:1], correct.local(ds, masks[:1], stop_layer=4))
    assert local.shape == (1, 3, 256, 256)


@has_data
def test_the_heads_are_those_fitted_on_the_training_labels_and_the_real_images(files):
    domain = own(files, "pggan")
    ids = [i for i in LABELLED if i in TRAIN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = domain.maps(torch.cat([domain.images(ids), domain.real(range(6))]))
    targets = torch.tensor([int(i in DEFECTS) for i in ids] + [classifier.REAL] * 6)
    head, detector = classifier.fit(maps.mean(dim=(2, 3)), targets), classifier.fit_local(maps, targets)
    # Weights fitted on random features hang on how those were rounded; what they say of the images does not.
    pooled, normals = maps.mean(dim=(2, 3)), maps[targets == classifier.NORMAL]
    probabilities = classifier.predict(head, pooled)
    torch.testing.assert_close(classifier.predict(domain.head, pooled), probabilities, rtol=0, atol=0.01)
    seen, expected = (gradcam.evidence(maps, fitted) for fitted in (domain.detector, detector))
    torch.testing.assert_close(seen, expected, rtol=0, atol=0.01 * float(expected.abs().max()))
    baseline = gradcam.evidence(normals, domain.detector).mean(0)
    torch.testing.assert_close(domain.baseline, baseline, rtol=0, atol=1e-3 * float(baseline.abs().max()))
    probabilities = probabilities[: len(ids)]
    assert torch.equal(domain.classify(domain.images(ids)), probabilities.argmax(dim=1))
    plain = features.load(files / "resnet18.pth")
    close(domain.backbone.maps(domain.images(ids)), plain.maps(domain.images(ids)))


@has_data
def test_fitted_heads_are_kept_but_never_for_another_generator(files, capsys):
    first = own(files, "dissection")
    capsys.readouterr()
    again = own(files, "dissection")
    assert capsys.readouterr().out.count("cached:") == 1 and torch.equal(first.head.weight, again.head.weight)
    torch.manual_seed(3)
    torch.save(published.dissection_file(UNITS, LATENT), files / "other.pth")
    other = own(files, "other", discriminator="pggan.pth")
    assert "cached:" not in capsys.readouterr().out and not torch.equal(first.head.weight, other.head.weight)


@has_data
def test_the_full_width_backbone_of_the_paper_loads_as_torchvision_stores_it(files):
    torch.save(features.ResNet18(64, "imagenet").state_dict(), files / "full.pth")
    domain = own(files, "small", backbone="full.pth", images=None, labels=None, discriminator=None)
    assert domain.flow.resolution(domain.flow.n_layers) == 64
    images = domain.images([0])
    maps = domain.maps(images)
    assert maps.shape == (1, 512, 8, 8)  # 64 pixels are enlarged, a map of 2 x 2 would show nothing
    enlarged = F.interpolate(images, (256, 256), mode="bilinear", antialias=True)
    close(maps, features.load(files / "full.pth").maps(enlarged))


@has_data
def test_what_was_not_given_is_asked_for_where_it_is_needed(files):
    domain = own(files, "dissection", discriminator=None, images=None, labels=None, backbone=None)
    images = domain.images([0, 1])
    assert images.shape == (2, 3, 256, 256) and domain.evaluation.pooled(images).shape[0] == 2
    for use, message in (
        (lambda: domain.d_values(images), "no discriminator: load it with discriminator="),
        (lambda: domain.discriminator(images), "no discriminator"),
        (lambda: domain.real([0]), "no real images: load it with images=, a folder"),
        (lambda: domain.labels.artifacts, "no labels: load it with labels=, a CSV of widgets.labeller"),
        (lambda: domain.split(TRAIN), "no labels"),
        (lambda: len(domain.labels), "no labels"),
        (lambda: domain.maps(images), "no backbone: load it with backbone="),
        (lambda: domain.masks([0]), "no backbone"),
        (lambda: classifier.predict(domain.head, torch.zeros(1, 64)), "no heads, since it has no labels"),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    with_backbone = own(files, "dissection", discriminator=None, images=None, labels=None)
    for use in (with_backbone.classify, with_backbone.cams):
        with pytest.raises(ValueError, match="no heads, since it has no labels: load it with labels="):
            use(images)


@has_data
def test_without_real_images_there_are_masks_but_no_classes(files):
    domain = own(files, "pggan", images=None)
    assert domain.masks([1, 3]).shape == (2, 256, 256)
    with pytest.raises(ValueError, match="no classifier of three classes, since it has no real images: .*images="):
        domain.classify(domain.images([0]))


@has_data
def test_real_images_come_from_the_folder_at_the_generators_size(files):
    domain = own(files, "small", labels=None, backbone=None)
    with pytest.warns(UserWarning, match="are not all 64 x 64: those of another size are cut"):
        real = domain.real(range(6))
    assert real.shape == (6, 3, 64, 64) and real.min() >= -1 and real.max() <= 1 and real.std() > 0.2
    with pytest.raises(ValueError, match="has 6 images, ids 0 to 5, but image 10000 was asked for"):
        domain.real(REAL_REFERENCE[:2])


@has_data
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights": "nowhere.pth"}, FileNotFoundError, "nowhere.pth is neither a file nor a published name"),
        ({"weights": "resnet18.pth"}, ValueError, "no progressive GAN, StyleGAN2 or U-net GAN"),
        ({"weights": "d.pth"}, ValueError, "d.pth holds a discriminator: load it with load_discriminator"),
        ({"discriminator": "dissection.pth"}, ValueError, "dissection.pth holds a generator"),
        ({"discriminator": "small.pth"}, ValueError, "judges images of 64 px, the generator draws 256 px"),
        ({"discriminator": "nowhere.pth"}, FileNotFoundError, "neither a file nor a published name"),
        ({"backbone": "pggan.pth"}, ValueError, "first convolution of shape|no readable weight file"),
        ({"images": "nowhere"}, FileNotFoundError, "there is no folder .*nowhere of real images"),
        ({"images": "nothing"}, ValueError, "nothing holds no image"),
        ({"labels": "beyond.csv"}, ValueError, "labels image 12000, which is in no split: label ids of .*0 to 3499"),
        ({"labels": "twice.csv"}, ValueError, "labels image 3 twice: keep the rows of one rater"),
        ({"labels": "held_out.csv"}, ValueError, "of the labels, 0 are of domains.TRAIN: artifacts and normals"),
        ({"labels": "nowhere.csv"}, FileNotFoundError, "nowhere.csv"),
    ],
)
def test_files_that_do_not_fit_are_refused(files, change, error, message):
    torch.save(published.genforce_file(UNITS, LATENT)["discriminator"], files / "d.pth")
    (files / "nothing").mkdir(exist_ok=True)
    head = "id,label,type,rater\n"
    (files / "beyond.csv").write_text(head + "3,normal,,ann\n12000,artifact,stain,ann\n")
    (files / "twice.csv").write_text(head + "3,normal,,ann\n3,artifact,stain,bob\n")
    (files / "held_out.csv").write_text(head + "900,normal,,ann\n901,artifact,stain,ann\n")
    parts = {"weights": "pggan.pth", "backbone": "resnet18.pth"} | change
    with pytest.raises(error, match=message):
        domains.load("own", **{name: files / file for name, file in parts.items()})


def test_the_embedded_domain_takes_no_files_and_another_needs_them(tmp_path):
    for given in ({"weights": "a.pth"}, {"images": tmp_path}, {"evaluation": "inception"}, {"download": True}):
        with pytest.raises(ValueError, match="'churches' is an embedded domain and takes no files"):
            domains.load("churches", **given)
    with pytest.raises(ValueError, match="unknown domain 'kitchens': .* others need a name and weights"):
        domains.load("kitchens", images=tmp_path)


def test_a_published_name_stands_for_its_file_and_labels_ask_for_the_published_backbone(files, monkeypatch, tmp_path):
    monkeypatch.setenv("HELPERS_PUBLISHED", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="put proggan_churchoutdoor-7e701dd5.pth into"):
        domains.load("pggan-church", "pggan-churchoutdoor")
    entry = registry.REGISTRY["pggan-churchoutdoor"]._replace(sha256="")
    monkeypatch.setitem(registry.REGISTRY, "pggan-churchoutdoor", entry)
    (tmp_path / entry.file).write_bytes((files / "dissection.pth").read_bytes())
    with pytest.raises(FileNotFoundError, match="put resnet18-f37072fd.pth into"):
        domains.load("pggan-church", "pggan-churchoutdoor", labels=files / "labels.csv")
