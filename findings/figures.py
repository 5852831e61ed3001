"""The figures of the page, drawn from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from findings.rates import ARCHITECTURES, curve
from findings.records import Record
from flatvq.study.estimates import mean_interval

__all__ = ["draw"]

_COLOURS = dict(zip(ARCHITECTURES, ("#222222", "#cc6677", "#4477aa", "#999933"), strict=True))
_LABELS = {
    "single": "one level",
    "parallel": "two parallel levels",
    "conditioned": "two conditioned levels",
    "residual": "two residual levels",
}
_MARKS = dict(zip(ARCHITECTURES, "osD^", strict=True))


def draw(records: Mapping[str, Record], folder: Path) -> None:
    """Draw all figures.

    Args:
        records: the studies by name.
        folder: folder of the SVG files.
    """
    import matplotlib as mpl

    # The same records give the same bytes.
    mpl.rcParams.update({"svg.hashsalt": "flatvq", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(exist_ok=True)
    frontiers = [record for name, record in records.items() if name.startswith("frontier-")]
    figures = {
        "frontier": _frontier(frontiers),
        "collapse": _collapse(records["headline"]),
    }
    if "length" in records:
        figures["length"] = _length(records["length"])
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _frontier(records: Sequence[Record]) -> Any:
    """PSNR against effective bits, one column for each size."""
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(1, len(records), figsize=(10, 3.6), layout="constrained", squeeze=False)
    row = grid[0]
    for axes, record in zip(row, records, strict=True):
        for name in ARCHITECTURES:
            budgets = curve(record, name)
            rates = [fmean(budget.bits) for budget in budgets]
            _line(axes, rates, [budget.values for budget in budgets], name, record.level)
        axes.set(title=f"{record.size} px", xlabel="effective bits per pixel")
    row[0].set(ylabel="PSNR, dB")
    row[0].legend(fontsize=8)
    return figure


def _line(axes: Any, x: Sequence[float], samples: Sequence[Sequence[float]], name: str, level: float) -> None:
    """Draw the means of samples as a line, and their intervals with a one-sided level as a band."""
    means = [mean_interval(values, 1 - 2 * level) for values in samples]
    bounds = [each.interval or (each.mean, each.mean) for each in means]
    axes.fill_between(
        x,
        [low for low, _ in bounds],
        [high for _, high in bounds],
        color=_COLOURS[name],
        alpha=0.2,
        linewidth=0,
    )
    axes.plot(
        x,
        [each.mean for each in means],
        f"{_MARKS[name]}-",
        color=_COLOURS[name],
        label=_LABELS[name],
        linewidth=1.3,
        markersize=4,
    )


def _collapse(record: Record) -> Any:
    """PSNR of each seed and each architecture, naive and healthy."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
    for row, name in enumerate(ARCHITECTURES):
        for ending, marker, filled, label in (("-naive", "o", "none", "naive"), ("", "o", None, "healthy")):
            values = record.values(name + ending, _psnr)
            axes.plot(
                values,
                [row] * len(values),
                marker,
                color=_COLOURS[name],
                markerfacecolor=filled or _COLOURS[name],
                alpha=0.7,
                label=f"{label}, one dot for each seed" if not row else None,
            )
            axes.plot(fmean(values), row, "|", color=_COLOURS[name], markersize=22, markeredgewidth=2)
    axes.set_yticks(range(len(ARCHITECTURES)), [_LABELS[name] for name in ARCHITECTURES])
    axes.set(xlabel="PSNR, dB; bars: means over seeds", ylim=(len(ARCHITECTURES) - 0.5, -0.5))
    axes.grid(axis="x", color="#dddddd")
    axes.legend(fontsize=8, loc="lower left")
    return figure


def _length(record: Record) -> Any:
    """PSNR against the multiply-adds of the training."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name in ARCHITECTURES:
        arms = sorted((arm for arm in record.arms if arm.startswith(f"{name}-")), key=record.training_compute)
        if not arms:
            continue
        compute = [record.training_compute(arm) / 1e12 for arm in arms]
        _line(axes, compute, [record.values(arm, _psnr) for arm in arms], name, record.level)
    axes.set(xscale="log", xlabel="training compute with searches, 10¹² multiply-adds", ylabel="PSNR, dB")
    axes.legend(fontsize=8)
    return figure


def _psnr(trial: dict[str, Any]) -> float:
    return float(trial["psnr_db"])
