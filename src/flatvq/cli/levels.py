"""What `flatvq levels` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flatvq.cli.tables import console, new_table

__all__ = ["show_levels"]


def show_levels(found: dict[str, Any], run: Path) -> None:
    """Print what each level of a run contributes."""
    _replaced(found, run)
    _refitted(found)
    _told(found)
    for one in found["marginal_gain"]:
        console.print(f"Level {one['level']}: {one['db_per_kilobit']:.2f} dB for 1,000 of its bits.")
    if found["single_level_counterpart"]:
        other = found["single_level_counterpart"]
        console.print(f"On one level ({other['arm']}): {other['db_per_kilobit']:.2f} dB for 1,000 more bits.")
    console.print(f"Record: {run / 'levels.json'}")


def _replaced(found: dict[str, Any], run: Path) -> None:
    title = f"Levels of {run}: codes replaced, the decoder as it is"
    shown = new_table(title, "level", "by", "dB left", "loss, dB")
    for one in found["replaced"]:
        shown.add_row(str(one["level"]), one["by"], f"{one['psnr_db']:.2f}", f"{one['loss_db']:.2f}")
    console.print(shown)
    console.print("This overstates: the decoder never saw such codes.")


def _refitted(found: dict[str, Any]) -> None:
    shown = new_table(f"Decoders trained anew for {found['steps']} steps", "levels", "dB", "gain, dB")
    whole = found["refitted"][0]["psnr_db"]
    shown.add_row("all", f"{whole:.2f}", "")
    for one in found["refitted"][1:]:
        gain = f"{whole - one['psnr_db']:.2f}"
        shown.add_row(f"without level {one['without']}", f"{one['psnr_db']:.2f}", gain)
    console.print(shown)


def _told(found: dict[str, Any]) -> None:
    heads = ("level", "nominal", "marginal", "alone", "given below", "share told")
    shown = new_table("Bits a code, held out", *heads)
    for one in found["conditional_entropy"]:
        keys = ("nominal_bits", "marginal_bits", "alone_bits", "given_below_bits")
        shown.add_row(str(one["level"]), *(f"{one[key]:.2f}" for key in keys), f"{one['share']:.0%}")
    console.print(shown)
