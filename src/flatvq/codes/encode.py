"""Encodes images to shards of codes: decoding, encoding and writing overlap.

    threads          images of files ──▶ uint8 pixels     (a bounded number ahead)
    one thread       pixels ──▶ batches                   (of one shard and one size)
    this thread      batches ──▶ indices                  (the model, in float32)
    one thread       indices ──▶ shard, its record        (atomic, in order)

A shard depends on its images, the tokenizer and the settings alone. Batches never span two shards, so a
resumed encoding repeats the same computations.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.codes.ahead import bounded_map, iterate_ahead
from flatvq.codes.arithmetic import float32_arithmetic, require_float32
from flatvq.codes.manifest import CodeManifest, Shard, Unreadable, digest_of, shard_name
from flatvq.codes.shards import Row, index_dtype, shard_bytes
from flatvq.data import ImageSet, Region, UnreadableImageError
from flatvq.data.in_order import reading_in_order
from flatvq.data.survey import decoding_threads
from flatvq.data.types import Pixels
from flatvq.evaluate.batches import batches
from flatvq.files import write_bytes
from flatvq.model.pixels import with_channels
from flatvq.tokenizers import Tokenizer
from flatvq.tokenizers.outputs import encoded

__all__ = ["Encoder"]

Progress = Callable[[int, int], None]

# Batches that are ready before the model needs them.
_BATCHES_AHEAD = 2


class _Batch(NamedTuple):
    """Images of one size and one shard."""

    shard: int
    names: list[str]
    pixels: Tensor
    """uint8 [B, 3, H, W]."""


@dataclass
class Encoder:
    """Encodes shards of the images of a manifest."""

    tokenizer: Tokenizer
    """The tokenizer, in eval mode."""
    images: ImageSet
    """The images."""
    crop: int
    """Side of the centre crops; 0 for whole images."""
    device: torch.device
    """The device of the tokenizer."""
    folder: Path
    """The folder of the shards."""
    manifest: CodeManifest
    """What is encoded."""
    record: Callable[[Shard], None]
    """Called with each shard that is complete, in a thread."""

    def run(self, shards: Sequence[int], complete: Container[str], progress: Progress) -> None:
        """Encode the shards of some numbers that are not complete.

        Args:
            shards: the numbers, in order.
            complete: the names of shards that are complete.
            progress: called with the number of images of these shards that are done, and of all.
        """
        require_float32(self.tokenizer)
        missing = [number for number in shards if self._name(number) not in complete]
        total = sum(len(self.manifest.indices_of(number)) for number in shards)
        done = total - sum(len(self.manifest.indices_of(number)) for number in missing)
        progress(done, total)
        with (
            ThreadPoolExecutor(1, thread_name_prefix="flatvq-shards") as writer,
            closing(iterate_ahead(self._batches(missing), _BATCHES_AHEAD)) as stream,
            torch.inference_mode(),
            float32_arithmetic(self.device),
        ):
            writing: Future[None] | None = None
            pending = next(stream, None)
            for number in missing:
                rows: list[Row] = []
                while pending is not None and pending.shard == number:
                    rows += self._encode(pending)
                    progress(done + len(rows), total)
                    pending = next(stream, None)
                done += len(self.manifest.indices_of(number))
                if writing is not None:
                    writing.result()
                writing = writer.submit(self._write, number, rows)
            if writing is not None:
                writing.result()
        progress(total, total)

    def _name(self, number: int) -> str:
        return shard_name(number, self.manifest.shard_count)

    def _batches(self, shards: Sequence[int]) -> Generator[_Batch, None, None]:
        """Yield the images of some shards in batches, decoded ahead by threads."""
        places = [index for number in shards for index in self.manifest.indices_of(number)]
        size = self.manifest.settings.batch_size
        with (
            reading_in_order(self.images, places),
            ThreadPoolExecutor(decoding_threads(), thread_name_prefix="flatvq-images") as pool,
        ):
            decoded = bounded_map(pool, self._pixels, places, 2 * size + 2 * decoding_threads())
            for number in shards:
                chosen = islice(decoded, len(self.manifest.indices_of(number)))
                readable = ((name, pixels) for name, pixels in chosen if pixels is not None)
                for names, pixels in batches(readable, size):
                    yield _Batch(number, names, pixels)

    def _pixels(self, index: int) -> tuple[str, Pixels | None]:
        """Decode an image; None if it is unreadable."""
        height, width = self.images.size_of(index)
        region = Region(0, 0, height, width)
        if crop := self.crop:
            region = Region((height - crop) // 2, (width - crop) // 2, crop, crop)
        try:
            return self.images.names[index], self.images.load_region(index, region)
        except UnreadableImageError:
            return self.images.names[index], None

    def _encode(self, batch: _Batch) -> list[Row]:
        height, width = batch.pixels.shape[2:]
        pixels = with_channels(batch.pixels, self.tokenizer.preprocess.channels).to(self.device).float() / 255
        below, right = -height % self.tokenizer.factor, -width % self.tokenizer.factor
        if below or right:
            pixels = F.pad(pixels, (0, right, 0, below), mode="replicate")
        levels = [
            indices.cpu().numpy().astype(index_dtype(level.codebook_size))
            for indices, level in zip(encoded(self.tokenizer, pixels), self.tokenizer.levels, strict=True)
        ]
        return [
            Row(name, height, width, tuple(level[number] for level in levels))
            for number, name in enumerate(batch.names)
        ]

    def _write(self, number: int, rows: Sequence[Row]) -> None:
        """Write a shard, then its record."""
        settings = self.manifest.settings
        content = shard_bytes(rows, self.tokenizer.levels, settings.row_group_size)
        write_bytes(self.folder / self._name(number), content)
        names = {self.images.names[index] for index in self.manifest.indices_of(number)}
        unreadable = sorted(
            (status.name, status.reason) for status in self.images.late_file_statuses if status.name in names
        )
        shard = Shard(
            name=self._name(number),
            rows=len(rows),
            bytes=len(content),
            sha256=digest_of(content),
            unreadable=tuple(Unreadable(name=name, reason=reason) for name, reason in unreadable),
        )
        self.record(shard)
