"""What each level of a trained hierarchy contributes to its reconstructions, asked in four ways."""

from flatvq.levels.examine import examine
from flatvq.levels.refit import Refitted, refit
from flatvq.levels.replaced import Replaced, replaced
from flatvq.levels.told import Told, told_by_below

__all__ = ["Refitted", "Replaced", "Told", "examine", "refit", "replaced", "told_by_below"]
