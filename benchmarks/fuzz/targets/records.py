"""Readers of text: recipes, and the records of studies, runs and searches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.fuzz import corpus
from benchmarks.fuzz.targets.base import Target, each

if TYPE_CHECKING:
    from flatvq.study import Plan, StudyData

__all__ = ["Recipes", "Records", "Runs", "Searches", "States", "StudyFile"]

STUDY = Path("study")


class Recipes(Target):
    """Recipe files and `--set` texts, read and planned."""

    pattern = "recipes/*"

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq study` and `flatvq capacity` do."""
        from flatvq.recipe import StudyRecipe, load_recipe, parse
        from flatvq.study import plan_study

        recipe = next((path for path in changed if path.suffix == ".yaml"), Path("recipes/mine.yaml"))
        overrides = Path("recipes/overrides").read_bytes().decode("utf-8", "surrogateescape").split("\n")
        changes = overrides if Path("recipes/overrides") in changed else []
        loaded = load_recipe(str(recipe), changes)
        again = parse(StudyRecipe, json.loads(json.dumps(loaded.model_dump(mode="json"), allow_nan=False)))
        assert again == loaded, "what is written down is another recipe"
        plan_study(loaded, recipe.stem)
        return "accepted"


class StudyFile(Target):
    """study.json, rendered, packed, and searched for the single-level counterpart of a run."""

    pattern = "study/study.json"

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq report`, `flatvq pack` and `flatvq levels` do."""
        from flatvq.levels.marginal_gain import single_level_counterpart
        from flatvq.report import write_report
        from flatvq.study import pack

        run = next(STUDY.glob("runs/two/*"))
        return each(
            lambda: rendered(lambda: write_report(STUDY), STUDY / "study.json"),
            lambda: pack(STUDY, Path("packed")),
            lambda: single_level_counterpart(run),
        )


class Records(Target):
    """records.jsonl: drawn, packed, and gone on with."""

    pattern = "study/runs/two/seed-0-*/records.jsonl"

    def __init__(self) -> None:
        one_trial()
        super().__init__()

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq report`, `flatvq pack` and `flatvq train` do."""
        from flatvq.report import write_report
        from flatvq.study import pack
        from flatvq.train.history import RecordWriter

        return each(
            lambda: write_report(STUDY),
            lambda: pack(STUDY, Path("packed")),
            lambda: RecordWriter(changed[0]).close(),
        )


class Runs(Target):
    """What is in a run's folder but checkpoints and the tokenizer; the records of one that has not ended."""

    pattern = "study/runs/two/seed-0-*/*"

    def __init__(self) -> None:
        self.plan, self.data = one_trial()
        self.study = (STUDY / "study.json").read_bytes()
        super().__init__()

    def _paths(self) -> list[Path]:
        pictures = STUDY.glob("runs/two/seed-0-*/samples/*.png")
        return sorted([*super()._paths(), *pictures])

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq study`, `flatvq report`, `flatvq pack`, `flatvq levels` and `flatvq evaluate` do."""
        from flatvq.report import write_report
        from flatvq.study import pack

        calls: list[Callable[[], object]] = [lambda: write_report(STUDY)]
        if any(path.suffix != ".png" for path in changed):
            calls += [lambda: pack(STUDY, Path("packed")), self._resumed]
        try:
            return each(*calls)
        finally:
            (STUDY / "study.json").write_bytes(self.study)

    def _resumed(self) -> None:
        from flatvq.study import write_study
        from flatvq.study.running import outcome_of

        self.data.check(STUDY, "train the trials again")
        outcomes = [outcome_of(trial, STUDY) for trial in self.plan.trials]
        for outcome in outcomes:
            assert outcome.step >= 0, f"step {outcome.step}"
            assert outcome.psnr_db is None or is_number(outcome.psnr_db), f"PSNR is {outcome.psnr_db!r}"
            if outcome.status != "done":
                outcome.status, outcome.error = "failed", "not finished"
        write_study(self.plan, outcomes, self.data, STUDY)


class States(Target):
    """The folder of a trial on a cluster, from which its state and its attempts are read."""

    pattern = "states/runs/two/seed-0-*/**/*"

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq status` and the program that waits for a study do."""
        from flatvq.cli.commands.status import status
        from flatvq.engines.attempts import attempts_of, why_not_again
        from flatvq.engines.status import trial_states

        with redirect_stdout(StringIO()):
            status(Path("states"))
            status(Path("states"), as_json=True)
        (run,) = Path("states").glob("runs/two/*")
        attempts = attempts_of(run)
        assert attempts.seconds >= 0
        why_not_again(attempts.latest, 3)
        return trial_states(Path("states"))[0].state


class Searches(Target):
    """tune.json, rendered."""

    pattern = "search/tune.json"

    def read(self, changed: Sequence[Path]) -> str:
        """As the end of `flatvq tune` does."""
        from flatvq.report import write_tuning

        return each(lambda: write_tuning(Path("search")))


def one_trial() -> tuple[Plan, StudyData]:
    """Leave one trial of the study, which takes a quarter of the time to render."""
    from flatvq.study import Outcome, StudyData, write_study

    plan = corpus.plan(arms={"two": corpus.RECIPE["arms"]["two"]}, seeds=[0])
    data = StudyData(plan)
    write_study(plan, [Outcome(trial, "done") for trial in plan.trials], data, STUDY)
    return plan, data


def rendered(write: Callable[[], object], source: Path) -> None:
    """Render a study, and see that no figure of a trial is anything but a number or null."""
    write()
    for trial in json.loads(source.read_bytes())["trials"]:
        for key in ("psnr_db", "ssim", "mse", "ms_ssim", "seconds"):
            value = trial.get(key)
            assert value is None or is_number(value), f"{key} is {value!r}"


def is_number(value: object) -> bool:
    """Return whether a value is a number of JSON, and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)
