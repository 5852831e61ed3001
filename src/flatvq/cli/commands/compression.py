"""Commands for compressed images: `compress`, `decompress`, `inspect` and `prior`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flatvq.cli.app import LONGEST_SIDE, AsJson, TokenizerFolder
from flatvq.cli.folders import with_home

__all__ = ["compress", "decompress", "inspect", "prior"]

Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


class Kind(StrEnum):
    """The priors that can be fitted."""

    order_0 = "order-0"
    table = "table"
    network = "network"


def compress(
    tokenizer: TokenizerFolder,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            callback=with_home,
            help="The file to write. Default: the name of the image or folder with .fvq or .fvqs.",
        ),
    ] = None,
    no_prior: Annotated[
        bool, typer.Option("--no-prior", help="Do not use the prior of the tokenizer.")
    ] = False,
    no_names: Annotated[
        bool, typer.Option("--no-names", help="Do not store the names of images in a collection.")
    ] = False,
    force: Force = False,
) -> None:
    """Compress one image to a .fvq file, or several to a .fvqs file.

    Images may have any size. `flatvq prior` makes files smaller.
    """
    from flatvq.cli.compression import compress_files

    compress_files(
        tokenizer, images, out, prior=not no_prior, names=not no_names, replace=force, echo=typer.echo
    )


def decompress(
    tokenizer: TokenizerFolder,
    file: Annotated[Path, typer.Argument(callback=with_home, help="A .fvq or .fvqs file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            callback=with_home,
            help="PNG file; for a collection, a folder. Default: the name of the file without its suffix; "
            "such a folder must not exist.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Decompress a .fvq file to a PNG image, or a .fvqs file to a folder of PNG images.

    The tokenizer and its prior must be those that compressed the file.
    """
    from flatvq.cli.compression import decompress_file

    decompress_file(tokenizer, file, out, replace=force, echo=typer.echo)


def inspect(
    file: Annotated[Path, typer.Argument(callback=with_home, help="A .fvq or .fvqs file.")],
    as_json: AsJson = False,
) -> None:
    """Print the fields of a .fvq or .fvqs file: sizes, bytes of each level, bits per pixel, prior, identity.

    No tokenizer is needed. The checksum is verified.
    """
    from flatvq.cli.compression import description_of
    from flatvq.cli.contents import show_contents

    description = description_of(file)
    if as_json:
        typer.echo(json.dumps(description))
    else:
        show_contents(description)


def prior(
    tokenizer: TokenizerFolder,
    images: Annotated[Path, typer.Argument(callback=with_home, help="Folder of images to fit the prior to.")],
    kind: Annotated[
        Kind,
        typer.Option(
            help="order-0: a fixed probability for each code. table: probabilities depend on the neighbours. "
            "network: they depend on more neighbours; it is slower, and files are smaller."
        ),
    ] = Kind.table,
    contexts: Annotated[int, typer.Option(min=1, max=4096, help="Contexts of a table.")] = 256,
    steps: Annotated[
        int,
        typer.Option(
            min=1,
            help="Training steps of a network for each level, at most. With few images, fewer are made.",
        ),
    ] = 2000,
    resize: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=LONGEST_SIDE,
            help="Scale the shorter side of the images to this length first. Repeatable, to fit the prior to "
            "several sizes. Default: their own size.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of the clusterings or of the training.")
    ] = 0,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace a prior. Files compressed with it can no longer be read."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit the probabilities of indices to images, and store them in the folder of the tokenizer.

    `flatvq compress` then writes smaller files. The command holds out one image in ten, and prints how many
    bits the prior saves on these. Fit the prior to images of the kind and size that you will compress.
    """
    from flatvq.cli.compression import fit_to_folder
    from flatvq.cli.contents import show_prior

    record = fit_to_folder(
        tokenizer,
        images,
        kind.value,
        contexts=contexts,
        steps=steps,
        resize=resize or [0],
        seed=seed,
        replace=replace,
    )
    if as_json:
        typer.echo(json.dumps(record.model_dump()))
    else:
        show_prior(record)
