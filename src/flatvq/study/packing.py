"""A study's records, small enough to commit: everything but weights, checkpoints and pictures.

OUT/study.json, recipe.yaml   as they are
OUT/recipes.json              the resolved recipe of each arm, as it was trained; only the seed is left out
OUT/images.parquet            arm, seed, image, psnr_db, ssim, mse, ms_ssim: one row an image and trial
OUT/history.parquet           arm, seed, kind, step, level, name, value: one row a number of records.jsonl
OUT/codes.parquet             arm, seed, level, counts: how often each code was used over the held-out split
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flatvq.errors import FlatvqError
from flatvq.files import write_bytes, write_json
from flatvq.train.identity import Identity, read_identity

__all__ = ["pack"]

_KINDS = ("train", "validation", "seeding", "revival")
Row = dict[str, Any]


def pack(study: Path, out: Path) -> list[Path]:
    """Pack a study's records.

    Args:
        study: its folder.
        out: where to; made if absent.

    Returns:
        The files that were written.

    Raises:
        FlatvqError: if the folder holds no study, no trial is finished, or the records of one are gone or
            are of other images or another flatvq than the study's.
    """
    import pyarrow as pa

    trials = list(_finished(study))
    if not trials:
        raise FlatvqError(f"no trial of '{study}' is finished", "run the study again")
    runs = [(trial, study / trial["run"]) for trial in trials]
    tables = {
        "images": pa.Table.from_pylist([row for trial, run in runs for row in _images(trial, run)]),
        "history": pa.Table.from_pylist([row for trial, run in runs for row in _history(trial, run)]),
        "codes": pa.Table.from_pylist([row for trial, run in runs for row in _codes(trial, run)]),
    }
    out.mkdir(parents=True, exist_ok=True)
    written = [_copied(study / name, out / name) for name in ("study.json", "recipe.yaml")]
    written.append(_recipes(runs, out / "recipes.json"))
    return [*written, *(_written(out / f"{name}.parquet", table) for name, table in tables.items())]


def _copied(source: Path, path: Path) -> Path:
    write_bytes(path, source.read_bytes())
    return path


def _finished(study: Path) -> Iterator[Row]:
    try:
        tree = json.loads((study / "study.json").read_text(encoding="utf-8"))
        trials, arms = tree["trials"], {arm["name"]: arm for arm in tree["arms"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"'{study}' holds no study ({type(error).__name__})"
        raise FlatvqError(what, "name the folder of a finished study") from None
    for trial in trials:
        if trial["status"] == "done":
            run = study / trial["run"]
            if not (run / "metrics.json").is_file():
                raise FlatvqError(f"'{run}' is gone", "a study is packed with its runs")
            _refuse_others(run, arms[trial["arm"]].get("identity") or tree.get("identity"))
            yield trial


def _refuse_others(run: Path, identity: Row | None) -> None:
    """Refuse a run of another identity than the study's; older studies and their runs have none."""
    stored = read_identity(run)
    if stored is None and identity is None:
        return
    if stored is None or identity is None:
        what = f"of study.json and '{run}' only one says which images it is of"
        raise FlatvqError(what, "run the study again")
    differ = Identity.model_validate(identity).differences(stored, f"'{run}' has")
    if differ:
        raise FlatvqError(f"study.json has {'; '.join(differ.values())}", "run the study again")


def _recipes(runs: Sequence[tuple[Row, Path]], path: Path) -> Path:
    resolved = {}
    for trial, run in runs:
        recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
        resolved[trial["arm"]] = {key: value for key, value in recipe.items() if key != "seed"}
    write_json(path, resolved)
    return path


def _images(trial: Row, run: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for row in pq.read_table(run / "images.parquet").to_pylist():
        yield {"arm": trial["arm"], "seed": trial["seed"], **row}


def _codes(trial: Row, run: Path) -> Iterator[Row]:
    levels = json.loads((run / "codes.json").read_text(encoding="utf-8"))["levels"]
    for number, level in enumerate(levels):
        yield {"arm": trial["arm"], "seed": trial["seed"], "level": number, "counts": level["counts"]}


def _history(trial: Row, run: Path) -> Iterator[Row]:
    # After a resume a step may stand twice: the last one counts.
    last = {}
    for line in (run / "records.jsonl").read_bytes().split(b"\n")[:-1]:
        record = json.loads(line)
        if record["kind"] in _KINDS:
            last[record["kind"], record["step"], record.get("level")] = record
    for (kind, step, level), record in last.items():
        for at, name, value in _numbers(record):
            where = {"kind": kind, "step": step, "level": level if at is None else at}
            yield {"arm": trial["arm"], "seed": trial["seed"], **where, "name": name, "value": float(value)}


def _numbers(record: Row) -> Iterator[tuple[int | None, str, float]]:
    """Go through a record's numbers, with the level that each belongs to if the record is of several."""
    for name, value in record.items():
        if name == "levels":
            for number, level in enumerate(value):
                yield from ((number, key, each) for key, each in level.items() if each is not None)
        elif name not in ("kind", "step", "level") and isinstance(value, int | float):
            yield None, name, value


def _written(path: Path, table: Any) -> Path:
    """Write a table, numbers in single precision, names in a dictionary."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = pa.dictionary(pa.int32(), pa.string())
    narrow = {pa.float64(): pa.float32(), pa.int64(): pa.int32(), pa.string(): names}
    fields = [pa.field(field.name, narrow.get(field.type, field.type)) for field in table.schema]
    content = pa.BufferOutputStream()
    pq.write_table(table.cast(pa.schema(fields)), content, compression="zstd")
    write_bytes(path, memoryview(content.getvalue()))
    return path
