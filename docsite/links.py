"""Links as they have to be on the site, where only the folder docs/ is."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from posixpath import normpath, relpath

__all__ = ["REPOSITORY", "with_site_links"]

REPOSITORY = "https://github.com/flatvq/flatvq/blob/main"
# Documents at the top of the repository that are pages of the site.
_PAGES = {"CHANGELOG.md": "docs/changelog.md", "CONTRIBUTING.md": "docs/development/contributing.md"}
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#])")
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def with_site_links(markdown: str, page: str) -> str:
    """Point links that leave docs/ to the repository, and those between pages to where the site has them.

    Args:
        markdown: a document; links inside blocks of code stay as they are.
        page: its path in the repository. A document outside docs/ is shown by a page of the site, and its
            links start from there.

    Returns:
        The document for the site.

    Example:
        >>> with_site_links("[a](../src/flatvq/errors.py) [b](concepts.md#fair)", page="docs/data.md")
        '[a](https://github.com/flatvq/flatvq/blob/main/src/flatvq/errors.py) [b](concepts.md#fair)'
        >>> with_site_links("[results](docs/findings.md)", page="CHANGELOG.md")
        '[results](findings.md)'
    """
    folder = str(PurePosixPath(page).parent)
    site_folder = str(PurePosixPath(_PAGES.get(page, page)).parent)

    def moved(link: re.Match[str]) -> str:
        target = normpath(f"{folder}/{link[1]}")
        target = _PAGES.get(target, target)
        return relpath(target, site_folder) if target.startswith("docs/") else f"{REPOSITORY}/{target}"

    start, parts = 0, []
    for block in _CODE.finditer(markdown):
        parts += [_LINK.sub(moved, markdown[start : block.start()]), block[0]]
        start = block.end()
    return "".join([*parts, _LINK.sub(moved, markdown[start:])])
