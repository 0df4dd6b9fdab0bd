import pytest
import torch
from networks import tiny_generator

from helpers import correct, survey, units
from helpers.flow import Flow, State
from helpers.interface import strokes
from helpers.interface.strokes import DRAW, MEND, REMOVE, Stroke
from helpers.networks import pggan


@pytest.fixture(scope="module")
def flow():
    return Flow(pggan.Layers(tiny_generator()))  # 16 x 16 pixels, layer 2 has 4 x 4 places, layer 4 has 8 x 8


@pytest.fixture(scope="module")
def z():
    return torch.randn(6, 9, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def values(flow, z):
    return survey.thresholds(flow, z, tau=0.01, layers=[2, 4])


@pytest.fixture(scope="module")
def differences(flow, z):
    return units.differences(flow, z[:3], z[3:], [1, 2])


def pixels(mask):
    return {(x, y) for y, x in mask.nonzero().tolist()}


def test_a_brush_of_one_pixel_covers_the_pixels_of_its_line():
    assert pixels(strokes.covered([(3, 5)], 1, 16)) == {(3, 5)}
    assert pixels(strokes.covered([(3, 5), (6, 5), (6, 8)], 1, 16)) == {(3, 5), (4, 5), (5, 5), (6, 5)} | {
        (6, y) for y in (6, 7, 8)
    }
    assert pixels(strokes.covered([(2, 2), (4, 4)], 1, 16)) == {(2, 2), (3, 3), (4, 4)}  # neighbours are 0.71 away
    assert pixels(strokes.covered([(0, 0)], 3, 16)) == {(0, 0), (1, 0), (0, 1), (1, 1)}  # cut at the border
    assert pixels(strokes.covered([(-4, 5), (1, 5)], 1, 16)) == {(0, 5), (1, 5)}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_a_stroke_covers_what_the_distance_to_its_segments_says(size):
    points = [(3, 4), (11, 7), (9, 13), (9, 13), (-2, 14)]
    y, x = torch.meshgrid(torch.arange(16.0).double(), torch.arange(16.0).double(), indexing="ij")
    nearest = torch.full((16, 16), torch.inf).double()
    for a, b in zip(points, points[1:]):
        for t in torch.linspace(0, 1, 401).double():
            spot = [a[i] + t * (b[i] - a[i]) for i in (0, 1)]
            nearest = torch.minimum(nearest, (x - spot[0]) ** 2 + (y - spot[1]) ** 2)
            if a == b:
                break
    covered = strokes.covered(points, size, 16)
    clear = (nearest.sqrt() - size / 2).abs() > 1e-2  # the others are on the brush's rim
    assert torch.equal(covered[clear], (nearest.sqrt() <= size / 2)[clear])


@pytest.mark.parametrize("points, size", [([], 3), ([(1, 1)], 0)])
def test_a_stroke_needs_a_point_and_a_brush(points, size):
    with pytest.raises(ValueError, match="a point and a brush of 1 pixel or more"):
        strokes.covered(points, size, 16)


def test_a_mask_keeps_its_largest_value_in_each_place():
    mask = torch.zeros(16, 16)
    mask[3, 4], mask[15, 0] = 0.25, 0.5
    expected = torch.zeros(1, 4, 4)
    expected[0, 0, 1], expected[0, 3, 0] = 0.25, 0.5
    assert torch.equal(strokes.pooled(mask, (4, 4)), expected)
    assert torch.equal(strokes.pooled(mask, (16, 16)), mask[None])


@pytest.mark.parametrize("how", [DRAW, REMOVE])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_draw_and_remove_are_the_blend_written_by_hand(flow, z, values, how, strength):
    stroke = Stroke(how, "some", ((2, (4, 1)),), ((5, 6), (10, 6)), 1, strength)  # places 1 and 2 of row 1
    edits = strokes.edits(stroke, flow, values)
    h = flow.record(z[:1], [2])[2]
    expected = h.clone()
    for unit in (4, 1):
        r = float(values[2][unit]) if how == DRAW else 0.0
        for x in (1, 2):
            expected[0, unit, 1, x] = h[0, unit, 1, x] * (1 - strength) + r * strength
    torch.testing.assert_close(edits[2](h), expected, rtol=0, atol=1e-6)
    assert torch.equal(edits[2](h)[:, [0, 2, 3]], h[:, [0, 2, 3]])
    state = flow.state(z[:1], 2)
    images = flow.resume(State(2, expected, state.extras))
    torch.testing.assert_close(flow.generate(z[:1], edits), images, rtol=0, atol=1e-4 * float(images.abs().max()))


def test_the_drawn_value_is_each_units_own_099_quantile(flow, z, values):
    h = flow.record(z, [4])[4].transpose(0, 1).flatten(1)
    quantile = torch.quantile(h.double(), 0.99, dim=1)
    below = h.double().sort(dim=1).values[:, -1 - int(0.01 * h.shape[1] + 1) :]  # between neighbours in the tail
    assert ((values[4] >= below[:, 0]) & (values[4] <= below[:, -1])).all()
    assert (values[4].double() - quantile).abs().max() <= (below[:, -1] - below[:, 0]).max()


def test_mending_is_the_shift_under_the_brush(flow, z, differences):
    stroke = Stroke(MEND, "", (), ((2, 3), (9, 12)), 4, 0.5)
    mask = strokes.covered(stroke.points, 4, 16).float()
    expected = correct.shift(differences, 0.5, masks=mask[None])
    found = strokes.edits(stroke, flow, None, differences)
    torch.testing.assert_close(flow.generate(z[:1], found), flow.generate(z[:1], expected), rtol=0, atol=1e-5)
    assert list(found) == [1, 2] and not torch.equal(flow.generate(z[:1], found), flow.generate(z[:1]))


@pytest.mark.parametrize("how", [DRAW, REMOVE, MEND])
def test_strength_0_is_the_identity_bit_for_bit(flow, z, values, differences, how):
    edits = strokes.edits(Stroke(how, "some", ((2, (0, 3)),), ((8, 8),), 5, 0.0), flow, values, differences)
    assert edits and torch.equal(flow.generate(z[:1], edits), flow.generate(z[:1]))


def test_strokes_compose_alpha_over(flow, z, values):
    first = Stroke(DRAW, "some", ((2, (1,)),), ((5, 6),), 1, 0.5)
    second = Stroke(REMOVE, "some", ((2, (1,)),), ((6, 5),), 1, 0.25)  # the same place of layer 2
    third = Stroke(REMOVE, "some", ((2, (2,)), (4, (0,))), ((0, 0),), 1, 1.0)
    edits = correct.chained(*(strokes.edits(one, flow, values) for one in (first, second, third)))
    h = flow.record(z[:1], [2])[2]
    expected = h.clone()
    expected[0, 1, 1, 1] = (h[0, 1, 1, 1] * 0.5 + 0.5 * values[2][1]) * 0.75
    expected[0, 2, 0, 0] = 0
    torch.testing.assert_close(edits[2](h), expected, rtol=0, atol=1e-6)
    assert list(edits) == [2, 4]


def test_what_a_stroke_lacks_is_named(flow, values, differences):
    chosen = ((2, (1,)),)
    with pytest.raises(ValueError, match="the brush covers no pixel.* pixels 0 to 15"):
        strokes.edits(Stroke(DRAW, "some", chosen, ((40, 3), (50, 9)), 3), flow, values)
    for none in ((), ((2, ()),)):
        with pytest.raises(ValueError, match="no unit is chosen"):
            strokes.edits(Stroke(REMOVE, "some", none, ((4, 3),), 3), flow, values)
    with pytest.raises(ValueError, match="to draw needs values of layer 5"):
        strokes.edits(Stroke(DRAW, "some", ((5, (1,)),), ((4, 3),), 3), flow, values)
    with pytest.raises(ValueError, match="to mend needs the differences"):
        strokes.edits(Stroke(MEND, "", (), ((4, 3),), 3), flow, values)
    with pytest.raises(ValueError, match="no layer 40"):
        strokes.edits(Stroke(REMOVE, "some", ((40, (1,)),), ((4, 3),), 3), flow, values)


def test_the_area_of_edits_is_where_their_masks_are(flow, values):
    one = strokes.edits(Stroke(REMOVE, "", ((2, (1,)),), ((5, 6),), 1), flow)
    other = strokes.edits(Stroke(REMOVE, "", ((2, (1,)),), ((15, 15),), 1), flow)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[4:8, 4:8] = True
    assert torch.equal(strokes.area(one, 16), expected)
    expected[12:, 12:] = True
    assert torch.equal(strokes.area(correct.chained(one, other), 16), expected)
    assert strokes.area(correct.ablate(2, [1]), 16) is None
