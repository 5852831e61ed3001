"""Pages of text, and the errors of what is read."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from tests.evaluate.filters import Filter, gaussian_blur

from flatvq.errors import FlatvqError
from flatvq.evaluate.legibility import Reader, edits, evaluate_text, load_reader
from flatvq.evaluate.text_pages import digest_of, pages_of

pytestmark = pytest.mark.slow


@cache
def recursive(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(recursive(a[1:], b) + 1, recursive(a, b[1:]) + 1, recursive(a[1:], b[1:]) + (a[0] != b[0]))


def test_edits_are_those_of_the_definition() -> None:
    words = ["", "a", "ab", "ba", "abc", "acb", "aab", "bca", "cabb"]
    for a, b in product(words, words):
        assert edits(a, b) == recursive(a, b)


def test_pages_depend_on_their_arguments_alone() -> None:
    pages = pages_of(12, 128, 3, seed=0)
    assert digest_of(pages) == digest_of(pages_of(12, 128, 3, seed=0))
    assert digest_of(pages_of(12, 128, 2, seed=0)) == digest_of(pages[:2])
    assert digest_of(pages) != digest_of(pages_of(12, 128, 3, seed=1))


@pytest.mark.parametrize(("size", "side"), [(8, 64), (12, 256), (32, 256)])
def test_lines_hold_all_ink_and_do_not_overlap(size: int, side: int) -> None:
    for page in pages_of(size, side, 4, seed=0):
        ink = page.pixels.min(axis=2) < 255
        for line in page.lines:
            part = ink[line.top : line.bottom, line.left : line.right]
            assert part.any()
            assert not part[:, 0].any()
            assert not part[-1].any()
            ink[line.top : line.bottom, line.left : line.right] = False
        assert not ink.any()
        assert all(a.bottom <= b.top for a, b in zip(page.lines, page.lines[1:], strict=False))
        assert all(len(line.text.split()) <= 3 for line in page.lines)


def test_error_rates_are_edits_over_characters() -> None:
    """A reader that knows the text, and forgets the first letter of each line that is not perfect."""
    texts = {}
    for size in (8, 10, 12, 16, 20):
        for page in pages_of(size, 128, 8, seed=0):
            texts.update({line.of(page.pixels).tobytes(): line.text for line in page.lines})

    def read(line: np.ndarray) -> str:
        inverted = 255 - line
        text = texts.get(line.tobytes())
        return text.upper() if text else texts[inverted.tobytes()].replace(" ", "")[1:]

    result = evaluate_text(Filter(lambda images: 1 - images), side=128, reader=Reader("known", read))
    assert [row["size"] for row in result["sizes"]] == [8, 10, 12, 16, 20]
    for row in result["sizes"]:
        pages = pages_of(row["size"], 128, 8, seed=0)
        letters = [[len(line.text.replace(" ", "")) for line in page.lines] for page in pages]
        rates = row["character_error_rate"]
        assert row["characters"] == sum(map(sum, letters))
        assert rates["original"] == {"mean": 0.0, "interval90": [0.0, 0.0]}
        expected = [len(lines) / sum(lines) for lines in letters]
        assert rates["reconstruction"]["mean"] == pytest.approx(np.mean(expected))
        low, high = rates["reconstruction"]["interval90"]
        half = 1.894579 * np.std(expected, ddof=1) / np.sqrt(8)  # Student's t, 7 degrees of freedom
        assert (low, high) == pytest.approx((np.mean(expected) - half, np.mean(expected) + half), rel=1e-5)


def test_a_page_that_is_too_small() -> None:
    with pytest.raises(FlatvqError, match="too small for text"):
        evaluate_text(Filter(lambda images: images), side=40, reader=Reader("none", lambda line: ""))


def test_the_reader_reads_originals_and_not_what_is_blurred() -> None:
    pytest.importorskip("rapidocr_onnxruntime")
    reader = load_reader()
    blur = gaussian_blur(3.0)
    wrong = {"original": 0, "blurred": 0}
    letters = 0
    for size in (8, 14):
        for page in pages_of(size, 160, 2, seed=5):
            planes = torch.from_numpy(page.pixels).permute(2, 0, 1)[None].double()
            blurred = blur(planes)[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
            for line in page.lines:
                text = line.text.replace(" ", "")
                letters += len(text)
                for name, pixels in (("original", page.pixels), ("blurred", blurred)):
                    wrong[name] += edits(reader.read(line.of(pixels)).replace(" ", "").lower(), text)
    assert wrong["original"] / letters < 0.03
    assert wrong["blurred"] / letters > 0.5
