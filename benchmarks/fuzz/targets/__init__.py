"""The readers of outside bytes, by name."""

from benchmarks.fuzz.targets.base import Files, Target
from benchmarks.fuzz.targets.compressed import Compressed, Priors
from benchmarks.fuzz.targets.images import Images
from benchmarks.fuzz.targets.models import Checkpoints, Tokenizers
from benchmarks.fuzz.targets.records import Recipes, Records, Runs, Searches, States, StudyFile

__all__ = ["TARGETS", "Files", "Target"]

TARGETS: dict[str, type[Target]] = {
    "recipes": Recipes,
    "runs": Runs,
    "checkpoints": Checkpoints,
    "study": StudyFile,
    "records": Records,
    "states": States,
    "search": Searches,
    "tokenizers": Tokenizers,
    "images": Images,
    "compressed": Compressed,
    "priors": Priors,
}
