"""The order of images in blocks, against a definition in plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flatvq.data.shuffling import shuffled
from flatvq.data.types import Blocks


def brute_force(
    numbers: list[int], nbytes: list[int], most: int, seed: int, first: int, batch_size: int
) -> tuple[list[int], list[int]]:
    """Shuffle as `flatvq.data.shuffling` says, with loops and the same random numbers."""
    random = np.random.default_rng(seed)
    different = sorted(set(numbers))
    rank = dict(zip(different, random.permutation(len(different)).tolist(), strict=True))
    key = random.permutation(len(numbers)).tolist()
    places: list[int] = []
    starts = [0]
    window: list[int] = []
    filled = 0

    def deal() -> None:
        """Give each position of the batches its images of the window."""
        at = {place: (first + place) % batch_size for place in range(len(places), len(places) + len(window))}
        dealt: dict[int, int] = {}
        images = iter(window)
        for position in range(batch_size):
            for place in [place for place in at if at[place] == position]:
                dealt[place] = next(images)
        places.extend(dealt[place] for place in sorted(dealt))
        starts.append(len(places))
        window.clear()

    for block in sorted(different, key=rank.__getitem__):
        images = sorted((n for n in range(len(numbers)) if numbers[n] == block), key=key.__getitem__)
        size = sum(nbytes[image] for image in images)
        if window and filled + size > most:
            deal()
            filled = 0
        window += images
        filled += size
    deal()
    return places, starts


@given(
    numbers=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    seed=st.integers(0, 99),
    most=st.integers(1, 400),
    first=st.integers(0, 99),
    batch_size=st.integers(1, 9),
)
def test_the_order_is_its_definition(
    numbers: list[int], seed: int, most: int, first: int, batch_size: int
) -> None:
    nbytes = [1 + 7 * number % 13 for number in range(len(numbers))]
    order = shuffled(
        Blocks(np.array(numbers), np.array(nbytes), most), np.random.default_rng(seed), first, batch_size
    )
    assert (order.images.tolist(), order.windows.tolist()) == brute_force(
        numbers, nbytes, most, seed, first, batch_size
    )
    assert sorted(order.images.tolist()) == list(range(len(numbers)))
    for start, stop in zip(order.windows[:-1], order.windows[1:], strict=True):
        window = order.images[start:stop]
        assert sum(nbytes[n] for n in window) <= most or len({numbers[n] for n in window}) == 1


def test_all_orders_of_a_window_are_reached() -> None:
    blocks = Blocks(np.array([0, 0, 1, 1]), np.ones(4, np.int64), 4)
    orders = {tuple(shuffled(blocks, np.random.default_rng(n), 0, 1).images) for n in range(300)}
    assert len(orders) == 8  # two orders of the blocks, and of the images of each
    firsts = [shuffled(blocks, np.random.default_rng(n), 0, 1).images[0] for n in range(2000)]
    assert np.all(np.abs(np.bincount(firsts) / 2000 - 0.25) < 0.05)


def test_a_process_needs_its_own_blocks_alone() -> None:
    blocks = Blocks(np.repeat(np.arange(64), 10), np.ones(640, np.int64), 320)
    order = shuffled(blocks, np.random.default_rng(0), 0, 32)
    batches = order.images.reshape(-1, 32)
    for window in (batches[:10], batches[10:]):
        shares = [set(blocks.numbers[window[:, 8 * rank : 8 * rank + 8]].ravel()) for rank in range(4)]
        assert len(set().union(*shares)) == 32
        assert sum(map(len, shares)) <= 32 + 3
        assert all(len(set(blocks.numbers[batch])) >= 31 for batch in window)
