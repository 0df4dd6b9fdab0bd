from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import correct, domains, evaluation, metrics, survey, units
from helpers.evaluation import Reference, Sample, Scores

LAYERS = [1, 2]


@pytest.fixture(scope="module")
def domain():
    return domains.load("churches")


@pytest.fixture(scope="module")
def scores(domain):
    thresholds = survey.thresholds(domain.flow, domain.latents(domains.POOL[:64]), layers=LAYERS)
    return evaluation.ranked(domain, range(12), thresholds)


def damp(scores):
    return correct.sequential(scores, 1, 0.5, 0.0)


def looked(features, ids=None, network="evaluation"):
    features = torch.as_tensor(features, dtype=torch.float32)
    ids = tuple(range(len(features)) if ids is None else ids)
    return Sample(ids, torch.zeros(len(ids), 3, 4, 4), features, network, "held-out")


def test_scores_are_those_of_the_artifacts_and_remember_all_ids(domain, scores):
    assert scores.ids == frozenset(range(12))
    artifacts = [i for i in range(12) if i in domain.labels.artifacts]
    thresholds = survey.thresholds(domain.flow, domain.latents(domains.POOL[:64]), layers=LAYERS)
    by_hand = units.defective_scores(domain.flow, domain.latents(artifacts), domain.masks(artifacts), thresholds)
    for layer in LAYERS:
        assert torch.equal(scores[layer], by_hand[layer])
    assert correct.sequential(scores, 1).keys() == {1}  # Scores stand wherever a dict does


def test_evaluating_what_was_ranked_on_names_the_overlap(domain, scores):
    with pytest.raises(ValueError, match=r"made from 2 ids \(10, 11\), which are to be evaluated"):
        evaluation.sample(domain, [10, 11, 900], damp, scores)
    with pytest.raises(ValueError, match=r"made from 1 id \(2500\)"):
        evaluation.sample(domain, [900, 2500], damp, scores, tuned_on=domains.TUNE)
    allowed = evaluation.sample(domain, [10, 900], damp, scores, in_sample=True)
    held = evaluation.sample(domain, [900, 901], damp, scores, in_sample=True)
    assert (allowed.protocol, held.protocol) == ("in-sample", "held-out")
    with pytest.raises(TypeError, match="scores must remember their ids, got a dict"):
        evaluation.sample(domain, [900, 901], damp, dict(scores))


def test_a_sample_is_what_the_flow_generates(domain, scores):
    found = evaluation.sample(domain, [900, 901], damp, scores)
    images = domain.flow.generate(domain.latents([900, 901]), damp(scores)).clamp(-1, 1)
    assert torch.equal(found.images, images)
    assert torch.equal(found.features, domain.evaluation.pooled(images))
    assert found.ids == (900, 901) and len(found) == 2
    other = evaluation.sample(domain, [900, 901], z=domain.latents([7, 8]))
    assert torch.equal(other.images, domain.images([7, 8]))
    one = found.take(torch.tensor([False, True]))
    assert one.ids == (901,) and torch.equal(one.features, found.features[1:])


@pytest.mark.parametrize("ids", [[900], [900, 900]])
def test_too_few_ids_are_refused(domain, ids):
    with pytest.raises(ValueError, match="expected at least 2, each once"):
        evaluation.sample(domain, ids)


def test_ranking_needs_two_artifacts(domain):
    one = domain.split(domains.TRAIN)[0][:1]
    normals = domain.split(domains.TRAIN)[1][:3]
    with pytest.raises(ValueError, match="4 ids hold 1 artifacts, expected at least 2"):
        evaluation.ranked(domain, [*one, *normals], {})


def test_networks_are_not_mixed():
    torch.manual_seed(0)
    reference = Reference(looked(torch.randn(30, 3)))
    wrong, right = looked(torch.randn(20, 3), network="backbone"), looked(torch.randn(20, 3))
    for call in (reference.fd, reference.quality, reference.realism, lambda s: reference.change(s, right)):
        with pytest.raises(ValueError, match="the backbone network read the sample, the evaluation one the real"):
            call(wrong)
    with pytest.raises(ValueError, match="differ in ids or network"):
        evaluation.moved(right, wrong)
    with pytest.raises(ValueError, match="hold different ids"):
        reference.change(right, looked(torch.randn(20, 3), ids=range(1, 21)))
    with pytest.raises(ValueError, match="k must lie between 1 and 4"):
        reference.quality(looked(torch.randn(5, 3)))


def test_quality_is_that_of_metrics():
    torch.manual_seed(1)
    real, x, other = torch.randn(60, 4), torch.randn(25, 4) + 1, torch.randn(25, 4)
    reference, found = Reference(looked(real)), looked(x)
    quality = reference.quality(found, 20, looked(other))
    assert quality["FD"].value == pytest.approx(metrics.frechet_distance(x, real))
    assert quality["kernel distance"].value == pytest.approx(metrics.kernel_distance(x, real))
    assert quality["realism"].value == pytest.approx(float(metrics.realism(real, x).median()))
    assert quality["precision"].value == metrics.prdc(other, x, 5).precision
    assert quality["recall"].value == metrics.prdc(other, x, 5).recall
    assert quality["coverage"].value == metrics.prdc(other, x, 5).coverage
    assert all(low <= value <= high for value, low, high in quality.values())
    change = reference.change(found, looked(other), 20)
    assert change.value == pytest.approx(metrics.frechet_distance(x, real) - metrics.frechet_distance(other, real))
    assert reference.change(found, found, 20) == (0, 0, 0)


def test_how_far_images_moved():
    before = looked([[0.0, 0.0], [3.0, 4.0]])
    after = looked([[0.0, 1.0], [3.0, 4.0]])
    assert evaluation.moved(before, after).tolist() == pytest.approx([0.2, 0])  # the two images are 5 apart


def test_differences_are_those_of_the_classes_without_the_nights(domain):
    ids = domains.TRAIN[:60]
    bad, good = domain.split(ids)
    lit = [[i for i in part if domain.images([i]).mean() >= evaluation.DARK] for part in (bad, good)]
    assert evaluation.bright(domain, bad) == lit[0] and 2 <= len(lit[0]) < len(bad)
    found = evaluation.differences(domain, ids, [1])
    by_hand = units.differences(domain.flow, *map(domain.latents, lit), [1])
    assert torch.equal(found[1], by_hand[1]) and found.counts == tuple(map(len, lit)) and found.ids == set(ids)
    every = evaluation.differences(domain, ids, [1], dark=True)
    assert every.counts == (len(bad), len(good)) and not torch.equal(every[1], found[1])
    chain = evaluation.differences(domain, ids, [1, 2], make=correct.layer_after_layer, amount=0.5)
    by_hand = correct.layer_after_layer(domain.flow, *map(domain.latents, lit), [1, 2], amount=0.5)
    assert torch.equal(chain[2], by_hand[2]) and chain.ids == set(ids)


def test_brightness_is_looked_at_once_for_as_long_as_the_weights_stay(domain, monkeypatch):
    other = replace(domain, flow=deepcopy(domain.flow))
    ids, looked_at, images = [*domains.TRAIN[:12]], [], domains.Domain.images
    monkeypatch.setattr(domains.Domain, "images", lambda self, ids: looked_at.extend(ids) or images(self, ids))
    found = evaluation.bright(other, ids[:8])
    assert evaluation.bright(other, torch.tensor(ids)) == [*found, *evaluation.bright(other, ids[8:])]
    assert 0 < len(found) < 8
    assert looked_at == ids
    with torch.no_grad():
        for weights in other.flow.network.parameters():
            weights.zero_()  # grey images, which are bright
    assert evaluation.bright(other, ids) == ids and looked_at == ids * 2


def test_what_distances_are_measured_to_is_read_once(domain, monkeypatch, tmp_path):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    found = evaluation.reference_sample(domain, 9)
    images = domain.reference(9)
    assert found.ids == tuple(domains.REAL_REFERENCE[:9]) and found.network == "evaluation"
    assert torch.equal(found.images, images) and torch.equal(found.features, domain.evaluation.pooled(images))
    judged = evaluation.reference_features(domain, 9, "backbone")
    assert torch.equal(judged, domain.backbone.pooled(images)) and not torch.equal(judged, found.features)
    monkeypatch.setattr(type(domain.evaluation), "pooled", None)  # from here on only the cache can know
    again = evaluation.reference_sample(domain, 9)
    assert torch.equal(again.features, found.features) and torch.equal(again.images, found.images)
    monkeypatch.setattr(domains.Domain, "reference", None)
    assert torch.equal(evaluation.reference_features(domain, 9, "backbone"), judged)
    with pytest.raises(TypeError):
        evaluation.reference_features(domain, 8)


def test_masks_are_made_once_and_are_those_of_the_domain(domain, monkeypatch, tmp_path):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    found = evaluation.masks(domain, range(5))
    assert torch.equal(found, domain.masks(range(5))) and found.dtype == torch.bool and found.any()
    assert torch.equal(evaluation.masks(domain, np.arange(5)), found) and len(list(tmp_path.iterdir())) == 1
    assert not torch.equal(evaluation.masks(domains.load("churches-unetgan"), range(5)), found)
    with pytest.raises(ValueError, match="image ids must be integers"):
        evaluation.masks(domain, [0.5])
    monkeypatch.setattr(domains.Domain, "masks", None)
    assert torch.equal(evaluation.masks(domain, range(5)), found)
    with pytest.raises(TypeError):
        evaluation.masks(domain, range(6))


def test_what_a_shift_was_made_from_is_not_evaluated(domain):
    ids = domains.TRAIN[:40]
    found = evaluation.differences(domain, ids, [1])
    made = r"made from 1 id \(5\), which are to be evaluated"
    with pytest.raises(ValueError, match=made):
        evaluation.sample(domain, [5, 900], correct.shift, found)
    with pytest.raises(ValueError, match=made):  # the edits know it themselves
        evaluation.sample(domain, [5, 900], lambda _: correct.shift(found, 0.5))
    unknown = units.differences(domain.flow, domain.latents([1]), domain.latents([2]), [1])
    with pytest.raises(TypeError, match="scores must remember their ids, got a Differences"):
        evaluation.sample(domain, [900, 901], correct.shift, unknown)
    held = evaluation.sample(domain, [900, 901], correct.shift, found)
    assert held.protocol == "held-out"
    images = domain.flow.generate(domain.latents([900, 901]), correct.shift(found)).clamp(-1, 1)
    assert torch.equal(held.images, images)
    assert evaluation.sample(domain, [5, 900], correct.shift, found, in_sample=True).protocol == "in-sample"
    one_each = evaluation.Scores({1: found[1].expand(2, *found[1].shape)}, ids)  # as nearest differences are
    with pytest.raises(ValueError, match=made):
        evaluation.sample(domain, [5, 900], correct.shift, one_each)
    assert torch.equal(evaluation.sample(domain, [900, 901], correct.shift, one_each).images, images)


def test_a_latent_direction_knows_its_ids(domain):
    ids = domains.TRAIN[:40]
    found = evaluation.latent_direction(domain, ids, dark=True, l2=0.2)
    by_hand = correct.latent_direction(*map(domain.latents, domain.split(ids)), l2=0.2)
    assert torch.equal(found.vector, by_hand.vector) and found.ids == set(ids)
    with pytest.raises(ValueError, match=r"made from 1 id \(5\)"):
        evaluation.sample(domain, [5, 900], None, found, z=found.step(domain.latents([5, 900])))


def test_the_classifier_judges_images(domain):
    images = domain.images(range(900, 930))
    logits = domain.backbone.pooled(images) @ domain.head.weight.T + domain.head.bias
    torch.testing.assert_close(domain.artifact_scores(images), logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-4)


def test_pixel_change_counts_where_asked():
    before, after = looked(torch.zeros(2, 1)), looked(torch.zeros(2, 1))
    after.images[0, 0, 0, 0] = 0.9  # one channel of three
    where = torch.zeros(2, 4, 4, dtype=torch.bool)
    where[0, 0] = True
    assert evaluation.pixel_change(before, after).tolist() == pytest.approx([0.3 / 16, 0])
    inside = evaluation.pixel_change(before, after, where)
    assert inside[0] == pytest.approx(0.3 / 4) and inside[1].isnan()


def test_parts_are_lost_when_less_than_a_third_is_left():
    before, after = torch.tensor([[12, 11, 30, 30]]), torch.tensor([[3, 0, 10, 9]])
    there, gone = evaluation.lost(before, after)
    assert there.tolist() == [[True, False, True, True]]
    assert gone.tolist() == [[True, False, False, True]]


def test_parts_count_every_pixel(domain):
    images, truth = domain.render(range(2))
    found = evaluation.parts(domain, images.float() / 127.5 - 1)
    assert found.shape == (2, len(domain.classes)) and found.sum(dim=1).tolist() == [64 * 64] * 2
    exact = torch.stack([(truth == k).sum(dim=(1, 2)) for k in range(len(domain.classes))], dim=1)
    assert (found - exact).abs().sum() < 0.1 * exact.sum()


def test_dark_is_a_matter_of_the_mean():
    found = looked(torch.zeros(2, 1))
    found.images[0] = -0.5
    assert found.dark.tolist() == [True, False]


def test_scores_keep_nothing_but_whole_ids():
    assert Scores({1: torch.ones(2)}, torch.tensor([3, 4])).ids == {3, 4}
