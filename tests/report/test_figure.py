"""Charts as files: the places of points, intervals and ticks."""

from __future__ import annotations

from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from flatvq.report.compared import picture_grid, rate_distortion
from flatvq.report.figure import Axis, Series, figure
from flatvq.report.svg import Scale

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_points_lie_where_the_axes_say() -> None:
    x, y = Axis(Scale(1.0, 100.0, log=True), "rate < 1"), Axis(Scale(0.0, 10.0), "quality")
    line = Series("codec & co", [(1.0, 0.0), (10.0, 5.0), (100.0, 10.0)], [None, (4.0, 6.0), None])
    root = ElementTree.fromstring(figure("Title", x, y, [line, Series("own", [(10.0, 5.0)], line=False)]))
    (polyline,) = root.iter(f"{NAMESPACE}polyline")
    first, middle, last = (
        [float(n) for n in point.split(",")] for point in polyline.attrib["points"].split()
    )
    (area,) = (clip.find(f"{NAMESPACE}rect") for clip in root.iter(f"{NAMESPACE}clipPath"))
    assert area is not None
    left, top, width, height = (float(area.attrib[key]) for key in ("x", "y", "width", "height"))
    assert first == [left, top + height]
    assert middle == pytest.approx([left + width / 2, top + height / 2])
    assert last == [left + width, top]
    (interval,) = (mark for group in root.iter(f"{NAMESPACE}g") for mark in group.iter(f"{NAMESPACE}line"))
    ends = sorted(float(interval.attrib[key]) for key in ("y1", "y2"))
    assert ends == pytest.approx([top + 0.4 * height, top + 0.6 * height])
    texts = [text.text for text in root.iter(f"{NAMESPACE}text")]
    assert {"Title", "rate < 1", "quality", "codec & co", "own", "10", "100"} <= set(texts)


def test_the_rate_distortion_chart_shows_each_codec_and_size() -> None:
    result = {
        "images": 3,
        "codecs": {"jpeg": {"label": "JPEG"}},
        "curves": {"jpeg": [{"bits_per_pixel": 0.5 * n, "psnr_db": 20.0 + n} for n in (1, 2, 4)]},
        "tokenizer": {"metrics": {"psnr_db": 23.0}, "bits_per_pixel": {"nominal": 0.7, "file": 0.6}},
    }
    drawn = rate_distortion(result)
    root = ElementTree.fromstring(drawn)
    texts = [text.text for text in root.iter(f"{NAMESPACE}text")]
    assert {"JPEG", "tokenizer, nominal", "tokenizer, .fvq"} <= set(texts)
    assert len(list(root.iter(f"{NAMESPACE}polyline"))) == 1


def test_the_grid_holds_every_picture_that_there_is() -> None:
    red, grey = np.zeros((100, 60, 3), np.uint8), np.full((100, 60, 1), 77, np.uint8)
    red[:, :, 0] = 255
    rows = [{"original": red, "jpeg": None}, {"original": grey, "jpeg": grey}]
    image = np.array(Image.open(BytesIO(picture_grid(rows, {"original": "original", "jpeg": "JPEG"}))))
    image = image[22:]  # below the headings
    assert (image == [255, 0, 0]).all(axis=2).sum() == red[:, :, 0].size
    assert (image[106:] == 77).all(axis=2).sum() == 2 * grey.size
