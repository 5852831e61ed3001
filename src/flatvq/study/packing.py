"""Packs the records of a study into a few small files: all but weights, checkpoints and pictures.

OUT/study.json, recipe.yaml   copies
OUT/recipes.json              the resolved recipe of each arm, without the seed
OUT/images.parquet            arm, seed, image, psnr_db, ssim, mse, ms_ssim: one row per trial and image
OUT/history.parquet           arm, seed, kind, step, level, name, value: one row per number of records.jsonl
OUT/codes.parquet             arm, seed, level, counts: uses of each code over the held-out split
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
from flatvq.records.identity import StoredIdentity
from flatvq.staging import adding_files
from flatvq.train.identity import read_identity

__all__ = ["pack"]

_KINDS = ("train", "validation", "init", "replacement")
Row = dict[str, Any]


def pack(study: Path, out: Path) -> list[Path]:
    """Pack the records of a study.

    Args:
        study: the folder of the study.
        out: the folder to write to; created if it does not exist.

    Returns:
        The files that were written.

    Raises:
        FlatvqError: if the folder holds no study or no trial is finished; or if the records of a finished
            trial are missing, or come from other images or another version of flatvq than study.json.
    """
    import pyarrow as pa

    record = load_study(study)
    runs = [(trial, trial.folder(study)) for trial in record.trials if trial.done]
    if not runs:
        raise FlatvqError(f"no trial of '{study}' is finished", "run the study again")
    for trial, run in runs:
        if not (run / "metrics.json").is_file():
            raise FlatvqError(f"the run '{run}' is missing", "restore it, or run the study again")
        _require_identity(run, record.arm(trial.arm).identity or record.identity)
    tables = {
        "images": pa.Table.from_pylist([row for trial, run in runs for row in _images(trial, run)]),
        "history": pa.Table.from_pylist([row for trial, run in runs for row in _history(trial, run)]),
        "codes": pa.Table.from_pylist([row for trial, run in runs for row in _codes(trial, run)]),
    }
    with adding_files(out) as stage:
        written = [_copy(study / name, stage / name) for name in ("study.json", "recipe.yaml")]
        written.append(_write_recipes(runs, stage / "recipes.json"))
        written += [_write_table(stage / f"{name}.parquet", table) for name, table in tables.items()]
    return [out / file.name for file in written]


def _copy(source: Path, path: Path) -> Path:
    write_bytes(path, source.read_bytes())
    return path


def _require_identity(run: Path, identity: StoredIdentity | None) -> None:
    """Refuse a run whose identity differs from that in study.json. Old studies and their runs have none."""
    stored = read_identity(run)
    if stored is None and identity is None:
        return
    if stored is None or identity is None:
        without = f"'{run}'" if stored is None else "study.json"
        raise FlatvqError(f"{without} does not record which images were used", "run the study again")
    differences = identity.differences(stored, f"'{run}' has")
    if differences:
        raise FlatvqError(f"study.json has {'; '.join(differences.values())}", "run the study again")


def _write_recipes(runs: Sequence[tuple[Trial, Path]], path: Path) -> Path:
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
    # A step that was repeated after a resume is recorded twice. Keep the last one.
    last = {}
    for record in read_rows(run / "records.jsonl").rows:
        if record["kind"] in _KINDS:
            last[record["kind"], record["step"], record.get("level")] = record
    for (kind, step, level), record in last.items():
        for own_level, name, value in _numbers(record):
            key = {"kind": kind, "step": step, "level": level if own_level is None else own_level}
            yield {"arm": trial.arm, "seed": trial.seed, **key, "name": name, "value": float(value)}


def _numbers(record: Row) -> Iterator[tuple[int | None, str, float]]:
    """Yield the level, name and value of each number of a record; level None outside of `levels`."""
    for name, value in record.items():
        if name == "levels":
            for number, level in enumerate(value):
                yield from ((number, key, entry) for key, entry in level.items() if entry is not None)
        elif name not in ("kind", "step", "level") and isinstance(value, int | float):
            yield None, name, value


def _write_table(path: Path, table: Any) -> Path:
    """Write a table with numbers in 32 bits and names dictionary-encoded."""
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
