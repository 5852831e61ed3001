"""The figures of the page, drawn from the records. A dot is a seed, a line a mean over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from findings.matchings import Health, Matching, matchings
from findings.records import Pair, Record
from findings.tables import level_values

__all__ = ["draw"]

_COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44")


def draw(records: Mapping[str, Record], pairs: Sequence[Pair], folder: Path) -> None:
    """Draw each figure whose records exist.

    Args:
        records: the studies by name.
        pairs: the comparisons of the forest plot.
        folder: folder of the SVG files.
    """
    import matplotlib as mpl

    # The same records give the same bytes.
    mpl.rcParams.update({"svg.hashsalt": "flatvq", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(exist_ok=True)
    figures = {"forest": _forest(pairs), "matchings": _matchings(matchings(records))}
    makers = {
        "factorial": ("imagenet-64-bits", _factorial),
        "dimension": ("dimension", _dimension),
        "size": ("size", _size),
        "variants": ("variants", _variants),
    }
    for name, (needed, make) in makers.items():
        if needed in records:
            figures[name] = make(records[needed])
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _forest(pairs: Sequence[Pair]) -> Any:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.42 * len(pairs)), layout="constrained")
    for row, pair in enumerate(pairs):
        _interval(axes, row, pair, _COLOURS[0])
    _around_zero(axes, pairs[0].difference.margin)
    axes.set_yticks(range(len(pairs)), [f"{pair.a} − {pair.b}\n{pair.record}" for pair in pairs], fontsize=7)
    axes.set(xlabel="difference of PSNR, dB; 90 % interval over seeds")
    axes.invert_yaxis()
    return figure


def _matchings(rows: Sequence[Matching]) -> Any:
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        1, 2, figsize=(10, 1.0 + 0.5 * len(rows)), layout="constrained", sharex=True, sharey=True
    )
    hierarchies = ("parallel", "conditioned")
    sides: tuple[tuple[Any, Health], ...] = ((grid[0], "naive"), (grid[1], "healthy"))
    for axes, health in sides:
        for row, matching in enumerate(rows):
            for below, (colour, hierarchy) in enumerate(zip(_COLOURS[1:], hierarchies, strict=False)):
                if pair := matching.pair(health, hierarchy):
                    _interval(axes, row + 0.35 * below, pair, colour)
        for colour, hierarchy in zip(_COLOURS[1:], hierarchies, strict=False):
            axes.plot([], [], "o-", color=colour, label=f"one level − {hierarchy}")
        _around_zero(axes, rows[0].record.study["margin_db"])
        axes.set(title=health, xlabel="difference of PSNR, dB; 90 % interval over seeds")
    grid[0].set_yticks(
        [row + 0.2 for row in range(len(rows))], [row.description.replace("; ", "\n") for row in rows]
    )
    grid[0].invert_yaxis()
    grid[0].legend(fontsize=8)
    return figure


def _interval(axes: Any, row: float, pair: Pair, colour: str) -> None:
    difference = pair.difference
    if difference.interval90:
        axes.plot(difference.interval90, (row, row), color=colour, linewidth=2)
    axes.plot(difference.mean, row, "o", color=colour, markersize=6)
    axes.plot(difference.per_seed, [row + 0.15] * difference.seeds, "|", color="#888888", markersize=7)


def _around_zero(axes: Any, margin: float) -> None:
    axes.axvspan(-margin, margin, color="#dddddd", zorder=0)
    axes.axvline(0, color="#888888", linewidth=0.8)


def _factorial(record: Record) -> Any:
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    columns = ("nothing", "init", "replacement", "both")
    for colour, model in zip(_COLOURS, ("single", "parallel", "conditioned"), strict=False):
        arms = [f"{model}-{column}" for column in columns]
        _dots(grid[0], columns, [record.values(arm, _psnr) for arm in arms], colour, model)
        usage = [
            [100 * value for value in level_values(record, arm, record.arm(arm)["levels"] - 1, "usage")]
            for arm in arms
        ]
        _dots(grid[1], columns, usage, colour, model)
    grid[0].set(ylabel="PSNR, dB")
    grid[1].set(ylabel="codes in use, top level, %")
    grid[0].legend(fontsize=8)
    return figure


def _dimension(record: Record) -> Any:
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(2, 3, figsize=(10, 5.2), layout="constrained", sharex=True)
    measures: dict[str, Callable[[dict[str, Any]], float]] = {
        "PSNR, dB": _psnr,
        "perplexity / K": lambda t: float(t["levels"][0]["perplexity"] / t["levels"][0]["codebook_size"]),
        "relative quantization error": lambda t: float(t["levels"][0]["quantization_error"]),
    }
    shapes = {arm: (level["code_dim"], level["codebook_size"]) for arm, level in _bottoms(record).items()}
    for row, axes_of_row in enumerate(grid):
        same = "512 codes" if row == 0 else "32,768 numbers in total"
        alike = [arm for arm, (d, k) in shapes.items() if (k == 512 if row == 0 else d * k == 32768)]
        for axes, (name, of) in zip(axes_of_row, measures.items(), strict=True):
            for colour, kind in zip(_COLOURS, ("naive", "healthy"), strict=False):
                arms = sorted((arm for arm in alike if arm.startswith(kind)), key=lambda arm: shapes[arm])
                dims = [shapes[arm][0] for arm in arms]
                _dots(axes, dims, [record.values(arm, of) for arm in arms], colour, kind)
            axes.set(xscale="log", ylabel=name, title=same)
            axes.set_xticks(dims, [str(dim) for dim in dims])
            axes.minorticks_off()
    for axes in grid[1]:
        axes.set(xlabel="dimension of a code")
    grid[0][0].legend(fontsize=8)
    return figure


def _bottoms(record: Record) -> dict[str, dict[str, Any]]:
    return {arm: record.arm(arm)["level_table"][0] for arm in record.arms}


def _size(record: Record) -> Any:
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    sizes = [int(arm.removeprefix("k-")) for arm in record.arms]
    _dots(grid[0], sizes, [record.values(arm, _psnr) for arm in record.arms], _COLOURS[0], "")
    grid[0].set(xscale="log", xlabel="codes", ylabel="PSNR, dB")
    nominal = [record.arm(arm)["bits_per_image"] for arm in record.arms]
    effective = [record.values(arm, lambda t: t["effective_bits_per_image"]) for arm in record.arms]
    grid[1].plot(nominal, nominal, color="#888888", linewidth=0.8)
    _dots(grid[1], nominal, effective, _COLOURS[0], "")
    grid[1].set(xlabel="nominal bits per image", ylabel="effective bits per image")
    return figure


def _variants(record: Record) -> Any:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.26 * len(record.arms)), layout="constrained")
    for row, arm in enumerate(record.arms):
        values = record.values(arm, _psnr)
        colour = _COLOURS[min(record.arm(arm)["levels"], 3) - 1]
        axes.plot(values, [row] * len(values), "o", color=colour, markersize=3.5, alpha=0.7)
        axes.plot(fmean(values), row, "|", color=colour, markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(record.arms)), record.arms, fontsize=8)
    axes.set(xlabel="PSNR, dB; dots: seeds, bars: their means, colours: number of levels")
    axes.grid(axis="x", color="#dddddd")
    axes.invert_yaxis()
    return figure


def _psnr(trial: dict[str, Any]) -> float:
    return float(trial["psnr_db"])


def _dots(axes: Any, x: Sequence[Any], y: Sequence[Sequence[float]], colour: str, label: str) -> None:
    axes.plot(x, [fmean(values) for values in y], "-", color=colour, label=label, linewidth=1.2)
    for place, values in zip(x, y, strict=True):
        axes.plot([place] * len(values), values, "o", color=colour, markersize=3.5, alpha=0.7)
