"""Files of image codecs: the highest quality within a limit, and what is decoded."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.evaluate.image_codecs import IMAGE_CODECS, Files, codecs_named

PHOTOGRAPH = np.ascontiguousarray(astronaut()[80:128, 200:248])


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jxl"])
def test_the_highest_quality_within_a_limit(name: str) -> None:
    if name == "jxl":
        pytest.importorskip("pillow_jxl")
    codec = IMAGE_CODECS[name]
    codec.require()
    files = Files(codec, PHOTOGRAPH)
    limits = [1300, 1500, 900] if name == "jpeg" else [700, 1000, 450]
    for limit in limits:
        largest = files.largest_within(limit)
        assert largest is not None
        quality, content = largest
        assert len(content) <= limit
        assert len(codec.encode(PHOTOGRAPH, quality + 1)) > limit
        assert content == codec.encode(PHOTOGRAPH, quality)
    assert Files(codec, PHOTOGRAPH).largest_within(10) is None
    quality, _ = Files(codec, PHOTOGRAPH).largest_within(10**6) or (None, b"")
    assert quality == codec.highest


def test_a_limit_finds_the_quality_that_trying_all_finds() -> None:
    codec = IMAGE_CODECS["jpeg"]
    sizes = {quality: len(codec.encode(PHOTOGRAPH, quality)) for quality in range(1, 101)}
    files = Files(codec, PHOTOGRAPH)
    for limit in (min(sizes.values()), 1000, 1313, 2222):
        best = max(quality for quality, size in sizes.items() if size <= limit)
        largest = files.largest_within(limit)
        assert largest is not None
        assert largest[0] == best


def test_files_have_the_pinned_settings() -> None:
    expected = BytesIO()
    Image.fromarray(PHOTOGRAPH).save(expected, "JPEG", quality=60, optimize=True, progressive=True)
    content = IMAGE_CODECS["jpeg"].encode(PHOTOGRAPH, 60)
    assert content == expected.getvalue()
    decoded = np.array(Image.open(BytesIO(content)))
    assert np.array_equal(IMAGE_CODECS["jpeg"].decode(content, 3), decoded)


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_luma_stays_luma(name: str) -> None:
    codec, grey = IMAGE_CODECS[name], PHOTOGRAPH[:, :, 1:2]
    decoded = codec.decode(codec.encode(grey, 95), channels=1)
    assert decoded.shape == grey.shape
    assert np.abs(decoded.astype(int) - grey).mean() < 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("jpg", "--against names the codec 'jpg': did you mean 'jpeg'?"),
        ("", "--against names the codec '': known are avif, jpeg, jxl, webp"),
        ("jpeg,jpeg", "--against names the codec 'jpeg' twice: name each codec once"),
    ],
)
def test_wrong_names(names: str, message: str) -> None:
    with pytest.raises(FlatvqError) as raised:
        codecs_named(names)
    assert str(raised.value) == message


def test_a_missing_plugin_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_jxl", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'flatvq\[jxl\]'"):
        codecs_named("jxl")
