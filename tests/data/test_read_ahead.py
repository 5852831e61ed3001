"""Files that are read ahead: all are delivered, few are in memory, and errors reach the reader."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from flatvq.data.read_ahead import Reader, Request

SIZE = 10


class Source:
    """Files of ten bytes in blocks of four, and how many of them were read and are in memory."""

    def __init__(self) -> None:
        self.reads: list[list[int]] = []
        self.held = self.most = 0
        self.lock = threading.Lock()

    def requests(self, rows: np.ndarray) -> list[Request]:
        blocks = [rows[rows // 4 == block] for block in dict.fromkeys((rows // 4).tolist())]
        return [Request(block, SIZE * len(block)) for block in blocks]

    def read(self, rows: np.ndarray) -> dict[int, bytes]:
        with self.lock:
            self.reads.append(rows.tolist())
            self.held += len(rows)
            self.most = max(self.most, self.held)
        return {row: str(row).encode() * SIZE for row in rows.tolist()}

    def reader(self, groups: object, most_bytes: int = 10**6) -> Reader:
        return Reader(groups, self.requests, self.read, most_bytes)

    def take(self, reader: Reader, row: int) -> bool:
        content = reader.take(row)
        if content is None:
            return False
        assert content == str(row).encode() * SIZE
        with self.lock:
            self.held -= 1
        return True


@pytest.fixture
def source() -> Source:
    return Source()


def test_every_file_is_delivered_and_two_groups_are_in_memory(source: Source) -> None:
    groups = [np.arange(start, start + 8) for start in range(0, 80, 8)]
    reader = source.reader(iter(groups), most_bytes=SIZE)
    random = np.random.default_rng(0)
    direct = sum(not source.take(reader, row) for group in groups for row in random.permutation(group))
    reader.close()
    assert len({row for rows in source.reads for row in rows}) == sum(map(len, source.reads))
    assert sum(map(len, source.reads)) + direct >= 80
    assert source.most <= 16


def test_a_file_in_two_groups_is_read_once_if_it_is_in_memory(source: Source) -> None:
    reader = source.reader([np.array([0, 1]), np.array([1, 2])])
    while len(reader._open_groups) < 2:
        pass
    assert all(source.take(reader, row) for row in (0, 1, 1, 2))
    reader.close()
    assert sorted(row for rows in source.reads for row in rows) == [0, 1, 2]


def test_a_file_that_was_taken_early_is_not_read_later(source: Source) -> None:
    reader = source.reader([np.array([0]), np.array([4]), np.array([8, 9])])
    # While the requests of the second group are submitted, `take` does not wait for the third group.
    while len(reader._open_groups) < 2 or not reader._may_announce:
        pass
    source.reads.clear()
    assert reader.take(8) is None  # its group comes after two that are open
    assert [source.take(reader, row) for row in (0, 4, 9)] == [True] * 3
    reader.close()
    assert 8 not in [row for rows in source.reads for row in rows]


def test_an_error_of_a_read_reaches_each_file_of_it(source: Source) -> None:
    def read(rows: np.ndarray) -> dict[int, bytes]:
        if 0 in rows:
            raise OSError("broken")
        return source.read(rows)

    reader = Reader([np.array([0, 1, 4])], source.requests, read, 100)
    while 4 not in reader._slots:
        pass
    for row in (0, 1):
        with pytest.raises(OSError, match="broken"):
            reader.take(row)
    assert source.take(reader, 4)
    reader.close()


def test_an_error_of_the_groups_reaches_the_reader(source: Source) -> None:
    def groups() -> Iterator[np.ndarray]:
        yield np.array([0])
        raise ValueError("no order")

    def read(rows: np.ndarray) -> dict[int, bytes]:
        reading.wait()
        return source.read(rows)

    reading = threading.Event()
    reader = Reader(groups(), source.requests, read, 100)
    reader._thread.join()
    reading.set()
    assert reader.take(0) is None  # to be read alone, as nothing is read ahead any more
    reader.close()


def test_closing_ends_all_threads(source: Source) -> None:
    before = threading.active_count()
    reader = source.reader(np.arange(start, start + 8) for start in range(0, 10**6, 8))
    source.take(reader, 0)
    reader.close()
    assert threading.active_count() == before
