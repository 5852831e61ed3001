"""Batches of training crops as pure functions of (seed, step), and the crops that are evaluated.

    step, position -> draw = step x batch + position -> (epoch, place)
    (seed, epoch)        -> a permutation of the epoch's draws; its entry at `place` is a slot
    slot                 -> an image (as many slots as it has repeats)
    (seed, epoch, slot)  -> where to cut, and whether to mirror

Axes: B batch, H W rows and columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatvq.data.manifest import threads
from flatvq.data.types import ImageSet, Pixels, Region
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "NamedCrop", "TrainingCrops", "evaluation_crops", "evenly_spread"]

# Which stream of random numbers: so that the order of an epoch and its crops have nothing in common.
_ORDER, _CROP = 0, 1


@dataclass(frozen=True)
class Batch:
    """One process' share of a training batch."""

    pixels: torch.Tensor
    """uint8 [B, 3, H, W], channels last."""
    names: tuple[str, ...]
    """The image that each crop was cut from."""


class NamedCrop(NamedTuple):
    """A crop to evaluate; unpacks as (name, pixels)."""

    name: str
    """The image that it was cut from."""
    pixels: Pixels
    """uint8 [crop, crop, 3]."""


class _Begun(NamedTuple):
    """A batch that threads are at work on."""

    pixels: Pixels
    """uint8 [B, H, W, 3], filled when all names are there."""
    names: list[Future[list[str]]]
    """The images of each thread's share of it, in order."""


class _Place:
    """Where a crop lies in an image, drawn as soon as the image's size is known, and whether it is mirrored.

    It draws from the same numbers whenever it is asked, as after a file that turned out damaged.
    """

    mirrored = False

    def __init__(self, recipe: DataRecipe, *key: int) -> None:
        self._recipe, self._key = recipe, key
        # Now, because the first image that is decoded drives all else out of the caches.
        self._fresh: np.random.Generator | None = _generator(*key)

    def __call__(self, height: int, width: int) -> Region:
        random, self._fresh = self._fresh or _generator(*self._key), None
        crop = self._recipe.crop
        top = int(random.integers(height - crop, endpoint=True))
        left = int(random.integers(width - crop, endpoint=True))
        self.mirrored = self._recipe.flip and random.random() < 0.5
        return Region(top, left, crop, crop)


class TrainingCrops:
    """Random crops of a set of images, without any memory of what was drawn before.

    Each epoch draws every image as often as its `repeats` say, in an order of its own. All randomness
    comes from counters (numpy's Philox, keyed through SeedSequence), so a batch is the same whichever were
    asked for before, in whichever process.

    Args:
        images: what to cut crops from; none may be smaller than the crop.
        recipe: the data section of the recipe: its crop and flip.
        seed: the trial's seed.
        batch_size: crops per step, over all processes.
        rank: which process this is.
        world_size: how many processes share a batch; each gets an equal, contiguous part of it.

    Raises:
        FlatvqError: if the processes cannot share a batch equally.

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
        # Two, because a batch may straddle two epochs.
        self._order = lru_cache(maxsize=2)(self._permutation)

    def batch(self, step: int) -> Batch:
        """Cut this process' share of one step's batch.

        Args:
            step: the optimiser step, from 0.

        Returns:
            The crops and their images' names.
        """
        pixels = self._unfilled()
        return _batch(pixels, self._fill(pixels, step, range(len(pixels))))

    def batches(
        self, start_step: int, stop_step: int, *, ahead: bool | None = None
    ) -> Generator[Batch, None, None]:
        """Go through the batches of some steps; the next few may be prepared ahead, by threads sharing each.

        Cutting crops is a little work of Python's own, of which threads can do no two at once: where images
        need not be decoded, threads would take twice as long for it, in the time of whoever trains.

        The threads end when the iterator does: at its end, when it is closed early, and on an error, which is
        raised at the step that it belongs to.

        Args:
            start_step: the first step.
            stop_step: the step after the last.
            ahead: whether to use threads, which pays for a caller who waits for a GPU; if None, only where
                images have to be decoded.

        Yields:
            What `batch` returns for each step, in order.
        """
        if ahead is None:
            ahead = not self._images.decoded
        if not ahead:
            yield from map(self.batch, range(start_step, stop_step))
            return
        steps = iter(range(start_step, stop_step))
        workers = threads()
        # All share each batch, so that the first is soon there and none idles at the end; and there are more
        # batches, so that none idles while the training takes its step.
        shares = _shares(len(self._positions), workers)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="flatvq-crops")

        def begun(step: int) -> _Begun:
            pixels = self._unfilled()
            return _Begun(pixels, [pool.submit(self._fill, pixels, step, share) for share in shares])

        try:
            waiting = deque(map(begun, islice(steps, 2 * workers)))
            while waiting:
                pixels, names = waiting.popleft()
                batch = _batch(pixels, chain.from_iterable(share.result() for share in names))
                waiting.extend(map(begun, islice(steps, 1)))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def _unfilled(self) -> Pixels:
        crop = self._recipe.crop
        return np.empty((len(self._positions), crop, crop, 3), np.uint8)

    def _fill(self, pixels: Pixels, step: int, share: range) -> list[str]:
        """Cut some crops of a batch [B, H, W, 3] into their places, and name the images."""
        first = step * self._batch_size + self._positions.start
        drawn = [self._drawn(first + position) for position in share]
        for position, (index, place) in zip(share, drawn, strict=True):
            cut = self._images.load(index, place)
            _copy(cut[:, ::-1] if place.mirrored else cut, pixels[position])
        return [self._images.names[index] for index, _ in drawn]

    def _drawn(self, draw: int) -> tuple[int, _Place]:
        """Say which image a draw, counted over the whole training, is of, and where it is to be cut."""
        epoch, place = divmod(draw, len(self._slots))
        slot = int(self._order(epoch)[place])
        return int(self._slots[slot]), _Place(self._recipe, self._seed, _CROP, epoch, slot)

    def _permutation(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return _generator(self._seed, _ORDER, epoch).permutation(len(self._slots))


def evaluation_crops(images: ImageSet, crop: int, limit: int | None = None) -> Iterator[NamedCrop]:
    """Cut the centre of every image, or of some that are spread evenly over the set.

    Args:
        images: what to cut from; none may be smaller than the crop.
        crop: pixels of the side.
        limit: take this many images at most; None for all.

    Yields:
        The image's name and its centre, uint8 [crop, crop, 3], in the set's order.

    Example:
        >>> from flatvq.data import open_data
        >>> crops = evaluation_crops(open_data(DataRecipe()).validation, crop=64)
        >>> next(crops).pixels.shape
        (64, 64, 3)
    """
    for index in evenly_spread(len(images), limit):
        pixels = images.load(index)
        top, left = (pixels.shape[0] - crop) // 2, (pixels.shape[1] - crop) // 2
        yield NamedCrop(images.names[index], pixels[top : top + crop, left : left + crop].copy())


def evenly_spread(total: int, limit: int | None) -> list[int]:
    """Choose numbers below a total that lie evenly over it.

    Example:
        >>> evenly_spread(10, 4), evenly_spread(2, 4), evenly_spread(3, None)
        ([0, 2, 5, 7], [0, 1], [0, 1, 2])
    """
    if limit is None or limit >= total:
        return list(range(total))
    return [number * total // limit for number in range(limit)]


def _shares(total: int, parts: int) -> list[range]:
    """Divide the numbers below a total into contiguous parts of nearly one length, none of them empty."""
    parts = min(total, parts)
    return [range(total * part // parts, total * (part + 1) // parts) for part in range(parts)]


def _batch(pixels: Pixels, names: Iterable[str]) -> Batch:
    import torch

    return Batch(torch.from_numpy(pixels).permute(0, 3, 1, 2), tuple(names))


def _copy(cut: Pixels, place: Pixels) -> None:
    """Copy a crop, uint8 [H, W, 3], to its place in a batch.

    One whose pixels do not follow one another, such as a mirrored one, goes by channels: NumPy takes four
    times as long over three bytes at a time.
    """
    if cut.strides[1:] == (3, 1):
        place[:] = cut
        return
    for channel in range(3):
        place[:, :, channel] = cut[:, :, channel]


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy=seed, spawn_key=purpose)))
