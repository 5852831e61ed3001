"""The page of a search: history, importance, and what the confirmation said. Reads tune.json alone."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

from markupsafe import Markup

from flatvq.errors import FlatvqError
from flatvq.report.svg import Frame, Scale, drawing, polyline, span, tag

__all__ = ["history_chart", "importance_bars", "load_tuning", "tuning_sentence"]

_HEIGHT, _BAR = 240, 26


def load_tuning(folder: Path) -> dict[str, Any]:
    """Read a search's tune.json.

    Raises:
        FlatvqError: if it is missing or holds something else.
    """
    path = folder / "tune.json"
    try:
        tuning = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FlatvqError(
            f"cannot read '{path}' ({type(error).__name__})", "name a search's folder"
        ) from None
    if not isinstance(tuning, dict) or tuning.get("format") != 1:
        raise FlatvqError(f"'{path}' is not the record of a search", "name a search's folder")
    return tuning


def tuning_sentence(confirmed: dict[str, Any] | None) -> str:
    """Say whether the winner is to be believed.

    Args:
        confirmed: the comparison of the winner with the incumbent, as `study.json` holds it.

    Example:
        >>> tuning_sentence(None)
        'The winner was not compared with the incumbent: nothing is confirmed.'
    """
    if confirmed is None:
        return "The winner was not compared with the incumbent: nothing is confirmed."
    interval = confirmed["interval90"]
    sure = f"90 % interval {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "no interval"
    seeds = f"{confirmed['seeds']} seed{'s' if confirmed['seeds'] > 1 else ''}"
    kept = "The tuned recipe is believed." if confirmed["verdict"] == "better" else "The incumbent stays."
    return (
        f"On fresh seeds, tuned against incumbent: {confirmed['verdict']}, "
        f"{confirmed['difference']:+.2f} dB, {sure}, {seeds}. {kept}"
    )


def history_chart(tuning: dict[str, Any]) -> Markup | None:
    """Draw each trial's PSNR by number, those given up at what they had reached, and the best so far."""
    points = [(one["number"], _reached(one), one["state"]) for one in tuning["trials"]]
    known = [(number, value, state) for number, value, state in points if value is not None]
    done = [(number, value) for number, value, state in known if state == "done"]
    if not done:
        return None
    frame = Frame(
        Scale(-0.5, max(number for number, _, _ in known) + 0.5),
        span(value for _, value, _ in known),
        _HEIGHT,
    )
    best = list(accumulate((value for _, value in done), max))
    line = [(float(number), value) for (number, _), value in zip(done, best, strict=True)]
    dots = [
        tag(
            "circle",
            tag("title", f"trial {number}: {value:.2f} dB, {state}"),
            cx=frame.across(number),
            cy=frame.down(value),
            r=4 if state == "done" else 3,
            class_="dot" if state == "done" else "dot given-up",
        )
        for number, value, state in known
    ]
    said = f"the best of {len(done)} finished trials reached {best[-1]:.2f} dB"
    axes = frame.axes(frame.x.ticks(6), frame.y.ticks(6))
    curve = frame.curves(polyline(frame, line, "line strong"))
    return drawing("PSNR of each trial, and the best so far", said, _HEIGHT + 26, axes, curve, *dots)


def _reached(trial: dict[str, Any]) -> float | None:
    """What a trial came to; of one that was given up, its last look."""
    if trial["psnr_db"] is not None:
        return float(trial["psnr_db"])
    return float(trial["looks"][-1][1]) if trial["looks"] else None


def importance_bars(tuning: dict[str, Any]) -> Markup | None:
    """Draw the share of each hyper-parameter, the largest on top."""
    shares = sorted(tuning["importances"].items(), key=lambda item: -item[1])
    if not shares:
        return None
    most = max(share for _, share in shares) or 1.0
    rows: list[str] = []
    for number, (name, share) in enumerate(shares):
        top = number * _BAR
        rows.append(tag("text", name, x="0", y=top + 17, class_="tick"))
        rows.append(
            tag("rect", x="40%", y=top + 5, width=f"{50 * share / most:.2f}%", height=16, class_="bar")
        )
        end = f"{40 + 50 * share / most + 1:.2f}%"
        rows.append(tag("text", f"{share:.0%}", x=end, y=top + 17, class_="tick"))
    return drawing("Importance of each hyper-parameter", f"{shares[0][0]} most", len(shares) * _BAR, *rows)
