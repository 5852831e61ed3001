"""study.json: what a study asked and what came out."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import Field

from flatvq.errors import FlatvqError, nearest
from flatvq.recipe.section import Seed
from flatvq.recipe.strict_json import load_json
from flatvq.records.reading import (
    Count,
    Decibels,
    Format2,
    Number,
    Pair,
    Positive,
    Record,
    Several,
    Share,
    Similarity,
    check_record,
    read_file,
)

__all__ = [
    "Arm",
    "Comparison",
    "Data",
    "FileFate",
    "Level",
    "Match",
    "Study",
    "Trial",
    "TrialLevel",
    "codebook_sizes",
    "load_study",
]


class Side(Record):
    """The images of one side."""

    images: Count
    fingerprint: str


class Identity(Record):
    """What a trial was begun with."""

    flatvq: str
    training_protocol: Count
    evaluation_protocol: str
    source: str
    training: Side
    validation: Side


def codebook_sizes(codebook_size: int, indices_per_cell: int) -> str:
    """Write the codebook sizes of a level for display.

    Example:
        >>> codebook_sizes(1024, 1), codebook_sizes(512, 4)
        ('1,024', '4 × 512')
    """
    size = f"{codebook_size:,}"
    return size if indices_per_cell == 1 else f"{indices_per_cell} × {size}"


class Level(Record):
    """One level of codes, as built."""

    grid: Pair[Positive]
    codebook_size: Positive
    code_dim: Positive
    indices_per_cell: Positive = 1

    @property
    def codes(self) -> str:
        """The codebook sizes for display, such as `512`, or `4 × 512` for four residual stages."""
        return codebook_sizes(self.codebook_size, self.indices_per_cell)


class Arm(Record):
    """One arm and its capacity; levels go from the bottom (the finest grid) to the top."""

    name: str
    healthy: bool
    treatment: str | None = None
    hierarchy: str | None = None
    level_table: Several[Level] = Field(min_length=1)
    bits_per_image: Number | None = None
    bits_per_pixel: Number | None = None
    parameters: Count | None = None
    codebook_parameters: Count | None = None
    multiply_adds: Count | None = None
    search_multiply_adds: Count | None = None
    identity: Identity | None = None

    @property
    def condition(self) -> str:
        """What is done against collapse, in a word."""
        return self.treatment or ("healthy" if self.healthy else "naive")


class TrialLevel(Record):
    """How a trial used one codebook over the whole held-out split."""

    codebook_size: Positive
    usage: Share | None = None
    perplexity: Number | None = None
    used_codes: Count | None = None
    codes_for_99: Count | None = None
    quantization_error: Number | None = None
    collapse: str | None = None


class Trial(Record):
    """One arm with one seed."""

    arm: str
    seed: Seed
    status: str
    run: str
    error: str | None = None
    seconds: Number | None = None
    psnr_db: Decibels | None = None
    ssim: Similarity | None = None
    mse: Share | None = None
    ms_ssim: Similarity | None = None
    psnr_of_mean_mse_db: Decibels | None = None
    effective_bits_per_image: Number | None = None
    levels: Several[TrialLevel] | None = None

    @property
    def done(self) -> bool:
        """Whether the trial ended with metrics."""
        return self.status == "done"

    def folder(self, study: Path) -> Path:
        """Return the folder of the trial's run.

        Args:
            study: the folder of the study.

        Raises:
            FlatvqError: if it lies outside of the study.
        """
        run = PurePath(self.run)
        if run.is_absolute() or ".." in run.parts or "\0" in self.run:
            what = f"the folder {self.run!r} of arm {self.arm!r}, seed {self.seed}, lies outside of the study"
            raise FlatvqError(what, "run the study again")
        return study / run


class Comparison(Record):
    """Arm `a` minus arm `b` in decibels, over the seeds that both have."""

    question: str
    a: str
    b: str
    difference: Decibels | None = None
    interval90: Pair[Number | None] | None = None
    margin: Annotated[float, Field(ge=0, le=1000)]
    seeds: Count = 0
    per_seed: Several[Decibels] = ()
    verdict: str
    seeds_needed: Count | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 90 % interval; None where too few seeds give one."""
        low, high = self.interval90 or (None, None)
        return None if low is None or high is None else (low, high)


class FileFate(Record):
    """A file of the data that was not used as it is."""

    name: str
    split: str | None = None
    status: str
    reason: str | None = None


class Data(Record):
    """What was trained on and what was held out."""

    source: str | None = None
    training_images: Count | None = None
    validation_images: Count | None = None
    crop: Positive | None = None
    held_out: str | None = None
    files: Several[FileFate] = ()


class Match(Record):
    """Which capacities had to agree, what the solver changed and what is left."""

    reference: str | None = None
    capacities: Several[str] = ()
    tolerance: Share | None = None
    nearest: bool = False
    solved: dict[str, Any] = Field({})
    residuals: dict[str, dict[str, Number | None]] = Field({})


class Verdict(Record):
    """The story in a sentence, and the verdicts of the two hierarchy comparisons."""

    sentence: str
    naive: str | None = None
    healthy: str | None = None


class Study(Record):
    """A study: what was asked and what came out."""

    format: Format2
    title: str = ""
    name: str = ""
    flatvq: str | None = None
    commit: str | None = None
    created: str | None = None
    machine: Any = None
    evaluation_protocol: str | None = None
    training_protocol: int | None = None
    margin_db: Annotated[float, Field(ge=0, le=1000)]
    identity: Identity | None = None
    data: Data = Data()
    match: Match = Match()
    arms: Several[Arm]
    trials: Several[Trial]
    comparisons: Several[Comparison] = ()
    verdict: Verdict

    def arm(self, name: str) -> Arm:
        """Return the arm of a name.

        Raises:
            FlatvqError: if the study has none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        what = f"study.json names the arm {name!r}, which it does not have"
        raise FlatvqError(what, nearest(name, [arm.name for arm in self.arms]))

    def done(self, arm: str) -> list[Trial]:
        """Return an arm's finished trials by seed."""
        return sorted((t for t in self.trials if t.arm == arm and t.done), key=lambda trial: trial.seed)

    def shared_seeds(self, a: str, b: str) -> list[int]:
        """Return the seeds that both arms finished, in the order of the trials."""
        finished = {trial.seed for trial in self.trials if trial.arm == b and trial.done}
        return [
            trial.seed for trial in self.trials if trial.arm == a and trial.done and trial.seed in finished
        ]


def load_study(folder: str | Path) -> Study:
    """Read a study's results.

    Args:
        folder: the study's folder, with study.json in it.

    Returns:
        The checked study.

    Raises:
        FlatvqError: if there is no study.json, or it does not hold a study of format 2.
    """
    path = Path(folder) / "study.json"
    if not path.is_file():
        raise FlatvqError(f"no study.json in {str(folder)!r}", "give the folder that `flatvq study` wrote")
    origin, remedy = repr(str(path)), "run the study again"
    tree = load_json(read_file(path), origin, remedy, non_finite_is_null=True)
    found = tree.get("format") if isinstance(tree, dict) else None
    if found != 2:
        raise FlatvqError(
            f"{origin} has format {str(found)[:40]}, not 2", "use the flatvq version that wrote it"
        )
    return check_record(Study, tree, origin, remedy)
