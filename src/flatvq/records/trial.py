"""A trial in `study.json`: one arm with one seed."""

from __future__ import annotations

from pathlib import Path, PurePath

from flatvq.errors import FlatvqError
from flatvq.recipe.section import Seed
from flatvq.records.measured import LevelMeasured, TrialMeasured
from flatvq.records.reading import Decibels, Number, Positive, Several

__all__ = ["Trial", "TrialLevel"]

# Bytes. A file name may have 255 and a path 4,096; the study's own path comes before a run's.
_LONGEST_NAME, _LONGEST_PATH = 255, 1024


class TrialLevel(LevelMeasured):
    """Metrics of one level of a trial over the whole held-out split."""

    codebook_size: Positive
    collapse: str | None = None


class Trial(TrialMeasured):
    """One arm with one seed."""

    arm: str
    seed: Seed
    status: str
    run: str
    error: str | None = None
    seconds: Number | None = None
    seconds_per_step: Number | None = None
    precision: str | None = None
    psnr_db: Decibels | None = None
    levels: Several[TrialLevel] | None = None

    @property
    def done(self) -> bool:
        """Whether the trial finished and has metrics."""
        return self.status == "done"

    def folder(self, study: Path) -> Path:
        """Return the folder of the run.

        Args:
            study: folder of the study.

        Raises:
            FlatvqError: if the folder lies outside of the study, or its path is longer than file systems
                allow.
        """
        run = PurePath(self.run)
        lengths = [len(name.encode(errors="surrogatepass")) for name in run.parts]
        if max(lengths, default=0) > _LONGEST_NAME or sum(lengths) > _LONGEST_PATH:
            what = (
                f"the folder of arm {self.arm!r}, seed {self.seed}, has a path of {len(self.run)} characters"
            )
            raise FlatvqError(what, "run the study again")
        if run.is_absolute() or ".." in run.parts or "\0" in self.run:
            what = f"the folder {self.run!r} of arm {self.arm!r}, seed {self.seed}, lies outside of the study"
            raise FlatvqError(what, "run the study again")
        return study / run
