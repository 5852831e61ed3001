"""Print the release notes of a tag, after checking that tag, package version and changelog agree.

python .github/release_notes.py v0.2.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def release_notes(tag: str, package: str, changelog: str, citation: str) -> str:
    """Return the changelog's section of a version.

    Args:
        tag: the tag, such as `v0.2.0`.
        package: the text of the package's `versions.py`.
        changelog: the text of CHANGELOG.md.
        citation: the text of CITATION.cff.

    Raises:
        SystemExit: with a message, if a version differs from the tag, or the section is missing or empty.
    """
    version = tag.removeprefix("v")
    if re.findall(r'^VERSION = "(.+)"$', package, re.MULTILINE) != [version]:
        sys.exit(f"VERSION in src/flatvq/versions.py is not {version}: set it, or correct the tag")
    if re.findall(r"^version: (.+)$", citation, re.MULTILINE) != [version]:
        sys.exit(f"version in CITATION.cff is not {version}: set it")
    title = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
    if title is None:
        sys.exit(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD': rename Unreleased")
    notes = re.split(r"^## ", changelog[title.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()
    return notes or sys.exit(f"the section of {version} in CHANGELOG.md is empty: state what changes")


if __name__ == "__main__":
    files = ("src/flatvq/versions.py", "CHANGELOG.md", "CITATION.cff")
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in files]
    sys.stdout.write(release_notes(sys.argv[1], *texts) + "\n")
