"""What each level of a trained hierarchy contributes to its reconstructions, asked in four ways."""

from flatvq.levels.conditional_entropy import ConditionalEntropy, conditional_entropy
from flatvq.levels.examine import examine
from flatvq.levels.refit import Refitted, refit
from flatvq.levels.replaced import Replaced, replaced

__all__ = [
    "ConditionalEntropy",
    "Refitted",
    "Replaced",
    "conditional_entropy",
    "examine",
    "refit",
    "replaced",
]
