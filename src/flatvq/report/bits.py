"""Bits per image: nominal (h x w x log2 K, summed over levels) and effective (perplexity in place of K)."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from flatvq.number_format import number
from flatvq.records import Arm, Study
from flatvq.report.palette import Style
from flatvq.report.summary import mean
from flatvq.report.svg import Scale, drawing, percent_of, tag

__all__ = ["BitsRow", "bits_rows"]

HEIGHT = 26


@dataclass(frozen=True)
class BitsRow:
    """The bits per image of an arm.

    Attributes:
        arm: the arm.
        nominal: nominal bits.
        effective: effective bits, mean over seeds.
        picture: both as bars, on one scale for all arms.
    """

    arm: Arm
    nominal: float | None
    effective: float | None
    picture: Markup


def bits_rows(study: Study, styles: dict[str, Style]) -> list[BitsRow]:
    """Draw the bits of all arms on one scale.

    Args:
        study: the study.
        styles: the style of each arm, by name.

    Returns:
        A row per arm.
    """
    nominal = {arm.name: arm.value("bits_per_image") for arm in study.arms}
    effective = {
        arm.name: mean(trial.value("effective_bits_per_image") for trial in study.done(arm.name))
        for arm in study.arms
    }
    values = [value for value in (*nominal.values(), *effective.values()) if value is not None]
    scale = Scale(0.0, max([1.0, *values]))
    return [
        BitsRow(
            arm,
            nominal[arm.name],
            effective[arm.name],
            _bars(arm.name, nominal[arm.name], effective[arm.name], scale, styles[arm.name]),
        )
        for arm in study.arms
    ]


def _bars(name: str, nominal: float | None, effective: float | None, scale: Scale, style: Style) -> Markup:
    bars = []
    for kind, bits, top, height in (("nominal", nominal, 3, 20), ("effective", effective, 7, 12)):
        if bits is not None:
            box = {"x": "0", "y": top, "width": percent_of(scale(bits)), "height": height, "rx": 2}
            bars.append(tag("rect", class_=kind, style=style.css, **box))
    description = f"nominal {number(nominal)}, effective {number(effective)} bits per image"
    return drawing(f"Bits of {name}", description, HEIGHT, *bars, kind="strip")
