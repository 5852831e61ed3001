"""Sections that packages add to the report of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flatvq.records import Study
from flatvq.registry import Registry
from flatvq.report.runs import Run

__all__ = ["REPORT_SECTIONS", "ReportSection"]


@dataclass(frozen=True)
class ReportSection:
    """A section of the report, below the sections of flatvq.

    Args:
        title: its heading.
        template: a Jinja template of its content. Values are escaped. The filters `number`, `percent` and
            `signed` format numbers.
        variables: returns the variables of the template, from `study.json` and the records of the runs.
    """

    title: str
    template: str
    variables: Callable[[Study, Sequence[Run]], dict[str, Any]]


REPORT_SECTIONS: Registry[ReportSection] = Registry("report section", "flatvq.report_sections", {})
"""The sections by name, which is also the anchor of the section, in the order of the report."""
