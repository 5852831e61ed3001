"""Check the prose of files: `python -m tools.prose PATH ...`; exits with 1 if something is found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from proselint.checks import __register__ as proselint_checks
from proselint.config import Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

from tools.prose.passages import passages
from tools.prose.style import CHECKS

# Checks of proselint that make sense for technical texts.
_ENABLED = (
    "archaism",
    "cliches",
    "hedging",
    "malapropisms",
    "misc.many_a",
    "misc.metadiscourse",
    "misc.narcissism",
    "misc.pretension",
    "misc.suddenly",
    "misc.whence",
    "nonwords",
    "redundancy",
    "uncomparables",
    "flatvq",
)
_CONFIG = Config(max_errors=1000, checks=dict.fromkeys(_ENABLED, True))


def findings(text: str) -> list[str]:
    """Return what is wrong with a passage.

    Example:
        >>> findings("Unpromising trials are pruned.")
        []
        >>> findings("The hopeless are pruned.")
        ["'hopeless' reads as translated or has a private meaning. Write: unpromising."]
    """
    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many((*proselint_checks, *CHECKS))
    return [problem.check_result.message for problem in LintFile("text", f"{text}\n").lint(_CONFIG)]


def _files(paths: list[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        yield from sorted(path.rglob("*")) if path.is_dir() else [path]


def main(paths: list[str]) -> int:
    """Print what is wrong, with file and line."""
    count = 0
    for path in _files(paths):
        for passage in passages(path) if path.is_file() else ():
            for message in findings(passage.text):
                print(f"{path}:{passage.line}: {message}")
                count += 1
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
