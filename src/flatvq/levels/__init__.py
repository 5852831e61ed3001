"""Four analyses of what each level of a trained hierarchy contributes to its reconstructions."""

from flatvq.levels.conditional_entropy import ConditionalEntropy, conditional_entropy
from flatvq.levels.examine import examine
from flatvq.levels.refit import RefittedDecoder, refit
from flatvq.levels.replacement import ReplacementLoss, replacement_losses

__all__ = [
    "ConditionalEntropy",
    "RefittedDecoder",
    "ReplacementLoss",
    "conditional_entropy",
    "examine",
    "refit",
    "replacement_losses",
]
