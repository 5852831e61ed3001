import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from flatvq.errors import FlatvqError
from flatvq.evaluate.fidelity import (
    PSNR_CAP_DB,
    as_stored,
    mse,
    psnr,
    psnr_of_mean_mse,
)
from flatvq.evaluate.similarity import ms_ssim, ms_ssim_defined, ssim, ssim_defined


def pair(height, width, batch=2, noise=0.1, seed=0):
    """Smooth pictures and noisy copies of them, as float64 so that the references are exact too."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator, dtype=torch.float64)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    noisy = images + noise * torch.randn(images.shape, generator=generator, dtype=torch.float64)
    return images.clamp(0, 1), noisy.clamp(0, 1)


def reflected(image):
    return image.flip(-1)


eight_bit = hnp.arrays(np.uint8, (2, 2, 3, 12, 13)).map(lambda pixels: torch.from_numpy(pixels) / 255)


# --- as stored


def test_as_stored_is_what_comes_back_from_a_png(tmp_path):
    from PIL import Image

    every_level = torch.arange(256).repeat(3, 1, 1) / 255
    off_by_less_than_half = every_level + 0.49 / 255 * torch.tensor([-1.0, 1.0, 0.5]).view(3, 1, 1)
    stored = as_stored(off_by_less_than_half)
    pixels = stored.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "image.png")
    read = torch.from_numpy(np.array(Image.open(tmp_path / "image.png"))).permute(2, 0, 1) / 255
    assert torch.equal(stored, every_level)
    assert torch.equal(read, stored)


def test_as_stored_clamps_and_gives_float32_also_from_half_precision():
    stored = as_stored(torch.tensor([-3.0, 0.0, 0.1, 1.0, 1.004, 9.0], dtype=torch.bfloat16))
    assert stored.dtype == torch.float32
    assert torch.equal(stored, torch.tensor([0, 0, 26, 255, 255, 255]) / 255)


# --- MSE and PSNR


def test_mse_and_psnr_are_per_image_and_by_hand():
    references = torch.zeros(3, 3, 4, 5)
    images = references.clone()
    images[1, 0, 0, 0] = 0.5  # one of 60 samples: 0.25 / 60
    images[2] = 0.01
    assert mse(images, references).tolist() == pytest.approx([0, 0.25 / 60, 1e-4], rel=1e-6)
    expected = [PSNR_CAP_DB, 10 * math.log10(240), 40.0]
    assert psnr(images, references, data_range=1.0).tolist() == pytest.approx(expected, rel=1e-6)


def test_psnr_agrees_with_torchmetrics():
    images, noisy = pair(20, 30, batch=3)
    theirs = peak_signal_noise_ratio(images, noisy, data_range=2.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(
        psnr(images, noisy, data_range=2.0), theirs, rtol=1e-6, atol=0
    )  # they take the range's logarithm in float32


def test_psnr_of_8_bits_as_they_are_equals_psnr_on_the_unit_range():
    pixels = torch.randint(
        0, 256, (2, 2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    ours = psnr(pixels[0], pixels[1], data_range=255.0)
    # the unit range is rounded to float32, 6e-8 of its values
    torch.testing.assert_close(
        ours, psnr(pixels[0] / 255, pixels[1] / 255, data_range=1.0), rtol=1e-6, atol=0
    )


@given(exponent=st.floats(-7, 1), data_range=st.sampled_from([1.0, 2.0, 255.0]))
def test_psnr_never_exceeds_the_cap_and_follows_the_definition_below_it(exponent, data_range):
    step = 10**exponent
    image = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    value = psnr(image, image + step, data_range=data_range).item()
    assert value == pytest.approx(min(20 * math.log10(data_range / step), PSNR_CAP_DB), abs=1e-9)


def test_psnr_of_mean_mse_is_not_the_mean_of_psnr():
    errors = torch.tensor([1e-2, 1e-4])
    assert psnr_of_mean_mse(errors, data_range=1.0) == pytest.approx(10 * math.log10(1 / 0.00505), rel=1e-6)
    assert psnr_of_mean_mse(torch.zeros(4), data_range=1.0) == PSNR_CAP_DB


@given(eight_bit)
@settings(max_examples=30, deadline=None)
def test_psnr_of_mean_mse_is_at_most_the_mean_psnr(pixels):
    images, references = pixels
    pooled = psnr_of_mean_mse(mse(images, references), data_range=1.0)
    assert pooled <= psnr(images, references, data_range=1.0).mean().item() + 1e-9


# --- SSIM


def windows_inside(images, noisy, data_range):
    """Torchmetrics' similarities without the 5 pixels around, whose windows see a mirrored border."""
    _, similarities = structural_similarity_index_measure(
        images, noisy, sigma=1.5, data_range=data_range, reduction="none", return_full_image=True
    )
    return similarities[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))


@pytest.mark.parametrize(("height", "width"), [(11, 11), (16, 40), (64, 64)])
@pytest.mark.parametrize("data_range", [1.0, 3.0])
def test_ssim_agrees_with_torchmetrics_inside_the_border(height, width, data_range):
    images, noisy = pair(height, width)
    theirs = windows_inside(images, noisy, data_range)
    torch.testing.assert_close(ssim(images, noisy, data_range=data_range), theirs, rtol=1e-10, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_ssim_agrees_with_skimage(seed):
    images, noisy = pair(32, 47, noise=0.05 * (seed + 1), seed=seed)
    theirs = [
        structural_similarity(
            image.numpy(),
            other.numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for image, other in zip(images, noisy, strict=True)
    ]
    assert ssim(images, noisy, data_range=1.0).tolist() == pytest.approx(theirs, rel=1e-10)


def test_ssim_of_one_window_by_hand():
    """On 11 x 11 pixels there is one window: equation 13 with explicit two-dimensional weights."""
    images, noisy = pair(11, 11, batch=1)
    row, column = np.mgrid[-5:6, -5:6]
    weights = np.exp(-(row**2 + column**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for x, y in zip(images[0].numpy(), noisy[0].numpy(), strict=True):
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        vxy = (weights * (x - mx) * (y - my)).sum()
        c1, c2 = 0.01**2, 0.03**2
        values.append((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert ssim(images, noisy, data_range=1.0).item() == pytest.approx(np.mean(values), rel=1e-12)


@given(eight_bit)
@settings(max_examples=30, deadline=None)
def test_ssim_is_symmetric_one_on_itself_and_at_most_one(pixels):
    x, y = pixels
    there, back = ssim(x, y, data_range=1.0), ssim(y, x, data_range=1.0)
    torch.testing.assert_close(there, back, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        ssim(x, x, data_range=1.0), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(there, ssim(reflected(x), reflected(y), data_range=1.0), rtol=0, atol=1e-12)
    assert there.max() <= 1 + 1e-12


def test_ssim_of_nearly_equal_float32_images_keeps_its_digits():
    """The reason for float64: on a bright flat image a float32 variance is rounding noise."""
    flat = torch.full((1, 3, 16, 16), 0.9)
    other = flat.clone()
    other[..., ::2] += 1e-3
    theirs = windows_inside(flat.double(), other.double(), 1.0)
    torch.testing.assert_close(ssim(flat, other, data_range=1.0), theirs, rtol=1e-12, atol=0)


# --- MS-SSIM


def contrast_structure(images, noisy):
    _, terms = structural_similarity_index_measure(
        images, noisy, sigma=1.5, data_range=1.0, reduction="none", return_contrast_sensitivity=True
    )
    return terms  # here torchmetrics itself leaves the border out


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(176, 176), (181, 203)])
def test_ms_ssim_agrees_with_torchmetrics(height, width):
    images, noisy = pair(height, width, noise=0.2)
    ours = ms_ssim(images, noisy, data_range=1.0)
    # as published they differ at the coarsest scale alone, by the border of an image of 11 pixels
    theirs = multiscale_structural_similarity_index_measure(images, noisy, data_range=1.0, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
    x, y, product = images, noisy, 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363):
        product = product * contrast_structure(x, y) ** weight
        x, y = (z[..., : z.shape[-2] // 2 * 2, : z.shape[-1] // 2 * 2] for z in (x, y))
        x, y = (sum(z[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4 for z in (x, y))
    product = product * windows_inside(x, y, 1.0) ** 0.1333
    torch.testing.assert_close(ours, product, rtol=1e-10, atol=0)


def test_ms_ssim_of_itself_is_one_and_of_a_negative_zero():
    images, _ = pair(176, 180, batch=1)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert ms_ssim(images, images, data_range=1.0).item() == pytest.approx(1.0, abs=1e-12)
    assert ms_ssim(noise, 1 - noise, data_range=1.0).tolist() == [0.0]


def test_ms_ssim_is_defined_exactly_where_the_coarsest_scale_holds_a_window():
    sides = [side for side in range(1, 300) if ms_ssim_defined(side, 400) and ms_ssim_defined(400, side)]
    by_halving = [side for side in range(1, 300) if side // 2 // 2 // 2 // 2 >= 11]
    assert sides == by_halving


def test_ssim_is_defined_exactly_where_a_window_fits():
    sides = [side for side in range(1, 30) if ssim_defined(side, 40) and ssim_defined(40, side)]
    assert sides == list(range(11, 30))


# --- whatever the metric

METRICS = pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim])


@METRICS
def test_an_image_scores_the_same_alone_and_in_a_batch_in_float64(metric):
    images, noisy = pair(176, 176, batch=3)
    alone = [metric(x[None], y[None], data_range=1.0).item() for x, y in zip(images, noisy, strict=True)]
    together = metric(images, noisy, data_range=1.0)
    assert together.dtype == torch.float64
    assert together.tolist() == pytest.approx(alone, rel=1e-12)
    assert metric(images[:0], noisy[:0], data_range=1.0).shape == (0,)


@METRICS
def test_scaling_pixels_and_range_together_changes_nothing(metric):
    images, noisy = pair(176, 176, batch=1)
    scaled = metric(images * 255, noisy * 255, data_range=255.0)
    torch.testing.assert_close(metric(images, noisy, data_range=1.0), scaled, rtol=1e-9, atol=0)


@METRICS
def test_more_noise_scores_less(metric):
    scores = [
        metric(*pair(176, 176, batch=1, noise=noise), data_range=1.0).item() for noise in (0.01, 0.05, 0.2)
    ]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3


@METRICS
@pytest.mark.parametrize("data_range", [0.0, -1.0, math.nan, math.inf])
def test_a_range_that_is_not_positive_is_refused(metric, data_range):
    images, noisy = pair(176, 176, batch=1)
    with pytest.raises(FlatvqError, match=r"data range .* is not positive"):
        metric(images, noisy, data_range=data_range)


@METRICS
def test_integers_beyond_the_range_are_refused(metric):
    images = torch.full((1, 3, 176, 176), 10, dtype=torch.uint8)
    with pytest.raises(
        FlatvqError, match="integers from 10 to 20 exceed the data range 1: pass data_range=255"
    ):
        metric(images, images + 10, data_range=1.0)
    assert metric(images, images + 10, data_range=10.0).isfinite().all()
    # Reconstructions may exceed the range.
    assert metric(images.float(), images.float() + 10, data_range=1.0).isfinite().all()


@METRICS
def test_different_shapes_are_refused_with_both_shapes(metric):
    images, noisy = pair(176, 176, batch=1)
    with pytest.raises(FlatvqError, match=r"\[1, 3, 176, 176\] with \[1, 3, 176, 175\]"):
        metric(images, noisy[..., 1:], data_range=1.0)
    with pytest.raises(FlatvqError, match=r"images of shape \[3, 176, 176\] have 3 axes, not \[B, C, H, W\]"):
        metric(images[0], noisy[0], data_range=1.0)


@METRICS
@pytest.mark.usefixtures("unchecked")
def test_images_on_different_scales_are_refused(metric):
    images, noisy = pair(176, 176, batch=1)
    pixels = (255 * noisy).to(torch.uint8)
    with pytest.raises(FlatvqError, match="float64 on cpu with uint8 on cpu"):
        metric(images, pixels, data_range=1.0)
    with pytest.raises(FlatvqError, match="complex128 on cpu with complex128"):
        metric(images + 0j, noisy + 0j, data_range=1.0)
    with pytest.raises(FlatvqError, match=r"images of type numpy.ndarray are not a tensor"):
        metric(images.numpy(), noisy.numpy(), data_range=1.0)


def test_images_too_small_are_refused_with_the_smallest_size():
    small = torch.zeros(1, 3, 10, 40)
    with pytest.raises(FlatvqError, match=r"SSIM is .* 10 x 40 pixels: .* at least 11 x 11"):
        ssim(small, small, data_range=1.0)
    small = torch.zeros(1, 3, 200, 175)
    with pytest.raises(FlatvqError, match=r"MS-SSIM is not defined .* at least 176 x 176"):
        ms_ssim(small, small, data_range=1.0)


def test_images_without_pixels_are_refused():
    for shape, message in (
        ((2, 3, 0, 5), "3 channels of 0 x 5 pixels"),
        ((2, 0, 5, 5), "0 channels of 5 x 5"),
    ):
        with pytest.raises(FlatvqError, match=f"MSE is not defined for {message}"):
            mse(torch.zeros(shape), torch.zeros(shape))


def test_only_floating_point_images_are_rounded_to_8_bits():
    with pytest.raises(FlatvqError, match="images of dtype uint8 are not floating-point: divide"):
        as_stored(torch.tensor([0, 128, 255], dtype=torch.uint8))


@pytest.mark.usefixtures("unchecked")
def test_errors_have_one_axis():
    with pytest.raises(FlatvqError, match=r"errors of type list are not a tensor: pass a tensor \[N\]"):
        psnr_of_mean_mse([0.1], data_range=1.0)
    with pytest.raises(FlatvqError, match=r"errors of shape \[2, 1\] have 2 axes, not \[N\]"):
        psnr_of_mean_mse(torch.zeros(2, 1), data_range=1.0)


def test_no_errors_to_average_is_refused():
    with pytest.raises(FlatvqError, match="no images"):
        psnr_of_mean_mse(torch.zeros(0), data_range=1.0)


def test_data_range_is_mandatory():
    images, noisy = pair(16, 16)
    for metric in (psnr, ssim):
        with pytest.raises(TypeError, match="data_range"):
            metric(images, noisy)
