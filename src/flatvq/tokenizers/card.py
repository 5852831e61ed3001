"""Model cards: the README.md of a tokenizer, written from the records of the run that trained it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from flatvq.errors import FlatvqError
from flatvq.model import capacity_of
from flatvq.number_format import amount, number, percent
from flatvq.recipe import ModelRecipe, TrialRecipe, load_trial
from flatvq.records import Metrics, Study, codebook_sizes, load_study, read_images, read_metrics
from flatvq.records.identity import StoredIdentity
from flatvq.records.reading import read_record
from flatvq.tokenizers.protocol import Tokenizer

__all__ = ["model_card"]

_HEADER = """---
library_name: flatvq
tags:
- flatvq
- image-tokenizer
- vq-vae
---
"""

_MEASURES = {
    "naive": "none",
    "init": "initialization from data",
    "replacement": "dead-code replacement",
    "healthy": "initialization from data and dead-code replacement",
}


def model_card(tokenizer: Tokenizer, model: ModelRecipe, run: Path | None, dtype: str = "float32") -> str:
    """Write a model card.

    Args:
        tokenizer: the tokenizer.
        model: the recipe of its model.
        run: the folder of the run that trained it; None if unknown.
        dtype: the number format of the stored weights.

    Returns:
        Markdown with a YAML header. It states only what the tokenizer and the records contain.

    Raises:
        FlatvqError: if a record of the run is damaged.
    """
    trial = load_trial(run) if run is not None else None
    metrics = read_metrics(run) if run is not None and (run / "metrics.json").is_file() else None
    sections = [
        _summary(tokenizer, model),
        _use(tokenizer),
        _training(run, trial, model),
        _fidelity(run, trial, metrics),
        _health(metrics),
        _limits(trial, metrics, dtype),
    ]
    return (
        _HEADER + "\n" + "\n\n".join("\n".join(section) for section in map(list, sections) if section) + "\n"
    )


def _summary(tokenizer: Tokenizer, model: ModelRecipe) -> Iterator[str]:
    count = len(model.levels)
    bits = capacity_of(model, tokenizer.factor).bits_per_pixel
    levels = "one grid" if count == 1 else f"{count} grids ({model.hierarchy})"
    yield "# Image tokenizer"
    yield ""
    yield f"Encodes images to {levels} of indices, {number(bits, 3)} nominal bits per pixel."
    yield ""
    rows = [
        (f"{each.factor} × {each.factor} pixels", codebook_sizes(each.codebook_size, each.indices_per_cell))
        for each in tokenizer.levels
    ]
    dims = [number(level.code_dim) for level in model.levels]
    yield from _table(
        ("level", "cell", "codes", "code dimension"),
        [(str(position), *row, dim) for position, (row, dim) in enumerate(zip(rows, dims, strict=True))],
    )


def _use(tokenizer: Tokenizer) -> Iterator[str]:
    size = tokenizer.preprocess
    scaled = f"scaled to a shorter side of {size.resize} pixels (bicubic)" if size.resize else "not scaled"
    cut = f"a centre crop of {size.crop} × {size.crop}" if size.crop else "the whole image"
    yield "## Use"
    yield ""
    yield "```python"
    yield "import flatvq"
    yield ""
    yield 'tokenizer = flatvq.load("OWNER/NAME")  # this repository, or a folder'
    yield "indices = tokenizer.encode(images)  # float32 [B, C, H, W] in [0, 1]"
    yield "reconstructions = tokenizer.decode(indices)"
    yield "```"
    yield ""
    yield f"- Input: {'luma' if size.channels == 1 else 'RGB'}, {scaled}, {cut}."
    yield f"- Height and width must be multiples of {tokenizer.factor}."
    yield f"- Identity: `{tokenizer.id}`"


def _training(run: Path | None, trial: TrialRecipe | None, model: ModelRecipe) -> Iterator[str]:
    yield "## Training"
    yield ""
    if run is None or trial is None:
        yield "No record of the training is available: data, budget and fidelity are unknown."
        return
    data, train = trial.data, trial.train
    name = f" `{PurePath(data.path).name}`" if data.path else ""
    capacity = capacity_of(model, data.crop)
    yield f"- Data: {data.source}{name}"
    if (run / "identity.json").is_file():
        identity = read_record(StoredIdentity, run / "identity.json", "restore it")
        counts = (identity.training.images, identity.validation.images)
        yield f"- Images: {number(counts[0])} for training, {number(counts[1])} held out"
        yield f"- flatvq {identity.flatvq}, training protocol {identity.training_protocol}"
    yield (
        f"- Budget: {number(train.steps)} steps of {number(train.batch_size)} crops of "
        f"{data.crop} × {data.crop}, seed {trial.seed}"
    )
    yield (
        f"- Size: {number(capacity.parameters)} parameters, {number(capacity.codebook_parameters)} in "
        f"codebooks, {amount(capacity.multiply_adds)} multiply-adds per crop"
    )
    yield f"- Measures against codebook collapse: {_MEASURES[trial.codebook.treatment]}"


def _fidelity(run: Path | None, trial: TrialRecipe | None, metrics: Metrics | None) -> Iterator[str]:
    if run is None or trial is None or metrics is None:
        return
    yield "## Fidelity"
    yield ""
    yield f"On {number(metrics.images)} held-out images, protocol `{metrics.evaluation_protocol}`."
    yield ""
    images = read_images(run) if (run / "images.parquet").is_file() else []
    rows = []
    for label, key, digits in (("PSNR, dB", "psnr_db", 2), ("SSIM", "ssim", 4), ("MS-SSIM", "ms_ssim", 4)):
        if (mean := getattr(metrics, key)) is not None:
            values = [image[key] for image in images if image[key] is not None]
            rows.append((label, number(mean, digits), _interval(values, digits)))
    yield from _table(("metric", "mean", "95 % interval over images"), rows)
    yield ""
    yield (
        f"{number(metrics.bits_per_pixel, 3)} nominal bits per pixel, "
        f"{number(metrics.effective_bits_per_image)} effective bits per image "
        f"of {number(metrics.bits_per_image)}."
    )
    psnrs = _psnrs_of_arm(run, trial.arm)
    if len(psnrs) > 1:
        yield ""
        yield (
            f"Over {len(psnrs)} seeds of the same study, PSNR is "
            f"{number(sum(psnrs) / len(psnrs), 2)} dB, 95 % interval {_interval(psnrs, 2)}."
        )


def _health(metrics: Metrics | None) -> Iterator[str]:
    if metrics is None:
        return
    yield "## Codebooks"
    yield ""
    yield "Pooled over all held-out images:"
    yield ""
    yield from _table(
        ("level", "codes", "in use", "unused", "perplexity", "codes for 99 %", "quantization error"),
        [
            (
                str(position),
                codebook_sizes(level.codebook_size, level.indices_per_cell),
                percent(level.usage, 1),
                number(level.codebook_size * level.indices_per_cell - level.used_codes),
                number(level.perplexity, 1),
                number(level.codes_for_99),
                number(level.quantization_error, 4),
            )
            for position, level in enumerate(metrics.levels)
        ],
    )


def _limits(trial: TrialRecipe | None, metrics: Metrics | None, dtype: str) -> Iterator[str]:
    yield "## Limits"
    yield ""
    if metrics is None:
        yield "- Fidelity was not measured."
    elif trial is not None:
        yield f"- Fidelity was measured on crops of {trial.data.crop} pixels, at no other size."
        yield "- It was measured on held-out images of the training data, on no other kind of image."
    yield "- Compute in float32: bfloat16 changes indices."
    if dtype == "float16":
        yield "- The weights are stored in float16, which changes indices where two codes are nearly as near."
    yield "- The licence of the training images is not recorded."


def _psnrs_of_arm(run: Path, arm: str) -> list[float]:
    """Return the PSNR of each finished seed of an arm; empty if the run is not part of a study."""
    study = _study_of(run)
    trials = study.done(arm) if study is not None else []
    return [trial.psnr_db for trial in trials if trial.psnr_db is not None]


def _study_of(run: Path) -> Study | None:
    """Return the study that contains a run, at STUDY/runs/ARM/SEED."""
    folder = run.absolute().parents[2] if len(run.absolute().parents) > 2 else run
    try:
        study = load_study(folder)
    except FlatvqError:
        return None
    is_member = any((folder / trial.run).absolute() == run.absolute() for trial in study.trials)
    return study if is_member else None


def _interval(values: Sequence[float], digits: int) -> str:
    """Return Student's 95 % interval of a mean for display; a dash for fewer than two values."""
    if len(values) < 2:
        return "–"
    from scipy import stats

    mean = sum(values) / len(values)
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    return f"{number(float(low), digits)} to {number(float(high), digits)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
