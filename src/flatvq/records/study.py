"""`study.json`: the design and the results of a study."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from flatvq.errors import FlatvqError, suggestion
from flatvq.recipe.strict_json import load_json
from flatvq.records.comparison import Comparison, Curves, Design, EarlierDesign, Look
from flatvq.records.conversion import to_format_3
from flatvq.records.identity import StoredIdentity
from flatvq.records.measured import Sized
from flatvq.records.reading import (
    Count,
    Format3,
    Number,
    Pair,
    Positive,
    Record,
    Several,
    Share,
    check_record,
    read_file,
)
from flatvq.records.run import FileRecord
from flatvq.records.trial import Trial

__all__ = [
    "Arm",
    "Data",
    "Level",
    "Match",
    "Study",
    "Verdict",
    "codebook_sizes",
    "load_study",
]


def codebook_sizes(codebook_size: int, indices_per_cell: int) -> str:
    """Write the codebook sizes of a level for display.

    Example:
        >>> codebook_sizes(1024, 1), codebook_sizes(512, 4)
        ('1,024', '4 × 512')
    """
    size = f"{codebook_size:,}"
    return size if indices_per_cell == 1 else f"{indices_per_cell} × {size}"


class Level(Record):
    """One level of a model."""

    grid: Pair[Positive]
    codebook_size: Positive
    code_dim: Positive
    indices_per_cell: Positive = 1

    @property
    def codebook_sizes(self) -> str:
        """The codebook sizes for display, such as `512`, or `4 × 512` for four residual stages."""
        return codebook_sizes(self.codebook_size, self.indices_per_cell)


class Arm(Sized):
    """One arm and its capacities. Levels are listed from the bottom (the finest grid) to the top."""

    name: str
    healthy: bool
    treatment: str | None = None
    hierarchy: str | None = None
    levels: Positive | None = None
    level_table: Several[Level] = Field(min_length=1)
    identity: StoredIdentity | None = None

    @property
    def condition(self) -> str:
        """The measures against codebook collapse, in one word."""
        return self.treatment or ("healthy" if self.healthy else "naive")


class Data(Record):
    """The images for training and the held-out images."""

    source: str | None = None
    training_images: Count | None = None
    validation_images: Count | None = None
    crop: Positive | None = None
    held_out: str | None = None
    files: Several[FileRecord] = ()


class Match(Record):
    """The matching rule, the changes of the solver, and the remaining differences."""

    reference: str | None = None
    capacities: Several[str] = ()
    tolerance: Share | None = None
    nearest: bool = False
    unmatched: Several[str] = ()
    solved: dict[str, Any] = Field({})
    residuals: dict[str, dict[str, Number | None]] = Field({})


class Verdict(Record):
    """The result in a few sentences, and the verdicts of some comparisons.

    `lead` is the part of the sentences about the primary comparison; empty in older records. `primary` is the
    verdict of the primary comparison. `naive` and `healthy` are the verdicts of the comparison of hierarchies
    with naive and with healthy codebooks.
    """

    sentence: str
    lead: str = ""
    primary: str | None = None
    naive: str | None = None
    healthy: str | None = None

    @property
    def rest(self) -> str:
        """The sentences after the lead."""
        return self.sentence.removeprefix(self.lead).strip()


class Study(Record):
    """A study: its design and its results."""

    format: Format3
    title: str = ""
    name: str = ""
    flatvq: str | None = None
    commit: str | None = None
    created: str | None = None
    machine: Any = None
    evaluation_protocol: str | None = None
    training_protocol: int | None = None
    margin_db: Annotated[float, Field(ge=0, le=1000)] | None = None
    """The margin of a study that was written before studies had looks; newer ones have `design.margin`."""
    design: Design | None = None
    looks: Several[Look] = ()
    earlier_designs: Several[EarlierDesign] = ()
    identity: StoredIdentity | None = None
    data: Data = Data()
    match: Match = Match()
    arms: Several[Arm]
    trials: Several[Trial]
    comparisons: Several[Comparison] = ()
    curves: Several[Curves] = ()
    verdict: Verdict

    @model_validator(mode="after")
    def _looks_have_a_design(self) -> Self:
        if self.looks and self.design is None:
            raise PydanticCustomError("missing", "looks need a design", {"key": "design"})
        return self

    @property
    def margin(self) -> float | None:
        """The margin, in the unit of the compared metric; None if the study records none."""
        return self.design.margin if self.design else self.margin_db

    @property
    def next_look(self) -> int | None:
        """The number of seeds of the next look; None unless there is one and the study is inconclusive."""
        if self.design is None or self.verdict.primary != "inconclusive":
            return None
        done = self.looks[-1].seeds if self.looks else 0
        return next((look for look in self.design.looks if look > done), None)

    def arm(self, name: str) -> Arm:
        """Return an arm.

        Args:
            name: the name of the arm.

        Raises:
            FlatvqError: if the study has no such arm.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        what = f"study.json refers to the arm {name!r}, which it does not define"
        raise FlatvqError(what, suggestion(name, [arm.name for arm in self.arms]))

    def done(self, arm: str) -> list[Trial]:
        """Return the finished trials of an arm, sorted by seed.

        Args:
            arm: the name of the arm.
        """
        return sorted((t for t in self.trials if t.arm == arm and t.done), key=lambda trial: trial.seed)

    @property
    def precisions(self) -> dict[str, int]:
        """Count the finished trials by the number format of their forward passes, the most frequent first.

        Trials that do not record it, such as those of older versions, are left out.
        """
        counts = Counter(trial.precision for trial in self.trials if trial.done and trial.precision)
        return {str(precision): number for precision, number in counts.most_common()}

    @property
    def mixed_precision(self) -> str:
        """A sentence about trials that were trained in different number formats; empty if all are equal."""
        counts = self.precisions
        if len(counts) < 2:
            return ""
        trials = "; ".join(f"{number} in {precision}" for precision, number in counts.items())
        return f"Trials were trained in different precisions: {trials}. Set train.precision to use one."

    def shared_seeds(self, *arms: str) -> list[int]:
        """Return the seeds that all of some arms finished, in the order of the trials.

        Args:
            arms: the names of the arms.
        """
        finished = [{trial.seed for trial in self.trials if trial.arm == arm and trial.done} for arm in arms]
        return list(
            dict.fromkeys(
                trial.seed for trial in self.trials if all(trial.seed in seeds for seeds in finished)
            )
        )


def load_study(folder: str | Path) -> Study:
    """Read the record of a study.

    Args:
        folder: folder of the study, which holds `study.json`.

    Returns:
        The validated study. A study of format 2 is converted to format 3.

    Raises:
        FlatvqError: if the study is not finished, or `study.json` does not hold a study of format 2 or 3.

    Example:
        >>> load_study("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no study.json in 'nowhere': give the folder that `flatvq study` wrote
    """
    path = Path(folder) / "study.json"
    if not path.is_file():
        if (path.parent / "runs").is_dir():
            raise FlatvqError(f"the study in {str(folder)!r} is not finished", "run `flatvq study` again")
        raise FlatvqError(f"no study.json in {str(folder)!r}", "give the folder that `flatvq study` wrote")
    origin, remedy = repr(str(path)), "run the study again"
    tree = load_json(read_file(path), origin, remedy, non_finite_is_null=True)
    version = tree.get("format") if isinstance(tree, dict) else None
    if version not in (2, 3):
        what = f"{origin} has format {str(version)[:40]}, not 3"
        raise FlatvqError(what, "use the flatvq version that wrote it")
    if version == 2:
        tree = to_format_3(tree)
    return check_record(Study, tree, origin, remedy)
