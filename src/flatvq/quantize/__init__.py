"""Quantizers as PyTorch modules, usable in anybody's model, and the statistics of their codebooks."""

from flatvq.nearest import nearest_codes
from flatvq.quantize.codebook import Codebook, SeedingEvent
from flatvq.quantize.ema import Ema, Gradient
from flatvq.quantize.estimators import rotation_trick, straight_through
from flatvq.quantize.module import Quantizer
from flatvq.quantize.result import Quantized
from flatvq.quantize.revival import Revival, RevivalEvent
from flatvq.quantize.scalar import FiniteScalarQuantizer
from flatvq.quantize.seeding import DataSeeding, KMeansSeeding, RandomSeeding
from flatvq.quantize.usage import CodeUsage, UsageCounter, code_usage
from flatvq.quantize.vector import VectorQuantizer

__all__ = [
    "CodeUsage",
    "Codebook",
    "DataSeeding",
    "Ema",
    "FiniteScalarQuantizer",
    "Gradient",
    "KMeansSeeding",
    "Quantized",
    "Quantizer",
    "RandomSeeding",
    "Revival",
    "RevivalEvent",
    "SeedingEvent",
    "UsageCounter",
    "VectorQuantizer",
    "code_usage",
    "nearest_codes",
    "rotation_trick",
    "straight_through",
]
