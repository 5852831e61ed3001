"""Evaluation: fidelity, codebook usage and rate of a split, with fixed definitions."""

from flatvq.evaluate.definitions import protocol_id
from flatvq.evaluate.folder import evaluate_folder
from flatvq.evaluate.result import Evaluation
from flatvq.evaluate.split import evaluate

__all__ = ["Evaluation", "evaluate", "evaluate_folder", "protocol_id"]
