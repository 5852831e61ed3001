"""What identifies the code behind a record: package version, commit and training protocol."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

__all__ = ["TRAINING_PROTOCOL", "VERSION", "commit"]

VERSION = "0.2.0"
"""Version of the package."""

TRAINING_PROTOCOL = 5
"""Version of the training. Raise it when a change makes the same recipe train to different weights."""


@lru_cache(maxsize=1)
def commit() -> str | None:
    """Return the commit of the checkout that this package runs from.

    Returns:
        The hash, with `-dirty` if files of the package differ from it; None for an installed package.
    """
    # A package inside a virtual environment may lie in the checkout of another project.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head = _git("rev-parse", "HEAD")
    return f"{head}-dirty" if head and _git("status", "--porcelain", "--", ".") else head


def _git(*arguments: str) -> str | None:
    """Return what a git command prints, or None if it fails or git is not installed."""
    import subprocess  # not for every import of flatvq

    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
