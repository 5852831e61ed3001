"""Coded bits of the committed tokenizers (results/coded-bits.json): their bits after entropy coding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import expm1
from pathlib import Path
from statistics import fmean

import numpy as np

from findings.rates import ARCHITECTURES
from findings.records import Record, with_interval
from flatvq.study.estimates import Estimate

__all__ = ["CodedBits", "coded_line", "coded_table", "read_coded"]


@dataclass(frozen=True)
class CodedBits:
    """The coded bits of the tokenizers of a study, with priors of one kind."""

    record: Record
    prior: str
    """`table` or `network`."""
    bits: dict[str, list[float]]
    """For each arm, the coded bits of a held-out crop for each seed, in the order of architectures."""


def read_coded(path: Path, records: Mapping[str, Record]) -> list[CodedBits]:
    """Read the record; return nothing if it does not exist.

    Args:
        path: results/coded-bits.json.
        records: the studies of the page.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))["tokenizers"] if path.is_file() else []
    return [
        CodedBits(records[name], prior, _by_arm(chosen))
        for name in records
        for prior in ("table", "network")
        if (chosen := [row for row in rows if (row["study"], row["prior"]) == (name, prior)])
    ]


def coded_table(studies: list[CodedBits]) -> str:
    """Return one row for each arm: nominal, effective and coded bits per pixel, compared with one level."""
    lines = [
        "| size | prior | arm | nominal | effective | coded | saved | coded, compared with one level |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for study in studies:
        record, pixels = study.record, study.record.size**2
        single = next(iter(study.bits.values()))
        for arm, bits in study.bits.items():
            nominal = record.arm(arm)["bits_per_image"]
            effective = record.mean(arm, lambda trial: trial["effective_bits_per_image"])
            cells = [
                f"[{record.size} px](../results/{record.name}/study.json)",
                study.prior,
                arm,
                *(f"{value / pixels:.3f}" for value in (nominal, effective, fmean(bits))),
                f"{100 * (1 - fmean(bits) / nominal):.1f} %",
                "" if bits is single else _ratio(bits, single, record.level),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def coded_line(study: CodedBits) -> str:
    """Write the coded bits of each hierarchy, compared with one level, in one line."""
    (_, single), *hierarchies = study.bits.items()
    return ", ".join(
        f"*{arm.split('-')[0]}* {_ratio(bits, single, study.record.level, 0)}" for arm, bits in hierarchies
    )


def _ratio(bits: list[float], single: list[float], level: float, digits: int = 1) -> str:
    """Write the difference in per cent, with Welch's interval of the ratio's logarithm."""
    estimate = Estimate.welch([np.log(bits), np.log(single)], [1, -1])
    low, high = estimate.interval(level) or (estimate.mean, estimate.mean)
    return with_interval(100 * expm1(estimate.mean), (100 * expm1(low), 100 * expm1(high)), " %", digits)


def _by_arm(rows: list[dict[str, object]]) -> dict[str, list[float]]:
    arms = sorted({str(row["arm"]) for row in rows}, key=lambda arm: ARCHITECTURES.index(arm.split("-")[0]))
    return {
        arm: [float(str(row["coded_bits_per_image"])) for row in rows if row["arm"] == arm] for arm in arms
    }
