"""`flatvq tune`: searches codebook hyper-parameters at equal bits, and confirms the winner.

Needs Optuna, from the extra `tune`.
"""

from flatvq.tune.cluster import ClusterSearch
from flatvq.tune.confirm import INCUMBENT, TUNED, confirming_study
from flatvq.tune.record import best_of, tune_record, write_record
from flatvq.tune.search import Search
from flatvq.tune.settings import SearchSettings
from flatvq.tune.space import check_space, space_of, suggest_values, values_of, with_values
from flatvq.tune.storage import open_storage, require_no_password, storage_errors
from flatvq.tune.worker import run_worker

__all__ = [
    "INCUMBENT",
    "TUNED",
    "ClusterSearch",
    "Search",
    "SearchSettings",
    "best_of",
    "check_space",
    "confirming_study",
    "open_storage",
    "require_no_password",
    "run_worker",
    "space_of",
    "storage_errors",
    "suggest_values",
    "tune_record",
    "values_of",
    "with_values",
    "write_record",
]
