"""Any torch module as a flow: what it draws, records and edits equals the module itself, however it is cut."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers import causal, concepts, correct, evaluation, survey, units
from helpers.flow import Flow
from helpers.interface.incremental import Replay
from helpers.latents import latents
from helpers.networks import hooked, traced
from helpers.streaming import partials
from tests import own_generators as own
from tests.own_generators import made

LAYERS = ["first", "second"]
Z = latents(range(5), 6)


def equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def by_hand(module, z, edit=None, **inputs):
    """What the module itself gives: (image, outputs of LAYERS), the first of them edited."""
    seen = []

    def note(module, given, out):
        out = edit(out) if edit and not seen else out
        seen.append(out.clone())
        return out.clone()

    handles = [getattr(module, name).register_forward_hook(note) for name in LAYERS]
    try:
        with torch.no_grad():
            image = module(z, **inputs)
    finally:
        for handle in handles:
            handle.remove()
    return image, seen


def check(flow, image, seen, z=Z):
    """Compare everything a flow does with what the module itself gave."""
    assert flow.n_layers == 3
    recorded = flow.record(z, [1, 2, 3])
    for layer, expected in zip((1, 2, 3), (*seen, image)):
        equal(recorded[layer], expected)
    for layer in (0, 1, 2):
        equal(flow.resume(flow.state(z, layer)), image)
        equal(flow.resume(flow.advance(flow.state(z, layer), 2)), image)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in flow.network.modules())


# How a module is cut


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_a_module_that_branches_is_hooked_and_gives_the_same_numbers(batch):
    module = made(own.Plain)
    flow = Flow.from_module(module, LAYERS, 6, batch=batch)
    assert isinstance(flow.network, hooked.Hooked)
    assert flow.origin.startswith("Plain, cut behind first, second (hooks, since torch.fx cannot trace it (TraceError")
    assert flow.origin.endswith("to resume costs a whole pass)")
    check(flow, *by_hand(module, Z))
    check(pickle.loads(pickle.dumps(flow)), *by_hand(module, Z))


def test_a_module_that_can_be_traced_is_cut_by_its_graph():
    flow = Flow.from_module(made(own.InPlace), LAYERS, 6)
    assert isinstance(flow.network, traced.Traced)
    assert flow.origin == "InPlace, cut behind first, second (traced)"


@pytest.mark.parametrize("kind", [own.Plain, own.InPlace, own.Untraceable])
def test_edits_reach_the_rest_of_the_module_once(kind):
    module, double = made(kind), lambda h: 2 * h
    flow = Flow.from_module(module, LAYERS, 6)
    image, seen = by_hand(module, Z, edit=double)
    equal(flow.generate(Z, {1: double}), image)
    for layer, expected in zip((1, 2), seen):
        equal(flow.record(Z, [layer], {1: double})[layer], expected)
    late = flow.resume(flow.state(Z, 1), {2: torch.zeros_like})
    equal(late, flow.generate(Z, {2: torch.zeros_like}))
    equal(flow.generate(Z, {3: lambda h: -h}), -flow.generate(Z))


@pytest.mark.parametrize("kind", [own.Plain, own.InPlace])
def test_edits_may_return_another_precision_but_no_other_thing(kind):
    flow = Flow.from_module(made(kind), LAYERS, 6)
    assert torch.equal(flow.generate(Z, {1: lambda h: h.double()}), flow.generate(Z))
    with pytest.raises(ValueError, match="the edit of layer 1 must keep the shape .*, it returned ndarray"):
        flow.generate(Z, {1: lambda h: h.numpy()})


@pytest.mark.parametrize("kind", [own.InPlace, own.Untraceable])
def test_replays_of_a_widget_are_the_flows_own_images(kind):
    flow = Flow.from_module(made(kind), LAYERS, 6)
    replay, edits = Replay(flow, Z), {1: correct.Scale(torch.linspace(0, 1, 8))}
    equal(replay.images([0, 3]), flow.generate(Z[[0, 3]]))
    equal(replay.images([0, 3], edits), flow.generate(Z[[0, 3]], edits))
    more = edits | {2: correct.Scale(torch.zeros(5))}
    equal(replay.images([0, 3], more), flow.generate(Z[[0, 3]], more))


@pytest.mark.parametrize("kind", [own.InPlace, own.Untraceable])
def test_sums_in_place_do_not_spoil_what_was_recorded(kind):
    module, (image, seen) = made(kind), by_hand(made(kind), Z)
    flow = Flow.from_module(module, LAYERS, 6)
    check(flow, image, seen)
    state = flow.state(Z, 1)
    kept = state.h.clone()
    equal(flow.resume(state), image)
    equal(flow.resume(state), image)
    assert torch.equal(state.h, kept)


def test_no_hook_outlives_a_call_nor_an_error():
    flow = Flow.from_module(made(own.Plain), LAYERS, 6)
    before = flow.generate(Z)

    def broken(h):
        raise RuntimeError("broken edit")

    for edits in ({1: broken}, {2: broken}, {3: broken}):
        with pytest.raises(RuntimeError, match="broken edit"):
            flow.generate(Z, edits)
    with pytest.raises(ValueError, match="the edit of layer 2 must keep the shape"):
        flow.generate(Z, {2: lambda h: h[:, :1]})
    flow.record(Z, [1])  # ends in the middle of a pass
    assert not any(part._forward_hooks for part in flow.network.modules())
    assert torch.equal(flow.generate(Z), before)


def test_a_pass_ends_at_the_last_layer_that_is_wanted():
    flow, ran = Flow.from_module(made(own.Plain), LAYERS, 6), []
    flow.network.module.rgb.register_forward_hook(lambda *_: ran.append(1))
    flow.record(Z, [1, 2])
    flow.state(Z, 2)
    assert not ran
    flow.generate(Z)
    assert len(ran) == 1


@pytest.mark.parametrize("kind", [own.Plain, own.InPlace])
def test_autocast_computes_the_same_module_in_less_precision(kind):
    flow = Flow.from_module(made(kind), LAYERS, 6)
    half, exact = flow.autocast(), flow.record(Z, [1, 2, 3])
    for layer, h in half.record(Z, [1, 2, 3]).items():
        error = (h - exact[layer]).norm() / exact[layer].norm()
        assert h.dtype == torch.float32 and 1e-4 < error < 0.05, f"layer {layer}: {error}"
    assert torch.equal(half.resume(half.state(Z, 1)), half.generate(Z)) and half.origin.endswith("under autocast")


def test_survey_scores_and_corrections_are_the_same_hooked_or_traced():
    class Straight(own.Plain):
        def forward(self, z):
            return torch.tanh(self.rgb(self.two(self.one(z[:, :, None, None]))))

    z = latents(range(40), 6)
    masks = torch.zeros(40, 8, 8, dtype=torch.bool)
    masks[:, 2:5, 2:5] = True
    found = []
    for kind in (own.Plain, Straight):
        flow = Flow.from_module(made(kind), LAYERS, 6)
        scores = units.defective_scores(flow, z, masks, survey.thresholds(flow, z, 0.05))
        found.append((scores[1], scores[2], flow.generate(z, correct.sequential(scores, stop_layer=2))))
    for one, other in zip(*found):
        equal(one, other)


def test_names_come_in_the_order_in_which_the_parts_run():
    found = Flow.candidates(made(own.Plain), 6)
    assert found == {"first": (8, 4, 4), "second": (5, 8, 8), "rgb": (3, 8, 8)} and list(found)[0] == "first"
    assert list(Flow.candidates(made(own.Labelled), 6, {"y": torch.tensor([1])})) == ["first", "second", "rgb"]
    assert list(Flow.candidates(nn.DataParallel(made(own.Plain)), 6)) == ["first", "second", "rgb"]


@pytest.mark.parametrize("kind", [own.Plain, own.InPlace])
def test_layers_that_do_not_fit_are_named(kind):
    module = made(kind)
    with pytest.raises(ValueError, match="no part 'frist': did you mean first"):
        Flow.from_module(module, ["frist"], 6)
    with pytest.raises(ValueError, match="layer 'second' runs too late: name the layers in order"):
        Flow.from_module(module, ["second", "first"], 6)
    with pytest.raises(ValueError, match="name at least one layer: Flow.candidates lists"):
        Flow.from_module(module, [], 6)


# Weights in other precisions, modules in wrappers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", [own.Plain, own.InPlace])
def test_other_precisions_are_converted_and_this_is_said_once(kind, dtype):
    module = made(kind).to(dtype)
    with pytest.warns(UserWarning) as caught:
        flow = Flow.from_module(module, LAYERS, 6)
    said = [str(warning.message) for warning in caught]
    assert said == [f"the module has weights in {str(dtype)[6:]}: computing in float32 from here on"]
    assert next(module.parameters()).dtype == dtype
    check(flow, *by_hand(made(kind).to(dtype).float(), Z))
    assert all(h.dtype == torch.float32 for h in flow.record(Z, [1, 2, 3]).values())


def test_weights_that_are_computed_in_each_pass_are_copied():
    module, plain = made(own.Plain), made(own.Plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(module.second)  # leaves a weight with a gradient, which torch does not copy
    module(Z)
    flow, image = Flow.from_module(module, LAYERS, 6), by_hand(plain, Z)[0]
    equal(flow.generate(Z), image)
    equal(flow.resume(flow.state(Z, 1)), image)
    assert module.second.weight.grad_fn is not None


def test_what_has_no_parts_to_look_into_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = torch.jit.trace(made(own.Plain), Z)
    for use in (lambda module: Flow.from_module(module, LAYERS, 6), lambda module: Flow.candidates(module, 6)):
        with pytest.raises(
            ValueError, match="is compiled by torch.jit, which hides its parts: build the generator from"
        ):
            use(compiled)
        with pytest.raises(ValueError, match="a function is no torch module: build the generator from its class"):
            use(lambda z: z)


def test_a_module_that_computes_a_part_in_another_precision_keeps_it():
    class Mixed(own.Plain):
        def forward(self, z):
            h = self.one(z[:, :, None, None]).to(torch.bfloat16)
            with torch.autocast("cpu", torch.bfloat16):
                h = self.two(h)
            return torch.tanh(self.rgb(h.float()))

    module = made(Mixed)
    flow = Flow.from_module(module, LAYERS, 6)
    image, seen = by_hand(module, Z)
    assert seen[1].dtype == torch.bfloat16
    assert all(h.dtype == torch.float32 for h in flow.record(Z, [1, 2, 3]).values())
    for layer in (0, 1, 2):
        # sums of bfloat16 (8 bits) in another order, in images that span a range of 2
        torch.testing.assert_close(flow.resume(flow.state(Z, layer)), image, rtol=0, atol=0.1)
    torch.testing.assert_close(flow.record(Z, [2])[2], seen[1].float(), rtol=0.02, atol=0.1)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda module: nn.DataParallel(nn.DataParallel(module)),
        lambda module: torch.compile(module),
        lambda module: nn.DataParallel(torch.compile(module)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_are_taken_off(wrap, prefix):
    module = made(own.Plain)
    flow = Flow.from_module(wrap(module), [f"{prefix}{name}" for name in LAYERS], 6)
    check(flow, *by_hand(module, Z))
    assert flow.origin.startswith("Plain, cut behind first, second")


def test_weights_of_five_axes_are_no_trouble():
    class Five(own.Plain):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(1, 8, 8, 1, 1))

        def two(self, h):
            return super().two(nn.functional.conv2d(h, self.weight[0]))

    module = made(Five)
    check(Flow.from_module(module, LAYERS, 6), *by_hand(module, Z))


# What a forward takes and returns beside latents and images


@pytest.mark.parametrize("branch", [False, True])
def test_inputs_are_one_for_all_or_one_per_image(branch):
    module, rows = made(own.Labelled, branch), torch.tensor([0, 3, 1, 1, 2])
    for y in (torch.tensor([2]), torch.tensor(2)):
        flow = Flow.from_module(module, LAYERS, 6, batch=2, inputs={"y": y})
        check(flow, *by_hand(module, Z, y=y.expand(5)))
        equal(flow.generate(Z[:3]), module(Z[:3], y.expand(3)).detach())
    flow = Flow.from_module(module, LAYERS, 6, batch=2, inputs={"y": rows, "strength": 0.5})
    check(flow, *by_hand(module, Z, y=rows, strength=0.5))
    check(pickle.loads(pickle.dumps(flow)), *by_hand(module, Z, y=rows, strength=0.5))
    with pytest.raises(ValueError, match=r"the input y has 5 rows, but 3 images were asked for: .* one row \(1, ...\)"):
        flow.generate(Z[:3])
    with pytest.raises(ValueError, match="the input y has 5 rows, but 3 images"):
        flow.state(Z[:3], 2)


def test_inputs_by_keyword_only_reach_every_layer():
    module, styles = made(own.Styled), latents(range(50, 55), 6)
    check(
        Flow.from_module(module, LAYERS, 6, inputs={"styles": styles}),
        *by_hand(module, Z, styles=styles),
    )
    flipped = Flow.from_module(module, LAYERS, 6, inputs={"styles": styles[:1], "flip": True})
    check(flipped, *by_hand(module, Z, styles=styles[:1].expand(5, -1), flip=True))


def test_inputs_that_lack_or_are_unknown_are_named():
    module = made(own.Labelled)
    with pytest.raises(
        ValueError, match=r'forward takes y beside the latents z: pass inputs=\{"y": \.\.\.\}, each a tensor'
    ):
        Flow.from_module(module, LAYERS, 6)
    with pytest.raises(ValueError, match="takes no class .beside the latents it takes y, strength."):
        Flow.from_module(module, LAYERS, 6, inputs={"y": torch.tensor([1]), "class": 1})
    with pytest.raises(ValueError, match="takes no y .beside the latents it takes nothing."):
        Flow.from_module(made(own.Plain), LAYERS, 6, inputs={"y": torch.tensor([1])})


@pytest.mark.parametrize("branch", [True, False])
def test_inputs_may_be_numpy_and_have_the_modules_precision(branch):
    module, y = made(own.Labelled, branch), np.array([3, 1, 0, 2, 1])
    expected = by_hand(module, Z, y=torch.from_numpy(y))
    check(Flow.from_module(module, LAYERS, 6, inputs={"y": y}), *expected)
    one = by_hand(module, Z, y=torch.full((5,), 3))
    check(Flow.from_module(module, LAYERS, 6, inputs={"y": np.int64(3)}), *one)
    styles, plain = latents(range(50, 55), 6).half(), made(own.Styled)
    for kind in (styles, styles.double(), styles.numpy(), styles.double().numpy()):
        found = Flow.from_module(plain, LAYERS, 6, inputs={"styles": kind})
        check(found, *by_hand(plain, Z, styles=styles.float()))
    with pytest.warns(UserWarning, match="weights in float16"):
        half = Flow.from_module(made(own.Styled).half(), LAYERS, 6, inputs={"styles": styles})
    check(half, *by_hand(made(own.Styled).half().float(), Z, styles=styles.float()))


def test_latents_need_not_be_the_first_that_a_forward_takes():
    module, y, styles = made(own.LabelFirst), torch.tensor([3, 1, 0, 2, 1]), latents(range(50, 55), 6)
    flow = Flow.from_module(module, LAYERS, 6, inputs={"y": y})
    assert isinstance(flow.network, hooked.Hooked)
    check(flow, *by_hand(made(own.Labelled), Z, y=y))
    flow = Flow.from_module(made(own.StylesFirst), LAYERS, 6, inputs={"styles": styles})
    assert isinstance(flow.network, traced.Traced)
    check(flow, *by_hand(made(own.Styled), Z, styles=styles))
    with pytest.raises(ValueError, match='takes z beside the latents y: pass inputs={"z": ...}'):
        Flow.from_module(module, LAYERS, 6)


@pytest.mark.parametrize("use", [lambda *a, **k: Flow.from_module(a[0], LAYERS, *a[1:], **k), Flow.candidates])
def test_what_a_forward_cannot_be_run_on_is_said_in_one_sentence(use):
    module, needs = made(own.Labelled), made(own.Keywords)
    for one, latent, inputs, said in (
        (
            needs,
            6,
            None,
            r"latents \(2, 6\) \(KeyError: 'y'\): check latent=, and pass by inputs= what its forward needs",
        ),
        (module, 6, {"y": torch.tensor([9])}, r"latents \(2, 6\) with y \(IndexError: "),
        (
            module,
            6,
            {"y": 3},
            r"latents \(2, 6\) with y \(TypeError: .*must be Tensor, not int\): .*numbers of images as tensors",
        ),
        (module, (7, 1, 1), {"y": torch.tensor([1])}, r"latents \(2, 7, 1, 1\) with y \(RuntimeError: "),
    ):
        with pytest.raises(ValueError, match=f"^the module does not run on {said}") as caught:
            use(one, latent, inputs=inputs)
        assert "\n" not in str(caught.value)
    assert Flow.from_module(needs, LAYERS, 6, inputs={"y": torch.tensor([1])}).n_layers == 3
    for latent in ("six", 6.0, (6, 1.5)):
        with pytest.raises(ValueError, match=r"latent must be a number or a shape such as \(100, 1, 1\), got"):
            use(module, latent)


def test_a_dimension_may_be_a_number_of_numpy_and_a_single_layer_its_name():
    flow = Flow.from_module(made(own.Plain), "first", np.int64(6))
    assert flow.latent == 6 and flow.n_layers == 2


def test_the_mean_of_images_with_one_label_has_that_label_and_others_have_none():
    for branch in (True, False):
        flow = Flow.from_module(made(own.Labelled, branch), LAYERS, 6, inputs={"y": torch.tensor([2])})
        state = flow.state(Z, 1)
        extras = {k: v[:1] if k == "y" else v.mean(0, keepdim=True) for k, v in state.extras.items()}
        expected = flow.resume(replace(state, h=state.h.mean(0, keepdim=True), extras=extras))
        equal(concepts.representative_image(flow, Z, 1), expected)
    several = Flow.from_module(made(own.Labelled, True), LAYERS, 6, inputs={"y": torch.tensor([3, 1, 0, 2, 1])})
    with pytest.raises(ValueError, match="the images differ in y, which has no mean: take images of one"):
        concepts.representative_image(several, Z, 1)


def test_what_a_survey_kept_for_one_input_is_not_taken_for_another():
    module = made(own.Labelled)
    keys = {
        partials.weights(Flow.from_module(module, LAYERS, 6, inputs=inputs))
        for inputs in (
            {"y": torch.tensor([1])},
            {"y": torch.tensor([2])},
            {"y": torch.tensor([2]), "strength": 0.5},
            {"y": torch.tensor([2]), "strength": 0.25},
        )
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("tuple", None),
        ("tuple", 0),
        ("list", None),
        ("dict", None),
        ("dict", "image"),
        ("two images", 1),
        ("two images", -1),
        ("named images", "image"),
        ("object", None),
        ("object", "image"),
    ],
)
def test_the_image_is_picked_from_what_is_returned(kind, output):
    module, plain = made(own.Several, kind), made(own.Plain)
    flow = Flow.from_module(module, LAYERS, 6, output=output)
    check(flow, *by_hand(plain, Z))


def test_images_in_whole_numbers_are_refused():
    with pytest.raises(
        ValueError, match=r"the output of image must be floats, an image's about \[-1, 1\], got torch.uint8"
    ):
        Flow.from_module(made(own.Several, "bytes"), LAYERS, 6)


def test_several_images_ask_which_one():
    said = r"returns a tuple of 0: \(2, 3, 4, 4\), 1: \(2, 3, 8, 8\): name the image among them by output="
    with pytest.raises(ValueError, match=said):
        Flow.from_module(made(own.Several, "two images"), LAYERS, 6)
    with pytest.raises(ValueError, match="returns no 'picture', but a dict of 'small'"):
        Flow.from_module(made(own.Several, "named images"), LAYERS, 6, output="picture")
    with pytest.raises(ValueError, match="returns no 2, but a tuple of 0: "):
        Flow.from_module(made(own.Several, "tuple"), LAYERS, 6, output=2)
    with pytest.raises(ValueError, match=r"the output of image must be featuremaps .*, got \(2, 6\)"):
        Flow.from_module(made(own.Several, "none"), LAYERS, 6)


# Noise, and images that depend on their batch

KINDS = ("randn_like", "size", "in place", "uniform", "one for all", "units", "dropout", "own generator", "integers")


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_fixed_for_every_batch_and_this_is_said(kind):
    module = made(own.Noisy, kind)
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match="the module draws noise in its forward: it is fixed here"):
        flow = Flow.from_module(module, LAYERS, 6, batch=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(flow.network, hooked.Hooked) and "since it draws noise" in flow.origin
    images = flow.generate(Z)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    for other in (Flow(flow.network, 1), Flow(flow.network, 3), pickle.loads(pickle.dumps(flow))):
        equal(other.generate(Z), images)
        equal(other.generate(Z.flip(0)).flip(0), images)
    for layer in (0, 1, 2):
        equal(flow.resume(flow.state(Z, layer)), images)
    silent = made(own.Noisy, kind)
    silent.noise = lambda h: 0 * h
    assert (by_hand(silent, Z)[0] - images).abs().max() > 0.01  # it is there all the same


def test_noise_has_the_distribution_it_had():
    module = made(own.Noisy, "randn_like")
    with pytest.warns(UserWarning, match="noise"):
        flow = Flow.from_module(module, ["first"], 6)
    drawn = []
    flow.network.module.noise = lambda h: drawn.append(torch.randn_like(h)) or drawn[-1]
    flow.generate(torch.zeros(3, 6))
    for noise in drawn:
        assert torch.equal(noise[0], noise[1]) and abs(float(noise.mean())) < 0.3 and 0.8 < float(noise.std()) < 1.2
    assert len(drawn) == 2 and not torch.equal(drawn[0][0, :5, 0, 0], drawn[1][0, :, 0, 0])


def test_noise_that_is_drawn_image_by_image_is_that_of_the_image_by_itself():
    with pytest.warns(UserWarning) as caught:
        flow = Flow.from_module(made(own.Noisy, "each"), LAYERS, 6, batch=4)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2 and "draws noise" in said[0] and said[1].endswith("of its batch: drawing one by one")
    images = flow.generate(Z)
    assert flow.batch == 1 and torch.equal(flow.generate(Z.flip(0)).flip(0), images)
    for layer in (0, 1, 2):
        equal(flow.resume(flow.state(Z, layer)), images)


def test_noise_that_is_not_torchs_is_refused():
    with pytest.raises(
        ValueError, match="another image of the same latent each time, and not by torch's random numbers"
    ):
        Flow.from_module(made(own.Noisy, "numpy"), LAYERS, 6)


def test_images_that_depend_on_their_batch_are_drawn_one_by_one():
    with pytest.warns(UserWarning, match="depends on the others of its batch: drawing one by one"):
        flow = Flow.from_module(made(own.Crowd), LAYERS, 6, batch=16)
    assert flow.batch == 1
    assert torch.equal(flow.generate(Z)[2:3], flow.generate(Z[2:3]))


# Shapes


def test_images_that_are_not_square_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"images must be square .*, this generator draws \(3, 9, 7\): crop or pad"):
        Flow.from_module(made(own.Oblong, False), ["conv"], 6)


def test_featuremaps_that_are_not_square_are_scored_in_every_order():
    flow, z = Flow.from_module(made(own.Oblong), ["conv"], 6), latents(range(20), 6)
    assert flow.shape(1) == (4, 9, 7) and flow.resolution(1) == 9
    masks = torch.rand(20, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.6
    levels = survey.thresholds(flow, z, 0.2)
    h = flow.record(z, [1])[1].double() > levels[1][:, None, None]
    up = nn.functional.interpolate(h.double(), (12, 12), mode="bilinear", align_corners=False)
    lit = masks[:, None].double()
    expected = (torch.minimum(up, lit).sum((2, 3)) / torch.maximum(up, lit).sum((2, 3))).mean(dim=0)
    equal(units.defective_scores(flow, z, masks, levels)[1].double(), expected)
    binary = units.defective_scores(flow, z, masks, levels, binarise_upsampled=0.5)[1]
    inside = (up >= 0.5).double()
    assert torch.allclose(
        binary.double(), (torch.minimum(inside, lit).sum((2, 3)) / torch.maximum(inside, lit).sum((2, 3))).mean(dim=0)
    )
    assert units.defective_scores(flow, z, masks, levels, order="netdissect")[1].shape == (4,)
    edited = flow.generate(z, correct.local({1: binary}, masks, stop_layer=1, portion=0.5))
    assert edited.shape == (20, 3, 12, 12) and not torch.equal(edited, flow.generate(z))


# Latents


@pytest.mark.parametrize("kind", [own.Plain, own.InPlace])
def test_latents_may_be_anything_that_float32_holds_exactly(kind):
    flow = Flow.from_module(made(kind), LAYERS, 6)
    frozen = Z.numpy().copy()
    frozen.setflags(write=False)
    strange = (Z.numpy().astype(">f4"), Z.numpy()[::-1].copy()[::-1], Z.numpy().astype(np.longdouble), frozen)
    for z in (Z.numpy(), Z.double(), Z.double().numpy(), Z.tolist(), Z.clone().requires_grad_(), *strange):
        assert torch.equal(flow.generate(z), flow.generate(Z)) and torch.equal(flow.state(z, 1).h, flow.state(Z, 1).h)
    whole = torch.arange(12).view(2, 6) - 6
    for z in (whole, whole.numpy(), whole.to(torch.int8), whole.half(), whole.tolist()):
        assert torch.equal(flow.generate(z), flow.generate(whole.float()))
    levels = survey.thresholds(flow, Z.double().numpy(), 0.1)
    assert torch.equal(levels[1], survey.thresholds(flow, Z, 0.1)[1])


@pytest.mark.parametrize("kind", [torch.Tensor.numpy, torch.Tensor.double, torch.Tensor.tolist])
def test_what_works_on_latents_themselves_takes_them_of_any_kind(kind):
    flow, z, masks = Flow.from_module(made(own.Plain), LAYERS, 6), latents(range(12), 6), torch.zeros(12, 8, 8).bool()
    other, labels, judge = kind(z), torch.arange(12 * 64).view(12, 8, 8) % 3, lambda images: images.mean(dim=(1, 2, 3))
    masks[:, 2:5, 2:6] = True
    apart, direction = units.differences(flow, z[:5], z[5:], [1, 2]), correct.latent_direction(z[:5], z[5:])
    assert torch.equal(correct.latent_direction(other[:5], other[5:]).vector, direction.vector)
    assert torch.equal(direction.step(other, 0.5), direction.step(z, 0.5))
    assert torch.equal(evaluation.noisy(other, 0.5), evaluation.noisy(z, 0.5))
    for search, by in ((correct.smallest_amount, apart), (correct.smallest_step, direction)):
        assert torch.equal(search(flow, other, by, judge).amounts, search(flow, z, by, judge).amounts)
    for found, expected in zip(*(causal.places(flow, some, 2, labels, 1).state.h for some in (other, z))):
        assert torch.equal(found, expected)
    levels = survey.thresholds(flow, z, 0.1)
    assert torch.equal(
        units.defective_scores(flow, other, masks, levels)[1], units.defective_scores(flow, z, masks, levels)[1]
    )


def test_latents_that_float32_cannot_hold_are_refused_in_one_sentence():
    flow = Flow.from_module(made(own.Plain), LAYERS, 6)
    for z in (np.random.default_rng(0).standard_normal((2, 6)), torch.full((2, 6), 2**24 + 1)):
        with pytest.raises(ValueError, match="^latents are .* and not exact in float32: round them first"):
            flow.generate(z)
    for z in ("latents", [[1, "a"]], None, np.array([[1, None]]), torch.zeros(2, 6, dtype=torch.complex64)):
        with pytest.raises(ValueError, match=r"^latents must be real numbers \(B, D\), got"):
            flow.generate(z)
    with pytest.raises(ValueError, match=r"latents must have shape \(B, 6\), got \(2, 5\)"):
        flow.state(torch.zeros(2, 5), 1)
