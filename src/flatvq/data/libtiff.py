"""Record errors of libtiff.

Pillow ignores some of them; the rows that were not decoded then contain arbitrary pixels. libtiff prints
errors and warnings unless handlers are installed. They are installed through Pillow's extension module, in
which `flatvq.data.native` finds libjpeg, too.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress
from functools import cache

from PIL import _imaging

__all__ = ["error_since", "listen"]

_recorded = threading.local()


def listen() -> None:
    """Clear the error that libtiff reported in this thread."""
    _install_handlers()
    _recorded.error = None


def error_since() -> str | None:
    """Return the module of the first error in this thread since `listen`, such as `Fax4Decode`; or None."""
    error: str | None = _recorded.error
    return error


def _record(module: bytes | None, text: bytes | None, values: int | None) -> None:
    if getattr(_recorded, "error", None) is None:
        _recorded.error = (module or b"libtiff").decode("ascii", "replace")


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_record)


@cache
def _install_handlers() -> None:
    """Make libtiff call `_record` for errors and ignore warnings. Without libtiff in Pillow, do nothing."""
    with suppress(OSError, AttributeError):
        pillow = ctypes.CDLL(_imaging.__file__)
        pillow.TIFFSetErrorHandler(_HANDLER)
        pillow.TIFFSetWarningHandler(None)
