"""What `flatvq evaluate` computes, prints and writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from flatvq.cli.compared import show_against, show_detail, show_text
from flatvq.cli.folders import writable
from flatvq.cli.progress import task_progress
from flatvq.cli.tables import show_metrics
from flatvq.codec import load_codec
from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError
from flatvq.evaluate import evaluate_folder
from flatvq.evaluate.against import evaluate_against
from flatvq.evaluate.detail import evaluate_detail
from flatvq.evaluate.image_codecs import ImageCodec, codecs_named
from flatvq.evaluate.legibility import PAGE_SIDE, evaluate_text
from flatvq.files import write_json
from flatvq.model import load_tokenizer, tokenizer_folder
from flatvq.paths import expanded
from flatvq.recipe import DataRecipe, load_trial
from flatvq.report.compared import detail_chart, picture_grid, rate_distortion, text_chart
from flatvq.staging import adding_files
from flatvq.tokenizers import Tokenizer, local_folder, open_tokenizer
from flatvq.tokenizers.foreign import is_foreign
from flatvq.tokenizers.vqvae import VQVAETokenizer
from flatvq.versions import VERSION, commit

__all__ = ["EvaluationOptions", "compare", "evaluate_run", "show"]

# Default side of crops.
_SIDE = 256
# The format of evaluation.json.
_FORMAT = 1


@dataclass(frozen=True)
class EvaluationOptions:
    """The options that choose the tokenizer and the images of an evaluation."""

    tokenizer: str
    data: str | None
    choice: Mapping[str, str]
    """Which images of shards: `image_column` and `image_suffix`."""
    crop: int | None
    full: bool
    resize: int | None
    white_level: int | None
    limit: int | None
    weights: Path | None
    collection: bool

    def folder(self) -> str:
        """Return the folder or the shards of images.

        Raises:
            FlatvqError: if no images are given.
        """
        if self.data is None:
            raise FlatvqError("missing option '--data'", "see `flatvq evaluate --help`")
        return self.data

    def trained_with(self) -> DataRecipe | None:
        """Return the data section of the tokenizer's run, if it has one."""
        run = expanded(self.tokenizer)
        return load_trial(run).data if (run / "recipe.json").exists() else None


def evaluate_run(options: EvaluationOptions, out: Path | None, as_json: bool) -> None:
    """Evaluate a tokenizer of flatvq on a folder of images, and print its metrics.

    Raises:
        FlatvqError: if it is a tokenizer of another library, or an option does not belong here.
    """
    modes = "--against, --text or --detail"
    if is_foreign(options.tokenizer) and not expanded(options.tokenizer).exists():
        what = f"'{options.tokenizer}' is a tokenizer of another library"
        raise FlatvqError(what, f"add {modes}, which measure any tokenizer")
    for option, value in (("--out", out), ("--limit", options.limit)):
        if value is not None:
            raise FlatvqError(f"{option} is given without {modes}", f"leave {option} out, or add one of them")
    images, run = options.folder(), local_folder(options.tokenizer)
    data = options.trained_with() or DataRecipe(crop=_SIDE)
    tokenizer = tokenizer_folder(run)
    # By default, whole images are not scaled, and crops are cut as in the run.
    metrics = evaluate_folder(
        load_tokenizer(tokenizer),
        images,
        crop=None if options.full else options.crop or data.crop,
        resize=(0 if options.full else data.resize) if options.resize is None else options.resize,
        white_level=data.white_level if options.white_level is None else options.white_level,
        weights=options.weights,
        tokenizer=tokenizer,
        **options.choice,
    )
    result = {"run": options.tokenizer, **metrics}
    if as_json:
        typer.echo(json.dumps(result))
    else:
        show_metrics(result, options.tokenizer)


def compare(
    options: EvaluationOptions, against: str | None, text: bool, detail: bool, out: Path | None
) -> dict[str, Any]:
    """Measure a tokenizer of any library, and write files.

    Args:
        options: tokenizer and images.
        against: names of the image codecs; None for no comparison with them.
        text: whether to read text.
        detail: whether to measure contrast.
        out: folder for the files; None to write none.

    Returns:
        The content of evaluation.json.
    """
    # Everything that can be wrong is checked before anything is measured.
    codecs = None if against is None else codecs_named(against)
    _require_fitting(options, codecs, detail)
    folder = None if out is None else writable(out)
    tokenizer = open_tokenizer(options.tokenizer)
    crop = options.crop or tokenizer.preprocess.crop or _SIDE
    resize, white_level = _resize_and_white_level(options, tokenizer)
    sized: dict[str, Any] = {
        "resize": resize,
        "white_level": white_level,
        "limit": options.limit,
        **options.choice,
    }
    result: dict[str, Any] = {
        "format": _FORMAT,
        "flatvq": VERSION,
        "commit": commit(),
        "tokenizer": options.tokenizer,
        "tokenizer_id": tokenizer.id,
    }
    written: dict[str, str | bytes] = {}
    if codecs is not None:
        result["against"], rows = _against(tokenizer, options, codecs, crop, sized)
        labels = {codec.name: codec.label for codec in codecs}
        written["rate-distortion.svg"] = rate_distortion(result["against"])
        written["pictures.png"] = picture_grid(
            rows, {"original": "original", "tokenizer": "tokenizer", **labels}
        )
    if text:
        with task_progress("text") as progress:
            side = options.crop or max(PAGE_SIDE, tokenizer.preprocess.crop)
            result["text"] = evaluate_text(tokenizer, side=side, progress=progress)
        written["text.svg"] = text_chart(result["text"])
    if detail:
        with task_progress("detail") as progress:
            result["detail"] = evaluate_detail(tokenizer, options.data, side=crop, progress=progress, **sized)
        written["detail.svg"] = detail_chart(result["detail"])
    if folder is not None:
        _write(folder, result, written)
    return result


def _against(
    tokenizer: Tokenizer,
    options: EvaluationOptions,
    codecs: Sequence[ImageCodec],
    crop: int,
    sized: Mapping[str, Any],
) -> tuple[dict[str, Any], list[dict[str, Pixels | None]]]:
    """Compare a tokenizer with image codecs; return the figures, and some images in all versions."""
    own_codec = load_codec(options.tokenizer) if isinstance(tokenizer, VQVAETokenizer) else None
    with task_progress("comparing", unit="images") as progress:
        figures, columns = evaluate_against(
            tokenizer,
            options.folder(),
            codecs,
            crop=None if options.full else crop,
            weights=options.weights,
            own_codec=own_codec,
            collection=options.collection,
            progress=progress,
            **sized,
        )
    return figures, [column.pictures for column in columns]


def _require_fitting(options: EvaluationOptions, codecs: Sequence[ImageCodec] | None, detail: bool) -> None:
    """Refuse options that do not belong together."""
    if options.collection and codecs is None:
        raise FlatvqError(
            "--collection is given without --against", "add --against jpeg,webp, or leave it out"
        )
    if codecs is not None:
        options.folder()
    if detail and options.full:
        raise FlatvqError("--detail measures square crops, not whole images", "leave --full out")


def _resize_and_white_level(options: EvaluationOptions, tokenizer: Tokenizer) -> tuple[int, int]:
    """Return two options; without them, the values of the training of the tokenizer."""
    resize, white_level, trained = options.resize, options.white_level, options.trained_with()
    if resize is None:
        resize = 0 if options.full else tokenizer.preprocess.resize
    if white_level is None:
        white_level = trained.white_level if trained else 0
    return resize, white_level


def _write(folder: Path, result: Mapping[str, Any], written: Mapping[str, str | bytes]) -> None:
    """Write charts and pictures by name, and evaluation.json."""
    with adding_files(folder) as stage:
        for name, content in written.items():
            (stage / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        write_json(stage / "evaluation.json", result)


def show(result: dict[str, Any], out: Path | None) -> None:
    """Print the results of `compare`."""
    for key, print_table in (("against", show_against), ("text", show_text), ("detail", show_detail)):
        if key in result:
            print_table(result[key])
    if out is not None:
        typer.echo(f"{out}: evaluation.json, charts and pictures")
