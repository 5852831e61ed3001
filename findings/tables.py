"""Tables of the page, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log2
from statistics import fmean, stdev
from typing import Any

from findings.rates import BitsOfTrial, effective_bits, rate_differences
from findings.records import Record, Trial, with_interval
from flatvq.capacities import CAPACITIES

__all__ = [
    "arms_table",
    "capacity_table",
    "collapsed_levels",
    "comparisons_table",
    "rates_line",
    "rates_table",
    "shares_of_bits",
    "spread",
]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the mean and the standard deviation over seeds.

    Example:
        >>> spread([24.0, 25.0, 26.0])
        '25.00 ± 1.00'
    """
    if len(values) < 2:
        return f"{fmean(values):.{digits}f}"
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def comparisons_table(rows: Iterable[tuple[Record, Sequence[str]]]) -> str:
    """Return one row for each comparison: the arms, the difference, the verdict and the seeds."""
    lines = ["| size | a | b | a − b, PSNR [90 % interval] | a is | seeds |", "|---|---|---|---|---|---|"]
    for record, arms in rows:
        comparison = record.comparison(*arms)
        a, b = arms[:2] if len(arms) == 2 else (f"{arms[0]} − {arms[1]}", f"{arms[2]} − {arms[3]}")
        shown = with_interval(comparison["difference"], comparison["interval90"])
        link = f"[{record.size} px](../results/{record.name}/study.json)"
        lines.append(
            f"| {link} | {a} | {b} | {shown} | **{comparison['verdict']}** | {comparison['seeds']} |"
        )
    return "\n".join(lines)


def rates_line(record: Record, bits_of: BitsOfTrial = effective_bits) -> str:
    """Write how many more bits each hierarchy needs than one level in one line.

    Args:
        record: a study of several budgets.
        bits_of: the bits of an image.
    """
    return ", ".join(
        f"*{one.architecture}* {with_interval(one.percent, one.interval, ' %', 0)}"
        for one in rate_differences(record, bits_of)
    )


def rates_table(studies: Iterable[tuple[Record, BitsOfTrial]], kind: str) -> str:
    """Return how many more bits each hierarchy needs than one level, and at which PSNR, for each size.

    Args:
        studies: the studies of several budgets, each with the bits of an image.
        kind: the kind of these bits, such as `effective`.
    """
    lines = [
        f"| size | budgets | {kind} bits per pixel | parallel | conditioned | residual |",
        "|---|---|---|---|---|---|",
    ]
    for record, bits_of in studies:
        rates = [record.mean(arm, bits_of) / record.size**2 for arm in record.arms]
        cells = []
        for one in rate_differences(record, bits_of):
            low, high = one.shared
            cells.append(f"{with_interval(one.percent, one.interval, ' %', 0)}, {low:.2f} to {high:.2f} dB")
        link = f"[{record.size} px](../results/{record.name}/study.json)"
        spread_of_bits = f"{min(rates):.2f} to {max(rates):.2f}"
        lines.append(f"| {link} | {len(record.arms) // 4} | {spread_of_bits} | {' | '.join(cells)} |")
    return "\n".join(lines)


def arms_table(record: Record, arms: Sequence[str] = ()) -> str:
    """Return the metrics of arms and of their levels; without names, of all arms."""
    lines = [
        "| arm | PSNR, dB | SSIM | bits per image: nominal, effective "
        "| share of bits in effect, by level: mean (least) | codes used, % | ms per step |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in arms or record.arms:
        shares = zip(*(shares_of_bits(trial) for trial in record.trials(arm)), strict=True)
        usage = zip(
            *([100 * level["usage"] for level in t["levels"]] for t in record.trials(arm)), strict=True
        )
        cells = [
            arm,
            spread(record.values(arm, lambda trial: trial["psnr_db"])),
            f"{record.mean(arm, lambda trial: trial['ssim']):.3f}",
            f"{record.arm(arm)['bits_per_image']:,.0f}, "
            f"{record.mean(arm, lambda trial: trial['effective_bits_per_image']):,.0f}",
            ", ".join(f"{fmean(level):.2f} ({min(level):.2f})" for level in shares),
            " and ".join(f"{fmean(level):.0f}" for level in usage),
            f"{1000 * record.mean(arm, lambda trial: trial['seconds_per_step']):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def capacity_table(record: Record, arms: Sequence[str]) -> str:
    """Return what each arm spends, relative to the first."""
    headings = " | ".join(kind.heading for kind in CAPACITIES.values())
    lines = [
        f"| arm | grids | codebook sizes | width | {headings} |",
        f"|---|---|---|---|{'---|' * len(CAPACITIES)}",
    ]
    first = record.arm(arms[0])
    for name in arms:
        arm = record.arm(name)
        cells = [
            name,
            " + ".join(f"{level['grid'][0]} × {level['grid'][1]}" for level in arm["level_table"]),
            " + ".join(f"{level['codebook_size']:,}" for level in arm["level_table"]),
            str(record.recipes[name]["model"]["width"]),
            *(
                f"{kind.format(arm[kind.attribute])} ({_percent(arm[kind.attribute], first[kind.attribute])})"
                for kind in CAPACITIES.values()
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(value: float, reference: float) -> str:
    return f"{100 * (value / reference - 1):+.0f} %".replace("-", "−")


def shares_of_bits(trial: Trial) -> list[float]:
    """Return the share of the bits of each level that are in effect: log2 perplexity / log2 K."""
    return [log2(level["perplexity"]) / log2(level["codebook_size"]) for level in trial["levels"]]


def collapsed_levels(records: Iterable[Record], ending: str = "-naive") -> list[dict[str, Any]]:
    """Return each level of a healthy arm that collapsed in a seed, by flatvq's rule.

    Args:
        records: the studies.
        ending: the ending of the names of naive arms, which are left out.
    """
    return [
        {"record": record.name, "arm": arm, "seed": trial["seed"], "level": number, "share": share}
        for record in records
        for arm in record.arms
        if not arm.endswith(ending)
        for trial in record.trials(arm)
        for number, (level, share) in enumerate(zip(trial["levels"], shares_of_bits(trial), strict=True))
        if level["collapse"]
    ]
