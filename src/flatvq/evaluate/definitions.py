"""The ID of the evaluation protocol. Only results with equal IDs are comparable."""

from __future__ import annotations

__all__ = ["protocol_id"]

# Increase it when a definition changes: rounding to 8 bits, PSNR, SSIM, usage, perplexity, the crop.
_VERSION = 1


def protocol_id(crop: int | None, resize: int, channels: int = 3, white_level: int = 0) -> str:
    """Return the ID of the evaluation protocol of a split.

    Args:
        crop: side in pixels of the centre crops, None for whole images.
        resize: pixels of the shorter side before the crop; 0 for the original size.
        channels: 3 for colour, 1 for luma.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.

    Returns:
        A string that is equal for two results if and only if they are comparable.

    Example:
        >>> protocol_id(64, 0), protocol_id(None, 256)
        ('flatvq-1/crop-64/own-size', 'flatvq-1/whole/shorter-side-256')
        >>> protocol_id(64, 0, channels=1)
        'flatvq-1/crop-64/own-size/grey'
        >>> protocol_id(64, 0, white_level=4095)
        'flatvq-1/crop-64/own-size/white-4095'
    """
    cut = "whole" if crop is None else f"crop-{crop}"
    size = f"shorter-side-{resize}" if resize else "own-size"
    colour = "/grey" if channels == 1 else ""
    white = f"/white-{white_level}" if white_level else ""
    return f"flatvq-{_VERSION}/{cut}/{size}{colour}{white}"
