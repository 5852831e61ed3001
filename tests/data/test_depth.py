"""Samples of more than 8 bits: the file or the recipe states white, and doubtful files are listed."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.data.deep_files import GREY, GREY_ALPHA, RGB, RGBA, png, portable, tiff_of_12_bits

from flatvq.data import load_image, open_data, open_folder
from flatvq.data.depth import is_deep
from flatvq.data.pillow import opened as pillow_opened
from flatvq.data.ranges import Range, stated_range
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe, parse

RNG = np.random.default_rng(0)
SHAPE = (20, 24)
RAMP = np.linspace(0, 1, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP.T.reshape(SHAPE)], axis=2)


def samples_of(values: np.ndarray, white: int) -> np.ndarray:
    return np.rint(values * white).astype(np.uint16)


def tiff(samples: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def shown(values: np.ndarray) -> np.ndarray:
    """Levels of 8 bits, [H, W, 3], as floating-point numbers."""
    return np.broadcast_to((values if values.ndim == 3 else values[..., None]) * 255, (*SHAPE, 3))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., tuple[np.ndarray, str]]:
    """Open a file in a folder with another image; return its pixels and the unusual parts of its status."""

    def both(content: bytes, white_level: int = 0) -> tuple[np.ndarray, str]:
        (tmp_path / "a").write_bytes(content)
        Image.new("RGB", (24, 24), "teal").save(tmp_path / "b.png")
        folder = open_folder(tmp_path, crop=20, white_level=white_level)
        assert folder.images.names == ("a", "b.png")
        (file,) = folder.file_statuses
        assert (file.name, file.status) == ("a", "converted")
        usual = ("greyscale", "more than 8 bits a sample", "CMYK", "transparency, laid over white")
        return load_image(folder.images, 0), "; ".join(
            part for part in file.reason.split("; ") if part not in usual
        )

    return both


@pytest.fixture
def rejected(tmp_path: Path) -> Callable[..., str]:
    """Open a file that is rejected; return the reason."""

    def reason(content: bytes, white_level: int = 0) -> str:
        (tmp_path / "a").write_bytes(content)
        Image.new("RGB", (24, 24), "teal").save(tmp_path / "b.png")
        (file,) = open_folder(tmp_path, crop=20, white_level=white_level).file_statuses
        assert (file.name, file.status) == ("a", "unreadable")
        return file.reason

    return reason


Opened = Callable[..., tuple[np.ndarray, str]]
WRITERS = {
    "grey.png": (RAMP, lambda samples: png(samples, GREY)),
    "grey.tif": (RAMP, lambda samples: tiff(samples)),
    "grey-be.tif": (RAMP, lambda samples: tiff(samples, byteorder=">")),
    "grey-zlib.tif": (RAMP, lambda samples: tiff(samples, compression="zlib")),
    "grey.pgm": (RAMP, lambda samples: portable("P5", samples, 65535)),
    "grey.txt.pgm": (RAMP, lambda samples: portable("P2", samples, 65535)),
    "colour.png": (COLOUR, lambda samples: png(samples, RGB)),
    "colour.tif": (COLOUR, lambda samples: tiff(samples)),
    "colour-be.tif": (COLOUR, lambda samples: tiff(samples, byteorder=">")),
    "colour-zlib.tif": (COLOUR, lambda samples: tiff(samples, compression="zlib", predictor=True)),
    "colour-zlib-be.tif": (COLOUR, lambda samples: tiff(samples, compression="zlib", byteorder=">")),
    "colour-tiled.tif": (COLOUR, lambda samples: tiff(samples, tile=(16, 16))),
    "colour-strips.tif": (COLOUR, lambda samples: tiff(samples, rowsperstrip=3)),
    "colour.ppm": (COLOUR, lambda samples: portable("P6", samples, 65535)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_twelve_bits_in_sixteen(kind: str, opened: Opened) -> None:
    values, write = WRITERS[kind]
    file = write(samples_of(values, 4095))
    dark, reason = opened(file)
    assert dark.max() <= 16
    assert reason == "no sample exceeds 4095 of 65535; if they have 12 bits, set data.white_level to 4095"
    pixels, reason = opened(file, white_level=4095)
    assert np.abs(pixels - shown(values)).max() <= 1
    assert pixels.max() == 255
    assert reason == "white is 4095 by data.white_level"


@pytest.mark.parametrize("kind", WRITERS)
def test_sixteen_bits_show_their_high_byte(kind: str, opened: Opened) -> None:
    values, write = WRITERS[kind]
    samples = samples_of(values, 65535)
    pixels, reason = opened(write(samples))
    tolerance = 1 if kind == "colour.ppm" else 0  # which Pillow scales, and rounds
    assert np.abs(pixels - shown(samples // 256 / 255)).max() <= tolerance
    assert reason == ""


@pytest.mark.parametrize(
    ("largest", "named"),
    [
        (0, ""),
        (1, "no sample exceeds 1 of 65535; if they have 1 bits, set data.white_level to 1"),
        (200, "no sample exceeds 200 of 65535; if they have 8 bits, set data.white_level to 255"),
        (3000, "no sample exceeds 3000 of 65535; if they have 12 bits, set data.white_level to 4095"),
        (32767, "no sample exceeds 32767 of 65535; if they have 15 bits, set data.white_level to 32767"),
        (32768, ""),
    ],
)
def test_samples_that_would_fit_fewer_bits_are_named(largest: int, named: str, opened: Opened) -> None:
    assert opened(png(samples_of(RAMP, largest), GREY))[1] == named


@pytest.mark.parametrize("white", [1, 3, 100, 255, 1000, 4095, 50000, 65535])
def test_white_is_white_and_black_is_black(white: int, opened: Opened) -> None:
    pixels, _ = opened(png(samples_of(RAMP, white), GREY), white_level=white)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.abs(pixels - shown(samples_of(RAMP, white) / white)).max() <= 1


def test_samples_above_white_are_cut_off_and_named(opened: Opened) -> None:
    pixels, reason = opened(png(samples_of(RAMP, 5000), GREY), white_level=4095)
    assert np.abs(pixels - np.minimum(shown(RAMP * 5000 / 4095), 255)).max() <= 1
    assert reason == "white is 4095 by data.white_level, samples of up to 5000 are cut off"


def scaled(values: np.ndarray, bits: int, how: str) -> np.ndarray:
    """Samples of some bits as the PNG specification lets encoders scale them, or unscaled."""
    samples = samples_of(values, 2**bits - 1).astype(np.uint32)
    if how == "linear":
        return np.rint(samples * (65535 / (2**bits - 1)))
    if how == "replicated":
        repeated = sum(samples << bits * place for place in range(16 // bits + 1))
        return repeated >> (16 // bits + 1) * bits - 16
    return samples << 16 - bits if how == "filled" else samples


@pytest.mark.parametrize("how", ["linear", "replicated", "filled", "unscaled"])
@pytest.mark.parametrize("bits", [1, 5, 8, 10, 12, 15])
@pytest.mark.parametrize("colour", [GREY, RGB, RGBA])
def test_significant_bits_of_png(bits: int, how: str, colour: int, opened: Opened) -> None:
    values = {GREY: RAMP, RGB: COLOUR, RGBA: np.dstack([COLOUR, np.ones(SHAPE)])}[colour]
    file = png(
        scaled(values, bits, how),
        colour,
        (b"sBIT", bytes([bits] * (1 if colour == GREY else values.shape[2]))),
    )
    seen = samples_of(values if colour == GREY else COLOUR, 2**bits - 1) / (2**bits - 1)
    pixels, reason = opened(file)
    assert np.abs(pixels - shown(seen)).max() <= 1
    assert reason == (f"white is {2**bits - 1} by sBIT" if how == "unscaled" else "")


@pytest.mark.parametrize("how", ["linear", "replicated", "filled"])
def test_a_dark_png_with_significant_bits_stays_dark(how: str, opened: Opened) -> None:
    pixels, reason = opened(png(scaled(RAMP * 0.05, 12, how), GREY, (b"sBIT", b"\x0c")))
    assert np.abs(pixels - shown(RAMP * 0.05)).max() <= 1
    assert reason == ""


def test_all_bits_significant_say_nothing(opened: Opened) -> None:
    file = png(samples_of(RAMP, 4095), GREY, (b"sBIT", b"\x10"))
    assert "if they have 12 bits" in opened(file)[1]
    assert opened(file, white_level=4095)[1] == "white is 4095 by data.white_level"


def test_twelve_bits_of_tiff(opened: Opened) -> None:
    pixels, reason = opened(tiff_of_12_bits(samples_of(RAMP, 4095)), white_level=1000)
    assert np.abs(pixels - shown(RAMP)).max() <= 1
    assert reason == "white is 4095 by BitsPerSample"
    assert opened(tiff_of_12_bits(samples_of(RAMP, 100)))[1] == "white is 4095 by BitsPerSample"


@pytest.mark.parametrize(
    ("tag", "type_", "value", "stated"),
    [
        (281, 3, 4095, "MaxSampleValue"),
        (341, 3, 4095, "SMaxSampleValue"),
        (341, 3, 5000, "SMaxSampleValue"),
        (341, 12, 5000.0, "SMaxSampleValue"),
        (281, 3, 4096, ""),  # the largest of all images of a series, for example
        (281, 3, 65535, ""),
        (341, 12, 4095.5, ""),
        (341, 12, float("nan"), ""),
        (281, 3, 0, ""),
    ],
)
@pytest.mark.parametrize("values", [RAMP, COLOUR], ids=["grey", "colour"])
def test_ranges_in_tiff_tags(
    tag: int, type_: int, value: float, stated: str, values: np.ndarray, opened: Opened
) -> None:
    white = int(value) if stated else 4096
    count = 1 if values is RAMP else 3
    tags = [(tag, type_, count, value if count == 1 else (value,) * count, True)]
    pixels, reason = opened(tiff(samples_of(values, white), extratags=tags))
    if stated:
        assert np.abs(pixels - shown(values)).max() <= 1
        assert reason == f"white is {white} by {stated}"
    else:
        assert pixels.max() == 16
        assert "set data.white_level" in reason


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 3}])
def test_white_is_zero(options: dict[str, object], opened: Opened) -> None:
    for dtype, reason in ((np.uint8, ""), (np.uint16, "white is zero, inverted")):
        samples = np.rint(RAMP * np.iinfo(dtype).max).astype(dtype)
        pixels, stated = opened(tiff(samples, photometric="miniswhite", **options))
        assert np.abs(pixels - shown(1 - RAMP)).max() <= 1
        assert stated == reason
    pixels, stated = opened(
        tiff(samples_of(RAMP, 1023), photometric="miniswhite", **options), white_level=1023
    )
    assert np.abs(pixels - shown(1 - RAMP)).max() <= 1
    assert stated == "white is zero, inverted; white is 1023 by data.white_level"


@pytest.mark.parametrize(("magic", "values"), [("P5", RAMP), ("P2", RAMP), ("P6", COLOUR), ("P3", COLOUR)])
def test_the_maximum_of_portable_maps_is_white(magic: str, values: np.ndarray, opened: Opened) -> None:
    for brightness in (1, 0.1):
        file = portable(magic, samples_of(values * brightness, 4095), 4095)
        for white_level in (0, 300):  # which is for files that do not say
            pixels, reason = opened(file, white_level=white_level)
            assert np.abs(pixels - shown(values * brightness)).max() <= 1
            assert reason == ""


@pytest.mark.parametrize("alpha", [65535, 4095])
def test_alpha_has_its_own_range(alpha: int, opened: Opened) -> None:
    opaque = np.where(RAMP < 0.5, 0, alpha)
    samples = np.dstack([samples_of(COLOUR, 4095), opaque])
    for file in (png(samples, RGBA), tiff(samples.astype(np.uint16), photometric="rgb", extrasamples=[2])):
        pixels, reason = opened(file, white_level=4095)
        assert np.abs(pixels - np.where(RAMP[..., None] < 0.5, 255, shown(COLOUR))).max() <= 1
        assert reason == "white is 4095 by data.white_level"
        assert "no sample exceeds 4095" in opened(file)[1]  # of the colours


def test_inks(opened: Opened) -> None:
    inks = np.dstack([COLOUR, np.zeros(SHAPE)])
    file = tiff(samples_of(inks, 4095), photometric="separated")
    pixels, _ = opened(file, white_level=4095)
    assert np.abs(pixels - shown(1 - COLOUR)).max() <= 1


def test_transparent_colours_of_sixteen_bits(opened: Opened) -> None:
    grey, colour = samples_of(RAMP, 65535), samples_of(COLOUR, 65535)
    grey[:2], colour[:2] = 1000, (1000, 2000, 3000)
    grey[2], colour[2] = 1001, (1000, 2000, 3001)  # of the same high bytes, and not transparent
    for samples, kind, key in ((grey, GREY, (1000,)), (colour, RGB, (1000, 2000, 3000))):
        pixels, _ = opened(png(samples, kind, (b"tRNS", struct.pack(f">{len(key)}H", *key))))
        expected = shown(samples // 256 / 255).copy()
        expected[:2] = 255
        assert np.array_equal(pixels, expected)


def test_where_only_high_bytes_are_decoded(opened: Opened, rejected: Callable[..., str]) -> None:
    grey_alpha = np.dstack([samples_of(RAMP, 4095), np.full(SHAPE, 65535)])
    premultiplied = np.dstack([samples_of(COLOUR, 4095), np.full(SHAPE, 65535)]).astype(np.uint16)
    for file in (
        png(grey_alpha, GREY_ALPHA),
        png(grey_alpha, GREY_ALPHA, (b"sBIT", b"\x0c\x0c")),
        tiff(premultiplied, photometric="rgb", extrasamples=[1]),
    ):
        assert opened(file)[1] == (
            "no sample exceeds 4095 of 65535; if they have 12 bits, set data.white_level to 4095"
        )
        assert rejected(file, white_level=4095).startswith(
            "white is 4095 by data.white_level, but Pillow decodes only the high bytes of this "
        )


def test_sixteen_bits_of_jpeg_2000(opened: Opened, rejected: Callable[..., str]) -> None:
    file = io.BytesIO()
    Image.fromarray(samples_of(RAMP, 4095)).save(file, "JPEG2000", irreversible=False)
    assert "if they have 12 bits" in opened(file.getvalue())[1]
    assert np.abs(opened(file.getvalue(), white_level=4095)[0] - shown(RAMP)).max() <= 1


def test_the_precision_of_jpeg_2000_is_its_range() -> None:
    # Pillow writes 8 or 16 bits; here the header says 12 of either.
    for samples in (samples_of(RAMP, 65535), samples_of(COLOUR, 255).astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(samples).save(file, "JPEG2000")
        content = bytearray(file.getvalue())
        content[content.index(b"\xff\x4f\xff\x51") + 42] = 11
        with pillow_opened(io.BytesIO(content)) as image:
            assert is_deep(image)
            assert stated_range(image) == Range(stated_by="its maximum, to which Pillow scales")


@pytest.mark.parametrize("values", [RAMP, COLOUR], ids=["grey", "colour"])
def test_signed_samples_of_jpeg_2000_are_refused(values: np.ndarray, rejected: Callable[..., str]) -> None:
    file = io.BytesIO()
    Image.fromarray(samples_of(values, 255).astype(np.uint8)).save(file, "JPEG2000")
    content = bytearray(file.getvalue())
    content[content.index(b"\xff\x4f\xff\x51") + 42] |= 0x80
    assert rejected(bytes(content)) == "signed samples have no known white"


def test_planes_that_pillow_misreads_are_refused(opened: Opened, rejected: Callable[..., str]) -> None:
    planes = np.moveaxis(samples_of(COLOUR, 65535), 2, 0).copy()
    assert "separate planes" in rejected(tiff(planes, planarconfig="separate", photometric="rgb"))
    packed = tiff(planes, planarconfig="separate", photometric="rgb", compression="zlib")
    assert np.abs(opened(packed)[0] - shown(COLOUR)).max() <= 1


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float32"])
def test_samples_without_a_known_white_are_refused(dtype: str, rejected: Callable[..., str]) -> None:
    assert "have no known white" in rejected(tiff((RAMP * 100).astype(dtype)))


def test_a_floating_point_map_is_refused(rejected: Callable[..., str]) -> None:
    file = b"Pf\n24 20\n-1.0\n" + RAMP.astype("<f4").tobytes()
    assert rejected(file) == "floating-point samples have no known white"


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "pgm"])
def test_label_masks_of_eight_bits_are_named(suffix: str, tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[20:50, 10:40] = 21
    for name, pixels in (("mask", labels), ("dark", labels * 2), ("black", labels * 0)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.{suffix}")
    file_statuses = {
        file.name.split(".")[0]: file.reason for file in open_folder(tmp_path, crop=16).file_statuses
    }
    assert file_statuses == {
        "black": "greyscale",
        "dark": "greyscale",
        "mask": "greyscale; no sample exceeds 21 of 255, as in a label mask",
    }


def test_both_sides_of_a_recipe_have_the_white_level(tmp_path: Path) -> None:
    for number in range(8):
        samples = samples_of(np.roll(RAMP, number, axis=1), 4095)
        (tmp_path / f"{number}.png").write_bytes(png(samples, GREY))
    recipe = DataRecipe(source="folder", path=str(tmp_path), crop=16, validation_share=0.4, white_level=4095)
    data = open_data(recipe)
    for images in (data.training, data.validation):
        for index, name in enumerate(images.names):
            expected = shown(np.roll(RAMP, int(name[0]), axis=1))
            assert np.abs(load_image(images, index) - expected).max() <= 1
    assert {file.reason.split("; ")[-1] for file in data.file_statuses} == {
        "white is 4095 by data.white_level"
    }


@pytest.mark.parametrize("value", [-1, 65536, "white"])
def test_a_white_level_has_sixteen_bits(value: object) -> None:
    with pytest.raises(FlatvqError, match="white_level"):
        parse(DataRecipe, {"white_level": value}, "recipe")
