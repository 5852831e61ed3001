"""Evaluation decodes exactly as Pillow; training decodes faster, with a bounded difference.

Tolerances: PyTorch scales with weights of 16 bits, in two passes that each round to a byte, so a value is
two levels off at most. In photographs of ImageNet that are decoded at a reduced size, values are off by 0.3
levels on average, and 3 in 1,000 by more than two; in the worst of those drawn here, by 0.6 and 20. Were the
rounded sides of reduced images taken for whole ones, it would be 0.9 and 85.
"""

from __future__ import annotations

import io
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.data.jpegs import HEIGHT, WIDTH, file_of, photograph

from flatvq.data import TrainingCrops, crops, decoding, load_image, open_data, pillow
from flatvq.data.conversion import Conversion, Rejected
from flatvq.data.decoding import _reduce, _reducible, decode, decode_for_training
from flatvq.data.survey import digest_of
from flatvq.recipe import DataRecipe


def by_pillow(file: bytes, resize: int) -> np.ndarray:
    image = Image.open(io.BytesIO(file)).convert("RGB")
    size = [round(side * resize / min(image.size)) for side in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def trained_on(file: bytes, resize: int) -> np.ndarray:
    return decode_for_training(io.BytesIO(file), Conversion(16, resize))


def evaluated(file: bytes, resize: int) -> np.ndarray:
    return decode(io.BytesIO(file), Conversion(16, resize))


def assert_scaled_alike(pixels: np.ndarray, expected: np.ndarray) -> None:
    off = np.abs(pixels.astype(int) - expected)
    assert off.max() <= 2
    assert (off > 0).mean() < 0.01


def assert_reduced_alike(pixels: np.ndarray, expected: np.ndarray) -> None:
    off = np.abs(pixels.astype(int) - expected)
    assert off.mean() < 0.7
    assert (off > 2).mean() < 0.03


@pytest.mark.parametrize("resize", [24, 48, 100, 160, 302, 450])
def test_evaluation_scales_with_pillow_from_the_full_size(resize: int) -> None:
    file = file_of(photograph())
    assert np.array_equal(evaluated(file, resize), by_pillow(file, resize))


@pytest.mark.parametrize("resize", [51, 100, 160, 301, 450])
def test_a_jpeg_of_a_usual_size_is_decoded_in_full(resize: int) -> None:
    file = file_of(photograph())
    assert_scaled_alike(trained_on(file, resize), by_pillow(file, resize))


@pytest.mark.parametrize(("resize", "scale"), [(50, 2), (26, 2), (25, 4), (16, 4)])
def test_a_very_large_jpeg_is_decoded_at_a_reduced_size(resize: int, scale: int) -> None:
    file = file_of(photograph())
    reduced = Image.open(io.BytesIO(file))
    reduced.draft("RGB", (WIDTH // scale, HEIGHT // scale))
    assert reduced.size == (-(-WIDTH // scale), -(-HEIGHT // scale))
    expected = by_pillow(file, resize)
    box = (0, 0, WIDTH / scale, HEIGHT / scale)
    by_hand = reduced.resize(expected.shape[1::-1], Image.Resampling.BICUBIC, box=box)
    assert np.array_equal(trained_on(file, resize), by_hand)
    assert_reduced_alike(trained_on(file, resize), expected)


def segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + (len(content) + 2).to_bytes(2, "big") + content


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return segment(0xE1, exif.tobytes())


def xmp_of(orientation: int) -> bytes:
    tags = f'<rdf:Description tiff:Orientation="{orientation}"/>'.encode()
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + tags)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(1, 8).map(exif_of),
            st.integers(1, 8).map(xmp_of),
            st.builds(segment, st.sampled_from([0xE3, 0xED, 0xF0, 0xFE]), st.binary(max_size=40)),
            st.sampled_from([b"\xff", b"\xff\xff\xff", b"junk", b"\xff\xd0", b"\xff\x01"]),
        ),
        max_size=4,
    )
)
def test_the_segments_of_a_jpeg_orient_it_as_in_pillow(extra: list[bytes]) -> None:
    start, rest = (file := file_of(photograph(width=30, height=20)))[:20], file[20:]  # after JFIF's own
    crowded = b"".join([start, *extra, rest])
    try:
        expected = evaluated(crowded, 0)
    except Rejected:
        with pytest.raises(Rejected):
            trained_on(crowded, 0)
    else:
        assert np.array_equal(trained_on(crowded, 0), expected)


def test_a_jpeg_over_the_limit_is_rejected_before_memory_is_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = file_of(photograph())
    for module in (decoding, pillow):
        monkeypatch.setattr(module, "LARGEST_PIXELS", WIDTH * HEIGHT - 1)
    monkeypatch.delattr(decoding, "decode_part")
    with pytest.raises(Rejected, match="limit"):
        trained_on(file, 0)


@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_an_image_that_is_over_the_limit_once_scaled_is_rejected(suffix: str) -> None:
    file = file_of(photograph(0, 8, 8), suffix)
    for function in (evaluated, trained_on):
        with pytest.raises(Rejected, match="20000 x 20000 pixels once scaled to resize 20000: the limit"):
            function(file, 20_000)


@pytest.mark.parametrize("width", [1, 2, 5, 47, 48, 95, 96, 97, 160, 400])
def test_reduction_is_predicted_before_pillow_opens_a_file(width: int) -> None:
    for height in (1, 30, 95, 96, 192, 400):
        image = Image.open(io.BytesIO(file_of(photograph(0, max(width, 2), height))))
        whole, target = image.size, Conversion(16, 16).target(*image.size)
        assert _reducible(whole, target) == (_reduce(image, target) is not None)


def test_an_image_that_is_not_scaled_is_the_same_on_both_sides() -> None:
    for file in (file_of(photograph()), file_of(photograph(), "PNG")):
        assert np.array_equal(trained_on(file, 0), evaluated(file, 0))
        assert np.array_equal(trained_on(file, HEIGHT), Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("resize", [30, 130])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg(orientation: int, resize: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = file_of(photograph(), exif=exif)
    pixels, expected = trained_on(file, resize), evaluated(file, resize)
    assert pixels.shape == expected.shape
    assert (pixels.shape[0] > pixels.shape[1]) == (orientation >= 5)
    (assert_reduced_alike if resize == 30 else assert_scaled_alike)(pixels, expected)


@pytest.mark.parametrize("resize", [30, 130, 310])
@pytest.mark.parametrize("kind", ["grey", "inks", "progressive", "coarse colour"])
def test_jpegs_of_all_kinds(kind: str, resize: int) -> None:
    image = photograph()
    file = {
        "grey": lambda: file_of(image.convert("L")),
        "inks": lambda: file_of(image.convert("CMYK")),
        "progressive": lambda: file_of(image, progressive=True),
        "coarse colour": lambda: file_of(image, subsampling=2),
    }[kind]()
    pixels = trained_on(file, resize)
    (assert_reduced_alike if resize == 30 else assert_scaled_alike)(pixels, evaluated(file, resize))
    if kind == "grey":
        assert (pixels == pixels[..., :1]).all()


def test_a_small_jpeg_is_enlarged() -> None:
    file = file_of(photograph(width=13, height=9))
    assert_scaled_alike(trained_on(file, 0), by_pillow(file, 16))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_formats_are_never_reduced(kind: str) -> None:
    file = file_of(photograph(), kind)
    for resize in (16, 30, 130):
        assert_scaled_alike(trained_on(file, resize), by_pillow(file, resize))


def test_damage_is_detected_at_a_reduced_size() -> None:
    file = file_of(photograph())
    for resize in (0, 30, 130):
        with pytest.raises(Rejected, match="damaged"):
            trained_on(file[: len(file) // 2], resize)


def test_pixels_are_the_same_if_pillow_does_not_expose_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(photograph())
    lent = trained_on(file, 130)
    monkeypatch.delattr(Image.Image, "__arrow_c_array__", raising=False)  # as in versions before 11.2
    monkeypatch.delattr(Image.Image, "__arrow_c_schema__", raising=False)
    assert np.array_equal(trained_on(file, 130), lent)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("resize", [0, 100, 450])
def test_the_channels_of_a_plain_jpeg_stay_side_by_side(resize: int, options: dict[str, bool]) -> None:
    # Crops are copied row by row then, twenty times as fast as from channels that lie apart.
    pixels = trained_on(file_of(photograph(), **options), resize)
    assert pixels.strides == (3 * pixels.shape[1], 3, 1)


@pytest.mark.slow
def test_an_image_in_several_blocks_of_memory() -> None:
    file = file_of(photograph(width=2400, height=2000), "BMP")  # 19.2 MB with padding; a block holds 16 MiB
    assert_scaled_alike(trained_on(file, 64), by_pillow(file, 64))


def test_pixels_are_the_same_in_many_threads() -> None:
    files = [file_of(photograph(seed)) for seed in range(4)] * 8
    with ThreadPoolExecutor(8) as pool:
        for file, pixels in zip(files, pool.map(lambda file: trained_on(file, 130), files), strict=True):
            assert np.array_equal(pixels, trained_on(file, 130))


@pytest.fixture
def jpegs(tmp_path: Path) -> Path:
    folder = tmp_path / "jpegs"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.jpg").write_bytes(file_of(photograph(number)))
    return folder


def recipe(folder: Path, **changes: object) -> DataRecipe:
    settings = {"source": "folder", "path": str(folder), "crop": 16, "resize": 40, "validation_share": 0.3}
    return DataRecipe(**{**settings, **changes})


@pytest.mark.parametrize("cache_mib", [0, 64])
def test_each_side_is_decoded_in_its_own_way(jpegs: Path, tmp_path: Path, cache_mib: int) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    (apart / "new.jpg").write_bytes(file_of(photograph(99)))
    for validation_path, held in (("", jpegs), (str(apart), apart)):
        data = open_data(recipe(jpegs, validation_path=validation_path, cache_mib=cache_mib))
        for index, name in enumerate(data.validation.names):
            assert np.array_equal(
                load_image(data.validation, index), by_pillow((held / name).read_bytes(), 40)
            )
        for index, name in enumerate(data.training.names):
            assert np.array_equal(
                load_image(data.training, index), trained_on((jpegs / name).read_bytes(), 40)
            )


def test_images_that_fit_the_cache_are_decoded_once(jpegs: Path) -> None:
    data = open_data(recipe(jpegs, cache_mib=1))
    shutil.rmtree(jpegs)
    for images in (data.training, data.validation):
        assert len({load_image(images, index).tobytes() for index in range(len(images))}) == len(images)
    assert not data.late_file_statuses


def test_an_image_that_changes_sides_is_decoded_again(tmp_path: Path) -> None:
    # With so small a share, the lowest hash is held out. As its file is damaged, the next one changes over.
    files = [file_of(photograph(seed)) for seed in range(3)]
    others = min(digest_of(io.BytesIO(file)) for file in files)
    halves = (file[: len(file) // 2] for file in (file_of(photograph(seed, 64, 48)) for seed in range(3, 99)))
    damaged = next(half for half in halves if digest_of(io.BytesIO(half)) < others)
    for number, file in enumerate((*files, damaged)):
        (tmp_path / f"{number}.jpg").write_bytes(file)
    data = open_data(recipe(tmp_path, validation_share=1e-9))
    assert [file.name for file in data.file_statuses] == ["3.jpg"]
    (name,) = data.validation.names
    assert np.array_equal(load_image(data.validation, 0), by_pillow((tmp_path / name).read_bytes(), 40))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("resize", [40, 0])
def test_batches_do_not_depend_on_cache_or_threads(
    jpegs: Path, workers: int, resize: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops, "decoding_threads", lambda: workers)
    # 0 MiB: nothing is kept; 1 MiB: all, as 403 x 302 comes to 53 x 40, 6360 bytes each; unscaled, two of 12.
    batches = [
        [
            batch.pixels.numpy()
            for batch in TrainingCrops(open_data(cached).training, cached, 5, 6).batches(2, 9)
        ]
        for cached in (recipe(jpegs, resize=resize, cache_mib=mib) for mib in (0, 1))
    ]
    assert np.array_equal(*batches)
    assert len({pixels.tobytes() for pixels in batches[0]}) == 7


def test_real_photographs(imagenet_sample: Path) -> None:
    files = [file.read_bytes() for file in sorted((imagenet_sample / "train").iterdir())[:40]]
    for resize, mean, beyond in ((160, 0.02, 0.001), (32, 0.5, 0.01)):  # as they are; most of them reduced
        off = []
        for file in files:
            expected = by_pillow(file, resize)
            assert np.array_equal(evaluated(file, resize), expected)
            off.append(np.abs(trained_on(file, resize).astype(int) - expected).ravel())
        assert np.concatenate(off).mean() < mean
        assert (np.concatenate(off) > 2).mean() < beyond


def test_why_only_very_large_jpegs_are_reduced(imagenet_sample: Path) -> None:
    # A half of 375 pixels is 1.2 times the 160 that they are scaled to; docs/data.md says what it would cost.
    off = []
    for path in sorted((imagenet_sample / "train").iterdir())[:100]:
        file = path.read_bytes()
        reduced = Image.open(io.BytesIO(file))
        if min(reduced.size) == 375:
            expected = by_pillow(file, 160)
            _, box = reduced.draft("RGB", (200, 160))
            half = reduced.convert("RGB").resize(expected.shape[1::-1], Image.Resampling.BICUBIC, box=box)
            off.append(np.abs(np.asarray(half).astype(int) - expected).ravel())
    assert 0.15 < (np.concatenate(off) > 2).mean() < 0.35
