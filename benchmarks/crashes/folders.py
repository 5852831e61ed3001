"""The files of a command: whether each is complete, and which content must be equal after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import yaml
from PIL import Image
from safetensors.numpy import load_file

__all__ = ["damaged_files", "results"]

# What differs between two undisturbed runs, too.
_TIMES = frozenset({"created", "seconds", "seconds_per_step", "images_per_second"})
# Logs, locks, leases, jobs and TensorBoard's copy of the records.
_LEFT_OUT = frozenset(
    ["log.txt", ".lock", ".lease", "jobs", "attempts.jsonl", "journal.log", "journal.log.lock", "tensorboard"]
)
_KINDS = ("train", "validation", "init", "replacement")


def damaged_files(folder: Path) -> dict[str, str]:
    """Read all files that a reader would take for whole.

    Args:
        folder: what a command writes to.

    Returns:
        The errors of those that cannot be read, by path.
    """
    errors = {}
    for path in _files(folder):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            try:
                _read(path)
            except FileNotFoundError:  # removed since by a worker that outlived its command
                continue
            except Exception as error:
                errors[str(path.relative_to(folder))] = f"{type(error).__name__}: {error}"
    return errors


def results(folder: Path, *, times: bool) -> dict[str, Any]:
    """Return the content of all files, without the parts that differ between runs.

    Args:
        folder: what a command wrote to.
        times: whether all bytes have to be the same, times included.

    Returns:
        A value that can be compared, by path. Temporary files that were left behind have one, too. Of the
        checkpoints of a run only the newest counts: the other one depends on when the run was stopped.
    """
    return {
        str(path.relative_to(folder)): _digest(path) if times else _timeless_content(path)
        for path in _files(folder)
        if not set(path.relative_to(folder).parts) & _LEFT_OUT and not _is_in_older_checkpoint(path)
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read(path: Path) -> Any:
    """Parse a file by its kind."""
    return _READERS.get(path.suffix, Path.read_bytes)(path)


def _is_in_older_checkpoint(path: Path) -> bool:
    checkpoint = path.parent
    return checkpoint.match("checkpoints/step-*") and checkpoint != max(checkpoint.parent.glob("step-*"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless_content(path: Path) -> Any:
    if path.suffix == ".html":
        return bool(_page(path))  # it shows times
    if path.suffix == ".jsonl":
        return _records(path)
    return _timeless(_read(path)) if path.suffix == ".json" else _digest(path)


def _records(path: Path) -> list[Any]:
    """Return the last record of each kind, step and level."""
    last = {}
    for record in _lines(path):
        if record["kind"] in _KINDS:
            last[record["kind"], record["step"], record.get("level", 0)] = _timeless(record)
    return [last[key] for key in sorted(last)]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read records; a kill may have cut off the last line."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _page(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if not text.rstrip().endswith("</html>"):
        raise ValueError("cut off")
    return text


def _picture(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


_READERS: dict[str, Callable[[Path], Any]] = {
    ".html": _page,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": _lines,
    ".parquet": pyarrow.parquet.read_table,
    ".png": _picture,
    ".safetensors": load_file,
    ".yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
}
