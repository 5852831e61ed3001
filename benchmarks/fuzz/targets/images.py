"""Readers of images."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.fuzz.targets.base import Target
from flatvq.data.types import Pixels, Region

if TYPE_CHECKING:
    from flatvq.data.conversion import Conversion

__all__ = ["Images"]

CROP = 16


class Images(Target):
    """Images of every format, by both ways of decoding."""

    pattern = "images/*"
    # Of 100 megapixels, which are the most that is decoded, with transparency.
    limit_bytes = 2**31

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq evaluate` and `flatvq train` do, at sizes and white levels that follow from the file."""
        from flatvq.data.conversion import Conversion
        from flatvq.data.folder import open_folder

        path = changed[0]
        chosen = zlib.crc32(path.read_bytes())
        conversion = Conversion(CROP, (0, 0, 16, 40)[chosen % 4], (0, 0, 0, 4095)[chosen // 4 % 4])
        folder = Path("mutated")
        folder.mkdir(exist_ok=True)
        copy = path.rename(folder / path.name)
        try:
            decoded_alike(copy, conversion)
            opened = open_folder(folder, CROP, conversion.resize, conversion.white_level)
        finally:
            copy.unlink(missing_ok=True)
        file_statuses = [file.status for file in opened.file_statuses]
        return file_statuses[0] if file_statuses else "used"


def decoded_alike(path: Path, conversion: Conversion) -> None:
    """Decode an image in both ways, and a region of it; assert that the results agree.

    Pixels of damaged TIFF files may be any: where a row ends early, libtiff only warns, which Pillow mutes.
    """
    from flatvq.data.conversion import Rejected
    from flatvq.data.decoding import decode, decode_for_training

    decoded: list[Pixels] = []
    for function in (decode, decode_for_training):
        with path.open("rb") as stream, suppress(Rejected):
            decoded.append(function(stream, conversion))
    if len(decoded) == 2:
        exact, fast = decoded
        assert exact.shape == fast.shape, f"decoded to {exact.shape} and {fast.shape}"
        region = centre(*fast.shape[:2])
        with path.open("rb") as stream, suppress(Rejected):
            part = decode_for_training(stream, conversion, region)
            decoded.append(part)
            same = (region.of(fast) == part).all()
            assert same or path.suffix == ".tif", "a region differs from the whole image"
    for pixels in decoded:
        assert pixels.dtype.name == "uint8"
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) >= CROP


def centre(height: int, width: int) -> Region:
    """Return the middle of an image."""
    return Region((height - CROP) // 2, (width - CROP) // 2, CROP, CROP)
