"""From the record to the tables and plots of docs/performance.md. Pure functions of the record."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import imagenet

__all__ = ["INSTRUCTIONS", "blocks", "filled", "page", "plots", "table"]

# Comparison of the methods of the compiled search.
METHODS = Path(__file__).parents[1] / "results" / "methods.json"
_MIB = 2**20
# What decides how fast a processor multiplies, by the names of Linux and of people, the fastest first.
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX-512", "avx2": "AVX2"}

Bench = dict[str, Any]


def blocks(bench: Bench, others: Sequence[Bench], gpu: Bench) -> dict[str, list[str]]:
    """Give the lines of each block of the page, by name; `others` are records of other machines."""
    return {
        "machine": machine(bench),
        "table": table(bench),
        "processors": processors([bench, *others]),
        "memory": peaks(bench),
        "curves": curves(bench),
        "gpu": on_a_gpu(gpu),
        "imagenet": imagenet(_decode_seconds(bench)),
        "methods": methods(json.loads(METHODS.read_text(encoding="utf-8")), "all codes"),
    }


def methods(record: Bench, baseline: str) -> list[str]:
    """Show how much faster each method of the compiled search was than the baseline."""
    cases = [case for case in record["cases"] if case["baseline"] == baseline]
    names = [name for name in cases[0]["times"] if name not in (baseline, "chosen")]
    rows = [f"| case | {baseline} | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for case in cases:
        ratios = [f"{case['times'][name]['ratio']['median']:.2f}x" for name in names]
        rows.append(
            f"| {case['case']} | {_time(case['times'][baseline]['seconds'])} | {' | '.join(ratios)} |"
        )
    return rows


def page(bench: Bench, others: Sequence[Bench], gpu: Bench, path: Path) -> None:
    """Fill a page in, in place."""
    path.write_text(filled(bench, others, gpu, path.read_text(encoding="utf-8")), encoding="utf-8")


def filled(bench: Bench, others: Sequence[Bench], gpu: Bench, text: str) -> str:
    """Replace the text between `<!-- bench:NAME -->` and `<!-- /bench -->` in a page."""
    for name, lines in blocks(bench, others, gpu).items():
        pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench -->)", re.DOTALL)
        body = "\n".join(lines).replace("\\", r"\\")
        text, count = pattern.subn(rf"\g<1>{body}\n\g<2>", text)
        assert count == 1, f"the page has no place for {name}"
    return text


def machine(bench: Bench) -> list[str]:
    """Say where and with what the figures were measured."""
    on = bench["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in bench["packages"].items())
    return [
        f"{on['processor']} with {_instructions(bench)}, {on['cores']} cores, {on['system']}, {on['libc']}, "
        f"Python {on['python']}; "
        f"{packages}. {bench['created'][:10]}."
    ]


def table(bench: Bench) -> list[str]:
    """Show all timed cases with a tuned malloc for both sides, and the ratios with the default malloc."""
    plain = {case["case"]: case for case in bench["cases"] if not case["thresholds"]}
    rows = [
        "| case | flatvq | other | products alone | ratio (quartiles) | aim | ratio, default malloc |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in (case for case in bench["cases"] if case["thresholds"]):
        counterpart = plain.get(case["case"])
        cells = [
            f"{case['case']}, against {case['against']}",
            _time(case["flatvq_s"]),
            _time(case["other_s"]),
            _time({"median": case["products_s"]}) if "products_s" in case else "–",
            f"**{_ratio(case)}** ({_quartiles(case)})",
            f"{case['target']}x" if case["target"] else "–",
            f"{_ratio(counterpart)} ({_quartiles(counterpart)})" if counterpart else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def processors(benches: Sequence[Bench]) -> list[str]:
    """Show the ratios of all cases with an aim, a column per machine: malloc tuned, and by default."""
    heads = " | ".join(map(_head, benches))
    rows = [f"| case | aim | {heads} |", f"|---|---|{'---|' * len(benches)}"]
    for case in (case for case in benches[0]["cases"] if case["thresholds"] and case["target"]):
        cells = []
        for bench in benches:
            same = [other for other in bench["cases"] if other["case"] == case["case"]]
            by_malloc = {other["thresholds"]: _ratio(other) for other in same}
            tuned, plain = by_malloc.get(True, "–"), by_malloc.get(False)
            cells.append(f"{tuned}; {plain}" if plain else tuned)
        rows.append(f"| {case['case']} | {case['target']}x | {' | '.join(cells)} |")
    return rows


def peaks(bench: Bench) -> list[str]:
    """Show the extra peak memory of both sides."""
    rows = ["| case | flatvq | other | share | aims |", "|---|---|---|---|---|"]
    for memory in bench["memory"]:
        if memory["flatvq"] is None:
            return ["Not measured: the system does not tell."]
        ours, other = memory["flatvq"]["bytes"], memory["other"]["bytes"]
        theirs = f"{other / _MIB:,.0f} MiB"
        cells = [
            memory["case"],
            f"{ours / _MIB:,.0f} MiB",
            theirs if memory["other"]["fits"] else f"more than {theirs}, and it failed",
            f"1/{other / ours:.0f}" if other > 10 * ours else f"{ours / other:.2f}",
            "64 MiB, 1/100" if memory["target"] else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def on_a_gpu(record: Bench) -> list[str]:
    """Show what was measured on a GPU."""
    packages = ", ".join(f"{name} {number}" for name, number in record["packages"].items())
    rows = [
        f"{record['gpu']}; {packages}. {record['created'][:10]}.",
        "",
        "| case | flatvq | other | ratio (quartiles) |",
        "|---|---|---|---|",
    ]
    for case in record["cases"]:
        if "flatvq_bytes" in case:
            ours, theirs = (case[f"{side}_bytes"] / _MIB for side in ("flatvq", "other"))
            cells = [f"{ours:,.0f} MiB", f"{theirs:,.0f} MiB", f"**1/{theirs / ours:.0f}**"]
        else:
            times = _time(case["flatvq_s"]), _time(case["other_s"])
            cells = [*times, f"**{_ratio(case)}** ({_quartiles(case)})"]
        rows.append(f"| {case['case']}, against {case['against']} | {' | '.join(cells)} |")
    return rows


def curves(bench: Bench) -> list[str]:
    """Show every curve as a row of times, with the exponent of its upper half."""
    rows = ["| what | grows with | expected | median times | exponent |", "|---|---|---|---|---|"]
    for curve in bench["curves"]:
        times = ", ".join(f"{point['at']}: {_time(point['seconds'])}" for point in curve["points"])
        rows.append(
            f"| {curve['of']} | {curve['quantity']} | {curve['order']} | {times} | {curve['exponent']:.2f} |"
        )
    return rows


def plots(bench: Bench, folder: Path) -> None:
    """Draw the ratios and the curves as SVG files."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    # The same record gives the same bytes.
    mpl.rcParams.update({"svg.hashsalt": "flatvq", "svg.fonttype": "none", "font.size": 9})
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    cases = [case for case in bench["cases"] if case["thresholds"] and case["target"]]
    ratios = [case["ratio"]["median"] for case in cases]
    axes.barh([case["case"] for case in cases], ratios, color="#4477aa", label="median ratio")
    axes.scatter(
        [case["target"] for case in cases], range(len(cases)), marker="|", s=180, color="#cc3311", label="aim"
    )
    axes.set(xscale="log", xlabel="times as fast")
    axes.invert_yaxis()
    axes.legend()
    _save(figure, folder / "performance-ratios.svg")
    figure, grid = plt.subplots(2, 4, figsize=(12, 5.5), layout="constrained")
    for axes, curve in zip(grid.flat, bench["curves"], strict=False):
        x = [point["at"] for point in curve["points"]]
        y = [point["seconds"]["median"] for point in curve["points"]]
        axes.plot(x, y, "o-", color="#4477aa", markersize=3)
        axes.set(xscale="log", yscale="log", xlabel=curve["quantity"], ylabel="seconds")
        axes.set_title(curve["of"], fontsize=8)
    for axes in grid.flat[len(bench["curves"]) :]:
        axes.set_axis_off()
    _save(figure, folder / "performance-curves.svg")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


def _head(bench: Bench) -> str:
    on = bench["machine"]
    name = f"{on['processor'].replace('(R)', '')}, {_instructions(bench)}"
    return f"{name}, {bench['created'][:10]}; search: {on['search']}"


def _instructions(bench: Bench) -> str:
    present = bench["machine"]["instructions"]
    return next((name for flag, name in INSTRUCTIONS.items() if flag in present), "none of AVX and AMX")


def _decode_seconds(bench: Bench) -> float | None:
    """Seconds that the uncached pipeline took for an image on this machine, if it was measured."""
    cold = [case for case in bench["cases"] if "nothing cached" in case["case"]]
    return cold[0]["flatvq_s"]["median"] * bench["machine"]["cores"] if cold else None


def _ratio(case: dict[str, Any]) -> str:
    value = case["ratio"]["median"]
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def _quartiles(case: dict[str, Any]) -> str:
    low, high = case["ratio"]["q1"], case["ratio"]["q3"]
    return f"{low:.2f} to {high:.2f}" if high < 10 else f"{low:.0f} to {high:.0f}"


def _time(spread: dict[str, float]) -> str:
    value = spread["median"]
    if value < 1e-4:
        return f"{value * 1e6:.0f} µs"
    return f"{value:.1f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
