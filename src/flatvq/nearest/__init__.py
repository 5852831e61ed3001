"""Nearest-code search and the sums of each code's vectors: one table of backends for each.

`BACKENDS` and `SUM_BACKENDS` list the implementations, and `backend_for` and `sum_backend_for` choose one.
"""

from flatvq.nearest.backends import BACKENDS, Backend, SearchResult, backend_for, status
from flatvq.nearest.result import Lookup
from flatvq.nearest.search import look_up, nearest_codes
from flatvq.nearest.sums import SUM_BACKENDS, SumBackend, code_sums, sum_backend_for

__all__ = [
    "BACKENDS",
    "SUM_BACKENDS",
    "Backend",
    "Lookup",
    "SearchResult",
    "SumBackend",
    "backend_for",
    "code_sums",
    "look_up",
    "nearest_codes",
    "status",
    "sum_backend_for",
]
