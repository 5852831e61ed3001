"""The method `load` of image sets, which version 0.3 removes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from flatvq.deprecation import REMOVED_IN

if TYPE_CHECKING:
    from flatvq.data.types import ImageSet, Pixels

__all__ = ["LoadMethod"]


class LoadMethod:
    """Base class of image sets that still have `load(index)`."""

    def load(self: ImageSet, index: int) -> Pixels:
        """Return a whole image, as `flatvq.data.load_image` does."""
        from flatvq.data.stand_in import load_image

        name = type(self).__name__
        message = f"{name}.load(index) is now flatvq.data.load_image(images, index)"
        warnings.warn(f"{message}; flatvq {REMOVED_IN} removes it", DeprecationWarning, stacklevel=2)
        return load_image(self, index)
