"""The size of an image is known before its pixels are decoded, and a file that has shrunk is replaced."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from tests.data.jpegs import file_of, photograph

from flatvq.data import TrainingCrops, load_image, open_data, open_folder
from flatvq.data.conversion import Conversion
from flatvq.data.decoding import decode, decode_for_training
from flatvq.data.header import read_header
from flatvq.recipe import DataRecipe

ORIENTATION = 0x0112


def with_orientation(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return file_of(photograph(0, 60, 40), kind, exif=exif)


def with_late_orientation(chunk: bytes, content: bytes) -> bytes:
    """A PNG file with a chunk after its pixels."""
    file = file_of(photograph(0, 60, 40), "PNG")
    late = struct.pack(">I", len(content)) + chunk + content + struct.pack(">I", zlib.crc32(chunk + content))
    return file[:-12] + late + file[-12:]


def late_exif() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return with_late_orientation(b"eXIf", exif.tobytes()[6:])


def late_xmp() -> bytes:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="8"/>'
    return with_late_orientation(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)


def icon_of_another_size() -> bytes:
    """An ICO file whose directory says 60 x 40, and whose image is 40 x 60."""
    icon = bytearray(file_of(photograph(0, 60, 40), "ICO", sizes=[(60, 40)]))
    png = file_of(photograph(0, 40, 60), "PNG")
    icon[14:18] = struct.pack("<I", len(png))
    return bytes(icon[:22]) + png


FILES = {
    **{
        f"{kind} {n}": with_orientation(kind, n)
        for kind in ("JPEG", "PNG", "TIFF", "WEBP")
        for n in (1, 3, 6, 8)
    },
    "late EXIF": late_exif(),
    "late XMP": late_xmp(),
    "late text": with_late_orientation(b"tEXt", b"date\0today"),
    "icon": icon_of_another_size(),
}


@pytest.mark.parametrize("resize", [0, 30])
@pytest.mark.parametrize("name", FILES)
def test_the_size_in_the_header_is_that_of_the_decoded_image(name: str, resize: int) -> None:
    conversion = Conversion(16, resize)
    header = read_header(BytesIO(FILES[name]), conversion)
    for function in (decode, decode_for_training):
        pixels = function(BytesIO(FILES[name]), conversion)
        assert pixels.shape == (header.height, header.width, 3)
    with Image.open(BytesIO(FILES[name])) as image:
        image.load()
        assert header.height > header.width or image.size == (60, 40)


def test_sizes_of_a_set_are_those_of_its_images(tmp_path: Path) -> None:
    for name, file in FILES.items():
        (tmp_path / name).write_bytes(file)
    images = open_folder(tmp_path, crop=16, resize=20).images
    assert len(images) == len(FILES)
    assert {images.size_of(index) for index in range(len(images))} == {(20, 30), (30, 20)}
    assert all(images.size_of(n) == load_image(images, n).shape[:2] for n in range(len(images)))


def test_a_file_that_has_shrunk_since_it_was_listed_is_unreadable(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(file_of(photograph(number, 60, 40), "PNG"))
    recipe = DataRecipe(source="folder", path=str(tmp_path), crop=32, cache_mib=0, validation_share=0.3)
    images = open_data(recipe).training
    changed = images.names[0]
    for kind in ("PNG", "JPEG"):
        (tmp_path / changed).write_bytes(file_of(photograph(9, 33, 33), kind))
        crops = TrainingCrops(images, recipe, seed=0, batch_size=len(images))
        for step in range(8):
            assert crops.batch(step).pixels.shape == (len(images), 3, 32, 32)
        (status,) = images.late_file_statuses
        assert (status.name, status.status) == (changed, "unreadable")
        assert status.reason == "has changed to 33 x 33 pixels since it was first read"
