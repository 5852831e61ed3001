"""The command `export`."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from flatvq.cli.app import AsJson
from flatvq.cli.folders import with_home, with_tokenizer, writable, writable_file
from flatvq.cli.interrupts import interrupts, raise_interrupt
from flatvq.errors import FlatvqError, suggestion

if TYPE_CHECKING:
    from torch import Tensor

    from flatvq.export import Parity
    from flatvq.export.page import Runtime, Subject
    from flatvq.model import VQVAE

__all__ = ["export"]

_PAGE = "page"
# The files, the numbers of the check as JSON, and the same as lines.
_Written: TypeAlias = tuple[list[Path], dict[str, Any], list[str]]


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TOKENIZER|STUDY",
            callback=with_tokenizer,
            help="Folder of a tokenizer or of a finished run, a pretrained tokenizer such as flatvq-f4, or a "
            "repository OWNER/NAME on the Hugging Face hub; for a page, also the folder of a study.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(
            callback=with_home,
            help="Folder of the programs, or the file of the page. Default for a page: TOKENIZER/page.html.",
        ),
    ] = None,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="onnx, pt2 or page.")] = "onnx",
    out_option: Annotated[
        Path | None,
        typer.Option("--out", metavar="OUT", callback=with_home, help="The same as the argument OUT."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(callback=with_home, help="Also check the programs on the images of this folder."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Page of a study: an arm to show. Repeatable. Default: all."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Page of a study: the seed. Default: the one that most arms have."),
    ] = None,
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            callback=with_home,
            help="Page: the npm package onnxruntime-web, or a folder with it in node_modules. Default: the "
            "working folder.",
        ),
    ] = None,
    any_onnxruntime_web: Annotated[
        bool,
        typer.Option("--any-onnxruntime-web", help="Page: accept another version of onnxruntime-web."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the encoder (images to indices) and the decoder of a tokenizer as programs, and check them.

    The batch and the sides of the images are dynamic. The check runs the programs and the tokenizer on noise
    and on the images of --check. It compares their indices, and the images that they decode from the same
    indices. The command fails if more than 1 of 1,000 indices differ, or if a pixel differs by more than
    1e-5.

    --to page writes one HTML file, in which visitors encode and decode their own pictures. The file needs no
    server and no network. To write it, flatvq needs two files of the npm package onnxruntime-web, which it
    does not download.
    """
    from flatvq.export import FORMATS
    from flatvq.export.page import find_runtime, subject_of

    if out is not None and out_option is not None:
        raise FlatvqError(f"OUT is given twice, as '{out}' and '{out_option}'", "give it once")
    target = out or out_option
    if to == _PAGE:
        runtime = find_runtime(onnxruntime_web, any_version=any_onnxruntime_web)
        subject = subject_of(source, arm or [], seed)
        files, checked, lines = _page(subject, target or _default_page(source), runtime, check)
    elif to not in FORMATS:
        raise FlatvqError(f"no format is named {to!r}", suggestion(to, [*FORMATS, _PAGE]))
    elif arm or seed is not None or onnxruntime_web is not None or any_onnxruntime_web:
        raise FlatvqError(f"--to {to} takes no options of a page", "leave them out, or give --to page")
    elif target is None:
        raise FlatvqError("OUT is missing", "give the folder of the programs")
    else:
        files, checked, lines = _programs(source, target, to, check)
    if as_json:
        typer.echo(json.dumps({"files": [str(file) for file in files], **checked}))
    else:
        for file in files:
            typer.echo(f"{file}  {file.stat().st_size:,} bytes")
        for line in lines:
            typer.echo(line)


def _default_page(source: Path) -> Path:
    """Return the file of a page. That of a pretrained tokenizer is not in its folder."""
    from flatvq.tokenizers.pretrained import pretrained_folder

    is_pretrained = pretrained_folder(source.name) == source
    return Path(f"{source.name}.html") if is_pretrained else source / "page.html"


def _programs(source: Path, out: Path, to: str, check: Path | None) -> _Written:
    """Write and check programs."""
    from flatvq.export import export_checked, folder_batches, noise_batches
    from flatvq.model import load_tokenizer, tokenizer_folder

    model = load_tokenizer(tokenizer_folder(source))
    batches = folder_batches(model, check) if check is not None else ()
    with interrupts(raise_interrupt):
        files, parity = export_checked(model, writable(out), to, chain(noise_batches(model), batches))
    return files, parity.to_dict(), [f"Checked: {_sentence(parity)}."]


def _page(subject: Subject, file: Path, runtime: Runtime, check: Path | None) -> _Written:
    """Write and check a page."""
    from flatvq.export import folder_batches, noise_batches
    from flatvq.export.page import write_page

    writable_file(file, "page.html")

    def images(model: VQVAE) -> list[Tensor]:
        return [*noise_batches(model), *(folder_batches(model, check) if check is not None else [])]

    def announce(arm: str) -> None:
        typer.echo(f"Exporting {arm} ...", err=True)

    file.parent.mkdir(parents=True, exist_ok=True)
    arms, lines = write_page(subject, file, runtime, images, announce), []
    for arm in arms:
        rounding = f"float16 weights change {arm.rounding.differing:,} of {arm.rounding.indices:,} indices"
        lines.append(f"{arm.arm}: {arm.bytes:,} bytes; checked: {_sentence(arm.parity)}; {rounding}.")
    return [file], {"arms": [arm.to_dict() for arm in arms]}, lines


def _sentence(parity: Parity) -> str:
    return (
        f"{parity.differing:,} of {parity.indices:,} indices differ; decoded pixels differ by at most "
        f"{parity.largest_decode_error:.1e}"
    )
