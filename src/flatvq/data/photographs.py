"""The colour photographs inside the wheels of scikit-image and scikit-learn.

They are too few to hold out whole ones, so strips of each are held out:

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
from flatvq.data.reasons import reason_of
from flatvq.data.types import DataSplit, FileStatus, Pixels, Region, Wanted, cut_out, fingerprint_of, whole
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

__all__ = ["Layout", "RegionImages", "gap_for", "layout", "split_photographs"]

# motorcycle_right.png is the stereo twin of motorcycle_left.png: what one holds out the other would show.
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
    """Regions, each at least a crop high and wide."""
    cells: tuple[Region, ...]
    """Held-out crops, a grid without overlap; empty if the photograph is too small for a strip."""


def gap_for(crop: int) -> int:
    """Return the pixels between what is trained on and what is held out.

    A quarter of a crop, and no less than 16: neither a 16-pixel block of JPEG colour nor the reach of a
    bicubic filter (2 pixels) then carries anything across.

    Example:
        >>> gap_for(64), gap_for(256)
        (16, 64)
    """
    return max(16, crop // 4)


def layout(height: int, width: int, crop: int, share: float) -> Layout:
    """Divide a photograph into training regions and held-out cells.

    The strips lie across the longer side, each one crop wide, spread evenly over it: what is held out then
    shows the photograph as training sees it, and not one end of it. There are as many as hold out the share,
    at least one, and no more than leave a crop between them to train on.

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
        turned = layout(width, height, crop, share)
        return Layout(
            training=tuple(region.turned() for region in turned.training),
            cells=tuple(cell.turned() for cell in turned.cells),
        )
    gap = gap_for(crop)
    strips = min(max(1, round(share * width / crop)), (width - crop) // (2 * crop + 2 * gap))
    if strips < 1:
        return _layout_at_end(height, width, crop)
    # Between and beside the strips, each with its two gaps, equal stretches are left to train on.
    stretch = (width - strips * (crop + 2 * gap)) // (strips + 1)
    starts = [number * (stretch + crop + 2 * gap) for number in range(strips + 1)]
    ends = [*(start + stretch for start in starts[:-1]), width]
    return Layout(
        training=tuple(
            Region(0, start, height, end - start) for start, end in zip(starts, ends, strict=True)
        ),
        cells=tuple(cell for end in ends[:-1] for cell in _cells(height, end + gap, crop)),
    )


def _layout_at_end(height: int, width: int, crop: int) -> Layout:
    """Hold out one strip at the end of a photograph that has no room for two stretches beside it."""
    rest = width - crop - gap_for(crop)
    if rest < crop:
        return Layout((Region(0, 0, height, width),), ())
    return Layout((Region(0, 0, height, rest),), _cells(height, width - crop, crop))


def _cells(height: int, left: int, crop: int) -> tuple[Region, ...]:
    """Cut a strip into crops."""
    return tuple(Region(row, left, crop, crop) for row in range(0, height - crop + 1, crop))


class RegionImages:
    """An `ImageSet` of rectangles of photographs, named like `astronaut@0,224` by row and column.

    An image is drawn in proportion to its area in crops, so that every pixel counts about alike.

    Args:
        regions: (name of the photograph, its pixels, the rectangle), each.
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

    def load(self, index: int, wanted: Wanted = whole) -> Pixels:
        """Return a region, or a part of it: uint8 [H, W, 3], read-only."""
        return cut_out(self._pixels[index], wanted)


def split_photographs(recipe: DataRecipe) -> DataSplit:
    """Open the bundled photographs, with a strip of each held out.

    Args:
        recipe: the data section of the recipe.

    Returns:
        Training regions, and held-out cells that touch none of them.

    Raises:
        FlatvqError: if the crop is too large to hold out a strip of any photograph.
    """
    crop, conversion = recipe.crop, Conversion.of(recipe)
    training: list[tuple[str, Pixels, Region]] = []
    cells: list[tuple[str, Pixels, Region]] = []
    file_statuses: list[FileStatus] = []
    for name, file in _files().items():
        pixels = _decoded(file, conversion)
        plan = layout(pixels.shape[0], pixels.shape[1], crop, recipe.validation_share)
        training += [(name, pixels, region) for region in plan.training]
        cells += [(name, pixels, cell) for cell in plan.cells]
        if not plan.cells:
            file_statuses.append(
                FileStatus(name, "validation", "skipped", f"too small to hold out a strip {crop} pixels wide")
            )
    if not cells:
        what = f"no bundled photograph is large enough to hold out crops of data.crop {crop}"
        raise FlatvqError(what, "lower data.crop, raise data.resize, or use a folder of your own")
    used = training[: recipe.limit or None]
    file_statuses += [
        FileStatus(f"{name}@{r.top},{r.left}", "training", "skipped", f"data.limit is {recipe.limit}")
        for name, _, r in training[len(used) :]
    ]
    return DataSplit(
        RegionImages(used, crop),
        RegionImages(cells, crop),
        _sentence(recipe, len(cells)),
        tuple(file_statuses),
    )


def _sentence(recipe: DataRecipe, cells: int) -> str:
    return (
        f"evenly spread strips across each photograph, one crop wide, are never trained on (validation_share "
        f"{recipe.validation_share:g} of its length): {cells} crops of {recipe.crop} x {recipe.crop} pixels "
        f"that do not overlap, at least {gap_for(recipe.crop)} pixels away from everything that is trained on"
    )


def _digest(pixels: Pixels) -> str:
    """Hash an image [H, W, 3]: its shape and its pixels."""
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
    """Find the photographs by name, without importing the packages that hold them: that takes a second."""
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
