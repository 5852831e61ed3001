"""study.json, typed: the keys of docs/records.md that the page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from flatvq.errors import FlatvqError
from flatvq.report.records import read_json

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
    "load_study",
]


class Part(BaseModel):
    """Frozen; keys that the page does not show are passed over, those without a value are None."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Level(Part):
    """One level of codes, as built."""

    grid: tuple[int, int]
    codebook_size: int
    code_dim: int


class Arm(Part):
    """One arm and its capacity; levels go from the bottom (the finest grid) to the top."""

    name: str
    healthy: bool
    treatment: str | None = None
    hierarchy: str | None = None
    level_table: tuple[Level, ...]
    bits_per_image: float | None = None
    bits_per_pixel: float | None = None
    parameters: int | None = None
    codebook_parameters: int | None = None
    multiply_adds: int | None = None
    search_multiply_adds: int | None = None

    @property
    def condition(self) -> str:
        """What is done against collapse, in a word."""
        return self.treatment or ("healthy" if self.healthy else "naive")


class TrialLevel(Part):
    """How a trial used one codebook over the whole held-out split."""

    codebook_size: int
    usage: float | None = None
    perplexity: float | None = None
    used_codes: int | None = None
    codes_for_99: int | None = None
    quantization_error: float | None = None
    collapse: str | None = None


class Trial(Part):
    """One arm with one seed."""

    arm: str
    seed: int
    status: str
    run: str
    error: str | None = None
    seconds: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    mse: float | None = None
    ms_ssim: float | None = None
    psnr_of_mean_mse_db: float | None = None
    effective_bits_per_image: float | None = None
    levels: tuple[TrialLevel, ...] | None = None

    @property
    def done(self) -> bool:
        """Whether the trial ended with metrics."""
        return self.status == "done"


class Comparison(Part):
    """Arm `a` minus arm `b` in decibels, over the seeds that both have."""

    question: str
    a: str
    b: str
    difference: float | None = None
    interval90: tuple[float | None, float | None] | None = None
    margin: float
    per_seed: tuple[float, ...] = ()
    verdict: str
    seeds_needed: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 90 % interval; None where too few seeds give one."""
        low, high = self.interval90 or (None, None)
        return None if low is None or high is None else (low, high)


class FileFate(Part):
    """A file of the data that was not used as it is."""

    name: str
    split: str | None = None
    fate: str
    reason: str | None = None


class Data(Part):
    """What was trained on and what was held out."""

    source: str | None = None
    training_images: int | None = None
    validation_images: int | None = None
    crop: int | None = None
    held_out: str | None = None
    files: tuple[FileFate, ...] = ()


class Side(Part):
    """The images of one side."""

    images: int
    fingerprint: str


class Identity(Part):
    """What every trial was begun with."""

    flatvq: str
    training_protocol: int
    training: Side
    validation: Side


class Match(Part):
    """Which capacities had to agree, what the solver changed and what is left."""

    reference: str | None = None
    capacities: tuple[str, ...] = ()
    tolerance: float | None = None
    nearest: bool = False
    solved: dict[str, Any] = {}
    residuals: dict[str, dict[str, float | None]] = {}


class Verdict(Part):
    """The story in a sentence, and the verdicts of the two hierarchy comparisons."""

    sentence: str
    naive: str | None = None
    healthy: str | None = None


class Study(Part):
    """A study: what was asked and what came out."""

    format: Literal[1]
    title: str = ""
    name: str = ""
    flatvq: str | None = None
    created: str | None = None
    machine: Any = None
    protocol: str | None = None
    margin_db: float
    identity: Identity | None = None
    data: Data = Data()
    match: Match = Match()
    arms: tuple[Arm, ...]
    trials: tuple[Trial, ...]
    comparisons: tuple[Comparison, ...] = ()
    verdict: Verdict

    def done(self, arm: str) -> list[Trial]:
        """Return an arm's finished trials by seed."""
        return sorted((t for t in self.trials if t.arm == arm and t.done), key=lambda trial: trial.seed)

    def shared_seeds(self, a: str, b: str) -> list[int]:
        """Return the seeds that both arms finished, in the order of the trials."""
        finished = {trial.seed for trial in self.trials if trial.arm == b and trial.done}
        return [
            trial.seed for trial in self.trials if trial.arm == a and trial.done and trial.seed in finished
        ]


def load_study(folder: Path) -> Study:
    """Read a study's results.

    Args:
        folder: the study's folder, with study.json in it.

    Returns:
        The checked study.

    Raises:
        FlatvqError: if there is no study.json, or it does not hold a study of format 1.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise FlatvqError(f"no study.json in {str(folder)!r}", "give the folder that `flatvq study` wrote")
    tree = read_json(path)
    found = tree.get("format") if isinstance(tree, dict) else None
    if found != 1:
        raise FlatvqError(
            f"{str(path)!r} has format {found!r}, not 1", "use the flatvq version that wrote it"
        )
    try:
        return Study.model_validate(tree)
    except ValidationError as error:
        finding = error.errors()[0]
        where = ".".join(str(part) for part in finding["loc"])
        message = finding["msg"].splitlines()[0].lower()
        raise FlatvqError(
            f"{str(path)!r} holds no valid {where!r} ({message})", "run the study again"
        ) from None
