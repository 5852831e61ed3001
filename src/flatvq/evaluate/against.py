"""Compares a tokenizer with image codecs whose files are not larger, on the same crops.

Axes: H W rows and columns, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from flatvq.codec import Codec
from flatvq.codec.container import CodedImage, pack, share_of_collection
from flatvq.data import evaluation_crops, open_images, whole_images
from flatvq.data.evaluated import evenly_spread
from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError
from flatvq.evaluate.definitions import protocol_id
from flatvq.evaluate.image_codecs import Files, ImageCodec
from flatvq.evaluate.provenance import measured_on
from flatvq.evaluate.quality import Quality, Tally
from flatvq.evaluate.rate_distortion import QUALITIES, Curve, bits_at_psnr
from flatvq.evaluate.reconstruction import as_pixels, nominal_bytes, planes_of, reconstructed
from flatvq.evaluate.spread import mean_with_interval
from flatvq.tokenizers import Tokenizer

__all__ = ["PROTOCOL", "Column", "evaluate_against"]

PROTOCOL = "flatvq-against-1"
"""The id of the comparison. Its number is raised when the settings of the codecs, the sizes of files or the
metrics change."""

_COLUMNS = 4


@dataclass(frozen=True)
class Column:
    """One image in all versions, uint8 [H, W, C]; None for a codec whose files do not fit."""

    name: str
    pictures: dict[str, Pixels | None]


@dataclass
class _Row:
    """The sums of one codec at one budget of bytes."""

    codec: ImageCodec
    tally: Tally = field(default_factory=Tally)
    sizes: list[int] = field(default_factory=list)
    qualities: list[int] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    pixels: int = 0

    def to_dict(self, images: int) -> dict[str, Any]:
        fitting = len(self.sizes)
        return {
            "codec": self.codec.name,
            "images": fitting,
            "images_that_do_not_fit": images - fitting,
            "bytes_per_image": fmean(self.sizes) if fitting else None,
            "bits_per_pixel": 8 * sum(self.sizes) / self.pixels if fitting else None,
            "quality": fmean(self.qualities) if fitting else None,
            "metrics": self.tally.means(),
            "tokenizer_minus_codec_psnr_db": mean_with_interval(self.differences),
        }


def evaluate_against(
    tokenizer: Tokenizer,
    folder: str | Path,
    codecs: Sequence[ImageCodec],
    *,
    crop: int | None = None,
    resize: int = 0,
    white_level: int = 0,
    limit: int | None = None,
    weights: str | Path | None = None,
    own_codec: Codec | None = None,
    collection: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    image_column: str = "image",
    image_suffix: str = "",
) -> tuple[dict[str, Any], list[Column]]:
    """Measure a tokenizer and image codecs at equal bytes on the images of a folder.

    For each image, a codec may use as many bytes as the tokenizer. It uses the highest quality whose file is
    not larger. There is a comparison for the nominal bytes of the tokenizer; if `own_codec` has a prior, for
    the bytes of its .fvq file; and with `collection`, for the image's share of a .fvqs file of all images
    without names.

    Args:
        tokenizer: the tokenizer.
        folder: the folder of images, with its sub-folders; or a pattern or URL of .tar or .parquet shards.
        codecs: the codecs.
        crop: side of the centre crops in pixels; None for whole images.
        resize: pixels of the shorter side after scaling, before the crop; 0 for the original size.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.
        limit: the number of images, evenly spread over the folder; None for all.
        weights: folder with published weights; LPIPS and rFID are computed if it has their weights.
        own_codec: writes the compressed files of the tokenizer; None if there are none.
        collection: whether to compare at the bytes of a .fvqs file too.
        progress: called with the number of finished images and the number of all images.
        image_column: the column of images in parquet shards.
        image_suffix: the suffix of images in tar shards; empty for all images.

    Returns:
        The results, which docs/how-to/compare.md describes, and some images in all versions.

    Raises:
        FlatvqError: if the folder contains no readable image, the weights are invalid, or the tokenizer has
            no .fvqs files.
    """
    if collection and own_codec is None:
        what = "only tokenizers of flatvq write .fvqs files"
        raise FlatvqError(what, "leave out --collection, or give a tokenizer of flatvq")
    smallest = crop or tokenizer.factor
    opened = open_images(folder, smallest, resize, white_level, None, image_column, image_suffix)
    quality = Quality(None if weights is None else Path(weights))
    total = len(evenly_spread(len(opened.images), limit))

    def images() -> Iterator[tuple[str, Pixels]]:
        if crop is not None:
            yield from evaluation_crops(opened.images, crop, limit)
            return
        yield from whole_images(opened.images, limit)

    shown = set(evenly_spread(total, _COLUMNS))
    comparison = _Comparison(tokenizer, codecs, quality, own_codec, shown, total if collection else 0)
    progress(0, total)
    for done, (_, (name, pixels)) in enumerate(zip(range(total), images(), strict=True), start=1):
        comparison.add(name, pixels)
        progress(done, total)
    result = {
        "protocol": PROTOCOL,
        "evaluation_protocol": protocol_id(crop, resize, tokenizer.preprocess.channels, white_level),
        "data": str(folder),
        "crop": crop,
        "resize": resize,
        "white_level": white_level,
        "limit": limit,
        **comparison.to_dict(),
        "not_measured": quality.missing,
        "packages": quality.packages,
        "measured_on": measured_on(opened.images.fingerprint, None, quality.files),
        "files": [asdict(file) for file in (*opened.file_statuses, *opened.images.late_file_statuses)],
    }
    return result, comparison.columns


class _Comparison:
    """All sums of a comparison.

    Args:
        tokenizer: the tokenizer.
        codecs: the image codecs.
        quality: computes the metrics.
        own_codec: writes the compressed files of the tokenizer; None if there are none.
        shown: the numbers of the images to keep in all versions.
        in_collection: the number of images of the .fvqs file; 0 for no comparison at its bytes.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        codecs: Sequence[ImageCodec],
        quality: Quality,
        own_codec: Codec | None,
        shown: set[int],
        in_collection: int,
    ) -> None:
        self.tokenizer, self.codecs, self.quality = tokenizer, codecs, quality
        self.own_codec, self.shown, self.in_collection = own_codec, shown, in_collection
        coded = own_codec is not None and own_codec.prior.kind != "none"
        budgets = ["nominal", *(["file"] if coded else []), *(["collection"] if in_collection else [])]
        self.rows = {budget: [_Row(codec) for codec in codecs] for budget in budgets}
        self.curves = [Curve(codec) for codec in codecs]
        self.own = Tally()
        self.coded: list[CodedImage] = []
        self.columns: list[Column] = []
        self.images = self.pixels = 0

    def add(self, name: str, pixels: Pixels) -> None:
        """Measure an image, uint8 [H, W, 3]."""
        planes = planes_of(self.tokenizer, pixels)
        original = as_pixels(planes)
        height, width = original.shape[:2]
        stored = as_pixels(reconstructed(self.tokenizer, planes))
        original_features = self.quality.features_of(original)
        sizes = {"nominal": nominal_bytes(self.tokenizer, height, width)}
        if self.own_codec is not None:
            self.coded.append(self.own_codec.to_streams(pixels))
            file = pack(self.own_codec.prior.kind, self.own_codec.identity, [self.coded[-1]], None)
            sizes["file"] = float(len(file))
        if self.in_collection:
            earlier = self.coded[-2] if self.images else None
            before = (earlier.width, earlier.height) if earlier else (0, 0)
            sizes["collection"] = share_of_collection(self.coded[-1], before, self.in_collection)
        values = self.quality.compare(original, stored, original_features)
        self.own.add(
            {**values, **{f"{budget}_bytes": size for budget, size in sizes.items()}},
            original_features,
        )
        pictures: dict[str, Pixels | None] = {"original": original, "tokenizer": stored}
        for number, codec in enumerate(self.codecs):
            files = Files(codec, original)
            self.curves[number].add(files, original)
            for budget, rows in self.rows.items():
                decoded = self._fit(
                    rows[number], files, original, ceil(sizes[budget]), original_features, values
                )
                if budget == "nominal":
                    pictures[codec.name] = decoded
        if self.images in self.shown:
            self.columns.append(Column(name, pictures))
        self.images += 1
        self.pixels += height * width

    def _fit(
        self,
        row: _Row,
        files: Files,
        original: Pixels,
        limit: int,
        original_features: dict[str, Tensor],
        own: dict[str, Any],
    ) -> Pixels | None:
        """Measure a codec at the highest quality within a limit; return its image, None if none fits."""
        largest = files.largest_within(limit)
        if largest is None:
            return None
        quality, content = largest
        decoded = row.codec.decode(content, original.shape[2])
        values = self.quality.compare(original, decoded, original_features)
        row.tally.add(values, original_features)
        row.sizes.append(len(content))
        row.qualities.append(quality)
        row.differences.append(own["psnr_db"] - values["psnr_db"])
        row.pixels += original.shape[0] * original.shape[1]
        return decoded

    def to_dict(self) -> dict[str, Any]:
        """Return the figures."""
        means = self.own.means()
        sizes = {key.removesuffix("_bytes"): means.pop(key) for key in list(means) if key.endswith("_bytes")}
        if self.own_codec is not None:
            names = [""] * len(self.coded)
            collection = pack(self.own_codec.prior.kind, self.own_codec.identity, self.coded, names)
            sizes["collection"] = len(collection) / self.images
        curves = {curve.codec.name: curve.points() for curve in self.curves}
        psnr_db = means["psnr_db"]
        assert psnr_db is not None
        return {
            "images": self.images,
            "codecs": {
                codec.name: {"label": codec.label, "version": codec.version, "settings": dict(codec.settings)}
                for codec in self.codecs
            },
            "prior": self.own_codec.prior.kind if self.own_codec is not None else None,
            "tokenizer": {
                "bytes_per_image": sizes,
                "bits_per_pixel": {
                    kind: 8 * size * self.images / self.pixels for kind, size in sizes.items() if size
                },
                "metrics": means,
            },
            "at_equal_bytes": {
                budget: [row.to_dict(self.images) for row in rows] for budget, rows in self.rows.items()
            },
            "curve_qualities": list(QUALITIES),
            "curves": curves,
            "bits_per_pixel_at_equal_psnr": {
                name: bits_at_psnr(points, psnr_db) for name, points in curves.items()
            },
        }
