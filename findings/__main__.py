"""Write docs/findings.md and its figures from the records in results/."""

from __future__ import annotations

from pathlib import Path

from findings import figures, page
from findings.coded import read_coded
from findings.repetitions import repetitions_sentence
from findings.searches import read_searches

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Render the page and draw the figures."""
    records = page.read(ROOT / "results")
    coded = read_coded(ROOT / "results" / "coded-bits.json", records)
    searches = read_searches(ROOT / "results" / "tuned" / "searches")
    repetitions = repetitions_sentence(ROOT / "results" / "repetitions.json")
    figures.draw(records, ROOT / "docs" / "findings")
    (ROOT / "docs" / "findings.md").write_text(
        page.render(records, page.read_default_study(ROOT / "results"), coded, searches, repetitions),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
