"""Each kind of file in image folders has a defined status and the right pixels."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from flatvq.data import load_image, open_folder

CROP = 16
RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (20, 24, 3), np.uint8)
GREY = COLOUR[..., 0]
ALPHA = RNG.integers(0, 256, (20, 24), np.uint8)
DEEP = RNG.integers(0, 65536, (20, 24, 3), np.uint16)
INKS = RNG.integers(0, 256, (20, 24, 4), np.uint8)


@dataclass(frozen=True)
class Case:
    name: str
    content: bytes
    status: str
    """`unreadable`, `skipped`, `converted`, or `used` for no status at all."""
    reason: str = ""
    pixels: np.ndarray | None = None
    tolerance: int = 0


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """Write a PNG by hand, with a depth and size that Pillow would not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def scanlines(samples: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha[..., None].astype(float) / 255
    return colour * opacity + 255 * (1 - opacity)


def from_inks(inks: np.ndarray) -> np.ndarray:
    """Return the colour of ink on white paper."""
    left = 255.0 - inks
    return left[..., :3] * left[..., 3:] / 255


def flat_inks(*inks: int) -> np.ndarray:
    return np.broadcast_to(np.array(inks, np.uint8), (32, 32, 4)).copy()


def without_segment(jpeg: bytes, marker: int) -> bytes:
    """Take one kind of segment out of a JPEG's head."""
    place, kept = 2, jpeg[:2]
    while jpeg[place + 1] != 0xDA:
        length = 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] != marker:
            kept += jpeg[place : place + length]
        place += length
    return kept + jpeg[place:]


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# From the EXIF standard: which visual side is the 0th row and column, written as what undoes it.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def palette_with_hole() -> tuple[bytes, np.ndarray]:
    indices = RNG.integers(0, 4, (20, 24), np.uint8)
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    shown = colours[indices].copy()
    shown[indices == 0] = 255
    return encoded(image, "PNG", transparency=0), shown


def tiff_16_bit_colour() -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP, photometric="rgb")
    return buffer.getvalue()


def tiff_with_many_samples() -> bytes:
    """A TIFF whose header claims 50,000 samples a pixel; Pillow logs that as an error."""
    content = encoded(COLOUR, "TIFF")
    tag = struct.pack("<HHI", 277, 3, 1)
    place = content.index(tag) + len(tag)
    return content[:place] + struct.pack("<H", 50_000) + content[place + 2 :]


def bad_exif() -> bytes:
    jpeg = encoded(COLOUR, "JPEG", quality=100, subsampling=0)
    body = b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff garbage"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


FRAMES = [Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)]
JPEG = encoded(COLOUR, "JPEG", quality=100, subsampling=0)
PNG = encoded(COLOUR, "PNG")
FAX = encoded(Image.fromarray(GREY > 99), "TIFF", compression="group4")
JP2 = encoded(COLOUR, "JPEG2000")
DEFLATED = encoded(COLOUR, "TIFF", compression="tiff_deflate")
ADOBE = flat_inks(200, 30, 60, 20)
ADOBE_JPEG = encoded(Image.new("CMYK", (32, 32), (200, 30, 60, 20)), "JPEG", quality=100)
PALETTE, PALETTE_SHOWN = palette_with_hole()
TINY = COLOUR[:5, :3]

CASES = [
    Case("plain.png", PNG, "used", pixels=COLOUR),
    Case("plain.jpg", JPEG, "used", pixels=COLOUR, tolerance=4),
    Case("plain.webp", encoded(COLOUR, "WEBP", lossless=True), "used", pixels=COLOUR),
    Case("plain.bmp", encoded(COLOUR, "BMP"), "used", pixels=COLOUR),
    Case("plain.tif", encoded(COLOUR, "TIFF"), "used", pixels=COLOUR),
    Case("plain.jp2", encoded(COLOUR, "JPEG2000"), "used", pixels=COLOUR),
    Case("plain.ppm", encoded(COLOUR, "PPM"), "used", pixels=COLOUR),
    Case("no suffix", PNG, "used", pixels=COLOUR),
    Case("wrong suffix.jpg", PNG, "used", pixels=COLOUR),
    Case("notes.txt", PNG, "used", pixels=COLOUR),
    Case("line\nbreak.png", PNG, "used", pixels=COLOUR),
    Case("emoji 🙂.png", PNG, "used", pixels=COLOUR),
    Case("grey.png", encoded(GREY, "PNG"), "converted", "greyscale", grey(GREY)),
    Case(
        "bilevel.png",
        encoded(Image.fromarray(GREY > 99), "PNG"),
        "converted",
        "greyscale",
        grey((GREY > 99) * 255),
    ),
    Case(
        "grey alpha.png",
        encoded(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]), "PNG"),
        "converted",
        "transparency",
        over_white(grey(GREY), ALPHA),
        1,
    ),
    Case(
        "alpha.png",
        encoded(np.dstack([COLOUR, ALPHA]), "PNG"),
        "converted",
        "transparency",
        over_white(COLOUR, ALPHA),
        1,
    ),
    Case(
        "colour key.png",
        encoded(COLOUR, "PNG", transparency=tuple(map(int, COLOUR[0, 0]))),
        "converted",
        "transparency",
        np.where((COLOUR[0, 0] == COLOUR).all(-1, keepdims=True), 255, COLOUR),
    ),
    Case("palette.png", PALETTE, "converted", "palette", PALETTE_SHOWN),
    Case(
        "inks.tif",
        encoded(Image.merge("CMYK", [Image.fromarray(i) for i in np.moveaxis(INKS, 2, 0)]), "TIFF"),
        "converted",
        "CMYK",
        from_inks(INKS),
        1,
    ),
    Case("adobe inks.jpg", ADOBE_JPEG, "converted", "CMYK", from_inks(ADOBE), 3),
    Case("other inks.jpg", without_segment(ADOBE_JPEG, 0xEE), "converted", "CMYK", from_inks(255 - ADOBE), 3),
    Case(
        "16 bits grey.png",
        png(24, 20, 16, 0, scanlines(DEEP[..., 0])),
        "converted",
        "more than 8 bits a sample",
        grey(DEEP[..., 0] // 256),
    ),
    Case(
        "16 bits.png",
        png(24, 20, 16, 2, scanlines(DEEP.reshape(20, 72))),
        "converted",
        "more than 8 bits a sample",
        DEEP // 256,
    ),
    Case(
        "16 bits grey.tif",
        encoded(Image.fromarray(DEEP[..., 0]), "TIFF"),
        "converted",
        "more than 8 bits a sample",
        grey(DEEP[..., 0] // 256),
    ),
    Case(
        "16 bits grey.pgm",
        b"P5 24 20 65535\n" + DEEP[..., 0].astype(">u2").tobytes(),
        "converted",
        "more than 8 bits a sample",
        grey(DEEP[..., 0] // 256),
    ),
    Case("16 bits.tif", tiff_16_bit_colour(), "converted", "more than 8 bits a sample", DEEP // 256),
    Case("float.tif", encoded(COLOUR[..., 0].astype(np.float32), "TIFF"), "unreadable", "no known white"),
    Case("32 bits.tif", encoded(COLOUR[..., 0].astype(np.int32), "TIFF"), "unreadable", "no known white"),
    *(
        Case(
            f"turned {number}.png",
            encoded(COLOUR, "PNG", exif=oriented(number)),
            "converted",
            f"orientation {number}",
            turn(COLOUR),
        )
        for number, turn in UPRIGHT.items()
    ),
    Case(
        "turned.tif",
        encoded(COLOUR, "TIFF", exif=oriented(6)),
        "converted",
        "orientation 6",
        UPRIGHT[6](COLOUR),
    ),
    Case("upright.png", encoded(COLOUR, "PNG", exif=oriented(1)), "used", pixels=COLOUR),
    Case("orientation 9.png", encoded(COLOUR, "PNG", exif=oriented(9)), "used", pixels=COLOUR),
    Case("bad exif.jpg", bad_exif(), "used", pixels=COLOUR, tolerance=4),
    Case(
        "moving.webp",
        encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
        "converted",
        "first of several frames",
        COLOUR,
    ),
    Case(
        "moving.png",
        encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
        "converted",
        "first of several frames",
        COLOUR,
    ),
    Case(
        "moving.gif",
        encoded(
            Image.new("L", (24, 20), 40), "GIF", save_all=True, append_images=[Image.new("L", (24, 20), 200)]
        ),
        "converted",
        "first of several frames",
        np.full((20, 24, 3), 40),
    ),
    Case(
        "pages.tif",
        encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]),
        "converted",
        "first of several frames",
        COLOUR,
    ),
    Case(
        "twin lens.mpo",
        encoded(FRAMES[0], "MPO", save_all=True, append_images=FRAMES[1:], quality=100, subsampling=0),
        "converted",
        "first of several frames",
        COLOUR,
        4,
    ),
    Case(
        "tiny.png",
        encoded(TINY, "PNG"),
        "converted",
        "enlarged from 3 x 5",
        np.asarray(Image.fromarray(TINY).resize((16, 27), Image.Resampling.BICUBIC)),
    ),
    Case(
        "one pixel.png",
        encoded(TINY[:1, :1], "PNG"),
        "converted",
        "enlarged from 1 x 1",
        np.broadcast_to(TINY[0, 0], (16, 16, 3)),
    ),
    Case(
        "banner.png",
        encoded(np.full((2, 900, 3), 9, np.uint8), "PNG"),
        "converted",
        "enlarged from 900 x 2",
        np.full((16, 7200, 3), 9),
    ),
    Case(
        "thread.png", encoded(np.zeros((1, 600_000), np.uint8), "PNG"), "skipped", "limit is 100 megapixels"
    ),
    Case("bomb.png", png(60_000, 60_000, 1, 0, b""), "skipped", "limit is 100 megapixels"),
    Case("large.png", png(10_001, 10_000, 1, 0, b""), "skipped", "10001 x 10000 pixels"),
    Case("bomb warning.png", png(10_000, 9_900, 1, 0, b""), "unreadable", "damaged"),
    Case(
        "text bomb.png",
        png(24, 20, 8, 0, b"", chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2_000_000)))),
        "unreadable",
        "damaged",
    ),
    Case("no width.png", png(0, 20, 8, 0, b""), "unreadable"),
    Case("truncated.jpg", JPEG[: len(JPEG) // 2], "unreadable", "damaged"),
    Case("truncated.png", PNG[: len(PNG) // 2], "unreadable", "damaged"),
    Case("truncated.tif", encoded(COLOUR, "TIFF")[:200], "unreadable"),
    Case("many samples.tif", tiff_with_many_samples(), "unreadable"),
    # libtiff prints what is wrong with these, unless it is kept from it; Pillow takes the second for sound.
    Case("deflated.tif", DEFLATED[:60] + bytes(20) + DEFLATED[80:], "unreadable", "damaged"),
    Case("fax.tif", FAX[:40] + bytes(12) + FAX[52:], "unreadable", "damaged (an error in Fax4Decode)"),
    # It claims a box of 3.9 GiB.
    Case("long.jp2", JP2.replace(b"\0\0\0\x2djp2h", b"\xf8\0\0\x2djp2h"), "unreadable", "but only got"),
    Case("flipped bits.png", PNG[:200] + bytes(64) + PNG[264:], "unreadable", "damaged"),
    Case("magic only.png", PNG[:8], "unreadable"),
    Case("magic only.jpg", JPEG[:3], "unreadable"),
    Case("magic only.gif", b"GIF89a", "unreadable"),
    Case("empty.jpg", b"", "unreadable", "empty file"),
    Case("text.jpg", b"this is not an image\n", "unreadable", "no image of a known format"),
    Case("page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "unreadable"),
    Case("noise.png", RNG.bytes(5000), "unreadable"),
    Case("program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "unreadable"),
    Case("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "unreadable"),
    Case("labels.json", b"{}", "skipped", "not images"),
    Case("empty", b"", "skipped", "not images"),
    Case("starts like an image.txt", b"P6 is a format, but this is a text", "unreadable"),
    Case("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "skipped", "not images"),
]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    Image.fromarray(COLOUR).save(tmp_path / "zz good.png")
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.encode("unicode_escape").decode())
def test_status_and_pixels(case: Case, good: Path) -> None:
    (good / case.name).write_bytes(case.content)
    opened = open_folder(good, crop=CROP)
    if case.status == "used":
        assert opened.file_statuses == ()
    else:
        (file,) = opened.file_statuses
        assert (file.status, file.split) == (case.status, "evaluation")
        assert case.reason in file.reason
    if case.status in ("used", "converted"):
        pixels = load_image(opened.images, 0)
        assert len(opened.images) == 2
        assert pixels.dtype == np.uint8
        assert case.pixels is not None
        assert pixels.shape == case.pixels.shape
        assert np.abs(pixels - case.pixels.astype(float)).max() <= case.tolerance
    else:
        assert list(opened.images.names) == ["zz good.png"]


def test_names_and_reasons_are_printable_and_json(tmp_path: Path) -> None:
    for case in CASES:
        (tmp_path / case.name).write_bytes(case.content)
    opened = open_folder(tmp_path, crop=CROP)
    texts = [
        *opened.images.names,
        *(text for file in opened.file_statuses for text in vars(file).values()),
    ]
    assert all(text.isprintable() for text in texts)
    assert json.loads(json.dumps(texts).encode()) == texts
    unreadable = {file.name for file in opened.file_statuses if file.status == "unreadable"}
    assert unreadable == {case.name for case in CASES if case.status == "unreadable"}


def test_nothing_is_printed(tmp_path: Path) -> None:
    for case in CASES:
        (tmp_path / case.name).write_bytes(case.content)
    program = f"import flatvq.data; flatvq.data.open_folder({str(tmp_path)!r}, crop={CROP})"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_pillows_own_limit_neither_warns_nor_stops(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # of 480: Pillow warns, and warnings are errors here
    assert open_folder(good, crop=CROP).file_statuses == ()
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(
        good / "large.png"
    )  # twice the limit: Pillow raises
    (file,) = open_folder(good, crop=CROP).file_statuses
    assert (file.name, file.status) == ("large.png", "skipped")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif(good: Path) -> None:
    Image.fromarray(COLOUR).save(good / "plain.avif", quality=100, subsampling="4:4:4")
    opened = open_folder(good, crop=CROP)
    assert opened.file_statuses == ()
    assert np.abs(load_image(opened.images, 0).astype(float) - COLOUR).max() <= 6


def test_an_image_is_scaled_as_by_pillow(good: Path) -> None:
    for resize in (17, 40):
        pixels = load_image(open_folder(good, crop=CROP, resize=resize).images, 0)
        size = (round(24 * resize / 20), resize)
        assert np.array_equal(pixels, Image.fromarray(COLOUR).resize(size, Image.Resampling.BICUBIC))


def test_enlargement_and_scaling_are_one_step(good: Path) -> None:
    # To 8 for the recipe, then to 16 for the crop, would blur twice.
    pixels = load_image(open_folder(good, crop=16, resize=8).images, 0)
    assert np.array_equal(pixels, Image.fromarray(COLOUR).resize((19, 16), Image.Resampling.BICUBIC))


def test_real_photographs(imagenet_sample: Path, tmp_path: Path) -> None:
    for file in sorted((imagenet_sample / "val").iterdir())[:5]:
        (tmp_path / file.name).symlink_to(file)
    opened = open_folder(tmp_path, crop=64, resize=96)
    for name, index in zip(opened.images.names, range(5), strict=True):
        with Image.open(tmp_path / name) as image:
            size = tuple(round(side * 96 / min(image.size)) for side in image.size)
            expected = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        assert np.array_equal(load_image(opened.images, index), expected)
