"""Computes results in threads before they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from queue import Queue
from threading import Event, Thread
from typing import Any, TypeVar

__all__ = ["bounded_map", "iterate_ahead"]

T = TypeVar("T")
S = TypeVar("S")

_END = object()


def bounded_map(
    pool: ThreadPoolExecutor, function: Callable[[S], T], items: Iterable[S], ahead: int
) -> Iterator[T]:
    """Map in threads, in order, at most `ahead` items ahead of the reader.

    Example:
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(bounded_map(pool, abs, [-1, 2, -3], ahead=2))
        [1, 2, 3]
    """
    remaining = iter(items)
    pending = deque(pool.submit(function, item) for item in islice(remaining, ahead))
    try:
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        for future in pending:
            future.cancel()


def iterate_ahead(items: Generator[T, None, None], ahead: int) -> Generator[T, None, None]:
    """Iterate over a generator in another thread, at most `ahead` items ahead of the reader.

    The thread ends with this generator, and closes the given one. An error is raised after the items before
    it.

    Example:
        >>> list(iterate_ahead((number for number in range(3)), ahead=1))
        [0, 1, 2]
    """
    queue: Queue[tuple[Any, BaseException | None]] = Queue(ahead)
    stop = Event()

    def fill() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                if stop.is_set():
                    break
                queue.put((item, None))
            items.close()
        except BaseException as error:
            end = error
        queue.put((_END, end))

    thread = Thread(target=fill, name="flatvq-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stop.set()
        while thread.is_alive():
            while not queue.empty():
                queue.get_nowait()
            thread.join(0.05)
