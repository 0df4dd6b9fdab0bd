import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers import classifier
from helpers.classifier import ARTIFACT, NORMAL, REAL, Head


def blobs(counts, dim=6, apart=1.0, seed=0):
    """Overlapping clouds, one per class, with features of very different scales."""
    g = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(3, dim, generator=torch.Generator().manual_seed(99))
    targets = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    targets = targets[torch.randperm(len(targets), generator=g)]
    features = centres[targets] + torch.randn(len(targets), dim, generator=g)
    return features * torch.logspace(-2, 2, dim) + 5, targets


def standardised(features):
    features = features.double()
    return (features - features.mean(0)) / features.std(0)


def objective(weight, bias, x, targets, l2, balanced):
    """The loss of a head on standardised features, written out."""
    log_p = (x @ weight.T + bias).log_softmax(1)[torch.arange(len(x)), targets]
    share = torch.ones(3).double()
    if balanced:
        share = len(targets) / (3 * torch.bincount(targets, minlength=3).double())
    share = share[targets]
    return -(share * log_p).sum() / share.sum() + l2 / 2 * weight.square().sum()


def gradient_descent(features, targets, l2, balanced, steps=1500, rate=1.0):
    x = standardised(features)
    weight = torch.zeros(3, x.shape[1], dtype=torch.double, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.double, requires_grad=True)
    for _ in range(steps):
        slopes = torch.autograd.grad(objective(weight, bias, x, targets, l2, balanced), (weight, bias))
        with torch.no_grad():
            for value, slope in zip((weight, bias), slopes):
                value -= rate * slope
    assert max(s.abs().max() for s in slopes) < 1e-6  # it has arrived
    return x @ weight.detach().T + bias.detach(), weight.detach(), bias.detach()


# Fitting


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("l2", [1e-2, 0.3])
def test_fit_finds_the_minimum_that_plain_gradient_descent_finds(balanced, l2):
    features, targets = blobs((60, 15, 45))
    logits, weight, bias = gradient_descent(features, targets, l2, balanced)
    head = classifier.fit(features, targets, l2, balanced)
    torch.testing.assert_close(classifier.predict(head, features).double(), logits.softmax(1), rtol=0, atol=2e-3)
    # Both are the same head, though ours reads raw features.
    mine = head.weight.double() * features.double().std(0)
    torch.testing.assert_close(mine, weight, rtol=0, atol=5e-3)
    best = objective(weight, bias, standardised(features), targets, l2, balanced)
    shift = head.bias.double() + head.weight.double() @ features.double().mean(0)
    assert objective(mine, shift, standardised(features), targets, l2, balanced) - best < 1e-5


def test_fit_is_deterministic_and_touches_no_random_state():
    features, targets = blobs((40, 30, 20))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = classifier.fit(features, targets)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    second = classifier.fit(features, targets)
    assert torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)
    assert first.weight.shape == (3, 6) and first.bias.shape == (3,)
    assert not first.weight.requires_grad and not first.bias.requires_grad


def test_the_order_of_the_examples_and_the_type_of_the_targets_change_nothing():
    features, targets = blobs((40, 30, 20))
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    expected = classifier.predict(classifier.fit(features, targets), features)
    for x, y in ((features[order], targets[order]), (features, targets.tolist()), (features, targets.numpy())):
        torch.testing.assert_close(classifier.predict(classifier.fit(x, y), features), expected, rtol=0, atol=2e-3)


def test_fit_beats_chance_on_images_it_has_not_seen():
    train, test = blobs((80, 60, 100), apart=1.5), blobs((100, 100, 100), apart=1.5, seed=1)
    guess = classifier.predict(classifier.fit(*train), test[0]).argmax(1)
    assert (guess == test[1]).float().mean() > 0.85
    shuffled = train[1][torch.randperm(240, generator=torch.Generator().manual_seed(2))]
    guess = classifier.predict(classifier.fit(train[0], shuffled), test[0]).argmax(1)
    assert (guess == test[1]).float().mean() < 0.6  # nothing to learn, nothing learned


def test_balanced_counts_every_class_alike():
    targets = torch.tensor([0] * 60 + [1] * 10 + [2] * 30)
    nothing = torch.zeros(100, 2)
    even = classifier.predict(classifier.fit(nothing, targets), nothing[:1])[0]
    torch.testing.assert_close(even, torch.full((3,), 1 / 3), rtol=0, atol=1e-3)
    shares = classifier.predict(classifier.fit(nothing, targets, balanced=False), nothing[:1])[0]
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.1, 0.3]), rtol=0, atol=1e-3)
    features, targets = blobs((200, 20, 200), apart=0.5)
    held_out = blobs((10, 300, 10), apart=0.5, seed=3)
    recall = [
        (classifier.predict(classifier.fit(features, targets, balanced=b), held_out[0]).argmax(1) == held_out[1])[
            held_out[1] == ARTIFACT
        ].float().mean()
        for b in (True, False)
    ]  # fmt: skip
    assert recall[0] > recall[1] + 0.1


def test_the_penalty_fixes_the_gauge_and_shrinks_the_weights():
    features, targets = blobs((40, 30, 50))
    heads = [classifier.fit(features, targets, l2) for l2 in (1e-3, 1e-1, 10.0)]
    for head in heads:
        scale = (head.weight * features.std(0)).abs().max()
        assert (head.weight * features.std(0)).sum(0).abs().max() < 1e-4 * max(1, scale)
    sizes = [(head.weight * features.std(0)).square().sum() for head in heads]
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_constant_feature_is_ignored():
    features, targets = blobs((40, 30, 50))
    constant = torch.cat([features, torch.full((120, 1), 3.7)], dim=1)
    head = classifier.fit(constant, targets)
    assert head.weight.isfinite().all()
    expected = classifier.predict(classifier.fit(features, targets), features)
    torch.testing.assert_close(classifier.predict(head, constant), expected, rtol=0, atol=5e-3)


def test_fit_leaves_its_inputs_alone():
    features, targets = blobs((10, 10, 10))
    kept = features.clone(), targets.clone()
    classifier.fit(features, targets)
    assert torch.equal(features, kept[0]) and torch.equal(targets, kept[1])


def test_examples_that_cannot_be_fitted_are_refused():
    features, targets = blobs((10, 10, 10))
    with pytest.raises(ValueError, match=r"every one of .* needs examples to fit, no other, got \[20, 0, 10\]"):
        classifier.fit(features, torch.where(targets == ARTIFACT, NORMAL, targets))  # no artifact in the set
    with pytest.raises(ValueError, match="got 30 targets for 29 features"):
        classifier.fit(features[:-1], targets)
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=f"class numbers 0 to 2.*got {wrong}"):
            classifier.fit(features, torch.cat([targets[:-1], torch.tensor([wrong])]))
    for value in (torch.nan, torch.inf):
        bad = features.clone()
        bad[4, 2] = value
        with pytest.raises(ValueError, match="features of example 4 .*not finite"):
            classifier.fit(bad, targets)


# Predicting


def test_predict_is_the_softmax_of_the_linear_layer():
    head = Head(torch.randn(3, 5), torch.randn(3))
    features = torch.randn(8, 5)
    logits = features @ head.weight.T + head.bias
    expected = logits.exp() / logits.exp().sum(1, keepdim=True)
    found = classifier.predict(head, features)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(8))
    torch.testing.assert_close(classifier.predict(head, features[2:3]), expected[2:3])
    torch.testing.assert_close(
        classifier.artifact_score(head, features), (found[:, ARTIFACT] / found[:, NORMAL]).log(), rtol=1e-4, atol=1e-4
    )


def test_features_of_another_width_are_refused():
    head = Head(torch.randn(3, 5), torch.randn(3))
    for run in (classifier.predict, classifier.artifact_score):
        with pytest.raises(ValueError, match="this head reads 5 features, got 6"):
            run(head, torch.randn(8, 6))


def test_the_class_order():
    assert classifier.CLASSES == ("normal", "artifact", "real") and (NORMAL, ARTIFACT, REAL) == (0, 1, 2)


# Reporting


def test_report_on_a_case_done_by_hand():
    head = Head(torch.eye(3), torch.zeros(3))  # the largest feature is the guess
    #           truth 0            truth 1                  truth 2
    guesses = [0, 0, 0, 0, 1, 2] + [1, 1, 1, 0] + [2, 2, 2, 1, 2]
    targets = [0] * 6 + [1] * 4 + [2] * 5
    features = F.one_hot(torch.tensor(guesses), 3).float()
    found = classifier.report(head, features, targets)
    assert found.confusion.tolist() == [[4, 1, 1], [1, 3, 0], [0, 1, 4]]
    assert found.accuracy == pytest.approx(11 / 15)
    f1 = [2 * 4 / (6 + 5), 2 * 3 / (4 + 5), 2 * 4 / (5 + 5)]  # 2 TP / (true + predicted)
    assert found.macro_f1[0] == pytest.approx(sum(f1) / 3)
    # Artifact minus normal logit: normals score -1 (4), 1, 0; artifacts 1 (3), -1.
    normal, artifact = [-1] * 4 + [1, 0], [1] * 3 + [-1]
    wins = [1.0 if a > n else 0.5 if a == n else 0.0 for a in artifact for n in normal]
    assert found.auc[0] == pytest.approx(sum(wins) / 24)
    for value, low, high in (found.macro_f1, found.auc):
        assert low < value < high


def test_the_intervals_are_reproducible_and_narrow_with_more_images():
    head = classifier.fit(*blobs((60, 60, 60)))
    few, many = blobs((20, 20, 20), seed=1), blobs((300, 300, 300), seed=1)
    assert classifier.report(head, *few).auc == classifier.report(head, *few).auc
    assert classifier.report(head, *few, seed=1).auc != classifier.report(head, *few).auc
    narrow, wide = classifier.report(head, *many).macro_f1, classifier.report(head, *few).macro_f1
    ratio = (wide[2] - wide[1]) / (narrow[2] - narrow[1])
    assert ratio == pytest.approx(math.sqrt(15), rel=0.5)


def test_the_real_images_do_not_enter_the_artifact_auc():
    head = classifier.fit(*blobs((60, 60, 60)))
    features, targets = blobs((50, 50, 50), seed=1)
    changed = torch.where((targets == REAL)[:, None], -3 * features, features)
    assert classifier.report(head, features, targets).auc == classifier.report(head, changed, targets).auc
    score = classifier.artifact_score(head, features).numpy()
    wins = np.subtract.outer(score[targets == ARTIFACT], score[targets == NORMAL]) > 0
    assert classifier.report(head, features, targets).auc[0] == pytest.approx(wins.mean())


def test_a_report_needs_one_target_per_feature_and_both_generated_classes():
    head, (features, targets) = classifier.fit(*blobs((60, 60, 60))), blobs((9, 9, 9))
    with pytest.raises(ValueError, match="got 26 targets for 27 features"):
        classifier.report(head, features, targets[:-1])
    with pytest.raises(ValueError, match=r"artifact.* \[9, 0, 9\]"):
        classifier.report(head, features[targets != ARTIFACT], targets[targets != ARTIFACT])


def planted(count=60, seed=0):
    """Maps (count, 5, 6, 6) of noise; every third has a bright 2x2 square in channel 3, at a place of its own."""
    g = torch.Generator().manual_seed(seed)
    maps = 0.3 * torch.randn(count, 5, 6, 6, generator=g)
    targets = torch.tensor([classifier.NORMAL, classifier.REAL, classifier.ARTIFACT] * (count // 3))
    corners = torch.randint(0, 5, (count, 2), generator=g)
    for i in range(2, count, 3):
        y, x = corners[i]
        maps[i, 3, y : y + 2, x : x + 2] += 1.5
    return maps, targets, corners


def test_local_head_finds_the_place_that_makes_an_image_an_artifact():
    maps, targets, corners = planted()
    head = classifier.fit_local(maps, targets)
    fresh, targets, corners = planted(seed=1)
    evidence = torch.einsum("nkhw,k->nhw", fresh, head.weight[1]) + head.bias[1]
    assert torch.equal(head.weight[0], torch.zeros(5)) and head.weight[1].argmax() == 3
    for i in range(2, 60, 3):
        y, x = divmod(int(evidence[i].argmax()), 6)
        assert 0 <= y - corners[i, 0] <= 1 and 0 <= x - corners[i, 1] <= 1
    score = classifier.smooth_maximum(evidence.flatten(1))
    assert score[targets == 1].min() > score[targets != 1].max()


def test_smooth_maximum_lies_between_mean_and_maximum():
    e = torch.randn(4, 9)
    torch.testing.assert_close(classifier.smooth_maximum(e, 300.0), e.mean(1), rtol=0, atol=1e-2)
    torch.testing.assert_close(classifier.smooth_maximum(e, 1e-3), e.amax(1), rtol=0, atol=5e-3)
    by_hand = torch.stack([row.exp().mean().log() for row in e])
    torch.testing.assert_close(classifier.smooth_maximum(e, 1.0), by_hand)


def test_local_head_is_the_minimum_of_the_objective_it_states():
    maps, targets, _ = planted(seed=2)
    head = classifier.fit_local(maps, targets, l2=0.1, temperature=0.7, steps=500)
    std = maps.std(dim=(0, 2, 3))
    w = (head.weight[1] * std).requires_grad_(True)
    b = (head.bias[1] + head.weight[1] @ maps.mean(dim=(0, 2, 3))).requires_grad_(True)
    x = (maps - maps.mean(dim=(0, 2, 3))[:, None, None]) / std[:, None, None]
    score = 0.7 * ((torch.einsum("nkhw,k->nhw", x, w) / 0.7).exp().mean(dim=(1, 2))).log() + b
    wanted = (targets == 1).float()
    loss = (
        -(wanted * torch.sigmoid(score).log() + (1 - wanted) * torch.sigmoid(-score).log()).mean() + 0.05 * (w**2).sum()
    )
    gradient = torch.autograd.grad(loss, [w, b])
    assert gradient[0].abs().max() < 1e-3 and gradient[1].abs() < 1e-3


def test_local_head_refuses_what_it_cannot_use():
    maps, targets, _ = planted()
    for bad, message in (
        (lambda: classifier.fit_local(maps.mean(dim=(2, 3)), targets), r"maps must be \(N, D, h, w\)"),
        (lambda: classifier.fit_local(maps, targets, temperature=0), "temperature positive"),
        (lambda: classifier.fit_local(maps, torch.zeros(60)), "artifacts and other images"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()
