"""Tables of the page: arms over their seeds, as lines of Markdown."""

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
    """Write a mean and the standard deviation over seeds.

    Example:
        >>> spread([24.0, 25.0, 26.0])
        '25.00 ± 1.00'
    """
    if len(values) < 2:
        return f"{fmean(values):.2f}"
    return f"{fmean(values):.2f} ± {stdev(values):.2f}"


def arms_table(record: Record) -> list[str]:
    """Show all arms: PSNR, SSIM, and of each level usage, perplexity and relative quantization error."""
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
    """Show models by interventions: PSNR, and the codes in use by level."""
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
    """Show comparisons: difference, interval and verdict."""
    rows = ["| a | b | a − b, PSNR [90 % interval] | seeds | verdict |", "|---|---|---|---|---|"]
    for pair in pairs:
        found = pair.found
        rows.append(f"| {pair.a} | {pair.b} | {pair.told} | {found.seeds} | {found.verdict} |")
    return rows


def matchings_table(matchings: Iterable[Matching], health: Health) -> list[str]:
    """Show one level against each hierarchy under every budget, with what the budget leaves over."""
    rows = [
        "| matched in | one level's parameters, multiply-adds | one level − two parallel, PSNR | verdict | "
        "conditioned's parameters, multiply-adds | one level − two conditioned, PSNR | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for matching in matchings:
        pairs = [matching.pair(health, hierarchy) for hierarchy in ("parallel", "conditioned")]
        if not any(pairs):
            continue
        cells = [f"[{matching.words}](../results/{matching.record.name}/study.json)"]
        for side, pair in enumerate(pairs):
            if pair is None:
                cells += ["–"] * 3
                continue
            left = matching.record.study["match"]["residuals"][(pair.a, pair.b)[side]]
            shares = (f"{round(100 * left[of]):+d} %" for of in ("parameters", "multiply_adds"))
            cells += [", ".join(shares).replace("-", "−"), pair.told, pair.found.verdict]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def levels_table(levels: Mapping[str, Any]) -> list[str]:
    """Show what `flatvq levels` found of the top level, a row a run.

    What replacing its codes loses, in the mildest and the harshest of three ways; what a decoder trained anew
    without it loses; the share of its bits that the bottom already tells; and dB per 1,000 bits of the top
    beside the same bits on the one level of the study.
    """
    rows = [
        "| run | codes replaced: dB lost | decoder anew without: dB lost | told by the bottom, % | "
        "dB per 1,000 bits: top, one level |",
        "|---|---|---|---|---|",
    ]
    for name, found in levels.items():
        top = max(one["level"] for one in found["replaced"])
        lost = [one["loss_db"] for one in found["replaced"] if one["level"] == top]
        (worth,) = (one for one in found["marginal_gain"] if one["level"] == top)
        (told,) = (one for one in found["conditional_entropy"] if one["level"] == top)
        beside = found["single_level_counterpart"]
        cells = [
            name,
            f"{min(lost):.2f} to {max(lost):.2f}",
            f"{worth['gain_db']:.2f}",
            f"{100 * told['share']:.0f}",
            f"{worth['db_per_kilobit']:.2f}, {beside['db_per_kilobit']:.2f}" if beside else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def searches_table(searches: Mapping[str, Any]) -> list[str]:
    """Show searches: what was tried, what won, and what the confirmation on fresh seeds says of it."""
    rows = [
        "| search | tried, pruned | the winner | tuned − default, PSNR [90 % interval] | verdict |",
        "|---|---|---|---|---|",
    ]
    for name, found in searches.items():
        won = next(trial for trial in found["trials"] if trial["number"] == found["best"])
        values = ", ".join(f"{key} {_short(value)}" for key, value in sorted(won["values"].items()))
        confirmed = found["confirmed"]
        cells = [
            f"[{name}](../results/{name}/tune.json)",
            f"{len(found['trials'])}, {sum(trial['state'] == 'pruned' for trial in found['trials'])}",
            values,
            with_interval(confirmed["difference"], confirmed["interval90"]),
            confirmed["verdict"],
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def seeds_table(record: Record, arms: Iterable[str]) -> list[str]:
    """Show every seed: PSNR beside the perplexity of the top level."""
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
    """Show what a training of some images costs on the machine of a record that was begun and cut short.

    Args:
        start: the record.
        history: its history.parquet, with the images per second of each record of the training.
        images: how many a whole training sees.
    """
    import pyarrow.parquet as pq

    rows = ["| arm | bits | multiply-adds | images a second | days a trial |", "|---|---|---|---|---|"]
    seen = [row for row in pq.read_table(history).to_pylist() if row["name"] == "images_per_second"]
    for arm in start.arms:
        speed = median(row["value"] for row in seen if row["arm"] == arm)
        capacity = start.arm(arm)
        cells = [
            arm,
            f"{capacity['bits_per_image']:,.0f}",
            f"{capacity['multiply_adds'] / 1e9:.2f} G",
            f"{speed:.1f}",
            f"{images / speed / 86400:,.0f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def level_values(record: Record, arm: str, level: int, key: str) -> list[float]:
    """Return a measure of one level, a number a seed."""
    return record.values(arm, lambda trial: trial["levels"][level][key])


def _levels(record: Record, arm: str, key: str, write: Callable[[float], str]) -> str:
    levels = range(record.arm(arm)["levels"])
    return " and ".join(write(fmean(level_values(record, arm, level, key))) for level in levels)
