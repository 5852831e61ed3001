"""A study's records, small enough to commit: everything but weights, checkpoints and pictures.

OUT/study.json, recipe.yaml   as they are
OUT/recipes.json              the resolved recipe of each arm, as it was trained; only the seed is left out
OUT/images.parquet            arm, seed, image, psnr_db, ssim, mse, ms_ssim: one row an image and trial
OUT/history.parquet           arm, seed, kind, step, level, name, value: one row a number of records.jsonl
OUT/codes.parquet             arm, seed, level, counts: how often each code was used over the held-out split
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flatvq.errors import FlatvqError
from flatvq.files import write_bytes, write_json
from flatvq.recipe import load_trial
from flatvq.records import Trial, load_study, read_codes, read_images, read_rows
from flatvq.records.study import Identity as RecordedIdentity
from flatvq.train.identity import Identity, read_identity

__all__ = ["pack"]

_KINDS = ("train", "validation", "init", "replacement")
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

    found = load_study(study)
    runs = [(trial, trial.folder(study)) for trial in found.trials if trial.done]
    if not runs:
        raise FlatvqError(f"no trial of '{study}' is finished", "run the study again")
    for trial, run in runs:
        if not (run / "metrics.json").is_file():
            raise FlatvqError(f"'{run}' is gone", "a study is packed with its runs")
        _refuse_others(run, found.arm(trial.arm).identity or found.identity)
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


def _refuse_others(run: Path, identity: RecordedIdentity | None) -> None:
    """Refuse a run of another identity than the study's; older studies and their runs have none."""
    stored = read_identity(run)
    if stored is None and identity is None:
        return
    if stored is None or identity is None:
        what = f"of study.json and '{run}' only one says which images it is of"
        raise FlatvqError(what, "run the study again")
    differ = Identity(**identity.model_dump()).differences(stored, f"'{run}' has")
    if differ:
        raise FlatvqError(f"study.json has {'; '.join(differ.values())}", "run the study again")


def _recipes(runs: Sequence[tuple[Trial, Path]], path: Path) -> Path:
    recipes = {trial.arm: load_trial(run).model_dump(mode="json", exclude={"seed"}) for trial, run in runs}
    write_json(path, recipes)
    return path


def _images(trial: Trial, run: Path) -> Iterator[Row]:
    for row in read_images(run):
        yield {"arm": trial.arm, "seed": trial.seed, **row}


def _codes(trial: Trial, run: Path) -> Iterator[Row]:
    for number, level in enumerate(read_codes(run).levels):
        yield {"arm": trial.arm, "seed": trial.seed, "level": number, "counts": list(level.counts)}


def _history(trial: Trial, run: Path) -> Iterator[Row]:
    # After a resume a step may stand twice: the last one counts.
    last = {}
    for record in read_rows(run / "records.jsonl").rows:
        if record["kind"] in _KINDS:
            last[record["kind"], record["step"], record.get("level")] = record
    for (kind, step, level), record in last.items():
        for at, name, value in _numbers(record):
            where = {"kind": kind, "step": step, "level": level if at is None else at}
            yield {"arm": trial.arm, "seed": trial.seed, **where, "name": name, "value": float(value)}


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
    for number, field in enumerate(table.schema):
        with suppress(pa.ArrowInvalid):  # seeds may have more than 32 bits
            narrowed = table.column(number).cast(narrow.get(field.type, field.type))
            table = table.set_column(number, field.name, narrowed)
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd")
    write_bytes(path, memoryview(content.getvalue()))
    return path
