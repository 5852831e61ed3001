"""The `typer` application, and the arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flatvq import __version__
from flatvq.cli.endings import CommandGroup
from flatvq.cli.folders import with_home, with_tokenizer

__all__ = [
    "LONGEST_SIDE",
    "AsJson",
    "BatchSize",
    "Device",
    "Engine",
    "ImageColumn",
    "ImageSuffix",
    "Overrides",
    "RecipeName",
    "RunFolder",
    "StudyFolder",
    "TokenizerFolder",
    "TokenizerSpec",
    "app",
]

LONGEST_SIDE = 65_536
"""Largest side of an image in pixels, as in the recipe keys `data.crop` and `data.resize`."""

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Studies of discrete image tokenizers (VQ-VAEs).

    flatvq trains the arms of a study with several seeds, at matched capacity and with measures against
    codebook collapse, and reports whether their reconstructions differ. It encodes data sets, compresses
    images and exports programs with the trained tokenizers.

    Start with `flatvq study photographs`.""",
    epilog="Exit codes: 0 success, 1 a trial of a study or search failed, 2 invalid input or a single "
    "training diverged, 69 the cluster does not answer, 74 the disk is full or broken, "
    "75 another process has the run, "
    "130 interrupted (run the command again to resume), "
    "141 the reader of the output closed it.",
)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"flatvq {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Define the options of `flatvq` itself. `app` has its help text."""


RecipeName = Annotated[
    str, typer.Argument(help="Name of a shipped recipe (see `flatvq recipes`), or path of a .yaml file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as train.steps=2000. Repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
StudyFolder = Annotated[Path, typer.Argument(callback=with_home, help="Folder of a study.")]
TokenizerFolder = Annotated[
    Path,
    typer.Argument(
        metavar="TOKENIZER",
        callback=with_tokenizer,
        help="Folder of a tokenizer or of a finished run, a pretrained tokenizer such as flatvq-f4, or a "
        "repository OWNER/NAME on the Hugging Face hub.",
    ),
]
RunFolder = Annotated[Path, typer.Argument(callback=with_home, help="Folder of a finished run.")]
TokenizerSpec = Annotated[
    str,
    typer.Argument(
        metavar="TOKENIZER",
        help="Folder of a finished run or of a tokenizer, a pretrained tokenizer such as flatvq-f4, a "
        "repository OWNER/NAME on the Hugging Face hub, or a tokenizer of another library, such as "
        "diffusers:PATH.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--on", metavar="ENGINE", help="Where to run: local, slurm or ray. See docs/how-to/cluster.md."
    ),
]
ImageColumn = Annotated[
    str, typer.Option(help="Column of parquet shards, or of a dataset, that holds the images.")
]
ImageSuffix = Annotated[
    str,
    typer.Option(
        help="Suffix of the members of tar shards that hold the images, such as jpg or rgb.png: everything "
        "after the first dot of the name. Default: all members that are images."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, max=1_000_000, help="Images per forward pass.")]
Device = Annotated[str, typer.Option(help="Device, such as cuda or cpu. Default: a GPU if available.")]
