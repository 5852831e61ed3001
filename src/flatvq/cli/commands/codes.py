"""Commands for the codes of data sets: `encode` and `decode`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatvq.cli.app import (
    LONGEST_SIDE,
    AsJson,
    BatchSize,
    Device,
    Engine,
    ImageColumn,
    ImageSuffix,
    TokenizerSpec,
)
from flatvq.cli.folders import with_home, writable
from flatvq.cli.interrupts import STOPPED, raise_interrupt
from flatvq.errors import FlatvqError

if TYPE_CHECKING:
    from flatvq.codes import CodeManifest
    from flatvq.tokenizers import Tokenizer

__all__ = ["decode", "encode"]

_MAX_FILES = 20

_Size = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=LONGEST_SIDE,
        help="Scale the shorter side to this length first, and cut crops of this side; 0: no scaling. "
        "Default: as the tokenizer was trained.",
    ),
]
_Crop = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=LONGEST_SIDE,
        help="Side of the centre crops; 0: whole images. Default: --size, or as the tokenizer was trained.",
    ),
]


def encode(
    tokenizer: TokenizerSpec,
    images: Annotated[
        str,
        typer.Argument(
            help="Folder of images, pattern or URL of .tar or .parquet shards, or with --dataset a dataset."
        ),
    ],
    out: Annotated[Path, typer.Argument(callback=with_home, help="Folder of the shards.")],
    size: _Size = None,
    crop: _Crop = None,
    dataset: Annotated[
        bool,
        typer.Option(
            "--dataset", help="IMAGES is a Hugging Face dataset: a name on the hub or a local folder."
        ),
    ] = False,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    image_column: ImageColumn = "image",
    image_suffix: ImageSuffix = "",
    white_level: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            help="Sample value of white, such as 4095, in files with more than 8 bits per sample that do not "
            "state it; 0 is the largest 16-bit value.",
        ),
    ] = 0,
    shard_size: Annotated[int, typer.Option(min=1, max=10_000_000, help="Images of each shard.")] = 1000,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    part: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER/COUNT",
            help="Encode only the shards of this part, such as 0/16 to 15/16 in 16 jobs of any scheduler. "
            "The same command without --part then verifies all shards and completes manifest.json.",
        ),
    ] = None,
    on: Engine = "local",
    parts: Annotated[
        int | None,
        typer.Option(min=1, help="Jobs that share the shards, with --on. Default: cluster.max_running."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit the jobs and return.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the jobs and return.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a key of the section cluster, such as cluster.partition=gpu.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Encode all images of a folder or dataset to parquet shards of indices, to train a generator on.

    Run the same command again to resume an encoding that was stopped or killed; it ends with the same bytes
    as an undisturbed one. `flatvq.codes.CodeDataset` and Hugging Face `datasets` read the shards.

    With `--on slurm`, jobs of a cluster share the shards, and a last job verifies them. The bytes are the
    same.
    """
    from flatvq.cli.cluster import ClusterCommand, require_cluster
    from flatvq.cli.encoding import encode_on
    from flatvq.cli.progress import task_progress
    from flatvq.codes import encode_images
    from flatvq.codes.parts import Part

    require_cluster(on, parts=parts, detach=detach, cancel=cancel, set=overrides)
    if on != "local":
        if part is not None:
            raise FlatvqError(f"--part {part} and --on {on} are both given", "leave one of them out")
        options = {
            "size": size,
            "crop": crop,
            "dataset": dataset,
            "split": split,
            "image_column": image_column,
            "image_suffix": image_suffix,
            "white_level": white_level,
            "shard_size": shard_size,
            "batch_size": batch_size,
            "device": device,
        }
        command = ClusterCommand(on, detach=detach, cancel=cancel)
        finished = encode_on(command, (tokenizer, images), writable(out), options, parts, overrides or ())
        if finished is not None:
            typer.echo(finished.model_dump_json() if as_json else _summary(finished, out))
        return
    own = Part.parse(part) if part is not None else None
    opened = _opened(tokenizer, device)
    with _resumable(), task_progress("encoding", unit="images") as progress:
        manifest = encode_images(
            opened,
            images,
            writable(out),
            dataset=dataset,
            split=split,
            image_column=image_column,
            image_suffix=image_suffix,
            resize=size,
            crop=crop,
            white_level=white_level,
            shard_size=shard_size,
            batch_size=batch_size,
            part=(own.number, own.count) if own else None,
            progress=progress,
        )
    typer.echo(manifest.model_dump_json() if as_json else _summary(manifest, out))


def decode(
    tokenizer: TokenizerSpec,
    codes: Annotated[Path, typer.Argument(callback=with_home, help="Folder that `flatvq encode` wrote.")],
    out: Annotated[Path, typer.Argument(callback=with_home, help="Folder of the images.")],
    batch_size: BatchSize = 64,
    device: Device = "auto",
) -> None:
    """Decode the codes of a folder to PNG files, which get the names of the encoded images."""
    from flatvq.cli.progress import task_progress
    from flatvq.codes import decode_codes

    opened = _opened(tokenizer, device)
    with _resumable(), task_progress("decoding", unit="images") as progress:
        count = decode_codes(opened, codes, writable(out), batch_size=batch_size, progress=progress)
    typer.echo(f"{out}: {count:,} images")


def _opened(spec: str, device: str) -> Tokenizer:
    import torch

    from flatvq.tokenizers import open_tokenizer

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return open_tokenizer(spec, device)


def _summary(manifest: CodeManifest, out: Path) -> str:
    size, shards = sum(shard.bytes for shard in manifest.shards), len(manifest.shards)
    lines = [
        f"{out}: {manifest.rows:,} images in {shards:,} shard{'' if shards == 1 else 's'}, "
        f"{size / max(1, manifest.rows):,.0f} bytes per image"
    ]
    lines += [f"unreadable: {name} ({reason})" for name, reason in manifest.unreadable[:_MAX_FILES]]
    if (more := len(manifest.unreadable) - _MAX_FILES) > 0:
        lines.append(f"and {more:,} more unreadable images, which manifest.json lists")
    return "\n".join(lines)


@contextmanager
def _resumable() -> Iterator[None]:
    """End with exit code 130 on Ctrl-C, and on SIGTERM, as a cluster sends it before it ends a job."""
    before = signal.signal(signal.SIGTERM, raise_interrupt)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the same command to resume.", err=True)
        raise typer.Exit(STOPPED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
