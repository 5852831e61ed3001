"""Batches of training crops as pure functions of (seed, step).

    step, position       -> draw = step x batch size + position -> (epoch, place)
    (seed, epoch)        -> a permutation of the epoch's slots; its entry at `place` is a slot (shuffling.py)
    slot                 -> an image (which has as many slots as repeats)
    (seed, epoch, slot)  -> the region to cut, and whether to mirror it

Axes: B batch, H W rows and columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatvq.data.in_order import blocks_of
from flatvq.data.shuffling import Order, shuffled
from flatvq.data.stand_in import none_readable
from flatvq.data.survey import decoding_threads
from flatvq.data.types import ImageSet, InBlocks, Pixels, Region, UnreadableImageError
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "TrainingCrops"]

# Two independent streams of random numbers: the order of an epoch, and its crops.
_ORDER, _CROP = 0, 1


@dataclass(frozen=True)
class Batch:
    """One process' share of a training batch."""

    pixels: torch.Tensor
    """uint8 [B, 3, H, W], channels last."""
    names: tuple[str, ...]
    """The image that each crop was drawn from."""


class _Draw(NamedTuple):
    """A random crop."""

    image: int
    """Index of the image."""
    key: tuple[int, ...]
    """Key of the random numbers."""
    region: Region
    """Where to cut."""
    mirrored: bool
    """Whether to mirror the crop."""


class _PendingBatch(NamedTuple):
    """A batch that threads are filling."""

    pixels: Pixels
    """uint8 [B, H, W, 3], complete once all names are available."""
    names: list[Future[list[str]]]
    """The images of each thread's share, in order."""


class TrainingCrops:
    """Random crops of a set of images. A batch depends on the seed and the step alone.

    Each epoch draws every image as often as its `repeats` say, in a new order. If the set reads its files in
    blocks, the order depends on the batch size too. All randomness is counter-based (numpy's Philox, keyed
    through SeedSequence), so a batch does not depend on the batches before it or on the process that cuts it.

    Args:
        images: the images to cut crops from; none may be smaller than the crop.
        recipe: the data section of the recipe, of which `crop` and `flip` are used.
        seed: the trial's seed.
        batch_size: crops per step, over all processes.
        rank: index of this process.
        world_size: number of processes that share a batch; each gets an equal, contiguous part of it.

    Raises:
        FlatvqError: if the batch cannot be divided equally.

    Example:
        >>> from flatvq.data import open_data
        >>> recipe = DataRecipe(crop=64)
        >>> crops = TrainingCrops(open_data(recipe).training, recipe, seed=0, batch_size=4)
        >>> batch = crops.batch(step=100)
        >>> tuple(batch.pixels.shape), len(batch.names)
        ((4, 3, 64, 64), 4)
    """

    def __init__(
        self,
        images: ImageSet,
        recipe: DataRecipe,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            what = f"train.batch_size {batch_size} cannot be shared by {world_size} processes"
            raise FlatvqError(what, f"make it a multiple of {world_size}")
        self._images, self._recipe, self._seed = images, recipe, seed
        self._batch_size = batch_size
        share = batch_size // world_size
        self._positions = range(rank * share, (rank + 1) * share)
        self._slots = np.repeat(np.arange(len(images)), images.repeats)
        self._blocks = blocks_of(images)
        # A batch may contain the end of one epoch and the start of the next; files are read further ahead.
        self._order = lru_cache(maxsize=4)(self._order_of)

    def batch(self, step: int) -> Batch:
        """Cut this process' share of one step's batch.

        Args:
            step: the optimizer step, from 0.

        Returns:
            The crops and the names of their images.

        Raises:
            FlatvqError: if no image can be read any more.
        """
        pixels = self._empty_batch()
        return _batch(pixels, self._fill(pixels, step, range(len(pixels))))

    def batches(
        self, start_step: int, stop_step: int, *, ahead: bool | None = None
    ) -> Generator[Batch, None, None]:
        """Iterate over the batches of some steps, optionally prepared ahead by threads that share each batch.

        Without decoding, most of the work on a crop is Python code, which threads cannot run in parallel:
        threads would take twice as long, at the expense of the training.

        The threads end with the iterator: at its end, when it is closed early, and on an error. An error is
        raised at the step that it belongs to.

        Args:
            start_step: the first step.
            stop_step: the step after the last.
            ahead: whether to use threads, which is faster if the caller waits for a GPU. None uses them only
                if images have to be decoded.

        Yields:
            What `batch` returns for each step, in order.
        """
        if ahead is None:
            ahead = not self._images.decoded
        with self._reading(start_step, stop_step):
            if ahead:
                yield from self._batches_ahead(start_step, stop_step)
            else:
                yield from map(self.batch, range(start_step, stop_step))

    def _reading(self, start_step: int, stop_step: int) -> AbstractContextManager[None]:
        """Read files ahead within the context, if the images are read in blocks."""
        if self._blocks is None or not isinstance(self._images, InBlocks):
            return nullcontext()
        return self._images.upcoming(self._windows(start_step, stop_step))

    def _batches_ahead(self, start_step: int, stop_step: int) -> Generator[Batch, None, None]:
        """Iterate over batches that threads prepare ahead."""
        steps = iter(range(start_step, stop_step))
        workers = decoding_threads()
        # All threads share each batch, so that the first is ready soon and no thread idles at the end.
        # Several batches are pending, so that no thread idles during a training step.
        shares = _divide(len(self._positions), workers)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="flatvq-crops")

        def submit(step: int) -> _PendingBatch:
            pixels = self._empty_batch()
            return _PendingBatch(pixels, [pool.submit(self._fill, pixels, step, share) for share in shares])

        try:
            pending = deque(map(submit, islice(steps, 2 * workers)))
            while pending:
                pixels, names = pending.popleft()
                batch = _batch(pixels, chain.from_iterable(share.result() for share in names))
                pending.extend(map(submit, islice(steps, 1)))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def _empty_batch(self) -> Pixels:
        crop = self._recipe.crop
        return np.empty((len(self._positions), crop, crop, 3), np.uint8)

    def _fill(self, pixels: Pixels, step: int, share: range) -> list[str]:
        """Cut some crops of a batch into `pixels` [B, H, W, 3]; return the names of their images."""
        first = step * self._batch_size + self._positions.start
        # All draws come first: decoding an image evicts everything else from the processor's caches.
        draws = [self._draw(first + position) for position in share]
        for position, draw in zip(share, draws, strict=True):
            _copy(self._cut(draw), pixels[position])
        return [self._images.names[draw.image] for draw in draws]

    def _draw(self, number: int) -> _Draw:
        """Return the draw of this number, counted over the whole training."""
        epoch, place = divmod(number, len(self._slots))
        slot = int(self._order(epoch).images[place])
        return self._draw_from(int(self._slots[slot]), (self._seed, _CROP, epoch, slot))

    def _draw_from(self, image: int, key: tuple[int, ...]) -> _Draw:
        """Draw a crop of an image."""
        random, crop = _generator(*key), self._recipe.crop
        height, width = self._images.size_of(image)
        top = int(random.integers(height - crop, endpoint=True))
        left = int(random.integers(width - crop, endpoint=True))
        mirrored = self._recipe.flip and random.random() < 0.5
        return _Draw(image, key, Region(top, left, crop, crop), mirrored)

    def _cut(self, draw: _Draw) -> Pixels:
        """Cut a crop. If the image is unreadable, draw from the next one, with the same random numbers."""
        for _ in range(len(self._images)):
            try:
                pixels = self._images.load_region(draw.image, draw.region)
            except UnreadableImageError:
                draw = self._draw_from((draw.image + 1) % len(self._images), draw.key)
            else:
                return pixels[:, ::-1] if draw.mirrored else pixels
        raise none_readable(self._images)

    def _order_of(self, epoch: int) -> Order:
        """Return the order of the slots in an epoch."""
        random, count = _generator(self._seed, _ORDER, epoch), len(self._slots)
        if self._blocks is None:
            return Order(random.permutation(count), np.array([0, count]))
        return shuffled(self._blocks.of(self._slots), random, epoch * count, self._batch_size)

    def _windows(self, start_step: int, stop_step: int) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
        """Yield the images that this process loads in some steps, for each window."""
        number, stop = start_step * self._batch_size, stop_step * self._batch_size
        while number < stop:
            epoch, place = divmod(number, len(self._slots))
            order = self._order(epoch)
            end = int(order.windows[np.searchsorted(order.windows, place, side="right")])
            numbers = np.arange(number, min(number + end - place, stop))
            positions = numbers % self._batch_size
            own = (self._positions.start <= positions) & (positions < self._positions.stop)
            yield self._slots[order.images[place : place + len(numbers)][own]]
            number += end - place


def _divide(total: int, count: int) -> list[range]:
    """Divide `range(total)` into at most `count` contiguous ranges of nearly equal length, none empty."""
    count = min(total, count)
    return [range(total * number // count, total * (number + 1) // count) for number in range(count)]


def _batch(pixels: Pixels, names: Iterable[str]) -> Batch:
    import torch

    return Batch(torch.from_numpy(pixels).permute(0, 3, 1, 2), tuple(names))


def _copy(crop: Pixels, target: Pixels) -> None:
    """Copy a crop, uint8 [H, W, 3], into a batch.

    If the pixels of a row are not contiguous, as in a mirrored crop, the channels are copied one by one:
    NumPy takes four times as long for three bytes at a time.
    """
    if crop.strides[1:] == (3, 1):
        target[:] = crop
        return
    for channel in range(3):
        target[:, :, channel] = crop[:, :, channel]


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy=seed, spawn_key=purpose)))
