"""What is made of a file: the settings of the conversion to 8-bit RGB, and what a file is rejected with."""

from __future__ import annotations

from dataclasses import dataclass

from flatvq.recipe import DataRecipe

__all__ = ["Conversion", "NotAnImageError", "Rejected"]


class Rejected(Exception):  # noqa: N818  (a verdict on a file, not an error of the program)
    """A file cannot or will not be used; `skipped` tells the second from the first.

    Args:
        reason: why, in a few words.
        remedy: what to do about it, if it is not to mend the file.
        skipped: whether it is left out on purpose.
    """

    def __init__(self, reason: str, remedy: str = "", *, skipped: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.remedy, self.skipped = reason, remedy, skipped


class NotAnImageError(Rejected):
    """The first bytes are those of no image format that is read here."""


@dataclass(frozen=True)
class Conversion:
    """To what size images are scaled before crops are cut, and which sample value is white.

    Example:
        >>> Conversion(crop=64).target(500, 375)
        (500, 375)
        >>> Conversion(crop=64, resize=256).target(500, 375)
        (341, 256)
        >>> Conversion(crop=64).target(16, 32)  # enlarged, to hold a crop
        (64, 128)
    """

    crop: int
    """Pixels of the side of a crop, the least that the shorter side may have."""
    resize: int = 0
    """Pixels of the shorter side; 0 keeps an image's own."""
    white_level: int = 0
    """The sample of white in files of more than 8 bits that do not state it; 0 for the largest of 16 bits."""

    @classmethod
    def of(cls, recipe: DataRecipe) -> Conversion:
        """Return the conversion that a recipe asks for."""
        return cls(recipe.crop, recipe.resize, recipe.white_level)

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that an image of the given ones is scaled to."""
        own = min(width, height)
        shorter = max(self.resize or own, self.crop)
        return round(width * shorter / own), round(height * shorter / own)
