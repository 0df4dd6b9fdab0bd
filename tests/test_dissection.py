import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers import dissection, survey, units
from helpers.flow import Flow
from helpers.latents import latents
from helpers.networks import pggan
from tests.networks import Canvas, tiny_generator

N, CONCEPTS = 11, ("low", "middle", "high")


def segment(images):
    """Label a pixel by how bright the image is there, against fixed levels."""
    grey = images.mean(dim=1)
    return (grey > -0.1).long() + (grey > 0.2).long()


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()), batch=4)


@pytest.fixture(scope="module")
def z():
    return latents(range(N), 9)


@pytest.fixture(scope="module")
def grid(flow):
    return dissection.levels(flow, latents(range(100, 200), 9), (0.02, 0.3))


@pytest.fixture(scope="module")
def found(flow, z, grid):
    return dissection.dissect(flow, z, segment, grid, CONCEPTS)


def naive(flow, z, grid):
    """Per layer, level, unit and concept: the four cells of the table unit by concept, from upsampled maps."""
    images = flow.generate(z)
    masks = torch.stack([segment(images) == c for c in range(len(CONCEPTS))]).double()  # (C, N, R, R)
    cells = {}
    for layer, rows in grid.items():
        h = flow.record(z, [layer])[layer]
        cells[layer] = np.zeros((*rows.shape, len(CONCEPTS), 4))
        for k, level in enumerate(rows):
            active = (h > level[:, None, None]).double()
            up = F.interpolate(active, size=images.shape[-2:], mode="bilinear", align_corners=False)
            for u in range(h.shape[1]):
                for c, mask in enumerate(masks):
                    a = up[:, u]
                    four = [(a * mask), a * (1 - mask), (1 - a) * mask, (1 - a) * (1 - mask)]
                    cells[layer][k, u, c] = [float(part.sum()) for part in four]
    return cells


@pytest.fixture(scope="module")
def expected(flow, z, grid):
    return naive(flow, z, grid)


def test_ious_equal_those_of_upsampled_maps(found, expected):
    for layer, iou in found.ious().items():
        both, unit, concept, _ = np.moveaxis(expected[layer], -1, 0)
        np.testing.assert_allclose(iou.numpy(), both / (both + unit + concept), rtol=0, atol=1e-6)
    assert sum(int((iou > 0.05).sum()) for iou in found.ious().values()) > 20  # not an agreement of zeros


def test_qualities_equal_the_written_out_ratio(found, expected):
    for layer, quality in found.qualities().items():
        p = expected[layer] / expected[layer].sum(-1, keepdims=True)
        log = np.log2(np.where(p > 0, p, 1))
        joint = -(p * log).sum(-1)
        of_unit, of_concept = p[..., 0] + p[..., 1], p[..., 0] + p[..., 2]
        information = np.zeros_like(joint)
        for i, marginal in enumerate(
            (
                of_unit * of_concept,
                of_unit * (1 - of_concept),
                (1 - of_unit) * of_concept,
                (1 - of_unit) * (1 - of_concept),
            )
        ):
            cell = p[..., i]
            information += np.where(cell > 0, cell * (log[..., i] - np.log2(np.where(marginal > 0, marginal, 1))), 0)
        ratio = np.where(joint > 0, information / np.where(joint > 0, joint, 1), 0)
        np.testing.assert_allclose(quality.numpy(), ratio, rtol=0, atol=1e-5)
    assert max(float(quality.max()) for quality in found.qualities().values()) > 0.01  # not an agreement of zeros


def test_areas_and_pixels_are_counted(found, flow, z):
    labels = segment(flow.generate(z))
    assert found.areas.tolist() == [int((labels == c).sum()) for c in range(3)]
    assert found.pixels == labels.numel() and found.images == N


def test_chunks_and_order_do_not_matter(found, flow, z, grid):
    other = dissection.dissect(Flow(flow.network, batch=3), z.flip(0), segment, grid, CONCEPTS)
    for layer, iou in found.ious().items():
        torch.testing.assert_close(other.ious()[layer], iou, rtol=0, atol=1e-6)


def test_one_level_is_a_row_of_the_grid(found, flow, z, grid):
    alone = dissection.dissect(flow, z, segment, {layer: rows[1] for layer, rows in grid.items()}, CONCEPTS)
    for layer, iou in found.at(1).ious().items():
        torch.testing.assert_close(alone.ious()[layer], iou, rtol=0, atol=1e-9)


def test_some_concepts_are_the_same_columns(found, flow, z, grid):
    some = dissection.dissect(flow, z, segment, grid, {"high": 2})
    for layer, iou in some.ious().items():
        torch.testing.assert_close(iou[..., 0], found.ious()[layer][..., 2], rtol=0, atol=1e-9)


def hand():
    """Two images of 4x4, layer 1 as large as they are: units 0 and 1 on the concept, 2 beside it, 3 nowhere."""
    h = torch.zeros(2, 4, 4, 4)
    h[0, 0, :2, :2] = 1.0  # the concept's four pixels
    h[0, 1, :2, :] = torch.tensor([2.0, 2.0, 1.0, 1.0])  # above 1.5 the concept alone, above 0.5 twice as much
    h[1, 2, 3, 3] = 1.0
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, :2, :2] = 1
    return Flow(Canvas(4, 4), 1), h.flatten(1), labels


def of_hand(labels):
    """A function that labels the two images in turn."""
    turn = iter(labels)
    return lambda images: next(turn)[None]


def test_the_table_of_a_hand_made_case():
    flow, z, labels = hand()
    grid = {1: torch.tensor([[0.5] * 4, [1.5, 1.5, 0.7, 1.5]])}
    agreement = dissection.dissect(flow, z, of_hand(labels), grid, {"thing": 1})
    torch.testing.assert_close(agreement.ious()[1][..., 0], torch.tensor([[1, 0.5, 0, 0], [0, 1.0, 0, 0]]).double())
    named = dissection.table(agreement)
    assert named.iou.tolist() == [1, 1, 0, 0] and named.interpretable.tolist() == [True, True, False, False]
    assert named.threshold[:2].tolist() == [0.5, 1.5] and named.fraction[:2].tolist() == [4 / 32, 4 / 32]
    assert named.quality[0] == pytest.approx(1) and named.quality[3] == 0
    by_quality = dissection.table(agreement, "quality")
    assert by_quality.iou.tolist() == [1, 1, 0, 0]
    assert dissection.scores(agreement, "thing")[1].tolist() == [1, 1, 0, 0]
    assert dissection.counts(named).to_dict() == {"thing": {1: 2}}
    assert dissection.counts(named, ["other", "thing"]).loc[1].tolist() == [0, 2]


def test_a_unit_that_shuns_the_concept_is_not_interpretable():
    flow, z, labels = hand()
    z = (1 - z.view(2, 4, 4, 4)).flatten(1)  # unit 0 is now active everywhere but on the concept
    agreement = dissection.dissect(flow, z, of_hand(labels), {1: torch.full((4,), 0.5)}, {"thing": 1})
    named = dissection.table(agreement, "quality")
    assert named.quality[0] == pytest.approx(1) and named.iou[0] == 0 and not named.interpretable[0]


def test_the_table_takes_the_best_level_per_concept(found):
    named = dissection.table(found)
    for layer, iou in found.ious().items():
        rows = named[named.layer == layer]
        torch.testing.assert_close(torch.tensor(rows.iou.to_numpy()), iou.amax(dim=(0, 2)), rtol=0, atol=1e-12)
        assert [CONCEPTS[i] for i in iou.amax(dim=0).argmax(dim=1)] == rows.concept.tolist()
    with pytest.raises(ValueError, match="iou"):
        dissection.table(found, "size")


def test_levels_of_small_layers_are_those_of_the_survey(flow, grid):
    for k, fraction in enumerate((0.02, 0.3)):
        expected = survey.thresholds(flow, latents(range(100, 200), 9), fraction)
        for layer in flow.layers:
            largest = float(expected[layer].abs().max())
            torch.testing.assert_close(grid[layer][k], expected[layer], rtol=0, atol=1e-4 * largest)
    assert list(dissection.levels(flow, latents(range(3), 9), (0.5,), [2])) == [2]


def test_levels_of_large_layers_come_from_some_of_the_places(monkeypatch, flow, grid):
    monkeypatch.setattr(dissection, "PLACES", 100)  # of 256
    some = dissection.levels(flow, latents(range(100, 200), 9), (0.3,), [6])[6][0]
    h = flow.record(latents(range(100, 200), 9), [6])[6]
    shares = (h > some[:, None, None]).float().mean(dim=(0, 2, 3))
    assert not torch.equal(some, grid[6][1]) and (shares - 0.3).abs().max() < 0.05


def test_levels_refuse_what_gives_none(flow):
    for wrong in ((), (0,), (1.0, 0.1)):
        with pytest.raises(ValueError, match="fractions"):
            dissection.levels(flow, latents(range(3), 9), wrong)
    with pytest.raises(ValueError, match="no latents"):
        dissection.levels(flow, latents(range(0), 9))


def test_one_concept_is_the_pooled_defective_score(found, flow, z, grid):
    masks = segment(flow.generate(z)) == 2
    pooled = units.defective_scores(flow, z, masks, {layer: rows[0] for layer, rows in grid.items()}, reduce="pooled")
    for layer, score in pooled.items():
        torch.testing.assert_close(found.ious()[layer][0, :, 2].float(), score, rtol=0, atol=1e-6)


# Bad input


def test_a_concept_that_never_occurs_is_named(flow, z, grid):
    with pytest.raises(ValueError, match="'gold' occurs in none of the 11 images"):
        dissection.dissect(flow, z, segment, grid, {"high": 2, "gold": 7})
    with pytest.raises(ValueError, match="'low' occurs in none"):  # nothing is labelled at all
        dissection.dissect(flow, z, lambda images: segment(images) - 9, grid, CONCEPTS)


def test_label_maps_that_do_not_fit_are_refused(flow, z, grid):
    for wrong in (lambda x: segment(x).float(), lambda x: segment(x)[:, ::2], lambda x: None):
        with pytest.raises(ValueError, match="label maps must be integers"):
            dissection.dissect(flow, z, wrong, grid, CONCEPTS)


def test_thresholds_layers_and_concepts_are_checked(flow, z, grid, found):
    with pytest.raises(ValueError, match="there is no layer 12"):
        dissection.dissect(flow, z, segment, {12: torch.zeros(3)}, CONCEPTS)
    with pytest.raises(ValueError, match="12 units"):
        dissection.dissect(flow, z, segment, {1: torch.zeros(3)}, CONCEPTS)
    with pytest.raises(ValueError, match="not finite"):
        dissection.dissect(flow, z, segment, {1: torch.full((12,), float("nan"))}, CONCEPTS)
    with pytest.raises(ValueError, match="no layer"):
        dissection.dissect(flow, z, segment, {}, CONCEPTS)
    with pytest.raises(ValueError, match="no concepts"):
        dissection.dissect(flow, z, segment, grid, ())
    with pytest.raises(ValueError, match="no latents"):
        dissection.dissect(flow, z[:0], segment, grid, CONCEPTS)
    with pytest.raises(ValueError, match="there is no concept 'gold'"):
        dissection.scores(found, "gold")
