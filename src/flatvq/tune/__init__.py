"""`flatvq tune`: a search of codebook hyper-parameters under fixed bits, and its confirmation.

Needs Optuna, the extra `tune`.
"""

from flatvq.tune.confirm import INCUMBENT, TUNED, confirming_study
from flatvq.tune.record import best_of, tune_record, write_record
from flatvq.tune.search import Asked, Search
from flatvq.tune.space import changed, check_space, space_of, suggested, values_of
from flatvq.tune.storage import open_storage, telling_failures

__all__ = [
    "INCUMBENT",
    "TUNED",
    "Asked",
    "Search",
    "best_of",
    "changed",
    "check_space",
    "confirming_study",
    "open_storage",
    "space_of",
    "suggested",
    "telling_failures",
    "tune_record",
    "values_of",
    "write_record",
]
