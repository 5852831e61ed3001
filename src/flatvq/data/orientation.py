"""The EXIF orientation of an image."""

from __future__ import annotations

from PIL import Image, ImageFile

__all__ = ["is_upright", "orientation_of", "upright", "upright_size"]

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPOSED = {5, 6, 7, 8}  # exchange rows and columns


def upright(rgb: Image.Image, image: ImageFile.ImageFile) -> Image.Image:
    """Transpose pixels as the EXIF orientation of their image requires.

    Args:
        rgb: the pixels.
        image: the image that they come from. It must be loaded: Pillow transposes TIFF files while it loads
            them and then drops the orientation.
    """
    method = _UPRIGHT.get(orientation_of(image))
    return rgb if method is None else rgb.transpose(method)


def is_upright(image: Image.Image) -> bool:
    """Return whether `upright` would not change an image."""
    return orientation_of(image) not in _UPRIGHT


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if there is none or it cannot be read."""
    try:
        # The base class' method: the method for PNG decodes the whole file to read EXIF data at its end.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height that `upright` gives an image."""
    width, height = image.size
    return (height, width) if orientation_of(image) in _TRANSPOSED else (width, height)
