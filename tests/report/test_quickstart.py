"""The quickstart describes the report that flatvq writes."""

from __future__ import annotations

import re
from pathlib import Path

import flatvq.report

TEMPLATES = Path(flatvq.report.__file__).parent
QUICKSTART = Path(__file__).parents[2] / "docs" / "quickstart.md"
# Only in some reports.
SOMETIMES = {"Missing or damaged records", "Rate curves: architectures with several budgets"}


def test_the_quickstart_names_the_headings_of_the_report_in_order() -> None:
    included = re.findall(r'include "(.+\.html)"', (TEMPLATES / "page.html").read_text(encoding="utf-8"))
    page = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in included)
    headings = re.findall(r"<h[23][^>]*>([^<{]+)<", page)
    section = QUICKSTART.read_text(encoding="utf-8").split("## Read the report")[1].split("\n## ")[0]
    parts = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    assert [part for part in parts if part[0].isupper()] == [
        each for each in headings if each not in SOMETIMES
    ]
