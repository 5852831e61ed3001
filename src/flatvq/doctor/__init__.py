"""Examination of codebooks and indices from any source: usage, collapse, duplicates, norms, drift."""

from flatvq.doctor.examine import Diagnosis, Finding, examine_codebook, examine_indices
from flatvq.doctor.indices import StoredIndices, read_indices
from flatvq.doctor.reading import StoredCodebook, read_codebooks
from flatvq.doctor.report import Examination, examine

__all__ = [
    "Diagnosis",
    "Examination",
    "Finding",
    "StoredCodebook",
    "StoredIndices",
    "examine",
    "examine_codebook",
    "examine_indices",
    "read_codebooks",
    "read_indices",
]
