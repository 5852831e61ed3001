"""Export of tokenizers to programs that run without flatvq."""

from flatvq.export.parity import (
    Parity,
    check_programs,
    compare_programs,
    export_checked,
    folder_batches,
    noise_batches,
)
from flatvq.export.programs import FORMATS, Program, export, load_program

__all__ = [
    "FORMATS",
    "Parity",
    "Program",
    "check_programs",
    "compare_programs",
    "export",
    "export_checked",
    "folder_batches",
    "load_program",
    "noise_batches",
]
