from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatvq.errors import FlatvqError
from flatvq.records import load_jsonl, precision_of, read_jsonl, seconds_per_step

OBJECTS = st.dictionaries(
    st.text(), st.none() | st.integers() | st.text() | st.floats(allow_nan=False, width=32)
)


@given(rows=st.lists(OBJECTS, min_size=1, max_size=4), cut=st.integers(min_value=1))
def test_only_an_incomplete_last_line_is_dropped(tmp_path_factory, rows, cut):
    rows = [
        {key: None if value in (float("inf"), -float("inf")) else value for key, value in row.items()}
        for row in rows
    ]
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    lines = [json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") for row in rows]
    last = lines[-1][: cut % len(lines[-1])]
    path.write_bytes(b"\n".join([*lines[:-1], last]))
    lines_read = load_jsonl(path)
    assert lines_read.rows == rows[:-1]
    assert lines_read.truncated == bool(last.strip())


def test_a_dropped_line_is_reported(tmp_path: Path, caplog):
    path = tmp_path / "records.jsonl"
    path.write_text('{"step": 1}\n{"step": 2')
    with caplog.at_level(logging.WARNING):
        assert read_jsonl(path) == [{"step": 1}]
    assert "incomplete last line" in caplog.text
    caplog.clear()
    path.write_text('{"step": 1}\n')
    assert read_jsonl(path) == [{"step": 1}]
    assert not caplog.records


def test_a_damaged_line_before_the_last_is_an_error(tmp_path: Path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(FlatvqError, match=r"record 2 of .*records\.jsonl"):
        read_jsonl(path)
    with pytest.raises(FlatvqError, match="cannot read"):
        read_jsonl(tmp_path / "absent.jsonl")


def test_non_finite_numbers_are_read_as_none(tmp_path: Path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1e999}\n{"step": 3, "loss": 4}\n')
    assert [row["loss"] for row in read_jsonl(path)] == [None, None, 4]


@pytest.mark.parametrize("speed", ["fast", -1.0, 0, True, [1.0], 1e300])
def test_a_speed_that_is_no_positive_number_is_one_line(tmp_path: Path, speed) -> None:
    (tmp_path / "records.jsonl").write_text(
        json.dumps({"kind": "train", "step": 1, "images_per_second": speed}) + "\n"
    )
    with pytest.raises(FlatvqError, match=r"record 1 of .*images_per_second") as refused:
        seconds_per_step(tmp_path, 8)
    assert "\n" not in str(refused.value)


def _log(tmp_path: Path, *rows: tuple[str, int, str | None]) -> Path:
    lines = [
        {"kind": kind, "step": step, **({"precision": precision} if precision else {})}
        for kind, step, precision in rows
    ]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], None),
        ([("start", 0, "float32"), ("train", 20, None)], "float32"),
        # Resumed at step 10 in another format.
        (
            [("start", 0, "float32"), ("train", 10, None), ("start", 10, "bfloat16"), ("train", 20, None)],
            "float32, bfloat16",
        ),
        # Killed before its first checkpoint, then trained from step 0 in another format.
        ([("start", 0, "float32"), ("start", 0, "bfloat16"), ("train", 20, None)], "bfloat16"),
        # The second start went back to an earlier checkpoint than the first resume.
        (
            [("start", 0, "a"), ("start", 15, "b"), ("start", 5, "c"), ("train", 20, None)],
            "a, c",
        ),
        # A finished run that was started again computed no step.
        ([("start", 0, "bfloat16"), ("train", 20, None), ("start", 20, "float32")], "bfloat16"),
        ([("start", 0, None), ("train", 20, None)], None),
    ],
)
def test_the_precision_of_a_run_is_that_of_the_steps_that_count(
    tmp_path: Path, rows: list[tuple[str, int, str | None]], expected: str | None
) -> None:
    assert precision_of(_log(tmp_path, *rows)) == expected


def test_a_run_without_a_log_has_no_precision(tmp_path: Path) -> None:
    assert precision_of(tmp_path / "absent") is None
