"""The two files of onnxruntime-web that the page contains. They are read from this machine, never fetched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.records.reading import read_file

__all__ = ["VERSION", "Runtime", "find_runtime"]

VERSION = "1.30.0"
"""The version of onnxruntime-web that the page is written for."""
SCRIPT, PROGRAM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    PROGRAM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_PLACES = (".", "dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist")
_INSTALL = f"run `npm install onnxruntime-web@{VERSION}`"


@dataclass(frozen=True)
class Runtime:
    """The content of the files."""

    script: bytes
    """The JavaScript module."""
    program: bytes
    """The WebAssembly program."""
    pinned: bool
    """Whether both files belong to `VERSION`."""


def find_runtime(folder: Path | None = None, *, any_version: bool = False) -> Runtime:
    """Read the files of onnxruntime-web.

    Args:
        folder: the unpacked npm package, or a folder with it in `node_modules`; None for the working folder.
        any_version: whether to accept files of other versions.

    Raises:
        FlatvqError: if the files are missing, or do not belong to `VERSION`.

    Example:
        >>> find_runtime(Path("nowhere"))
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no onnxruntime-web in 'nowhere': run `npm install onnxruntime-web@1.30.0` \
there, or give the folder of the unpacked package
    """
    base = folder or Path()
    for subfolder in _PLACES:
        files = [base / subfolder / name for name in (SCRIPT, PROGRAM)]
        if all(file.is_file() for file in files):
            break
    else:
        if folder is None:
            what = "the page needs onnxruntime-web, which is not in ./node_modules"
            raise FlatvqError(what, f"{_INSTALL} here, or give its folder with --onnxruntime-web")
        what = f"no onnxruntime-web in '{folder}'"
        raise FlatvqError(what, f"{_INSTALL} there, or give the folder of the unpacked package")
    contents = {file.name: read_file(file) for file in files}
    other = [name for name in contents if hashlib.sha256(contents[name]).hexdigest() != _SHA256[name]]
    if other and not any_version:
        changed = files[0].parent / other[0]
        what = f"'{changed}' is not the file of onnxruntime-web {VERSION}, because its SHA-256 differs"
        raise FlatvqError(what, f"{_INSTALL}, or accept it with --any-onnxruntime-web")
    return Runtime(contents[SCRIPT], contents[PROGRAM], pinned=not other)
