"""The stand-alone page of a study: reads records, never tensors."""

from flatvq.report.page import write_report, write_tuning
from flatvq.report.records import read_jsonl

__all__ = ["read_jsonl", "write_report", "write_tuning"]
