"""Tables of the page, as lines of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from findings.matchings import Health, Matching
from findings.records import Pair, Record, with_interval

__all__ = [
    "arms_table",
    "cost_table",
    "factorial_table",
    "level_values",
    "levels_table",
    "matchings_table",
    "pairs_table",
    "searches_table",
    "seeds_table",
    "spread",
]


def spread(values: Sequence[float]) -> str:
    """Format the mean and the standard deviation over seeds.

    Example:
        >>> spread([24.0, 25.0, 26.0])
        '25.00 ± 1.00'
    """
    if len(values) < 2:
        return f"{fmean(values):.2f}"
    return f"{fmean(values):.2f} ± {stdev(values):.2f}"


def arms_table(record: Record) -> list[str]:
    """Return the metrics of all arms, and of their levels."""
    rows = [
        "| arm | PSNR, dB | SSIM | bits: nominal, effective | usage, % | perplexity | quantization error |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in record.arms:
        nominal = record.arm(arm)["bits_per_image"]
        effective = record.mean(arm, lambda trial: trial["effective_bits_per_image"])
        cells = [
            arm,
            spread(record.values(arm, lambda trial: trial["psnr_db"])),
            f"{record.mean(arm, lambda trial: trial['ssim']):.3f}",
            f"{nominal:,.0f}, {effective:,.0f}",
            _levels(record, arm, "usage", lambda value: f"{100 * value:.0f}"),
            _levels(record, arm, "perplexity", lambda value: f"{value:,.0f}"),
            _levels(record, arm, "quantization_error", lambda value: f"{value:.3f}"),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def factorial_table(record: Record) -> list[str]:
    """Return PSNR and usage of each model with each treatment."""
    columns = ("nothing", "init", "replacement", "both")
    rows = ["| | nothing | init | replacement | both |", "|---|---|---|---|---|"]
    for model in ("single", "parallel", "conditioned"):
        cells = []
        for column in columns:
            arm = f"{model}-{column}"
            usage = _levels(record, arm, "usage", lambda value: f"{100 * value:.0f} %")
            cells.append(f"{spread(record.values(arm, lambda trial: trial['psnr_db']))} ({usage})")
        rows.append(f"| {model} | {' | '.join(cells)} |")
    return rows


def pairs_table(pairs: Iterable[Pair]) -> list[str]:
    """Return the difference, interval and verdict of each comparison."""
    rows = ["| a | b | a − b, PSNR [90 % interval] | seeds | verdict |", "|---|---|---|---|---|"]
    for pair in pairs:
        difference = pair.difference
        rows.append(f"| {pair.a} | {pair.b} | {pair.text} | {difference.seeds} | {difference.verdict} |")
    return rows


def matchings_table(matchings: Iterable[Matching], health: Health) -> list[str]:
    """Return one level against each hierarchy under every budget, and the remaining differences."""
    rows = [
        "| matched in | one level's parameters, multiply-adds | one level − two parallel, PSNR | verdict | "
        "conditioned's parameters, multiply-adds | one level − two conditioned, PSNR | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for matching in matchings:
        pairs = [matching.pair(health, hierarchy) for hierarchy in ("parallel", "conditioned")]
        if not any(pairs):
            continue
        cells = [f"[{matching.description}](../results/{matching.record.name}/study.json)"]
        for side, pair in enumerate(pairs):
            if pair is None:
                cells += ["–"] * 3
                continue
            residuals = matching.record.study["match"]["residuals"][(pair.a, pair.b)[side]]
            shares = (
                f"{round(100 * residuals[key]):+d} %"
                for key in ("network_parameters", "network_multiply_adds")
            )
            cells += [", ".join(shares).replace("-", "−"), pair.text, pair.difference.verdict]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def levels_table(levels: Mapping[str, Any]) -> list[str]:
    """Return the contribution of the top level in each run that `flatvq levels` analyzed.

    The columns are the smallest and the largest loss among three replacements of its codes, the loss of a new
    decoder without it, the share of it that the bottom determines, and the gain per 1,000 bits of the top and
    of the single-level arm.
    """
    rows = [
        "| run | loss with replaced codes, dB | loss of a new decoder without the top, dB | "
        "determined by the bottom, % | dB per 1,000 bits: top, one level |",
        "|---|---|---|---|---|",
    ]
    for name, analysis in levels.items():
        top = max(loss["level"] for loss in analysis["replaced"])
        losses = [loss["loss_db"] for loss in analysis["replaced"] if loss["level"] == top]
        (gain,) = (gain for gain in analysis["marginal_gain"] if gain["level"] == top)
        (entropy,) = (entropy for entropy in analysis["conditional_entropy"] if entropy["level"] == top)
        single = analysis["single_level_counterpart"]
        cells = [
            name,
            f"{min(losses):.2f} to {max(losses):.2f}",
            f"{gain['gain_db']:.2f}",
            f"{100 * entropy['share']:.0f}",
            f"{gain['db_per_kilobit']:.2f}, {single['db_per_kilobit']:.2f}" if single else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def searches_table(searches: Mapping[str, Any]) -> list[str]:
    """Return the trials, the winner and the confirmation on fresh seeds of each search."""
    rows = [
        "| search | trials, pruned | winner | tuned − default, PSNR [90 % interval] | verdict |",
        "|---|---|---|---|---|",
    ]
    for name, search in searches.items():
        winner = next(trial for trial in search["trials"] if trial["number"] == search["best"])
        values = ", ".join(f"{key} {_short(value)}" for key, value in sorted(winner["values"].items()))
        confirmed = search["confirmed"]
        cells = [
            f"[{name}](../results/{name}/tune.json)",
            f"{len(search['trials'])}, {sum(trial['state'] == 'pruned' for trial in search['trials'])}",
            values,
            with_interval(confirmed["difference"], confirmed["interval90"]),
            confirmed["verdict"],
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def seeds_table(record: Record, arms: Iterable[str]) -> list[str]:
    """Return the PSNR of every seed, with the perplexity of the top level in parentheses."""
    rows = [
        f"| arm | {' | '.join(f'seed {seed}' for seed in record.seeds)} |",
        f"|---|{'---|' * len(record.seeds)}",
    ]
    for arm in arms:
        top = record.arm(arm)["levels"] - 1
        cells = [
            f"{trial['psnr_db']:.2f} ({trial['levels'][top]['perplexity']:,.0f})"
            for trial in record.trials(arm)
        ]
        rows.append(f"| {arm} | {' | '.join(cells)} |")
    return rows


def cost_table(start: Record, history: Path, images: float) -> list[str]:
    """Estimate the time of a full trial of each arm from the first steps of a study.

    Args:
        start: the study, which ran for a few steps.
        history: its history.parquet, with the images per second of each `train` line.
        images: number of images in a full training.
    """
    import pyarrow.parquet as pq

    rows = ["| arm | bits | multiply-adds | images per second | days per trial |", "|---|---|---|---|---|"]
    speeds = [row for row in pq.read_table(history).to_pylist() if row["name"] == "images_per_second"]
    for arm in start.arms:
        speed = median(row["value"] for row in speeds if row["arm"] == arm)
        capacity = start.arm(arm)
        cells = [
            arm,
            f"{capacity['bits_per_image']:,.0f}",
            f"{capacity['network_multiply_adds'] / 1e9:.2f} G",
            f"{speed:.1f}",
            f"{images / speed / 86400:,.0f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def level_values(record: Record, arm: str, level: int, key: str) -> list[float]:
    """Return a metric of one level for each seed."""
    return record.values(arm, lambda trial: trial["levels"][level][key])


def _levels(record: Record, arm: str, key: str, write: Callable[[float], str]) -> str:
    levels = range(record.arm(arm)["levels"])
    return " and ".join(write(fmean(level_values(record, arm, level, key))) for level in levels)
