"""A region of a JPEG has the pixels of Pillow's image, and damage anywhere in the file is detected.

Compiled code decodes regions. Without it, or with an unsupported libjpeg, Pillow decodes the image, with
the same pixels.
"""

from __future__ import annotations

import ctypes
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from tests.data.jpegs import file_of, photograph

from flatvq.data import decoding, native
from flatvq.data.conversion import Conversion, Rejected
from flatvq.data.decoding import decode_for_training
from flatvq.data.jpeg import plain_size
from flatvq.data.native import can_decode_parts, decode_part
from flatvq.data.types import Region

compiled = pytest.mark.skipif(not can_decode_parts(), reason="the compiled code is not available")

kinds = st.fixed_dictionaries(
    {
        "quality": st.integers(5, 100),
        "subsampling": st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "4:1:1"]),
        "progressive": st.booleans(),
        "restart_marker_blocks": st.integers(0, 3),
        "keep_rgb": st.booleans(),
        "grey": st.booleans(),
    }
)


def jpeg_of(width: int, height: int, options: dict[str, Any]) -> bytes:
    grey, options = options["grey"], {name: value for name, value in options.items() if name != "grey"}
    image = photograph(0, max(width, 2), height)
    if grey:
        image = image.convert("L")
    if grey or options["keep_rgb"]:  # stored as red, green and blue, which cannot be subsampled
        options |= {"keep_rgb": not grey, "subsampling": "4:4:4"}
    return file_of(image, **options)


def in_pillow(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


@st.composite
def regions(draw: st.DrawFn, width: int, height: int) -> Region:
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return Region(top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))


def upright_422(side: int) -> bytes:
    """Encode a picture whose colour is at half the height: no encoder that Pillow has does that.

    A square of colour at half the width is made of as many blocks, in the same order within each 16 x 8
    pixels, so that it may claim to be one of 8 x 16 each: its blocks are then elsewhere, but all there.
    """
    file = bytearray(file_of(photograph(0, side, side), subsampling="4:2:2"))
    frame = file.index(b"\xff\xc0")
    assert file[frame + 11] == 0x21
    file[frame + 11] = 0x12
    return bytes(file)


@compiled
@settings(max_examples=150)
@given(data=st.data(), width=st.integers(2, 90), height=st.integers(1, 90), options=kinds)
def test_a_region_has_pillows_pixels(
    data: st.DataObject, width: int, height: int, options: dict[str, Any]
) -> None:
    file = jpeg_of(width, height, options)
    part = data.draw(regions(width, height))
    assert plain_size(file) == (width, height)
    pixels = decode_part(file, (width, height), part)
    assert pixels is not None
    assert np.array_equal(part.of(pixels), part.of(in_pillow(file)))


@compiled
@given(part=regions(64, 64))
def test_a_region_with_colour_at_half_the_height_has_pillows_pixels(part: Region) -> None:
    file = upright_422(64)
    pixels = decode_part(file, (64, 64), part)
    assert pixels is not None
    assert np.array_equal(part.of(pixels), part.of(in_pillow(file)))


@compiled
@settings(max_examples=60)
@given(data=st.data(), width=st.integers(2, 60), height=st.integers(1, 60), options=kinds)
def test_nothing_is_written_beyond_an_image(
    data: st.DataObject, width: int, height: int, options: dict[str, Any]
) -> None:
    assert native._LOADED is not None
    library, libjpeg = native._LOADED
    file, part = jpeg_of(width, height, options), data.draw(regions(width, height))
    place = part.top, part.left, part.height, part.width
    padded = np.full(height * width * 3 + 2000, 77, np.uint8)
    address = padded.ctypes.data + 1000
    assert library.flatvq_jpeg_part(libjpeg, file, len(file), height, width, *place, address)
    assert (padded[:1000] == 77).all()
    assert (padded[-1000:] == 77).all()


@compiled
def test_photographs_have_pillows_pixels(imagenet_sample: Path) -> None:
    random, plain = np.random.default_rng(0), 0
    for path in sorted((imagenet_sample / "val").iterdir()):
        file = path.read_bytes()
        size = plain_size(file)
        if size is None:
            image = Image.open(io.BytesIO(file))
            assert {"exif", "xmp"} & image.info.keys() or image.mode == "CMYK"
            continue
        plain += 1
        (left, right), (top, bottom) = (np.sort(random.integers(0, side, 2)) for side in size)
        part = Region(top, left, bottom - top + 1, right - left + 1)
        pixels = decode_part(file, size, part)
        assert pixels is not None
        assert np.array_equal(part.of(pixels), part.of(in_pillow(file)))
    assert plain > 80


@compiled
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_truncated_file_is_damaged_for_every_region(options: dict[str, Any]) -> None:
    file = file_of(photograph(0, 80, 60), **options)
    for part in (Region(0, 0, 1, 1), Region(30, 40, 8, 8), Region(59, 79, 1, 1), Region(0, 0, 60, 80)):
        assert decode_part(file, (80, 60), part) is not None
        assert all(decode_part(file[:length], (80, 60), part) is None for length in range(len(file)))


@compiled
@settings(max_examples=300)
@given(
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    options=kinds,
    part=regions(40, 30),
)
def test_a_file_with_a_wrong_byte_is_rejected_or_decoded_as_by_pillow(
    place: float, value: int, options: dict[str, Any], part: Region
) -> None:
    file = bytearray(jpeg_of(40, 30, options))
    file[int(place * len(file))] = value
    pixels = decode_part(bytes(file), (40, 30), part)
    if pixels is not None:
        assert np.array_equal(part.of(pixels), part.of(in_pillow(bytes(file))))


@compiled
def test_a_file_of_another_size_or_kind_is_rejected() -> None:
    small, large = file_of(photograph(0, 16, 16)), file_of(photograph(0, 320, 320))
    assert decode_part(large, (16, 16), Region(0, 0, 16, 16)) is None
    assert decode_part(small, (320, 320), Region(0, 0, 320, 320)) is None
    assert decode_part(file_of(photograph(0, 16, 16).convert("CMYK")), (16, 16), Region(0, 0, 1, 1)) is None
    for file in (b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"no JPEG", file_of(photograph(), "PNG")):
        assert decode_part(file, (16, 16), Region(0, 0, 1, 1)) is None


def test_only_plain_jpegs_have_a_size() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    image = photograph()
    file = file_of(image)
    assert plain_size(file) == plain_size(file_of(image.convert("L"))) == image.size
    assert plain_size(file_of(image, "PNG")) is None
    assert plain_size(file_of(image.convert("CMYK"))) is None
    assert plain_size(file_of(image, exif=turned)) is None
    head = file.index(b"\xff\xda")
    assert all(plain_size(file[:length]) is None for length in range(head + 3))


@pytest.mark.parametrize(("place", "value"), [(4, 12), (5, 0), (7, 0)])
def test_a_size_of_nothing_or_of_more_bits_is_left_to_pillow(place: int, value: int) -> None:
    file = bytearray(file_of(photograph(0, 200, 100)))
    frame = file.index(b"\xff\xc0")
    assert plain_size(bytes(file)) == (200, 100)
    file[frame + place : frame + place + (1 if place == 4 else 2)] = value.to_bytes(1 if place == 4 else 2)
    assert plain_size(bytes(file)) is None


pictures = st.sampled_from(["plain", "grey", "inks", "turned", "upright", "PNG", "progressive"])


def picture_of(kind: str, width: int, height: int) -> bytes:
    image = photograph(3, width, height)
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "turned" else 1
    files = {
        "grey": lambda: file_of(image.convert("L")),
        "inks": lambda: file_of(image.convert("CMYK")),
        "turned": lambda: file_of(image, exif=exif),
        "upright": lambda: file_of(image, exif=exif),
        "PNG": lambda: file_of(image, "PNG"),
        "progressive": lambda: file_of(image, progressive=True),
    }
    return files.get(kind, lambda: file_of(image))()


@settings(max_examples=150)
@given(
    data=st.data(),
    kind=pictures,
    width=st.integers(2, 200),
    height=st.integers(2, 200),
    resize=st.integers(0, 150),
)
def test_a_scaled_part_is_that_of_the_scaled_image(
    data: st.DataObject, kind: str, width: int, height: int, resize: int
) -> None:
    file, conversion = picture_of(kind, width, height), Conversion(8, resize)
    image = decode_for_training(io.BytesIO(file), conversion)
    part = data.draw(regions(image.shape[1], image.shape[0]))
    pixels = decode_for_training(io.BytesIO(file), conversion, part)
    assert np.array_equal(pixels, part.of(image))
    assert not pixels.flags.writeable


@compiled
@pytest.mark.parametrize("resize", [0, 100, 300])
@pytest.mark.parametrize("kind", ["plain", "grey", "upright", "turned"])
def test_pixels_are_the_same_without_compiled_code(
    kind: str, resize: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pixels() -> np.ndarray:
        stream = io.BytesIO(picture_of(kind, 301, 200))
        return decode_for_training(stream, Conversion(16, resize), Region(5, 60, 31, 32))

    by_parts = pixels()
    monkeypatch.setattr(native, "_LOADED", None)
    assert np.array_equal(pixels(), by_parts)


def test_damage_outside_of_a_region_is_detected() -> None:
    file = file_of(photograph())
    for resize in (0, 160):
        conversion = Conversion(8, resize)
        height = decode_for_training(io.BytesIO(file), conversion).shape[0]
        for top in (0, height - 8):
            with pytest.raises(Rejected, match="damaged"):
                decode_for_training(io.BytesIO(file[: len(file) // 2]), conversion, Region(top, 0, 8, 8))


@compiled
def test_only_a_supported_libjpeg_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native._load() is not None
    library = native._LOADED[0] if native._LOADED else None
    assert library is not None
    assert library.flatvq_libjpeg(ctypes.CDLL(None)._handle) is None  # has no functions of that name
    monkeypatch.setattr(features, "version", lambda name: "2.0.90")
    assert native._load() is None
    monkeypatch.setattr(features, "version", lambda name: None)  # libjpeg, but not libjpeg-turbo
    assert native._load() is None


@pytest.mark.parametrize("how", ["turned off", "not built"])
def test_compiled_code_is_optional(how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if how == "turned off":
        monkeypatch.setenv("FLATVQ_NATIVE", "0")
    else:
        monkeypatch.setattr(native, "_LIBRARY", tmp_path / "none")
    assert native._load() is None


def test_compiled_code_is_not_called_for_unsupported_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "decode_part", lambda *given: pytest.fail("decode_part must not be called"))
    for kind in ("inks", "turned", "PNG"):
        decode_for_training(io.BytesIO(picture_of(kind, 60, 40)), Conversion(8, 20))
