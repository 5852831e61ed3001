"""The image codecs that tokenizers are compared with: JPEG, WebP, AVIF and JPEG XL, as whole files.

Axes: H W rows and columns, C channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, features

from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError, MissingExtraError, suggestion

__all__ = ["IMAGE_CODECS", "Files", "ImageCodec", "codecs_named"]


@dataclass(frozen=True)
class ImageCodec:
    """An image codec with pinned settings; only its quality varies.

    Example:
        >>> grey = np.full((16, 16, 3), 128, np.uint8)
        >>> content = IMAGE_CODECS["jpeg"].encode(grey, quality=90)
        >>> content[:2].hex(), IMAGE_CODECS["jpeg"].decode(content, channels=3).shape
        ('ffd8', (16, 16, 3))
    """

    name: str
    """As in `--against`."""
    label: str
    """Name in tables."""
    format: str
    """Name of the format in Pillow."""
    lowest: int
    """Lowest quality."""
    highest: int
    """Highest quality."""
    settings: Mapping[str, Any]
    """Further options of `Image.save`."""

    def encode(self, image: Pixels, quality: int) -> bytes:
        """Return the content of a file.

        Args:
            image: uint8 [H, W, C], with one or three channels.
            quality: from `lowest` to `highest`.
        """
        buffer = BytesIO()
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        picture.save(buffer, self.format, quality=quality, **self.settings)
        return buffer.getvalue()

    def decode(self, content: bytes, channels: int) -> Pixels:
        """Return the image of a file.

        Args:
            content: what `encode` returned.
            channels: 1 for luma, 3 for colour.

        Returns:
            uint8 [H, W, C].
        """
        with Image.open(BytesIO(content)) as picture:
            pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
        return pixels.reshape(*pixels.shape[:2], channels)

    @property
    def version(self) -> str:
        """The version of the encoder's library, or of the package that contains it."""
        if self.name == "jxl":
            return f"pillow-jxl-plugin {metadata.version('pillow-jxl-plugin')}"
        if self.name == "jpeg":
            turbo = features.version("libjpeg_turbo")
            return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
        return f"lib{self.name} {features.version(self.name)}"

    def require(self) -> None:
        """Check that the encoder is installed.

        Raises:
            MissingExtraError: if JPEG XL has no plugin.
            FlatvqError: if Pillow was built without the codec.
        """
        if self.name == "jxl":
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    import_module("pillow_jxl")  # registers the format
            except ImportError:
                raise MissingExtraError("JPEG XL files", "pillow-jxl-plugin", extra="jxl") from None
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an older Pillow does not know AVIF
            known = features.check("jpg" if self.name == "jpeg" else self.name)
        if not known:
            what = f"this Pillow cannot write {self.label} files"
            raise FlatvqError(what, f"install a newer Pillow, or leave {self.name} out of --against")


# One thread, because the number of threads changes the files of AVIF.
IMAGE_CODECS = {
    codec.name: codec
    for codec in (
        ImageCodec("jpeg", "JPEG", "JPEG", 1, 100, {"optimize": True, "progressive": True}),
        ImageCodec("webp", "WebP", "WEBP", 0, 100, {"method": 6}),
        ImageCodec("avif", "AVIF", "AVIF", 0, 100, {"speed": 4, "max_threads": 1}),
        # At 100 the file is lossless, and the plugin refuses that without another option.
        ImageCodec("jxl", "JPEG XL", "JXL", 0, 99, {"effort": 7}),
    )
}
"""The codecs by name."""


def codecs_named(names: str) -> list[ImageCodec]:
    """Return the codecs of a list of names, and check that their encoders are installed.

    Args:
        names: such as `jpeg,webp`.

    Raises:
        FlatvqError: if a name is unknown or repeated, or an encoder is missing.

    Example:
        >>> [codec.label for codec in codecs_named("webp, jpeg")]
        ['WebP', 'JPEG']
        >>> codecs_named("jpg")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: --against names the codec 'jpg': did you mean 'jpeg'?
    """
    listed = [name.strip().lower() for name in names.split(",")]
    for name in listed:
        if name not in IMAGE_CODECS:
            raise FlatvqError(f"--against names the codec '{name}'", suggestion(name, IMAGE_CODECS))
        if listed.count(name) > 1:
            raise FlatvqError(f"--against names the codec '{name}' twice", "name each codec once")
    codecs = [IMAGE_CODECS[name] for name in listed]
    for codec in codecs:
        codec.require()
    return codecs


class Files:
    """The files of an image at all qualities of a codec, each written when it is first needed.

    Args:
        codec: the codec.
        image: uint8 [H, W, C].
    """

    def __init__(self, codec: ImageCodec, image: Pixels) -> None:
        self.codec, self._image = codec, image
        self._written: dict[int, bytes] = {}

    def at(self, quality: int) -> bytes:
        """Return the content of the file of a quality."""
        if quality not in self._written:
            self._written[quality] = self.codec.encode(self._image, quality)
        return self._written[quality]

    def largest_within(self, limit: int) -> tuple[int, bytes] | None:
        """Return the highest quality whose file is not larger than `limit` bytes, and its file.

        The search is a bisection, which assumes that files grow with the quality. If they do not, the file of
        the next quality is larger than the limit, but a still higher quality may fit.

        Args:
            limit: in bytes.

        Returns:
            None if no quality fits.
        """
        low, high = self.codec.lowest, self.codec.highest
        # Files that were written before narrow the range, so that further limits cost little.
        low = max([quality for quality, file in self._written.items() if len(file) <= limit] or [low])
        high = min([q for q, file in self._written.items() if q > low and len(file) > limit] or [high + 1])
        if len(self.at(low)) > limit:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if len(self.at(middle)) <= limit:
                low = middle
            else:
                high = middle
        return low, self.at(low)
