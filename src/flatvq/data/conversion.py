"""How a file is converted to 8-bit RGB, and the exceptions for files that are rejected."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flatvq.recipe import DataRecipe

__all__ = ["LARGEST_PIXELS", "Conversion", "HiddenError", "NotAnImageError", "Rejected", "too_large"]

LARGEST_PIXELS = 100_000_000
"""Images of more pixels, as stored or after scaling, are skipped: each takes more than 300 MB."""


class Rejected(Exception):  # noqa: N818  (a verdict on a file, not an error of the program)
    """A file cannot be used, or is left out on purpose.

    Args:
        reason: why, in a few words.
        remedy: what to do about it, if the remedy is not to repair the file.
        skipped: whether the file is left out on purpose.
    """

    def __init__(self, reason: str, remedy: str = "", *, skipped: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.remedy, self.skipped = reason, remedy, skipped


class NotAnImageError(Rejected):
    """The first bytes of a file match no supported image format."""


class HiddenError(Rejected):
    """The name of a file is hidden (`flatvq.data.walk.is_hidden`)."""

    def __init__(self) -> None:
        super().__init__("hidden", skipped=True)


def too_large(what: str, remedy: str = "use smaller images") -> Rejected:
    """Return the error for an image of more than `LARGEST_PIXELS` pixels.

    Args:
        what: the size, in words.
        remedy: what to do about it.
    """
    return Rejected(f"{what}: the limit is {LARGEST_PIXELS // 1_000_000} megapixels", remedy, skipped=True)


@dataclass(frozen=True)
class Conversion:
    """The size that images are scaled to before crops are cut, and the sample value of white.

    Example:
        >>> Conversion(crop=64).target(500, 375)
        (500, 375)
        >>> Conversion(crop=64, resize=256).target(500, 375)
        (341, 256)
        >>> Conversion(crop=64).target(16, 32)  # enlarged to the size of a crop
        (64, 128)
    """

    crop: int
    """Pixels of the side of a crop, the minimum for the shorter side of an image."""
    resize: int = 0
    """Pixels of the shorter side; 0 keeps the size of the image."""
    white_level: int = 0
    """The sample of white in files of more than 8 bits that do not state it; 0 for the maximum of 16 bits."""

    @classmethod
    def of(cls, recipe: DataRecipe) -> Conversion:
        """Return the conversion of a recipe."""
        return cls(recipe.crop, recipe.resize, recipe.white_level)

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height after scaling of an image of this width and height.

        Raises:
            Rejected: if the scaled image has more than `LARGEST_PIXELS` pixels.
        """
        own = min(width, height)
        shorter = max(self.resize or own, self.crop)
        target = round(width * shorter / own), round(height * shorter / own)
        if math.prod(target) > LARGEST_PIXELS:
            key = "resize" if self.resize > self.crop else "crop"
            what = f"{target[0]} x {target[1]} pixels once scaled to {key} {getattr(self, key)}"
            raise too_large(what, f"lower the {key}")
        return target
