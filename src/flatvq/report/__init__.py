"""The stand-alone page of a study: reads records, never tensors."""

from flatvq.records import read_jsonl
from flatvq.report.page import write_report, write_tuning
from flatvq.report.tuning import tuning_sentence

__all__ = ["read_jsonl", "tuning_sentence", "write_report", "write_tuning"]
