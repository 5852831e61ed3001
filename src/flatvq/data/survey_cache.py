"""A cache of what a survey learned about the files of a folder, so that large folders are read only once.

A survey reads every byte of every image, to hash it. For a million images this takes hours, and each trial of
a study needs the result. The cache stores it as a manifest with the path, the size and the times of each
file. Other processes map the manifest into memory. A file with another size or another time is read again.

The time of the last change (ctime) is compared too. Programs cannot set it, so a file that was replaced by
one of the same size and with a copied modification time is noticed. A file that changed shortly before it was
read is not stored, because it could change again within the resolution of the clock.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL

from flatvq.data.conversion import Conversion
from flatvq.data.manifest import Manifest, read_manifest
from flatvq.versions import VERSION

__all__ = ["FEWEST_FILES", "SurveyCache", "settled_before"]

FEWEST_FILES = 1000
"""Folders with fewer files are always read again, which takes about a second."""

_VARIABLE = "FLATVQ_CACHE"
_OFF = "off"
# A file that changed less than this many seconds before the survey may change again unnoticed.
_SETTLED_SECONDS = 2.0


def settled_before(started: float) -> int:
    """Return the time up to which changes of files are final for a survey, in nanoseconds.

    Args:
        started: when the survey started, in seconds as from `time.time`.
    """
    return int((started - _SETTLED_SECONDS) * 1e9)


class SurveyCache:
    """The result of the last survey of one source.

    It is a file in the cache folder of the user: `$FLATVQ_CACHE`, or else `flatvq` in `$XDG_CACHE_HOME` or
    `~/.cache`. `FLATVQ_CACHE=off` disables it. A missing or damaged file is an empty cache, and a file that
    cannot be written is not an error.

    Args:
        source: what was surveyed, such as the path of a folder.
        conversion: the conversion of its images, on which sizes and notes depend.
        places: the columns of the manifest besides what is known of images.
    """

    def __init__(self, source: str, conversion: Conversion, places: Sequence[str]) -> None:
        self._path = _path_of(source, conversion)
        self._places = tuple(places)
        self.started = time.time()
        """When the survey started."""

    def get(self) -> tuple[Manifest, Any] | None:
        """Map the manifest of the last survey; None if there is none.

        Returns:
            The manifest, and what was stored with it.
        """
        return None if self._path is None else read_manifest(self._path, self._places)

    def put(self, manifest: Manifest, about: object = None) -> None:
        """Replace the manifest, if it can be written.

        Args:
            manifest: the manifest.
            about: what to store with it, as a value that JSON can represent.
        """
        if self._path is None:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            manifest.write(self._path, about)


def _path_of(source: str, conversion: Conversion) -> Path | None:
    """Return the file of a cache; None if caches are disabled."""
    cache = os.environ.get(_VARIABLE, "")
    if cache == _OFF:
        return None
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home folder
        return None
    key = [source, asdict(conversion), VERSION, PIL.__version__]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return (Path(cache).expanduser() if cache else home / "flatvq") / "surveys" / f"{name}.arrow"
