"""Discrete image tokenizers (VQ-VAEs) in PyTorch: healthy codebooks, matched comparisons, statistics.

The names in `__all__` are the public API, which the API reference documents. A name is imported from its
module when it is first used, so `import flatvq` does not import PyTorch.

Example:
    >>> import flatvq
    >>> flatvq.FiniteScalarQuantizer([8, 5, 5, 5]).codebook_size
    1000
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flatvq import versions

__version__ = versions.VERSION

# The public API, twice: for type checkers, and for the interpreter in _HOMES. A test compares both with the
# API reference.
if TYPE_CHECKING:
    from flatvq.capacities import CAPACITIES as CAPACITIES
    from flatvq.capacities import CapacityKind as CapacityKind
    from flatvq.codec import Codec as Codec
    from flatvq.codec import load_codec as load_codec
    from flatvq.codes import CodeDataset as CodeDataset
    from flatvq.codes import CodeManifest as CodeManifest
    from flatvq.codes import CodeStream as CodeStream
    from flatvq.codes import decode_codes as decode_codes
    from flatvq.codes import encode_images as encode_images
    from flatvq.errors import FlatvqError as FlatvqError
    from flatvq.errors import MissingExtraError as MissingExtraError
    from flatvq.errors import NonFiniteError as NonFiniteError
    from flatvq.errors import StorageError as StorageError
    from flatvq.evaluate import evaluate_folder as evaluate_folder
    from flatvq.evaluate.fidelity import mse as mse
    from flatvq.evaluate.fidelity import psnr as psnr
    from flatvq.evaluate.similarity import ms_ssim as ms_ssim
    from flatvq.evaluate.similarity import ssim as ssim
    from flatvq.metrics import LEVEL_METRICS as LEVEL_METRICS
    from flatvq.metrics import TRIAL_METRICS as TRIAL_METRICS
    from flatvq.metrics import Metric as Metric
    from flatvq.model import VQVAE as VQVAE
    from flatvq.model import Capacity as Capacity
    from flatvq.model import VQVAEOutput as VQVAEOutput
    from flatvq.model import build_vqvae as build_vqvae
    from flatvq.model import capacity_of as capacity_of
    from flatvq.model import save_tokenizer
    from flatvq.number_format import NumberFormat as NumberFormat
    from flatvq.quantize import Codebook as Codebook
    from flatvq.quantize import CodeUsage as CodeUsage
    from flatvq.quantize import DataInit as DataInit
    from flatvq.quantize import DeadCodeReplacement as DeadCodeReplacement
    from flatvq.quantize import Ema as Ema
    from flatvq.quantize import FiniteScalarQuantizer as FiniteScalarQuantizer
    from flatvq.quantize import Gradient as Gradient
    from flatvq.quantize import InitEvent as InitEvent
    from flatvq.quantize import KMeansInit as KMeansInit
    from flatvq.quantize import LookupFreeQuantizer as LookupFreeQuantizer
    from flatvq.quantize import Quantized as Quantized
    from flatvq.quantize import Quantizer as Quantizer
    from flatvq.quantize import RandomInit as RandomInit
    from flatvq.quantize import ReplacementEvent as ReplacementEvent
    from flatvq.quantize import ResidualQuantizer as ResidualQuantizer
    from flatvq.quantize import UsageCounter as UsageCounter
    from flatvq.quantize import VectorQuantizer as VectorQuantizer
    from flatvq.quantize import code_usage as code_usage
    from flatvq.quantize import nearest_codes as nearest_codes
    from flatvq.quantize import rotation_trick as rotation_trick
    from flatvq.quantize import straight_through as straight_through
    from flatvq.recipe import HIERARCHIES as HIERARCHIES
    from flatvq.recipe import QUANTIZERS as QUANTIZERS
    from flatvq.recipe import SOURCES as SOURCES
    from flatvq.recipe import ArmRecipe as ArmRecipe
    from flatvq.recipe import CodebookRecipe as CodebookRecipe
    from flatvq.recipe import DataRecipe as DataRecipe
    from flatvq.recipe import EvaluateRecipe as EvaluateRecipe
    from flatvq.recipe import InitRecipe as InitRecipe
    from flatvq.recipe import LevelRecipe as LevelRecipe
    from flatvq.recipe import MatchRecipe as MatchRecipe
    from flatvq.recipe import ModelRecipe as ModelRecipe
    from flatvq.recipe import QuantizerKind as QuantizerKind
    from flatvq.recipe import ReplacementRecipe as ReplacementRecipe
    from flatvq.recipe import StudyRecipe as StudyRecipe
    from flatvq.recipe import TrainRecipe as TrainRecipe
    from flatvq.recipe import TrialRecipe as TrialRecipe
    from flatvq.recipe import UpdateRecipe as UpdateRecipe
    from flatvq.recipe import load_recipe as load_recipe
    from flatvq.recipe import shipped_recipes as shipped_recipes
    from flatvq.records import Arm as Arm
    from flatvq.records import Codes as Codes
    from flatvq.records import Comparison as Comparison
    from flatvq.records import Metrics as Metrics
    from flatvq.records import Study as Study
    from flatvq.records import Trial as Trial
    from flatvq.records import load_jsonl as load_jsonl
    from flatvq.records import load_study as load_study
    from flatvq.records import read_codes as read_codes
    from flatvq.records import read_images as read_images
    from flatvq.records import read_metrics as read_metrics
    from flatvq.registry import Registry as Registry
    from flatvq.report import REPORT_SECTIONS as REPORT_SECTIONS
    from flatvq.report import ReportSection as ReportSection
    from flatvq.report import write_report as write_report
    from flatvq.study import Plan as Plan
    from flatvq.study import plan_study as plan_study
    from flatvq.study import run_study as run_study
    from flatvq.tokenizers import Preprocess as Preprocess
    from flatvq.tokenizers import Tokenizer as Tokenizer
    from flatvq.tokenizers import TokenizerLevel as TokenizerLevel
    from flatvq.tokenizers import VQVAETokenizer as VQVAETokenizer
    from flatvq.tokenizers import load as load
    from flatvq.train import run_trial as run_trial

    save = save_tokenizer

_HOMES = {
    "flatvq.capacities": ("CAPACITIES", "CapacityKind"),
    "flatvq.codec": ("Codec", "load_codec"),
    "flatvq.codes": ("CodeDataset", "CodeManifest", "CodeStream", "decode_codes", "encode_images"),
    "flatvq.errors": (
        "FlatvqError",
        "MissingExtraError",
        "NonFiniteError",
        "StorageError",
    ),
    "flatvq.evaluate": ("evaluate_folder",),
    "flatvq.evaluate.fidelity": ("mse", "psnr"),
    "flatvq.evaluate.similarity": ("ms_ssim", "ssim"),
    "flatvq.metrics": ("LEVEL_METRICS", "TRIAL_METRICS", "Metric"),
    "flatvq.model": (
        "Capacity",
        "VQVAE",
        "VQVAEOutput",
        "build_vqvae",
        "capacity_of",
        "save",
    ),
    "flatvq.number_format": ("NumberFormat",),
    "flatvq.quantize": (
        "CodeUsage",
        "Codebook",
        "DataInit",
        "Ema",
        "FiniteScalarQuantizer",
        "Gradient",
        "KMeansInit",
        "LookupFreeQuantizer",
        "Quantized",
        "Quantizer",
        "RandomInit",
        "ResidualQuantizer",
        "DeadCodeReplacement",
        "ReplacementEvent",
        "InitEvent",
        "UsageCounter",
        "VectorQuantizer",
        "code_usage",
        "nearest_codes",
        "rotation_trick",
        "straight_through",
    ),
    "flatvq.recipe": (
        "HIERARCHIES",
        "QUANTIZERS",
        "SOURCES",
        "ArmRecipe",
        "CodebookRecipe",
        "DataRecipe",
        "EvaluateRecipe",
        "LevelRecipe",
        "MatchRecipe",
        "ModelRecipe",
        "QuantizerKind",
        "ReplacementRecipe",
        "InitRecipe",
        "StudyRecipe",
        "TrainRecipe",
        "TrialRecipe",
        "UpdateRecipe",
        "load_recipe",
        "shipped_recipes",
    ),
    "flatvq.records": (
        "Arm",
        "Codes",
        "Comparison",
        "Metrics",
        "Study",
        "Trial",
        "load_jsonl",
        "load_study",
        "read_codes",
        "read_images",
        "read_metrics",
    ),
    "flatvq.registry": ("Registry",),
    "flatvq.report": ("REPORT_SECTIONS", "ReportSection", "write_report"),
    "flatvq.study": (
        "Plan",
        "plan_study",
        "run_study",
    ),
    "flatvq.tokenizers": (
        "Preprocess",
        "Tokenizer",
        "TokenizerLevel",
        "VQVAETokenizer",
        "load",
    ),
    "flatvq.train": ("run_trial",),
}
_NAMES_AT_HOME = {"save": "save_tokenizer"}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *_MODULES})


if not TYPE_CHECKING:  # or type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module when it is first used."""
        if name not in _MODULES:
            raise AttributeError(f"module 'flatvq' has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), _NAMES_AT_HOME.get(name, name))
        globals()[name] = value
        return value
