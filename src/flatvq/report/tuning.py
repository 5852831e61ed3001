"""The report of a search: history, importance of hyper-parameters, and the confirmation of the winner."""

from __future__ import annotations

from itertools import accumulate

from markupsafe import Markup

from flatvq.records import Comparison, Search
from flatvq.report.svg import Frame, Scale, drawing, polyline, span, tag

__all__ = ["history_chart", "importance_bars", "tuning_sentence"]

_HEIGHT, _BAR = 240, 26


def tuning_sentence(confirmed: Comparison | None) -> str:
    """Return a sentence that states whether the confirmation supports the winner.

    Args:
        confirmed: the comparison of the winner with the incumbent; None if there is none.

    Example:
        >>> tuning_sentence(None)
        'The winner was not compared with the incumbent, so nothing is confirmed.'
    """
    if confirmed is None or confirmed.difference is None:
        return "The winner was not compared with the incumbent, so nothing is confirmed."
    interval = confirmed.interval
    precision = f"90 % interval {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "no interval"
    seeds = f"{confirmed.seeds} seed{'s' if confirmed.seeds > 1 else ''}"
    confirmation = "confirmed" if confirmed.verdict == "better" else "not confirmed"
    return (
        f"Tuned minus incumbent on new seeds: {confirmed.verdict}, "
        f"{confirmed.difference:+.2f} dB, {precision}, {seeds}. The tuned recipe is {confirmation}."
    )


def history_chart(search: Search) -> Markup | None:
    """Draw the PSNR of each trial and the best so far. Pruned trials are at their last validation."""
    points = [(trial.number, trial.reached, trial.state) for trial in search.trials]
    measured = [(number, value, state) for number, value, state in points if value is not None]
    done = [(number, value) for number, value, state in measured if state == "done"]
    if not done:
        return None
    frame = Frame(
        Scale(-0.5, max(number for number, _, _ in measured) + 0.5),
        span(value for _, value, _ in measured),
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
            class_="dot" if state == "done" else "dot pruned",
        )
        for number, value, state in measured
    ]
    description = f"the best of {len(done)} finished trials reached {best[-1]:.2f} dB"
    axes = frame.axes(frame.x.ticks(6), frame.y.ticks(6))
    curve = frame.curves(polyline(frame, line, "line strong"))
    return drawing("PSNR of each trial, and the best so far", description, _HEIGHT + 26, axes, curve, *dots)


def importance_bars(search: Search) -> Markup | None:
    """Draw the importance of each hyper-parameter as a bar, the largest at the top."""
    shares = sorted(search.importances.items(), key=lambda item: -item[1])
    if not shares:
        return None
    largest = max(share for _, share in shares) or 1.0
    rows: list[str] = []
    for number, (name, share) in enumerate(shares):
        top = number * _BAR
        rows.append(tag("text", name, x="0", y=top + 17, class_="tick"))
        rows.append(
            tag("rect", x="40%", y=top + 5, width=f"{50 * share / largest:.2f}%", height=16, class_="bar")
        )
        end = f"{40 + 50 * share / largest + 1:.2f}%"
        rows.append(tag("text", f"{share:.0%}", x=end, y=top + 17, class_="tick"))
    description = f"largest: {shares[0][0]}"
    return drawing("Importance of each hyper-parameter", description, len(shares) * _BAR, *rows)
