"""The feature networks: torchvision's keys, the small variant's sizes, and what the shipped files can do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from helpers.networks import features
from helpers.networks.features import ResNet18
from helpers.worlds import churches
from tools.train import corruptions
from tools.train import features as trainer

DATA = Path(__file__).parents[1] / "data" / "churches"


def torchvision_shapes(width=64, classes=1000, kernel=7):
    """Write out resnet18's keys and shapes by the rule its layers follow."""
    shapes = {"conv1.weight": (width, 3, kernel, kernel)}

    def norm(name, units):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (units,)
        shapes[f"{name}.num_batches_tracked"] = ()

    norm("bn1", width)
    inputs = width
    for layer, units in zip((1, 2, 3, 4), (width, 2 * width, 4 * width, 8 * width)):
        for block in (0, 1):
            name = f"layer{layer}.{block}"
            shapes[f"{name}.conv1.weight"] = (units, inputs, 3, 3)
            shapes[f"{name}.conv2.weight"] = (units, units, 3, 3)
            norm(f"{name}.bn1", units)
            norm(f"{name}.bn2", units)
            if block == 0 and layer > 1:
                shapes[f"{name}.downsample.0.weight"] = (units, inputs, 1, 1)
                norm(f"{name}.downsample.1", units)
            inputs = units
    if classes:
        shapes |= {"fc.weight": (classes, 8 * width), "fc.bias": (classes,)}
    return shapes


def shapes_of(network):
    return {name: tuple(w.shape) for name, w in network.state_dict().items()}


def randomised(network, seed=0):
    """Give the norms statistics and slopes worth testing; fresh ones are the identity."""
    draw = torch.Generator().manual_seed(seed)
    for name, w in network.state_dict().items():
        if w.is_floating_point() and w.ndim == 1:
            w.copy_(torch.rand(w.shape, generator=draw) + (0.5 if "var" in name or "weight" in name else -0.5))
    return network.eval()


def images(n=3, size=64, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return randomised(ResNet18(8, "small", classes=0, segments=10, corrupt=True)).requires_grad_(False)


def test_keys_and_shapes_are_torchvisions():
    assert shapes_of(ResNet18()) == torchvision_shapes()
    assert len(torchvision_shapes()) == 122
    assert sum(p.numel() for p in ResNet18().parameters()) == 11_689_512  # the published count


def test_small_keys_and_shapes():
    assert shapes_of(ResNet18(24, "small", classes=0)) == torchvision_shapes(24, 0, 3)


def naive(w, x, stem):
    """Compute resnet18 with nothing but the state dict: returns the four levels and the logits."""

    def norm(name, h):
        mean, var, slope, bias = (
            w[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (h - mean) / (var + 1e-5).sqrt() * slope + bias

    stride, padding = (2, 3) if stem == "imagenet" else (1, 1)
    h = norm("bn1", F.conv2d(x, w["conv1.weight"], stride=stride, padding=padding)).relu()
    if stem == "imagenet":
        h = F.max_pool2d(h, 3, stride=2, padding=1)
    levels = []
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            inner = norm(f"{name}.bn1", F.conv2d(h, w[f"{name}.conv1.weight"], stride=stride, padding=1)).relu()
            inner = norm(f"{name}.bn2", F.conv2d(inner, w[f"{name}.conv2.weight"], padding=1))
            if stride == 2:
                h = norm(f"{name}.downsample.1", F.conv2d(h, w[f"{name}.downsample.0.weight"], stride=2))
            h = (inner + h).relu()
        levels.append(h)
    return levels, F.linear(h.mean(dim=(2, 3)), w["fc.weight"], w["fc.bias"])


@pytest.mark.parametrize("stem, size", [("imagenet", 96), ("small", 32)])
def test_forward_equals_the_written_out_network(stem, size):
    torch.manual_seed(1)
    network = randomised(ResNet18(8, stem, classes=7))
    x = images(2, size)
    with torch.no_grad():
        levels, logits = naive(network.state_dict(), x, stem)
        assert torch.allclose(network(x), logits, atol=1e-4)
        for level, expected in network.all_maps(x).items():
            assert torch.allclose(levels[level - 1], expected, atol=1e-4)


def test_imagenet_stem_normalises_like_imagenet():
    torch.manual_seed(1)
    network = randomised(ResNet18(4))
    x = images(2, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_hand = ((x + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        assert torch.allclose(network.maps(x), network.all_maps(by_hand)[4], atol=1e-5)
        assert network.maps(x).shape == (2, 32, 2, 2)


def test_map_sizes(small):
    sizes = {level: tuple(small.maps(images(1), level).shape) for level in (1, 2, 3, 4)}
    assert sizes == {1: (1, 8, 64, 64), 2: (1, 16, 32, 32), 3: (1, 32, 16, 16), 4: (1, 64, 8, 8)}
    assert small.maps(images(1)).shape[-1] == 8 and small.units == 64


@pytest.mark.parametrize("batch", [1, 2, 7, 32])
def test_batch_size_does_not_matter(small, batch):
    x = images(7)
    expected = small.maps(x).mean(dim=(2, 3))
    assert torch.allclose(small.pooled(x, batch=batch), expected, atol=1e-5)
    assert torch.allclose(small.segment(x, batch), small.segment(x), atol=1e-5)
    assert torch.allclose(small.corrupted(x, batch), small.corrupted(x), atol=1e-5)


def test_pooled_has_no_gradients_and_leaves_the_mode_alone(small):
    network = ResNet18(4, "small", classes=0)
    before = network.bn1.running_mean.clone()
    out = network.pooled(images(4))
    assert not out.requires_grad and out.shape == (4, 32) and network.training
    assert torch.equal(network.bn1.running_mean, before)
    broken = images(2).double()[:, :2]
    with pytest.raises(ValueError):
        network.pooled(broken)
    assert network.training


def test_no_images_give_no_rows(small):
    assert small.pooled(images(0)).shape == (0, 64)


def test_maps_keep_gradients_of_the_images(small):
    x = images(1).requires_grad_(True)
    small.maps(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_outside_range_is_clamped(small):
    x = images(2) * 3
    assert torch.equal(small.pooled(x), small.pooled(x.clamp(-1, 1)))


def test_heads(small):
    assert small.segment(images(2)).shape == (2, 10, 64, 64)
    assert small.corrupted(images(2)).shape == (2, 16, 16)
    maps = small.all_maps(images(2))
    w = small.heads["corrupt"].state_dict()
    coarse = F.conv2d(maps[4], w["lateral.4.weight"], w["lateral.4.bias"])
    fine = F.conv2d(maps[3], w["lateral.3.weight"], w["lateral.3.bias"]) + F.interpolate(
        coarse, scale_factor=2, mode="bilinear", align_corners=False
    )
    expected = F.conv2d(fine.relu(), w["output.weight"], w["output.bias"])[:, 0]
    assert torch.allclose(small.corrupted(images(2)), expected, atol=1e-5)


@pytest.mark.parametrize("call", ["segment", "corrupted"])
def test_missing_head_is_named(call):
    with pytest.raises(ValueError, match="no (segment|corrupt) head .heads: none.*load the file"):
        getattr(ResNet18(4, "small", classes=0), call)(images(1))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda n: ResNet18(4, "tiny"), "imagenet, small, got 'tiny'"),
        (lambda n: n.maps(images(1), level=5), "level must be 1, 2, 3 or 4, got 5"),
        (lambda n: n.maps(images(1)[0]), r"float .N, 3, H, W. .*got torch.float32 \(3, 64, 64\)"),
        (lambda n: n.maps(images(1).byte()), "got torch.uint8"),
        (lambda n: n.pooled(images(1), batch=0), "at least one image, got 0"),
        (lambda n: n(images(1)), "without its fc layer"),
    ],
)
def test_bad_arguments(small, call, message):
    with pytest.raises(ValueError, match=message):
        call(small)


@pytest.mark.parametrize("classes, segments, corrupt", [(0, 10, True), (0, 10, False), (5, 0, False)])
def test_load_infers_everything(tmp_path, classes, segments, corrupt):
    network = randomised(ResNet18(8, "small", classes, segments, corrupt))
    save_file(network.state_dict(), tmp_path / "n.safetensors")
    loaded = features.load(tmp_path / "n.safetensors")
    assert shapes_of(loaded) == shapes_of(network)
    torch.testing.assert_close(loaded.pooled(images()), network.pooled(images()), rtol=1e-5, atol=1e-5)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_load_reads_float16_as_float32(tmp_path, small):
    half = {name: w.half() if w.is_floating_point() else w for name, w in small.state_dict().items()}
    save_file(half, tmp_path / "n.safetensors")
    loaded = features.load(str(tmp_path / "n.safetensors"))
    assert {w.dtype for w in loaded.parameters()} == {torch.float32}
    assert torch.allclose(loaded.pooled(images()), small.pooled(images()), rtol=0.02, atol=0.02)


def test_load_reads_a_published_state_dict(tmp_path):
    """Old published files have no batch counters and carry the standard stem."""
    network = randomised(ResNet18(8))
    weights = {name: w for name, w in network.state_dict().items() if "num_batches" not in name}
    torch.save(weights, tmp_path / "resnet18.pth")
    loaded = features.load(tmp_path / "resnet18.pth")
    assert loaded.stem == "imagenet" and loaded.width == 8
    torch.testing.assert_close(loaded(images(2)), network(images(2)), rtol=1e-4, atol=1e-5)


def spoil(weights, how):
    if how == "missing":
        del weights["layer3.1.bn2.bias"]
    elif how == "extra":
        weights["stranger"] = torch.zeros(2)
    elif how == "shape":
        weights["layer2.0.conv1.weight"] = torch.zeros(5, 8, 3, 3)
    elif how == "stem":
        weights["conv1.weight"] = torch.zeros(8, 3, 5, 5)
    elif how == "other":
        weights = {"layer0.weight": torch.zeros(3)}
    return weights


@pytest.mark.parametrize(
    "how, message",
    [
        ("missing", "layer3.1.bn2.bias"),
        ("extra", "stranger"),
        ("shape", "layer2.0.conv1.weight"),
        ("stem", r"shape \(8, 3, 5, 5\)"),
        ("other", "first convolution of shape"),
    ],
)
def test_load_names_what_is_wrong(tmp_path, small, how, message):
    path = tmp_path / "n.safetensors"
    save_file(spoil(dict(small.state_dict()), how), path)
    with pytest.raises(ValueError, match=message) as error:
        features.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["n.safetensors", "n.pth"])
def test_load_refuses_damaged_files(tmp_path, small, name):
    path = tmp_path / name
    (save_file if name.endswith("s") else torch.save)(dict(small.state_dict()), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="no readable weight file"):
        features.load(path)
    with pytest.raises(FileNotFoundError, match="tools.train.features"):
        features.load(tmp_path / "absent.safetensors")


def test_load_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return exec, ("raise SystemExit('ran')",)

    torch.save({"conv1.weight": Trap()}, tmp_path / "n.pth")
    with pytest.raises(ValueError, match="no readable weight file"):
        features.load(tmp_path / "n.pth")


@pytest.fixture(scope="module")
def scenes():
    x, labels = churches.render(range(4_100_000, 4_100_012))
    return [corruptions.Scene(p, y) for p, y in zip(x.float().div(127.5).sub(1).numpy(), labels.numpy())]


@pytest.mark.parametrize("kind", corruptions.KINDS, ids=lambda kind: kind.__name__)
def test_each_corruption_changes_a_place_and_not_the_whole(scenes, kind):
    shares = []
    for i, scene in enumerate(scenes):
        before = scene.picture.copy()
        draws = [corruptions.corrupt(np.random.default_rng(i), scene, scenes[i - 1], [kind]) for _ in range(2)]
        (picture, changed), (again, _) = draws
        assert np.array_equal(picture, again) and np.array_equal(scene.picture, before)
        assert picture.dtype == np.float32 and np.abs(picture).max() <= 1
        assert changed.dtype == bool and np.abs(picture - before)[:, ~changed].max(initial=0) < 1.5
        shares.append(changed.mean())
    assert 0 < np.mean(shares) < 0.35 and max(shares) < 0.75


def test_changed_is_where_the_picture_changed(scenes):
    def paint(rng, scene, donor):
        out = scene.picture.copy()
        out[:, 20:30, 40:50] = np.where(scene.picture[:, 20:30, 40:50] > 0, -1, 1)
        return out

    _, changed = corruptions.corrupt(np.random.default_rng(0), scenes[0], scenes[1], [paint])
    assert changed[20:30, 40:50].all() and changed.sum() < 14 * 14


def test_degrade_is_mild_and_random_only_by_its_generator(scenes):
    x = torch.from_numpy(np.stack([s.picture for s in scenes]))
    before = x.clone()
    y = corruptions.degrade(np.random.default_rng(3), x)
    assert torch.equal(x, before) and torch.equal(y, corruptions.degrade(np.random.default_rng(3), x))
    assert y.shape == x.shape and y.abs().max() <= 1
    moved = (y - x).abs().mean(dim=(1, 2, 3))
    assert 0.01 < moved.mean() < 0.15


def test_cells_leave_the_doubtful_out():
    changed = torch.zeros(1, 64, 64, dtype=torch.bool)
    changed[0, :4, :4] = True
    changed[0, 8, 8] = True
    target = trainer.cells(changed, 16)[0]
    assert target[0, 0] == 1 and target[2, 2] == trainer.IGNORE and target.sum() == 0
    assert (target == 0).sum() == 254


def test_auc_against_counted_pairs():
    draw = torch.Generator().manual_seed(0)
    scores, positive = torch.randint(0, 8, (60,), generator=draw).float(), torch.rand(60, generator=draw) < 0.4
    gap = scores[positive][:, None] - scores[~positive]
    expected = ((gap > 0).float() + 0.5 * (gap == 0).float()).mean().item()
    assert trainer.auc(scores, positive) == pytest.approx(expected, abs=1e-6)


def test_id_ranges_never_meet():
    used = [*trainer.IDS.values(), trainer.VALIDATION_IDS, range(1_000_000, 1_050_000)]
    for i, a in enumerate(used):
        for b in used[:i]:
            assert a.stop <= b.start or b.stop <= a.start


SHIPPED = {"backbone": {"segment", "corrupt"}, "evaluation": {"segment"}}


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request):
    return request.param, features.load(DATA / f"{request.param}.safetensors")


def held_out():
    """Renders no network was trained on; every second one corrupted: (x, segmentation, changed)."""
    x, labels = churches.render(range(4_200_000, 4_200_060))
    return trainer.make_batch(np.random.default_rng(5), x, labels, range(len(x)))


def test_shipped_files_are_small_networks_with_their_heads(shipped):
    name, network = shipped
    assert (network.width, network.stem, network.units) == (24, "small", 192)
    assert set(network.heads) == SHIPPED[name] and network.fc is None
    assert network.maps(images(1)).shape == (1, 192, 8, 8)


def test_shipped_files_fit_their_budget():
    assert sum((DATA / f"{name}.safetensors").stat().st_size for name in SHIPPED) <= 12e6


def test_shipped_networks_are_not_each_other():
    backbone, evaluation = (load_file(DATA / f"{name}.safetensors") for name in SHIPPED)
    assert not torch.allclose(backbone["conv1.weight"].float(), evaluation["conv1.weight"].float(), atol=0.1)


def test_shipped_networks_name_the_parts(shipped):
    x, segmentation, _ = held_out()
    known = segmentation != trainer.IGNORE
    right = (shipped[1].segment(x).argmax(1) == segmentation)[known].float().mean()
    assert right > 0.93


def test_shipped_backbone_finds_corrupted_places():
    network = features.load(DATA / "backbone.safetensors")
    x, _, changed = held_out()
    target, score = trainer.cells(changed, 16), network.corrupted(x)
    assert trainer.auc(score[target >= 0], target[target >= 0] == 1) > 0.85
