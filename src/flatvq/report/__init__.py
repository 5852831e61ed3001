"""The stand-alone HTML reports of studies and searches. They are drawn from records only."""

from flatvq.records import read_jsonl
from flatvq.report.page import write_report, write_tuning
from flatvq.report.sections import REPORT_SECTIONS, ReportSection
from flatvq.report.tuning import tuning_sentence

__all__ = [
    "REPORT_SECTIONS",
    "ReportSection",
    "read_jsonl",
    "tuning_sentence",
    "write_report",
    "write_tuning",
]
