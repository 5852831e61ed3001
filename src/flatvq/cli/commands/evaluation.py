"""The command `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flatvq.cli.app import LONGEST_SIDE, AsJson, ImageColumn, ImageSuffix, TokenizerSpec
from flatvq.cli.folders import images_with_home, with_home

__all__ = ["evaluate"]


def evaluate(
    tokenizer: TokenizerSpec,
    data: Annotated[
        str | None,
        typer.Option(
            callback=images_with_home,
            metavar="PATH",
            help="Folder of images, or pattern or URL of .tar or .parquet shards. Not needed for --text and "
            "--detail.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="CODECS",
            help="Compare with image codecs whose files are not larger: jpeg, webp, avif, jxl, or several as "
            "jpeg,webp.",
        ),
    ] = None,
    text: Annotated[
        bool,
        typer.Option("--text", help="Measure how well text of several sizes can be read."),
    ] = False,
    detail: Annotated[
        bool,
        typer.Option("--detail", help="Measure how much contrast is kept at each spatial frequency."),
    ] = False,
    collection: Annotated[
        bool,
        typer.Option(
            "--collection",
            help="With --against: also compare at the bytes of each image in one .fvqs file of all images. "
            "Use it for thumbnails.",
        ),
    ] = False,
    crop: Annotated[
        int | None,
        typer.Option(
            min=16,
            max=LONGEST_SIDE,
            help="Side of the centre crops. Default: as the tokenizer was trained, or 256.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Evaluate whole images instead of crops.")] = False,
    resize: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LONGEST_SIDE,
            help="Scale the shorter side to this length first; 0: no scaling. Default: as the tokenizer was "
            "trained, or 0 with --full.",
        ),
    ] = None,
    white_level: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Sample value of white, such as 4095 for 12-bit images, in files of more than 8 bits that "
            "do not state it. 0: 65535. Default: as in the run.",
        ),
    ] = None,
    image_column: ImageColumn = "image",
    image_suffix: ImageSuffix = "",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=99_999_999,
            help="With --against or --detail: the number of images, evenly spread over the folder. "
            "Default: all.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            callback=with_home,
            help="Folder with published weights: alexnet-owt-7be5be79.pth and alex.pth for LPIPS, "
            "inception-2015-12-05.pt for rFID.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            callback=with_home,
            help="With --against, --text or --detail: folder for evaluation.json, charts (SVG) and pictures "
            "(PNG).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a tokenizer on a folder of images: PSNR, SSIM, MS-SSIM, codebook usage, perplexity and bits.

    --against, --text and --detail replace these metrics, and accept tokenizers of any library. --against
    compares the quality with image codecs at equal bytes, --text counts errors in text, and --detail measures
    the contrast of fine patterns. They can be combined.
    """
    from flatvq.cli.evaluation import EvaluationOptions, compare, evaluate_run, show

    choice = {"image_column": image_column, "image_suffix": image_suffix}
    options = EvaluationOptions(
        tokenizer, data, choice, crop, full, resize, white_level, limit, weights, collection
    )
    if against is None and not text and not detail and not collection:
        evaluate_run(options, out, as_json)
        return
    result = compare(options, against, text, detail, out)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        show(result, out)
