"""Output of `flatvq levels`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flatvq.cli.tables import console, new_table

__all__ = ["show_levels"]


def show_levels(result: dict[str, Any], run: Path) -> None:
    """Print what each level of a run contributes.

    Args:
        result: the content of `levels.json`.
        run: folder of the run.
    """
    _show_replaced(result, run)
    _show_refitted(result)
    _show_conditional_entropy(result)
    for gain in result["marginal_gain"]:
        console.print(f"Level {gain['level']} gains {gain['db_per_kilobit']:.2f} dB per 1,000 bits.")
    if counterpart := result["single_level_counterpart"]:
        gain = f"{counterpart['db_per_kilobit']:.2f} dB per 1,000 additional bits"
        console.print(f"The single-level arm {counterpart['arm']} gains {gain}.")
    console.print(f"Record: {run / 'levels.json'}")


def _show_replaced(result: dict[str, Any], run: Path) -> None:
    title = f"Levels of {run}: codes replaced, same decoder"
    table = new_table(title, "level", "replaced by", "PSNR, dB", "loss, dB")
    for row in result["replaced"]:
        table.add_row(str(row["level"]), row["by"], f"{row['psnr_db']:.2f}", f"{row['loss_db']:.2f}")
    console.print(table)
    console.print(
        "These losses overstate the contribution of a level: the decoder was not trained on replaced codes."
    )


def _show_refitted(result: dict[str, Any]) -> None:
    table = new_table(f"Decoders trained again for {result['steps']} steps", "levels", "PSNR, dB", "gain, dB")
    all_levels, *without_one = result["refitted"]
    table.add_row("all", f"{all_levels['psnr_db']:.2f}", "")
    for row in without_one:
        gain = f"{all_levels['psnr_db'] - row['psnr_db']:.2f}"
        table.add_row(f"without level {row['without']}", f"{row['psnr_db']:.2f}", gain)
    console.print(table)


def _show_conditional_entropy(result: dict[str, Any]) -> None:
    heads = ("level", "nominal", "marginal", "alone", "given below", "predicted")
    table = new_table("Bits per code on held-out crops", *heads)
    for row in result["conditional_entropy"]:
        keys = ("nominal_bits", "marginal_bits", "alone_bits", "given_below_bits")
        table.add_row(str(row["level"]), *(f"{row[key]:.2f}" for key in keys), f"{row['share']:.0%}")
    console.print(table)
