"""The colour photographs that ship with scikit-image and scikit-learn.

There are too few to hold out whole photographs, so strips of each are held out:

    +----------+---+------+---+----------+---+------+---+----------+
    |          | g | cell | g |          | g | cell | g |          |
    | training | a +------+ a | training | a +------+ a | training |     across the longer side,
    |          | p | cell | p |          | p | cell | p |          |     evenly spread over it
    +----------+---+------+---+----------+---+------+---+----------+
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from flatvq.data.conversion import Conversion, Rejected
from flatvq.data.decoding import decode
from flatvq.data.deprecated import LoadMethod
from flatvq.data.reasons import reason_of
from flatvq.data.types import DataSplit, FileStatus, Pixels, Region, fingerprint_of
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

__all__ = ["Layout", "RegionImages", "gap_for", "layout", "split_photographs"]

# Without motorcycle_right.png: it shows the same scene as motorcycle_left.png, including the held-out strips.
_PHOTOGRAPHS = {
    "skimage": (
        "data/astronaut.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/hubble_deep_field.jpg",
        "data/ihc.png",
        "data/motorcycle_left.png",
        "data/retina.jpg",
        "data/rocket.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}


@dataclass(frozen=True)
class Layout:
    """How a photograph is divided."""

    training: tuple[Region, ...]
    """Regions to cut training crops from, each at least one crop high and wide."""
    cells: tuple[Region, ...]
    """Held-out crops that do not overlap; empty if the photograph is too small for a strip."""


def gap_for(crop: int) -> int:
    """Return the width in pixels of the gap between training regions and held-out crops.

    A quarter of a crop, and at least 16: a 16-pixel block of JPEG colour and the reach of a bicubic filter (2
    pixels) are then too small to leak held-out pixels into a training region.

    Args:
        crop: pixels of the side of a crop.

    Example:
        >>> gap_for(64), gap_for(256)
        (16, 64)
    """
    return max(16, crop // 4)


def layout(height: int, width: int, crop: int, share: float) -> Layout:
    """Divide a photograph into training regions and held-out cells.

    The strips are one crop wide and spread evenly over the longer side, so that the held-out cells represent
    the whole photograph, not one end of it. Their number follows from the share. There is at least one, and
    the training regions between them stay at least one crop wide.

    Args:
        height: rows of the photograph, after scaling.
        width: columns.
        crop: pixels of the side of a crop.
        share: share of the longer side to hold out.

    Returns:
        The regions.

    Example:
        >>> photograph = layout(100, 400, crop=64, share=0.1)
        >>> photograph.cells
        (Region(top=0, left=168, height=64, width=64),)
        >>> photograph.training
        (Region(top=0, left=0, height=100, width=152), Region(top=0, left=248, height=100, width=152))
    """
    if height > width:
        transposed = layout(width, height, crop, share)
        return Layout(
            training=tuple(region.transposed() for region in transposed.training),
            cells=tuple(cell.transposed() for cell in transposed.cells),
        )
    gap = gap_for(crop)
    strips = min(max(1, round(share * width / crop)), (width - crop) // (2 * crop + 2 * gap))
    if strips < 1:
        return _layout_at_end(height, width, crop)
    # The training regions between the strips, and at both ends, have equal widths.
    region_width = (width - strips * (crop + 2 * gap)) // (strips + 1)
    starts = [number * (region_width + crop + 2 * gap) for number in range(strips + 1)]
    ends = [*(start + region_width for start in starts[:-1]), width]
    return Layout(
        training=tuple(
            Region(0, start, height, end - start) for start, end in zip(starts, ends, strict=True)
        ),
        cells=tuple(cell for end in ends[:-1] for cell in _cells(height, end + gap, crop)),
    )


def _layout_at_end(height: int, width: int, crop: int) -> Layout:
    """Hold out one strip at the end of a photograph that has room for only one training region."""
    remaining = width - crop - gap_for(crop)
    if remaining < crop:
        return Layout((Region(0, 0, height, width),), ())
    return Layout((Region(0, 0, height, remaining),), _cells(height, width - crop, crop))


def _cells(height: int, left: int, crop: int) -> tuple[Region, ...]:
    """Cut a strip into crops."""
    return tuple(Region(row, left, crop, crop) for row in range(0, height - crop + 1, crop))


class RegionImages(LoadMethod):
    """An `ImageSet` of regions of photographs, named by row and column, such as `astronaut@0,224`.

    The number of draws per epoch is proportional to the area of a region, so that every pixel is drawn about
    equally often.

    Args:
        regions: for each image, the name of the photograph, its pixels and the region.
        crop: pixels of the side of a crop.
    """

    late_file_statuses: tuple[FileStatus, ...] = ()
    decoded = True

    def __init__(self, regions: Sequence[tuple[str, Pixels, Region]], crop: int) -> None:
        self.names = tuple(f"{name}@{region.top},{region.left}" for name, _, region in regions)
        self.repeats = tuple(max(1, round(r.height * r.width / crop**2)) for _, _, r in regions)
        self._pixels = tuple(region.of(pixels) for _, pixels, region in regions)
        self.digests = tuple(map(_digest, self._pixels))
        self.fingerprint = fingerprint_of(self.digests, self.repeats)

    def __len__(self) -> int:
        return len(self._pixels)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image."""
        height, width, _ = self._pixels[index].shape
        return height, width

    def load_region(self, index: int, region: Region) -> Pixels:
        """Return a region of an image, uint8 [H, W, 3], read-only."""
        return region.of(self._pixels[index])


def split_photographs(recipe: DataRecipe) -> DataSplit:
    """Open the bundled photographs, with strips of each held out.

    Args:
        recipe: the data section of the recipe.

    Returns:
        The training regions and the held-out cells, which do not overlap.

    Raises:
        FlatvqError: if no photograph is large enough to hold out crops of this size.
    """
    crop, conversion = recipe.crop, Conversion.of(recipe)
    training: list[tuple[str, Pixels, Region]] = []
    cells: list[tuple[str, Pixels, Region]] = []
    file_statuses: list[FileStatus] = []
    for name, file in _files().items():
        pixels = _decoded(file, conversion)
        parts = layout(pixels.shape[0], pixels.shape[1], crop, recipe.validation_share)
        training += [(name, pixels, region) for region in parts.training]
        cells += [(name, pixels, cell) for cell in parts.cells]
        if not parts.cells:
            file_statuses.append(
                FileStatus(name, "validation", "skipped", f"too small to hold out a strip {crop} pixels wide")
            )
    if not cells:
        what = f"no bundled photograph is large enough to hold out crops of data.crop {crop}"
        raise FlatvqError(what, "lower data.crop, raise data.resize, or use your own folder of images")
    used = training[: recipe.limit or None]
    file_statuses += [
        FileStatus(f"{name}@{r.top},{r.left}", "training", "skipped", f"data.limit is {recipe.limit}")
        for name, _, r in training[len(used) :]
    ]
    return DataSplit(
        RegionImages(used, crop),
        RegionImages(cells, crop),
        _held_out_sentence(recipe, len(cells)),
        tuple(file_statuses),
    )


def _held_out_sentence(recipe: DataRecipe, cells: int) -> str:
    return (
        f"evenly spread strips across each photograph, one crop wide, are never trained on (validation_share "
        f"{recipe.validation_share:g} of its length): {cells} crops of {recipe.crop} x {recipe.crop} pixels "
        f"that do not overlap, at least {gap_for(recipe.crop)} pixels away from everything that is trained on"
    )


def _digest(pixels: Pixels) -> str:
    """Hash the shape and the pixels of an image [H, W, 3]."""
    shape = "x".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(shape + pixels.tobytes()).hexdigest()[:32]


def _decoded(file: Path, conversion: Conversion) -> Pixels:
    try:
        with file.open("rb") as stream:
            return decode(stream, conversion)
    except (OSError, Rejected) as error:
        reason = error.reason if isinstance(error, Rejected) else reason_of(error)
        what = f"the bundled photograph '{file.name}' cannot be used ({reason})"
        raise FlatvqError(what, "install scikit-image and scikit-learn again") from None


def _files() -> dict[str, Path]:
    """Return the file of each photograph. Importing the packages that contain them would take a second."""
    files: dict[str, Path] = {}
    for package, paths in _PHOTOGRAPHS.items():
        spec = find_spec(package)
        for path in paths:
            file = Path(spec.origin).parent / path if spec and spec.origin else None
            if file is None or not file.is_file():
                what = f"{package}, which flatvq requires, does not hold the photograph '{path}'"
                raise FlatvqError(what, "install flatvq again")
            files[file.stem] = file
    return files
