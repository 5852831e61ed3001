"""Write docs/findings.md and its figures from the records in results/."""

from __future__ import annotations

from pathlib import Path

from findings import figures, page

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Render the page and draw the figures."""
    records = page.read(ROOT / "results")
    figures.draw(records, ROOT / "docs" / "findings")
    (ROOT / "docs" / "findings.md").write_text(page.render(records), encoding="utf-8")


if __name__ == "__main__":
    main()
