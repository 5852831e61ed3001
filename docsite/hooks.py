"""MkDocs hooks: generated parts of pages, and links to files of the repository."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docsite.commands import commands
from docsite.faults import faults
from docsite.links import with_site_links
from docsite.modules import modules
from docsite.pretrained import photographs, pretrained, thumbnails
from docsite.recipe_keys import recipe_keys

ROOT = Path(__file__).parents[1]
_MARKER = re.compile(r"^<!-- generated: (\w+)(?: (\S+))? -->$", re.MULTILINE)


def document(path: str) -> str:
    """Return a Markdown file of the repository, with its links as they are from the site's top folder."""
    return with_site_links((ROOT / path).read_text(encoding="utf-8"), page=path)


def program(path: str) -> str:
    """Return a file of the repository as a block of code."""
    return f"```python\n{(ROOT / path).read_text(encoding='utf-8')}```"


_GENERATORS: dict[str, Callable[..., str]] = {
    "commands": commands,
    "document": document,
    "faults": faults,
    "modules": modules,
    "photographs": photographs,
    "pretrained": pretrained,
    "thumbnails": thumbnails,
    "program": program,
    "recipe_keys": recipe_keys,
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the generated parts of a page; MkDocs calls this for each page.

    Args:
        markdown: the page as written.
        page: MkDocs' page.

    Returns:
        The page to render.
    """
    linked = with_site_links(markdown, page=f"docs/{page.file.src_uri}")
    return _MARKER.sub(_generated, linked)


def _generated(marker: re.Match[str]) -> str:
    arguments = [argument for argument in (marker[2],) if argument]
    return _GENERATORS[marker[1]](*arguments)
