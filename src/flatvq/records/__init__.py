"""Typed readers for the files of runs, studies and searches (docs/records.md).

Values are not converted: a file with a value of another type or range than docs/records.md states is an error
that names the first such value. NaN and infinity, which JSON does not define, are read as null.
"""

from flatvq.records.comparison import Compared, Comparison, CurvePair, Curves, Design, EarlierDesign, Look
from flatvq.records.conversion import to_format_3
from flatvq.records.lines import (
    JsonLines,
    Row,
    Validation,
    load_jsonl,
    parse_row,
    precision_of,
    read_jsonl,
    read_rows,
    seconds_per_step,
)
from flatvq.records.reading import Record, check_record, read_record
from flatvq.records.run import Codes, Metrics, Status, read_codes, read_images, read_metrics, read_status
from flatvq.records.search import Search, load_search
from flatvq.records.study import (
    Arm,
    Data,
    Match,
    Study,
    Verdict,
    codebook_sizes,
    load_study,
)
from flatvq.records.trial import Trial, TrialLevel

__all__ = [
    "Arm",
    "Codes",
    "Compared",
    "Comparison",
    "CurvePair",
    "Curves",
    "Data",
    "Design",
    "EarlierDesign",
    "JsonLines",
    "Look",
    "Match",
    "Metrics",
    "Record",
    "Row",
    "Search",
    "Status",
    "Study",
    "Trial",
    "TrialLevel",
    "Validation",
    "Verdict",
    "check_record",
    "codebook_sizes",
    "load_jsonl",
    "load_search",
    "load_study",
    "parse_row",
    "precision_of",
    "read_codes",
    "read_images",
    "read_jsonl",
    "read_metrics",
    "read_record",
    "read_rows",
    "read_status",
    "seconds_per_step",
    "to_format_3",
]
