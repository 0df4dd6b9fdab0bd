import pytest
import torch

from helpers import classifier, correct, domains, evaluation, labels, metrics, store
from helpers.weights import packages
from helpers.worlds import faces
from tools.measure.evaluate import raters

absent = packages.lacking()
installed = pytest.mark.skipif(absent is not None, reason=absent or "")


@pytest.fixture(scope="module")
def domain():
    if absent:
        pytest.skip(absent)
    return domains.load("faces")


def passes():
    return [labels.read(store.fetch(f"faces/{name}_pass.csv")) for name in ("first", "second", "third")]


def test_labels_are_the_majority_of_the_passes_and_lie_in_the_splits():
    table, (first, second, third) = labels.read(store.fetch("faces/labels.csv")), passes()
    splits = [set(domains.TRAIN), set(domains.TUNE), set(domains.TEST), set(domains.REFERENCE)]
    assert [len(s & set(table.ids)) for s in splits] == [1700, 200, 700, 500] and len(table) == 3100
    said = [dict(zip(part.ids, part.labels)) for part in (first, second, third)]
    assert set(said[2]) == {i for i in said[0] if said[0][i] != said[1][i]}
    for row in table.rows:
        votes = [part[row["id"]] for part in said if row["id"] in part]
        assert row["label"] == max(labels.CLASSES, key=votes.count)
        assert row["votes"] == f"{votes.count('artifact')}/{len(votes)}"
        assert row["type"] in (faces.TYPES if row["label"] == "artifact" else ("",))


def test_two_blind_passes_agree_as_the_card_says():
    first, second, _ = passes()
    found = labels.agreement(first, second)
    assert found.n == 3100 and found.kappa == pytest.approx(0.66, abs=0.005)
    assert not set(first.raters) & set(second.raters)
    one, two = ({row["id"]: row for row in part.rows} for part in (first, second))
    card = (store.data_root() / "faces" / "README.md").read_text(encoding="utf-8")
    for kind in ("class", *faces.TYPES[:-1]):
        row = raters.agreed(*(raters.said([part[i] for i in one], kind) for part in (one, two)))
        name = "artifact" if kind == "class" else kind
        kappa = f"{row['kappa']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        assert f"| {name} | {row['first']:,} | {row['second']:,} | {kappa} |" in card


@installed
def test_what_the_domain_has_and_what_it_lacks(domain):
    assert domain.flow.n_layers == 5 and [domain.flow.units(k) for k in range(1, 5)] == [512, 256, 128, 64]
    assert [domain.flow.resolution(k) for k in range(1, 6)] == [4, 8, 16, 32, 64]
    assert domain.has("labels") and not domain.has("render") and not domain.has("discriminator")
    with pytest.raises(ValueError, match="no discriminator: this generator was published without its discriminator"):
        domain.d_values(domain.images([0]))
    with pytest.raises(ValueError, match=r"no real images: compare with domain.reference\(\)"):
        domain.real([0])
    ids = domain.split(domains.REFERENCE)[1][:3]
    assert torch.equal(domain.reference(3), domain.images(ids))
    assert domain.reference_name == "labelled normal generations"
    with pytest.raises(ValueError, match="'faces' is an embedded domain and takes no files"):
        domains.load("faces", weights="x.pth")


@installed
def test_the_reference_of_the_churches_is_real():
    churches = domains.load("churches")
    assert churches.has("render") and churches.reference_name == "real images"
    assert torch.equal(churches.reference(2), churches.real(domains.REAL_REFERENCE[:2]))


@installed
def test_heads_tell_held_out_artifacts(domain):
    ids = [i for pair in zip(*domain.split(domains.TEST)) for i in pair][:120]
    maps = domain.maps(domain.images(ids))
    broken = torch.tensor([i in set(domain.labels.artifacts) for i in ids])
    assert domain.head.weight.shape == (2, 384) and maps.shape[1:] == (384, 8, 8)
    assert metrics.auc(classifier.artifact_score(domain.head, maps.mean(dim=(2, 3))), broken) > 0.75
    masks = domain.masks(ids[:8])
    assert masks.shape == (8, 64, 64) and masks.flatten(1).any(dim=1).sum() >= 6
    assert set(domain.classify(domain.images(ids[:8])).tolist()) <= {classifier.NORMAL, classifier.ARTIFACT}


@installed
def test_the_shift_works_on_faces_and_keeps_them_in_range(domain):
    train = domains.TRAIN[:150]
    found = evaluation.differences(domain, train, [1], dark=True)
    artifacts, normals = domain.split(train)
    by_hand = torch.sub(*(domain.flow.record(domain.latents(i), [1])[1].double().mean(0) for i in (artifacts, normals)))
    torch.testing.assert_close(found[1].double(), by_hand, rtol=0, atol=1e-5)
    h = domain.flow.record(domain.latents(domain.split(domains.TEST)[0][:4]), [1], correct.shift(found, 2.0))[1]
    assert h.min() == 0  # after a ReLU
    assert not torch.equal(h, domain.flow.record(domain.latents(domain.split(domains.TEST)[0][:4]), [1])[1])
