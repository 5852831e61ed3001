"""Training crops are functions of seed and step, processes share a batch, and threads end cleanly."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flatvq.data import TrainingCrops, evaluation_crops, load_image, open_data
from flatvq.data.types import FileStatus, Region, UnreadableImageError, fingerprint_of
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

SIZES = [(16, 16), (17, 40), (50, 16), (25, 29), (72, 72)]


class Coordinates:
    """An image set whose pixels contain the index of the image, the row and the column."""

    names = tuple(f"image{number}" for number in range(len(SIZES)))
    repeats = (1, 2, 1, 3, 4)
    digests = tuple(f"{number:032x}" for number in range(len(SIZES)))
    fingerprint = fingerprint_of(digests, repeats)
    late_file_statuses = ()
    decoded = False

    def __len__(self) -> int:
        return len(SIZES)

    def size_of(self, index: int) -> tuple[int, int]:
        return SIZES[index]

    def load_region(self, index: int, region: Region) -> np.ndarray:
        height, width = SIZES[index]
        assert region.fits(height, width)
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([np.full_like(rows, index), rows, columns], axis=2).astype(np.uint8)
        return region.of(pixels)


class InMemory(Coordinates):
    decoded = True


class Broken(Coordinates):
    def load_region(self, index: int, region: Region) -> np.ndarray:
        if index == 3:
            raise FlatvqError("the disk is gone", "find it")
        return super().load_region(index, region)


class Damaged(Coordinates):
    """Images 1 and 2 are unreadable, so that image 3 replaces them."""

    def load_region(self, index: int, region: Region) -> np.ndarray:
        if index in (1, 2):
            raise UnreadableImageError
        return super().load_region(index, region)


class Replaced(Coordinates):
    """The images by which `Damaged` is replaced, under the original names."""

    stand_ins = (0, 3, 3, 3, 4)

    def size_of(self, index: int) -> tuple[int, int]:
        return SIZES[self.stand_ins[index]]

    def load_region(self, index: int, region: Region) -> np.ndarray:
        return super().load_region(self.stand_ins[index], region)


class AllDamaged(Coordinates):
    late_file_statuses = (FileStatus("image2", "training", "unreadable", "empty file"),)

    def load_region(self, index: int, region: Region) -> np.ndarray:
        raise UnreadableImageError


def crops(seed: int = 0, batch_size: int = 6, flip: bool = True, **rest: int) -> TrainingCrops:
    return TrainingCrops(Coordinates(), DataRecipe(crop=16, flip=flip), seed, batch_size, **rest)


@given(step=st.integers(0, 1000), history=st.lists(st.integers(0, 1000), max_size=3), seed=st.integers(0, 9))
def test_a_batch_does_not_depend_on_history(step: int, history: list[int], seed: int) -> None:
    used = crops(seed)
    for earlier_step in history:
        used.batch(earlier_step)
    assert torch.equal(used.batch(step).pixels, crops(seed).batch(step).pixels)
    assert used.batch(step).names == crops(seed).batch(step).names


@given(step=st.integers(0, 1000), world_size=st.sampled_from([1, 2, 3, 6]))
def test_processes_share_one_batch(step: int, world_size: int) -> None:
    parts = [crops(rank=rank, world_size=world_size).batch(step) for rank in range(world_size)]
    complete = crops().batch(step)
    assert torch.equal(torch.cat([part.pixels for part in parts]), complete.pixels)
    assert sum((part.names for part in parts), ()) == complete.names


def test_a_batch_must_be_shared_equally() -> None:
    with pytest.raises(
        FlatvqError, match="batch_size 6 cannot be shared by 4 processes: make it a multiple of 4"
    ):
        crops(world_size=4)


@given(seed=st.integers(0, 99), step=st.integers(0, 99))
def test_crops_are_cut_from_the_images_they_name(seed: int, step: int) -> None:
    batch = crops(seed).batch(step)
    assert batch.pixels.dtype == torch.uint8
    assert batch.pixels.shape == (6, 3, 16, 16)
    assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
    for name, (number, rows, columns) in zip(batch.names, batch.pixels.numpy().astype(int), strict=True):
        index = int(name.removeprefix("image"))
        assert (number == index).all()
        height, width = SIZES[index]
        assert (rows == rows[0, 0] + np.arange(16)[:, None]).all()
        assert 0 <= rows[0, 0] <= height - 16
        left = columns.min()
        assert 0 <= left <= width - 16
        forward, backward = left + np.arange(16), left + np.arange(16)[::-1]
        assert (columns == forward).all() or (columns == backward).all()


def test_each_epoch_draws_each_image_by_its_repeats() -> None:
    draws = sum(Coordinates.repeats)
    single = crops(batch_size=1)
    orders = [[single.batch(epoch * draws + place).names[0] for place in range(draws)] for epoch in range(4)]
    expected = Counter(dict(zip(Coordinates.names, Coordinates.repeats, strict=True)))
    assert all(Counter(order) == expected for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] != [crops(seed=1, batch_size=1).batch(place).names[0] for place in range(draws)]


def test_positions_and_mirroring_are_uniform() -> None:
    tops, mirrored = Counter[int](), 0
    for step in range(200):
        batch = crops(batch_size=11).batch(step)
        for name, pixels in zip(batch.names, batch.pixels.numpy(), strict=True):
            mirrored += int(pixels[2, 0, 0] > pixels[2, 0, 1])
            if name == "image3":  # 25 rows: a crop of 16 may begin at any of 10
                tops[int(pixels[1, 0, 0])] += 1
    assert set(tops) == set(range(10))
    assert min(tops.values()) > 30  # 60 expected, standard deviation 7.3
    assert abs(mirrored - 1100) < 100  # standard deviation 23


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("layout", ["pixels", "padded pixels", "channels"])
def test_crops_do_not_depend_on_the_memory_layout_of_images(layout: str, flip: bool) -> None:
    class Laid(Coordinates):
        def load_region(self, index: int, region: Region) -> np.ndarray:
            pixels = super().load_region(index, region)
            if layout == "padded pixels":
                return np.pad(pixels, [(0, 0), (0, 0), (0, 1)])[:, :, :3]
            return pixels.transpose(2, 0, 1).copy().transpose(1, 2, 0) if layout == "channels" else pixels

    laid = TrainingCrops(Laid(), DataRecipe(crop=16, flip=flip), seed=0, batch_size=6)
    for step in range(5):
        assert torch.equal(laid.batch(step).pixels, crops(flip=flip).batch(step).pixels)


def test_the_next_readable_image_replaces_a_damaged_one_and_is_cut_at_its_own_size() -> None:
    damaged, replaced = (
        TrainingCrops(images, DataRecipe(crop=16), seed=0, batch_size=6) for images in (Damaged(), Replaced())
    )
    for step in range(20):
        assert torch.equal(damaged.batch(step).pixels, replaced.batch(step).pixels)
        assert damaged.batch(step).names == replaced.batch(step).names
    evaluated = [crop.pixels for crop in evaluation_crops(Damaged(), crop=16)]
    assert [int(pixels[0, 0, 0]) for pixels in evaluated] == [0, 3, 3, 3, 4]


def test_a_set_without_a_readable_image_is_an_error() -> None:
    message = r"none of the 5 training images can be read any more, such as 'image2' \(empty file\): check"
    with pytest.raises(FlatvqError, match=message):
        TrainingCrops(AllDamaged(), DataRecipe(crop=16), seed=0, batch_size=6).batch(0)
    with pytest.raises(FlatvqError, match=message):
        next(evaluation_crops(AllDamaged(), crop=16))


@pytest.mark.parametrize("flip", [False, True])
def test_regions_are_drawn_from_numbers_that_are_keyed_by_seed_epoch_and_slot(flip: bool) -> None:
    """The draws are written out: top, left, then mirroring. Other draws would change every training."""
    draws, batch_size = sum(Coordinates.repeats), 6

    def keyed(*key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(7, spawn_key=key)))

    for step in range(5):
        batch = crops(seed=7, flip=flip).batch(step)
        for position, pixels in enumerate(batch.pixels.numpy()):
            epoch, place = divmod(step * batch_size + position, draws)
            slot = int(keyed(0, epoch).permutation(draws)[place])
            image = int(np.repeat(np.arange(5), Coordinates.repeats)[slot])
            random = keyed(1, epoch, slot)
            height, width = SIZES[image]
            top, left = int(random.integers(height - 15)), int(random.integers(width - 15))
            columns = left + np.arange(16)
            if flip and random.random() < 0.5:
                columns = columns[::-1]
            assert (pixels[0] == image).all()
            assert (pixels[1] == top + np.arange(16)[:, None]).all()
            assert (pixels[2] == columns).all()


def test_crops_are_not_mirrored_without_flip() -> None:
    pixels = torch.cat([crops(flip=False).batch(step).pixels for step in range(20)])
    assert bool((pixels[:, 2, :, 1:] > pixels[:, 2, :, :-1]).all())


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("flatvq-crops")]


@pytest.mark.parametrize(
    ("ahead", "threads"), [(True, 1), (True, 2), (True, 4), (True, 6), (True, 8), (False, 2)]
)
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 20), (5, 5), (7, 10)])
def test_prefetched_batches_are_the_direct_ones(
    start: int, stop: int, ahead: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flatvq.data.crops.decoding_threads", lambda: threads)
    fetched = list(crops().batches(start, stop, ahead=ahead))
    direct = [crops().batch(step) for step in range(start, stop)]
    assert len(fetched) == len(direct)
    for prefetched, expected in zip(fetched, direct, strict=True):
        assert torch.equal(prefetched.pixels, expected.pixels)
        assert prefetched.names == expected.names
    assert not own_threads()


def test_closing_early_ends_the_threads() -> None:
    with closing(crops().batches(0, 10**9)) as batches:
        next(batches)
        assert own_threads()
    assert not own_threads()


@pytest.mark.parametrize(
    ("images", "ahead", "threads"),
    [(Coordinates, None, True), (InMemory, None, False), (InMemory, True, True), (Coordinates, False, False)],
)
def test_threads_are_used_for_decoding_or_on_request(
    images: type[Coordinates], ahead: bool | None, threads: bool
) -> None:
    cut = TrainingCrops(images(), DataRecipe(crop=16), seed=0, batch_size=6)
    with closing(cut.batches(0, 20, ahead=ahead)) as batches:
        next(batches)
        assert bool(own_threads()) is threads


@pytest.mark.parametrize("ahead", [True, False])
def test_an_error_is_raised_at_its_step_and_ends_the_threads(ahead: bool) -> None:
    broken = TrainingCrops(Broken(), DataRecipe(crop=16), seed=0, batch_size=1)
    draws = [crops(batch_size=1).batch(step).names[0] for step in range(20)]
    batches = broken.batches(0, 20, ahead=ahead)
    for _ in range(draws.index("image3")):
        next(batches)
    with pytest.raises(FlatvqError, match="the disk is gone"):
        next(batches)
    assert not own_threads()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_first_of_several_errors_in_a_batch_is_raised(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AllBroken(Coordinates):
        def load_region(self, index: int, region: Region) -> np.ndarray:
            raise FlatvqError(f"{self.names[index]} is gone", "find it")

    monkeypatch.setattr("flatvq.data.crops.decoding_threads", lambda: threads)
    first = crops().batch(0).names[0]
    with pytest.raises(FlatvqError, match=f"{first} is gone"):
        next(TrainingCrops(AllBroken(), DataRecipe(crop=16), seed=0, batch_size=6).batches(0, 20))
    assert not own_threads()


def test_evaluation_crops_are_centres() -> None:
    evaluated = list(evaluation_crops(Coordinates(), crop=16))
    assert [crop.name for crop in evaluated] == list(Coordinates.names)
    corners = [tuple(int(value) for value in crop.pixels[0, 0]) for crop in evaluated]
    assert corners == [(0, 0, 0), (1, 0, 12), (2, 17, 0), (3, 4, 6), (4, 28, 28)]
    assert all(crop.pixels.shape == (16, 16, 3) and crop.pixels.flags.writeable for crop in evaluated)


def test_a_limit_spreads_the_evaluated_images() -> None:
    assert [crop.name for crop in evaluation_crops(Coordinates(), crop=16, limit=2)] == ["image0", "image2"]


def test_images_set_aside_for_tuning_are_neither_trained_on_nor_held_out(imagenet_sample) -> None:
    recipe = DataRecipe(source="folder", path=str(imagenet_sample / "val"), crop=32, resize=32)
    whole, tuning = open_data(recipe), open_data(recipe.model_copy(update={"tuning_share": 0.25}))
    training, aside = set(tuning.training.names), set(tuning.validation.names)
    assert training | aside == set(whole.training.names)
    assert training.isdisjoint(aside)
    assert aside.isdisjoint(whole.validation.names)
    assert len(aside) == round(0.25 * len(whole.training))
    name = tuning.validation.names[1]
    same = load_image(whole.training, whole.training.names.index(name))
    assert (load_image(tuning.validation, 1) == same).all()
