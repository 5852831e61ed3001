"""LPIPS and rFID with random weights, because the published weights are not part of the package."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluate.networks import (
    ALEXNET,
    CONVOLUTIONS,
    HEADS,
    INCEPTION,
    TinyInception,
    alexnet_state,
    heads_state,
    save_script,
)
from torch import nn

from flatvq.errors import FlatvqError
from flatvq.evaluate.frechet import FeatureStatistics, frechet_distance
from flatvq.evaluate.perceptual import (
    find_weights,
    load_features,
    load_lpips,
    lpips_defined,
)


class NoFeatures(nn.Module):
    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return img


@pytest.fixture
def folder(perceptual_weights) -> Path:
    return perceptual_weights


@pytest.fixture(scope="module")
def lpips(perceptual_weights):
    return load_lpips(find_weights(perceptual_weights))


def images(batch=3, side=64, seed=0):
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


# --- LPIPS


def lpips_by_hand(x, y):
    """Zhang et al. 2018, equation 1, layer by layer in float64 from the raw tensors of the two files."""
    alexnet, heads = alexnet_state(), heads_state()
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    total = np.zeros(len(x))
    a, b = ((2 * image.double() - 1 - shift) / scale for image in (x, y))
    for layer, i in enumerate(CONVOLUTIONS):
        weight, bias = alexnet[f"features.{i}.weight"].double(), alexnet[f"features.{i}.bias"].double()
        stride, padding = (4, 2) if i == 0 else (1, weight.shape[-1] // 2)
        if layer in (1, 2):
            a, b = (nn.functional.max_pool2d(z, 3, 2) for z in (a, b))
        a, b = (nn.functional.conv2d(z, weight, bias, stride, padding).clamp(min=0) for z in (a, b))
        u, v = (z.numpy() / np.sqrt((z.numpy() ** 2).sum(1, keepdims=True) + 1e-20) for z in (a, b))
        head = heads[f"lin{layer}.model.1.weight"].double().numpy().reshape(-1)
        total += np.einsum("bchw,c->bhw", (u - v) ** 2, head).mean(axis=(1, 2))
    return total


@pytest.mark.parametrize("side", [31, 64, 100])
def test_lpips_follows_the_paper(lpips, side):
    x, y = images(side=side), images(side=side, seed=5)
    assert lpips(x, y).tolist() == pytest.approx(lpips_by_hand(x, y), rel=1e-4)  # float32 against float64


def test_lpips_agrees_with_torchmetrics(lpips, monkeypatch):
    """Their network around the same tensors; they normalise with 1e-8 under the root, hence the tolerance."""
    from torchmetrics.functional.image import lpips as theirs

    layers = [
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    ]
    features = nn.Sequential(*layers)
    features.load_state_dict({k[9:]: v for k, v in alexnet_state().items() if k.startswith("features.")})
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda net, pretrained: features)
    reference = theirs._LPIPS(pretrained=False, net="alex")
    reference.load_state_dict(heads_state(), strict=False)
    x, y = images(), images(seed=5)
    torch.testing.assert_close(lpips(x, y), reference(x, y, normalize=True).flatten(), rtol=1e-4, atol=1e-6)


def test_lpips_is_zero_on_itself_symmetric_positive_and_per_image(lpips):
    x, y = images(), images(seed=5)
    assert lpips(x, x).tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(lpips(x, y), lpips(y, x))
    assert lpips(x, y).min() > 0
    alone = torch.cat([lpips(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(lpips(x, y), alone, rtol=1e-5, atol=0)


def test_lpips_reads_the_heads_that_come_with_torchmetrics(folder, tmp_path):
    """The published heads, as they are: names, shapes and the weights-only reader fit the real file."""
    import torchmetrics.functional.image.lpips as theirs

    published = Path(theirs.__file__).parent / "lpips_models" / HEADS
    if not published.is_file():
        pytest.skip("this torchmetrics comes without the heads of LPIPS")
    (tmp_path / HEADS).symlink_to(published)
    (tmp_path / ALEXNET).symlink_to(folder / ALEXNET)
    loaded = load_lpips(find_weights(tmp_path))
    assert all(head.weight.min() >= 0 for head in loaded.heads)  # the paper projects them to be so
    assert loaded(images(), images(seed=5)).min() > 0


def test_loading_lpips_draws_no_random_numbers(folder):
    before = torch.random.get_rng_state()
    loaded = load_lpips(find_weights(folder))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_lpips_refuses_what_it_is_not_defined_for(lpips):
    with pytest.raises(FlatvqError, match=r"LPIPS cannot compare .* H and W at least 31"):
        lpips(torch.zeros(1, 3, 30, 64), torch.zeros(1, 3, 30, 64))
    assert lpips_defined(31, 64)
    assert not lpips_defined(30, 64)


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (3, 64, 64)])
def test_networks_refuse_other_axes(lpips, folder, shape):
    images = torch.zeros(shape)
    for measure in (lambda: lpips(images, images), lambda: load_features(find_weights(folder))(images)):
        with pytest.raises(FlatvqError, match=r"images of shape .* not \[B, 3, H, W\]"):
            measure()


def test_networks_refuse_8_bit_images_and_take_any_precision(lpips, folder):
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    for measure in (lambda: lpips(pixels, pixels), lambda: load_features(find_weights(folder))(pixels)):
        with pytest.raises(FlatvqError, match="images of dtype uint8 are not floating-point: divide"):
            measure()
    x, y = images(), images(seed=5)
    torch.testing.assert_close(lpips(x.double(), y.double()), lpips(x, y), rtol=1e-6, atol=0)


def test_lpips_refuses_batches_that_differ(lpips):
    with pytest.raises(FlatvqError, match=r"\[3, 3, 64, 64\] with \[2, 3, 64, 64\]"):
        lpips(images(3), images(2))


# --- missing and wrong weights


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def test_a_folder_that_is_absent_or_empty_is_an_error(tmp_path):
    with pytest.raises(FlatvqError) as absent:
        find_weights(tmp_path / "absent")
    assert_one_line(absent, tmp_path / "absent", "--weights")
    with pytest.raises(FlatvqError) as empty:
        find_weights(tmp_path)
    assert_one_line(empty, tmp_path, ALEXNET, HEADS, INCEPTION)


def test_each_metric_names_its_missing_file_and_the_source(folder, tmp_path):
    (tmp_path / HEADS).symlink_to(folder / HEADS)
    weights = find_weights(tmp_path)
    assert (weights.alexnet, weights.heads, weights.inception) == (None, tmp_path / HEADS, None)
    with pytest.raises(FlatvqError) as no_network:
        load_lpips(weights)
    assert_one_line(no_network, "LPIPS", ALEXNET, tmp_path, "torchvision")
    with pytest.raises(FlatvqError) as no_inception:
        load_features(weights)
    assert_one_line(no_inception, "rFID", INCEPTION, tmp_path, "stylegan2-ada-pytorch")
    (tmp_path / HEADS).unlink()
    (tmp_path / ALEXNET).symlink_to(folder / ALEXNET)
    with pytest.raises(FlatvqError) as no_heads:
        load_lpips(find_weights(tmp_path))
    assert_one_line(no_heads, "LPIPS", HEADS, tmp_path, "lpips package")


class Payload:
    """Unpickled without care, this would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("content", [b"", b"not a tensor", "payload", "list"])
def test_a_file_without_tensors_is_an_error_and_never_executed(folder, tmp_path, content):
    path, trace = tmp_path / ALEXNET, tmp_path / "executed"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(Payload(trace) if content == "payload" else [1, 2], path)
    (tmp_path / HEADS).symlink_to(folder / HEADS)
    with pytest.raises(FlatvqError) as error:
        load_lpips(find_weights(tmp_path))
    assert_one_line(error, path, "torchvision")
    assert not trace.exists()


@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_a_tensor_that_is_missing_or_misshapen_is_named(folder, tmp_path, change):
    state = heads_state()
    name = "lin3.model.1.weight"
    state[name] = state[name][:, 1:]
    if change == "missing":
        del state[name]
    torch.save(state, tmp_path / HEADS)
    (tmp_path / ALEXNET).symlink_to(folder / ALEXNET)
    with pytest.raises(FlatvqError) as error:
        load_lpips(find_weights(tmp_path))
    assert_one_line(error, tmp_path / HEADS, name, "[1, 256, 1, 1]")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: path.write_bytes(b"not a script"), "is not a TorchScript network"),
        (lambda path: torch.save(heads_state(), path), "is not a TorchScript network"),
        (lambda path: save_script(NoFeatures(), path), "takes no return_features"),
    ],
)
def test_a_file_that_is_no_feature_network_is_an_error(tmp_path, make, fault):
    make(tmp_path / INCEPTION)
    with pytest.raises(FlatvqError) as error:
        load_features(find_weights(tmp_path))
    assert_one_line(error, tmp_path / INCEPTION, fault, "stylegan2-ada-pytorch")


def test_a_network_of_another_width_is_an_error(tmp_path):
    save_script(TinyInception(features=64), tmp_path / INCEPTION)
    with pytest.raises(FlatvqError) as error:
        load_features(find_weights(tmp_path))(images())
    assert_one_line(error, "does not give 2048 features")


# --- rFID


def test_features_see_the_images_as_they_would_be_stored(folder):
    network = load_features(find_weights(folder))
    x = images() * 1.2 - 0.1
    by_hand = TinyInception()
    by_hand.load_state_dict(network.script.state_dict())
    pixels = torch.from_numpy(np.rint(np.clip(x.numpy(), 0, 1) * 255).astype(np.uint8))
    with torch.no_grad():
        expected = by_hand(pixels, return_features=True)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)  # truncating would move them by 4e-3


def statistics(count, features, seed, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=generator, dtype=torch.float64)
    return torch.randn(count, features, generator=generator, dtype=torch.float64) @ mixing + offset


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_merged_statistics_are_those_of_all_images_together(offset):
    x = statistics(57, 5, seed=0, offset=offset)
    merged = (
        FeatureStatistics.of(x[:20]).merge(FeatureStatistics.of(x[20:21])).merge(FeatureStatistics.of(x[21:]))
    )
    assert merged.count == 57
    np.testing.assert_allclose(merged.mean, x.numpy().mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", [200, 40])
def test_frechet_distance_agrees_with_scipys_matrix_root(count):
    x, y = statistics(count, 12, seed=0), statistics(count, 12, seed=1, offset=0.5)
    a, b = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = ((x.numpy().mean(0) - y.numpy().mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    ours = frechet_distance(FeatureStatistics.of(x), FeatureStatistics.of(y))
    assert ours == pytest.approx(expected, rel=1e-9)


@given(
    means=st.lists(st.floats(-5, 5), min_size=2, max_size=2),
    spreads=st.lists(st.floats(0, 9), min_size=4, max_size=4),
)
@settings(deadline=None)
def test_frechet_distance_of_diagonal_gaussians_by_hand(means, spreads):
    """Independent coordinates: the sum of (difference of means)^2 + (difference of deviations)^2."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    deviations = torch.tensor(spreads, dtype=torch.float64).view(2, 2)
    a = FeatureStatistics.of(corners * deviations[0])
    b = FeatureStatistics.of(corners * deviations[1] + torch.tensor(means, dtype=torch.float64))
    step = (deviations[0] - deviations[1]) * (4 / 3) ** 0.5  # four corners, divided by three
    expected = sum(mean**2 for mean in means) + step.square().sum().item()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_frechet_distance_with_fewer_images_than_features_is_zero_on_itself_and_symmetric():
    x, y = (FeatureStatistics.of(statistics(6, 30, seed=seed)) for seed in (0, 1))
    scale = x.covariance.trace().item()
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * scale)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    assert frechet_distance(x, y) > 0.01 * scale


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(5), r"features of shape \[5\] have 1 axis, not \[B, F\]"),
        (torch.zeros(0, 5), "no features: pass"),
        (torch.tensor([[1.0, float("nan")]]), "NaN or infinity in the features"),
    ],
)
def test_features_without_statistics_are_refused(features, message):
    with pytest.raises(FlatvqError, match=message):
        FeatureStatistics.of(features)


def test_frechet_distance_needs_two_images():
    one, two = (FeatureStatistics.of(torch.rand(count, 3)) for count in (1, 2))
    with pytest.raises(FlatvqError, match="sets of 1 and 2 images"):
        frechet_distance(one, two)
