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
from findings.records import Record, Trial, with_interval
from flatvq.study.estimates import Estimate

__all__ = ["CodedBits", "coded_table", "read_coded"]


@dataclass(frozen=True)
class CodedBits:
    """The coded bits of the tokenizers of a study, with priors of one kind."""

    record: Record
    prior: str
    """`table` or `network`."""
    bits: dict[tuple[str, int], float]
    """The coded bits of a held-out crop for each arm and seed."""

    def of_trial(self, trial: Trial) -> float:
        """Return the coded bits of a held-out crop of a trial."""
        return self.bits[trial["arm"], trial["seed"]]

    def largest_budgets(self) -> dict[str, list[float]]:
        """Return the coded bits for each seed of the arm of each architecture with the most nominal bits."""
        arms = sorted({arm for arm, _ in self.bits}, key=lambda arm: self.record.arm(arm)["bits_per_image"])
        largest = {arm.split("-")[0]: arm for arm in arms}
        return {
            largest[name]: [bits for (arm, _), bits in self.bits.items() if arm == largest[name]]
            for name in ARCHITECTURES
            if name in largest
        }

    @property
    def complete(self) -> bool:
        """Whether every finished trial of the study was measured."""
        trials = [trial for arm in self.record.arms for trial in self.record.trials(arm)]
        return all((trial["arm"], trial["seed"]) in self.bits for trial in trials)


def read_coded(path: Path, records: Mapping[str, Record]) -> list[CodedBits]:
    """Read the record; return nothing if it does not exist.

    Args:
        path: results/coded-bits.json.
        records: the studies of the page.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))["tokenizers"] if path.is_file() else []
    return [
        CodedBits(records[name], prior, bits)
        for name in records
        for prior in ("table", "network")
        if (
            bits := {
                (row["arm"], row["seed"]): row["coded_bits_per_image"]
                for row in rows
                if (row["study"], row["prior"]) == (name, prior)
            }
        )
    ]


def coded_table(studies: list[CodedBits]) -> str:
    """Return one row for each arm: nominal, effective and coded bits per pixel, compared with one level."""
    lines = [
        "| size | prior | arm | nominal | effective | coded | saved | coded, compared with one level |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for study in studies:
        record, pixels = study.record, study.record.size**2
        arms = study.largest_budgets()
        single = next(iter(arms.values()))
        for arm, bits in arms.items():
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


def _ratio(bits: list[float], single: list[float], level: float) -> str:
    """Write the difference in per cent, with Welch's interval of the ratio's logarithm."""
    estimate = Estimate.welch([np.log(bits), np.log(single)], [1, -1])
    low, high = estimate.interval(level) or (estimate.mean, estimate.mean)
    return with_interval(100 * expm1(estimate.mean), (100 * expm1(low), 100 * expm1(high)), " %", 1)
