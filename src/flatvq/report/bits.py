"""Nominal bits (h x w x log2 K, summed over levels) beside what the codes' use makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from flatvq.records import Arm, Study
from flatvq.report.formatting import number
from flatvq.report.palette import Look
from flatvq.report.summary import mean
from flatvq.report.svg import Scale, drawing, percent_of, tag

__all__ = ["BitsRow", "bits_rows"]

HEIGHT = 26


@dataclass(frozen=True)
class BitsRow:
    """An arm's bits per image: nominal, effective (mean over seeds) and both as bars on the study's scale."""

    arm: Arm
    nominal: float | None
    effective: float | None
    picture: Markup


def bits_rows(study: Study, looks: dict[str, Look]) -> list[BitsRow]:
    """Draw the bits of every arm on one scale.

    Args:
        study: the study.
        looks: of the arms.

    Returns:
        A row per arm.
    """
    effective = {
        arm.name: mean(trial.effective_bits_per_image for trial in study.done(arm.name)) for arm in study.arms
    }
    values = [*(arm.bits_per_image for arm in study.arms), *effective.values()]
    scale = Scale(0.0, max([1.0, *(value for value in values if value is not None)]))
    return [
        BitsRow(
            arm,
            arm.bits_per_image,
            effective[arm.name],
            _bars(arm, effective[arm.name], scale, looks[arm.name]),
        )
        for arm in study.arms
    ]


def _bars(arm: Arm, effective: float | None, scale: Scale, look: Look) -> Markup:
    marks = []
    if arm.bits_per_image is not None:
        width = percent_of(scale(arm.bits_per_image))
        marks.append(
            tag("rect", class_="nominal", style=look.css, x="0", y="3", width=width, height="20", rx="2")
        )
    if effective is not None:
        width = percent_of(scale(effective))
        marks.append(
            tag("rect", class_="effective", style=look.css, x="0", y="7", width=width, height="12", rx="1")
        )
    told = f"nominal {number(arm.bits_per_image)}, effective {number(effective)} bits per image"
    return drawing(f"Bits of {arm.name}", told, HEIGHT, *marks, kind="strip")
