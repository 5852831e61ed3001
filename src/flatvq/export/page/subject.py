"""What a page is about: one tokenizer, or the arms of a study with its verdict."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flatvq.errors import FlatvqError, suggestion
from flatvq.number_format import number
from flatvq.records import Arm, Study, Trial, load_study
from flatvq.report.palette import Style, styles_of
from flatvq.tokenizers import load
from flatvq.tokenizers.vqvae import VQVAETokenizer

__all__ = ["PageArm", "Subject", "subject_of"]


@dataclass(frozen=True)
class PageArm:
    """A tokenizer on the page."""

    name: str
    note: str
    """What is special about it, in a few words; may be empty."""
    tokenizer: VQVAETokenizer
    style: Style


@dataclass(frozen=True)
class Subject:
    """What the head of the page says, the arms, and the size of the images that they were trained on."""

    kicker: str
    title: str
    lead: str
    """The main sentence."""
    rest: str
    facts: str
    arms: tuple[PageArm, ...]
    crop: int
    """Side of the crops of the training; 0 if unknown."""
    resize: int
    """Shorter side of the scaled images that crops were cut from; 0 if they were not scaled."""


def subject_of(source: Path, arms: Sequence[str] = (), seed: int | None = None) -> Subject:
    """Read what a page shows.

    Args:
        source: the folder of a study, of a finished run or of a tokenizer.
        arms: for a study, the arms to show; empty for all that have a tokenizer.
        seed: for a study, the seed of the tokenizers; None for the first that most arms have.

    Raises:
        FlatvqError: if the folder holds none of these, an arm is unknown, or there is no tokenizer of an arm.
    """
    if (source / "study.json").is_file():
        return _of_study(source, load_study(source), arms, seed)
    if arms or seed is not None:
        raise FlatvqError(f"'{source}' is not a study, so it has no arms", "leave out --arm and --seed")
    return _of_tokenizer(source)


def _of_tokenizer(folder: Path) -> Subject:
    tokenizer = load(folder)
    levels = len(tokenizer.recipe.levels)
    name = folder.resolve().name
    kind = "One level" if levels == 1 else f"{levels} levels, {tokenizer.recipe.hierarchy}"
    sizes = ", ".join(_size(level.codebook_size, level.indices_per_cell) for level in tokenizer.levels)
    factors = ", ".join(str(level.factor) for level in tokenizer.levels)
    return Subject(
        kicker="flatvq tokenizer",
        title=name,
        lead=f"{kind}, with {sizes} codes for cells of {factors} × {factors} pixels."
        if levels == 1
        else f"{kind}, bottom first: {sizes} codes for cells with sides of {factors} pixels.",
        rest="",
        facts=f"Identity {tokenizer.id[:16]}.",
        arms=(PageArm(name, "", tokenizer, Style(0, healthy=True, dash="none")),),
        crop=tokenizer.preprocess.crop,
        resize=tokenizer.preprocess.resize,
    )


def _of_study(folder: Path, study: Study, names: Sequence[str], seed: int | None) -> Subject:
    chosen = [study.arm(name) for name in names] or list(study.arms)
    tokenizers = _tokenizers(folder, study, chosen, seed, required=bool(names))
    styles = styles_of(study.arms)
    arms = tuple(
        PageArm(arm.name, f"{arm.condition}, seed {trial.seed}", load(path), styles[arm.name])
        for arm, trial, path in tokenizers
    )
    size = arms[0].tokenizer.preprocess
    missing = [arm.name for arm in chosen if arm.name not in {each.name for each in arms}]
    return Subject(
        kicker=f"flatvq study{f' · {study.name}' if study.name else ''}",
        title=study.title or study.name or "Untitled study",
        lead=study.verdict.lead or study.verdict.sentence,
        rest=study.verdict.rest if study.verdict.lead else "",
        facts=_facts(study, missing),
        arms=arms,
        crop=size.crop or study.data.crop or 0,
        resize=size.resize or _resize(study),
    )


def _tokenizers(
    folder: Path, study: Study, arms: Sequence[Arm], seed: int | None, *, required: bool
) -> list[tuple[Arm, Trial, Path]]:
    """Return a trial of each arm and the folder of its tokenizer; all of one seed, if there is one."""
    runs = {
        (arm.name, trial.seed): (arm, trial, path)
        for arm in arms
        for trial in study.done(arm.name)
        if (path := _model(folder, trial)) is not None
    }
    seeds = list(dict.fromkeys(trial_seed for _, trial_seed in runs))
    if not seeds:
        what = f"no finished trial of the study in '{folder}' has its tokenizer"
        raise FlatvqError(what, "restore its runs, or run the study again")
    if seed is not None and seed not in seeds:
        raise FlatvqError(f"there is no tokenizer of seed {seed}", suggestion(str(seed), map(str, seeds)))
    if seed is None:
        seed = max(seeds, key=lambda each: (sum(each == other for _, other in runs), -seeds.index(each)))
    missing = [arm.name for arm in arms if (arm.name, seed) not in runs]
    if required and missing:
        what = f"arm {missing[0]!r} has no tokenizer of seed {seed} in '{folder}'"
        raise FlatvqError(what, "restore its run, or choose another --seed")
    return [runs[arm.name, seed] for arm in arms if (arm.name, seed) in runs]


def _model(study: Path, trial: Trial) -> Path | None:
    """Return the folder of a trial's tokenizer: in its run, or STUDY/models/ARM-seed-SEED."""
    folders = (trial.folder(study) / "model", study / "models" / f"{trial.arm}-seed-{trial.seed}")
    return next((path for path in folders if path.is_dir()), None)


def _facts(study: Study, missing: Sequence[str]) -> str:
    seeds = len({trial.seed for trial in study.trials if trial.done})
    held_out = study.data.validation_images
    crop = f" of {study.data.crop} × {study.data.crop} pixels" if study.data.crop else ""
    parts = [f"The verdict is over {seeds} seed{'s' if seeds != 1 else ''}"]
    if held_out is not None:
        parts.append(f" and {number(held_out)} held-out crops{crop}")
    text = "".join(parts) + "."
    if missing:
        text += f" Without a tokenizer, and so not on this page: {', '.join(missing)}."
    return text


def _resize(study: Study) -> int:
    """Return the shorter side of scaled images in the evaluation protocol; 0 if it states none."""
    match = re.search(r"shorter-side-(\d+)$", study.evaluation_protocol or "")
    return int(match[1]) if match else 0


def _size(codebook_size: int, indices: int) -> str:
    return number(codebook_size) if indices == 1 else f"{indices} × {number(codebook_size)}"
