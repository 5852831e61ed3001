"""Reading the files of runs, studies and searches (docs/records.md): one typed reader for each.

A file whose values have other types or ranges than docs/records.md states is refused with the first of them;
nothing is converted. JSON has neither NaN nor infinity. Where a writer wrote one, it is read as null.
"""

from flatvq.records.lines import JsonLines, Look, Row, load_jsonl, parse_row, read_jsonl, read_rows
from flatvq.records.reading import Record, check_record, read_record
from flatvq.records.run import Codes, Metrics, Status, read_codes, read_images, read_metrics, read_status
from flatvq.records.search import Search, load_search
from flatvq.records.study import Arm, Comparison, Study, Trial, TrialLevel, codebook_sizes, load_study

__all__ = [
    "Arm",
    "Codes",
    "Comparison",
    "JsonLines",
    "Look",
    "Metrics",
    "Record",
    "Row",
    "Search",
    "Status",
    "Study",
    "Trial",
    "TrialLevel",
    "check_record",
    "codebook_sizes",
    "load_jsonl",
    "load_search",
    "load_study",
    "parse_row",
    "read_codes",
    "read_images",
    "read_jsonl",
    "read_metrics",
    "read_record",
    "read_rows",
    "read_status",
]
