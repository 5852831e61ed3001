"""The command `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flatvq.cli.app import AsJson, TokenizerFolder
from flatvq.cli.folders import with_home, writable

__all__ = ["export"]


def export(
    tokenizer: TokenizerFolder,
    out: Annotated[Path, typer.Argument(callback=with_home, help="Folder of the programs.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="onnx or pt2.")] = "onnx",
    check: Annotated[
        Path | None,
        typer.Option(callback=with_home, help="Folder of images on which the programs are checked too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the encoder (images to indices) and the decoder of a tokenizer as programs, and check them.

    The batch and the sides of the images are dynamic. The check compares the programs with the tokenizer, on
    noise and on the images of --check: indices, and images decoded from the same indices. The command fails
    if more than 1 of 1,000 indices differ, or a pixel by more than 1e-5.
    """
    from flatvq.export import check_programs, folder_batches, noise_batches
    from flatvq.export import export as export_programs
    from flatvq.model import load_tokenizer, tokenizer_folder

    model = load_tokenizer(tokenizer_folder(tokenizer))
    batches = folder_batches(model, check) if check is not None else []
    files = export_programs(model, writable(out), to)
    parity = check_programs(model, out, [*noise_batches(model), *batches])
    if as_json:
        result = {"files": [str(file) for file in files], **parity.to_dict()}
        typer.echo(json.dumps(result))
        return
    for file in files:
        typer.echo(f"{file}  {file.stat().st_size:,} bytes")
    typer.echo(
        f"Checked: {parity.differing} of {parity.indices:,} indices differ; decoded pixels differ by at most "
        f"{parity.largest_decode_error:.1e}."
    )
