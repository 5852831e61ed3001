"""The records of a run: values that docs/records.md does not allow are rejected and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flatvq.errors import FlatvqError
from flatvq.records import read_codes, read_images, read_metrics, read_rows, read_status

LEVEL = {
    "grid": [4, 4],
    "codebook_size": 8,
    "code_dim": 2,
    "usage": 0.5,
    "perplexity": 3.5,
    "used_codes": 4,
    "codes_for_99": 4,
    "quantization_error": 0.25,
}
METRICS: dict[str, Any] = {
    "evaluation_protocol": "flatvq-1/crop-16/own-size",
    "crop": 16,
    "images": 3,
    "psnr_db": 25,
    "psnr_of_mean_mse_db": 24.5,
    "mse": 0.003,
    "ssim": 0.9,
    "ms_ssim": None,
    "bits_per_image": 48.0,
    "bits_per_pixel": 0.1875,
    "effective_bits_per_image": 28.9,
    "levels": [LEVEL],
    "files": [{"name": "a.png", "split": "training", "status": "converted", "reason": "greyscale"}],
}


def test_metrics_are_read_unchanged(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({**METRICS, "of a later version": [1]}))
    metrics = read_metrics(tmp_path)
    assert (metrics.psnr_db, metrics.ms_ssim, metrics.levels[0].grid) == (25.0, None, (4, 4))
    assert metrics.files[0].status == "converted"


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("psnr_db", '"25"', "psnr_db"),
        ("psnr_db", "true", "psnr_db"),
        ("psnr_db", "null", "psnr_db"),
        ("psnr_db", "NaN", "psnr_db"),
        ("psnr_db", "1e999", "psnr_db"),
        ("psnr_db", "1e300", "psnr_db"),
        ("psnr_db", "1" + "0" * 400, "psnr_db"),
        ("psnr_db", "[25]", "psnr_db"),
        ("mse", "-0.1", "mse"),
        ("images", "3.0", "images"),
        ("images", "0", "images"),
        ("levels", "[]", "levels"),
        ("levels", json.dumps([{**LEVEL, "usage": 1.5}]), "levels.0.usage"),
        ("levels", json.dumps([{**LEVEL, "grid": [4]}]), "levels.0.grid"),
        ("levels", json.dumps([{**LEVEL, "grid": None}]), "levels.0.grid"),
        ("files", '[{"name": "a.png"}]', "files.0.split"),
    ],
)
def test_an_invalid_value_is_named(tmp_path: Path, key: str, value: str, named: str) -> None:
    fields = ", ".join(f"{json.dumps(name)}: {json.dumps(METRICS[name])}" for name in METRICS if name != key)
    (tmp_path / "metrics.json").write_text(f'{{"{key}": {value}, {fields}}}')
    with pytest.raises(FlatvqError, match=re.escape(f"metrics.json' holds no valid '{named}")) as caught:
        read_metrics(tmp_path)
    assert "flatvq train" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"status": "done", "status": "failed", "step": 1, "steps": 1}', "the key 'status' twice"),
        (b'{"status": "done", "step": 1, "steps": 1', "is damaged"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"status": "' + b"\xff" + b'"}', "is damaged"),
        (b'{"status": "done", "step": 1, "steps": 1, "error": "\\ud800"}', "text that is not Unicode"),
        (b"[]", "holds no record"),
        (b'{"status": "finished", "step": 1, "steps": 1}', "no valid 'status'"),
        (b'{"status": "done", "step": -1, "steps": 1}', "no valid 'step'"),
    ],
)
def test_a_damaged_status_is_a_one_line_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "status.json").write_bytes(content)
    with pytest.raises(FlatvqError, match=re.escape(message)) as caught:
        read_status(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("counts", ["[-1]", "[1.5]", '["1"]', "[true]", "[1e3]", "null", "{}"])
def test_counts_are_integers(tmp_path: Path, counts: str) -> None:
    (tmp_path / "codes.json").write_text(f'{{"levels": [{{"codebook_size": 1, "counts": {counts}}}]}}')
    with pytest.raises(FlatvqError, match=r"no valid 'levels\.0\.counts"):
        read_codes(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        '{"kind": "train"}',
        '{"kind": "train", "step": "1"}',
        '{"kind": "train", "step": 1.5}',
        '{"kind": "train", "step": -1}',
        '{"kind": "train", "step": 1, "loss": [1]}',
        '{"kind": "train", "step": 1, "loss": 1e300}',
        '{"kind": "validation", "step": 1, "psnr_db": "25"}',
        '{"kind": "validation", "step": 1, "levels": [1]}',
        '{"kind": "validation", "step": 1, "levels": [{"usage": "1"}]}',
        '{"kind": ["train"], "step": 1}',
        '{"kind": "replacement", "step": 1, "level": 1.5}',
    ],
)
def test_a_damaged_record_is_named_by_its_number(tmp_path: Path, row: str) -> None:
    path = tmp_path / "records.jsonl"
    sound = '{"kind": "train", "step": 1, "loss": 0.5, "note": "text", "flag": true, "none": null}'
    path.write_text(f"{sound}\n{row}\n{sound}\n")
    with pytest.raises(FlatvqError, match=r"record 2 of .*records\.jsonl' holds no"):
        read_rows(path)
    path.write_text(f"{sound}\n{sound}\n")
    assert [row["loss"] for row in read_rows(path).rows] == [0.5, 0.5]


IMAGES = {
    "image": ["a", "b"],
    "psnr_db": [20.0, 21.0],
    "ssim": [0.5, None],
    "mse": [0.01, 0.02],
    "ms_ssim": pa.array([None, None], pa.float64()),
}


def _write(run: Path, **columns: Any) -> bytes:
    pq.write_table(pa.table({**IMAGES, **columns}), run / "images.parquet")
    return (run / "images.parquet").read_bytes()


def _text(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def test_metrics_of_images_are_read_unchanged(tmp_path: Path) -> None:
    _write(tmp_path)
    first, second = read_images(tmp_path)
    assert first == {"image": "a", "psnr_db": 20.0, "ssim": 0.5, "mse": 0.01, "ms_ssim": None}
    assert second["ssim"] is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "is damaged"),
        (lambda content: content[:100] + content[140:], "is damaged"),
        (lambda content: content[:-1500] + bytes(32) + content[-1468:], "is damaged"),
        (lambda content: b"", "is damaged"),
        (lambda content: b"PAR1PAR1", "is damaged"),
    ],
)
def test_a_damaged_table_is_a_one_line_error(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    (tmp_path / "images.parquet").write_bytes(damage(_write(tmp_path)))
    with pytest.raises(FlatvqError, match=message) as caught:
        read_images(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_table_with_other_columns_is_rejected(tmp_path: Path) -> None:
    _write(tmp_path, psnr_db=["20", "21"])
    with pytest.raises(FlatvqError, match="has other columns than image, psnr_db"):
        read_images(tmp_path)
    pq.write_table(pa.table({"image": ["a"]}), tmp_path / "images.parquet")
    with pytest.raises(FlatvqError, match="has other columns than image, psnr_db"):
        read_images(tmp_path)


def test_image_names_that_are_not_text_are_rejected(tmp_path: Path) -> None:
    content = _write(tmp_path, image=["known-name", "other-name"])
    (tmp_path / "images.parquet").write_bytes(_text(content, b"known-name", b"known-\xff\xff\xff\xff"))
    with pytest.raises(FlatvqError, match="is damaged"):
        read_images(tmp_path)
