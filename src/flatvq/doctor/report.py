"""Examines files, and writes the result as text, as JSON or as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import torch

from flatvq.doctor.examine import Diagnosis, drift, examine_codebook, examine_indices
from flatvq.doctor.indices import INDEX_SUFFIXES, read_indices
from flatvq.doctor.reading import NoCodebookError, read_codebooks, weights_in
from flatvq.errors import FlatvqError
from flatvq.records import read_codes
from flatvq.versions import VERSION

__all__ = ["Examination", "examine"]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
:root{color-scheme:light dark}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}th,td{text-align:left;padding:.2rem 1rem .2rem 0}
td.n{text-align:right;font-variant-numeric:tabular-nums}.fault{border-left:4px solid #c60;padding-left:.8rem}
""".strip()


@dataclass(frozen=True)
class Examination:
    """The result for some files."""

    files: tuple[str, ...]
    diagnoses: tuple[Diagnosis, ...]

    @property
    def healthy(self) -> bool:
        """Whether no fault was found."""
        return all(diagnosis.healthy for diagnosis in self.diagnoses)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        parts = [{**asdict(diagnosis), "healthy": diagnosis.healthy} for diagnosis in self.diagnoses]
        return {
            "format": 1,
            "flatvq": VERSION,
            "files": list(self.files),
            "healthy": self.healthy,
            "codebooks": parts,
        }

    def to_text(self) -> str:
        """Return the result in lines: numbers of each codebook, then each fault with its advice."""
        lines = []
        for diagnosis in self.diagnoses:
            numbers = ", ".join(f"{_label(key)} {_shown(value)}" for key, value in diagnosis.numbers.items())
            lines.append(f"{diagnosis.name}: {'healthy' if diagnosis.healthy else 'faults'} ({numbers})")
            lines += [f"  {fault.kind}: {fault.text}. {fault.advice}" for fault in diagnosis.findings]
        return "\n".join(lines)

    def to_page(self) -> str:
        """Return the result as an HTML page that needs no network."""
        parts = []
        for diagnosis in self.diagnoses:
            rows = "".join(
                f'<tr><th scope="row">{escape(_label(key))}</th><td class="n">{_shown(value)}</td></tr>'
                for key, value in diagnosis.numbers.items()
            )
            faults = "".join(
                f'<p class="fault"><strong>{escape(fault.kind)}</strong>: {escape(fault.text)}. '
                f"{escape(fault.advice)}</p>"
                for fault in diagnosis.findings
            )
            faults = faults or "<p>No fault was found.</p>"
            parts.append(f"<h2>{escape(diagnosis.name)}</h2>{faults}<table>{rows}</table>")
        title = f"Codebooks of {', '.join(self.files)}"
        head = (
            f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}'
        )
        return (
            f'<!doctype html><html lang="en"><head>{head}</title><style>{_STYLE}</style></head>'
            f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
        )


def examine(paths: Sequence[Path], codebook_size: int | None = None) -> Examination:
    """Examine checkpoints or files of indices.

    Args:
        paths: one or more paths. The codebooks of several checkpoints are compared with each other, for
            example the checkpoints of all processes of one training.
        codebook_size: K, for files of indices; by default that of the manifest.json of `flatvq encode`, or
            else the largest index plus one.

    Returns:
        One diagnosis for each codebook or level.

    Raises:
        FlatvqError: if there is no path, or a file cannot be read or holds neither codebooks nor indices.

    Example:
        >>> import tempfile, numpy
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     numpy.save(f"{folder}/level.npy", numpy.arange(4096) % 64)
        ...     examine([Path(folder) / "level.npy"], codebook_size=64).healthy
        True
    """
    if not paths:
        raise FlatvqError("there is nothing to examine", "give a checkpoint or a file of indices")
    diagnoses = []
    checkpoints = [path for path in paths if not _holds_indices(path)]
    for path in paths:
        if path in checkpoints and (held_out := _held_out_indices(path)):
            checkpoints.remove(path)
            diagnoses += held_out
        elif path not in checkpoints:
            diagnoses += [
                examine_indices(level.name, level.counts, level.size_is_known)
                for level in read_indices(path, codebook_size)
            ]
    if checkpoints:
        diagnoses += _checkpoints(checkpoints)
    return Examination(tuple(str(path) for path in paths), tuple(diagnoses))


def _held_out_indices(run: Path) -> list[Diagnosis]:
    """Examine the indices of held-out images, if this is a finished run whose quantizers have no codebook."""
    if not (run / "codes.json").is_file():
        return []
    try:
        read_codebooks(run)
    except NoCodebookError:
        levels = enumerate(read_codes(run).levels)
        return [
            examine_indices(f"level {number}, held-out images", torch.tensor(level.counts))
            for number, level in levels
        ]
    return []


def _checkpoints(paths: Sequence[Path]) -> list[Diagnosis]:
    first, *others = [{book.name: book for book in read_codebooks(path)} for path in paths]
    diagnoses = []
    for name, book in first.items():
        diagnosis = examine_codebook(name, book.code_vectors, book.counts, book.initialized)
        copies = [book.code_vectors, *(other[name].code_vectors for other in others if name in other)]
        fault = drift(name, copies)
        if fault:
            diagnosis = replace(diagnosis, findings=(*diagnosis.findings, fault))
        diagnoses.append(diagnosis)
    missing = [name for other in others for name in first.keys() ^ other.keys()]
    if missing:
        raise FlatvqError(f"not all files hold the codebook '{missing[0]}'", "give checkpoints of one model")
    return diagnoses


def _holds_indices(path: Path) -> bool:
    # A run has weights, and parquet files that list its images.
    if path.is_dir():
        return weights_in(path) is None and any(path.glob("*.parquet"))
    return path.suffix in INDEX_SUFFIXES


def _label(key: str) -> str:
    return key.replace("_", " ")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
