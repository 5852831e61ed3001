"""Quantizers as PyTorch modules for any model, and usage statistics of their codebooks."""

from flatvq.deprecation import renamed_exports
from flatvq.nearest import nearest_codes
from flatvq.quantize.codebook import Codebook
from flatvq.quantize.ema import Ema, Gradient
from flatvq.quantize.estimators import rotation_trick, straight_through
from flatvq.quantize.init import DataInit, InitEvent, KMeansInit, RandomInit
from flatvq.quantize.lookup_free import LookupFreeQuantizer
from flatvq.quantize.module import Quantizer
from flatvq.quantize.replacement import DeadCodeReplacement, ReplacementEvent
from flatvq.quantize.residual import ResidualQuantizer
from flatvq.quantize.result import Quantized
from flatvq.quantize.scalar import FiniteScalarQuantizer
from flatvq.quantize.usage import CodeUsage, UsageCounter, code_usage
from flatvq.quantize.vector import VectorQuantizer

__all__ = [
    "CodeUsage",
    "Codebook",
    "DataInit",
    "DeadCodeReplacement",
    "Ema",
    "FiniteScalarQuantizer",
    "Gradient",
    "InitEvent",
    "KMeansInit",
    "LookupFreeQuantizer",
    "Quantized",
    "Quantizer",
    "RandomInit",
    "ReplacementEvent",
    "ResidualQuantizer",
    "UsageCounter",
    "VectorQuantizer",
    "code_usage",
    "nearest_codes",
    "rotation_trick",
    "straight_through",
]

__getattr__ = renamed_exports(
    __name__,
    {
        "KMeansSeeding": "KMeansInit",
        "DataSeeding": "DataInit",
        "RandomSeeding": "RandomInit",
        "SeedingEvent": "InitEvent",
        "Revival": "DeadCodeReplacement",
        "RevivalEvent": "ReplacementEvent",
    },
)
