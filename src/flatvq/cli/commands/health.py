"""The command `doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flatvq.cli.app import AsJson
from flatvq.cli.folders import with_home, writable_file

__all__ = ["doctor"]


def doctor(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Checkpoints (.safetensors, .pt, .pth, .ckpt), runs or tokenizers; or indices (.npy, .npz, "
            ".parquet, or a folder of .parquet files).",
        ),
    ],
    codebook_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2**22,
            help="K of the indices. Default: that of the manifest.json of `flatvq encode`, or else the "
            "largest index plus one.",
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(callback=with_home, help="Also write the result to this HTML file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine codebooks or indices of any library: usage, collapse, dead codes, duplicates, norms, drift.

    Several checkpoints are compared with each other, for example the checkpoints of all processes of a
    training. Exit code 1 means that a fault was found.
    """
    from flatvq.doctor import examine
    from flatvq.files import write_text
    from flatvq.tokenizers.pretrained import pretrained_folder

    if page is not None:
        writable_file(page, "doctor.html")
    sources = [path.expanduser() for path in paths]
    sources = [source if source.exists() else pretrained_folder(str(source)) or source for source in sources]
    result = examine(sources, codebook_size)
    typer.echo(json.dumps(result.to_dict(), indent=1) if as_json else result.to_text())
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, result.to_page())
    if not result.healthy:
        raise typer.Exit(1)
