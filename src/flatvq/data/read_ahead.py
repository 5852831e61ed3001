"""Read files in blocks by threads, before they are opened, with a bounded number of bytes in memory.

groups        g0          g1          g2      ...     rows, in the order in which they will be opened
memory        opened now  read ahead                  two groups at a time
requests      one for each block of a group, some at a time
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Condition, Thread
from typing import NamedTuple

import numpy as np

from flatvq.data.manifest import Array

__all__ = ["Reader", "Request"]

_GROUPS = 2
_THREADS = 8


class Request(NamedTuple):
    """Files that are read together."""

    rows: Array
    """int64 [N], rows of the manifest."""
    nbytes: int
    """Bytes in memory while they are read."""


class _Slot:
    """A file that is being read or will be."""

    def __init__(self, result: Future[dict[int, bytes]], group: list[int]) -> None:
        self.result = result
        """The files of its request, by row."""
        self.groups = deque([group])
        """For each time that it will be taken, the number of files of its group that were not taken."""
        self.taken = 0
        """How often it is being taken."""


class Reader:
    """Reads groups of files ahead of `take`. At most two groups have files that were not taken.

    Args:
        groups: rows of files, each taken once. Within a group they may be taken in another order.
        requests: divides a group into requests.
        read: reads the files of a request.
        most_bytes: bytes of requests that run at the same time. A larger request runs alone.
    """

    def __init__(
        self,
        groups: Iterable[Array],
        requests: Callable[[Array], Sequence[Request]],
        read: Callable[[Array], Mapping[int, bytes]],
        most_bytes: int,
    ) -> None:
        self._groups, self._requests, self._read, self._most_bytes = groups, requests, read, most_bytes
        self._slots: dict[int, _Slot] = {}
        self._taken_early: Counter[int] = Counter()
        self._open_groups: deque[list[int]] = deque()
        self._pending: set[Future[dict[int, bytes]]] = set()
        self._running_bytes = 0
        self._may_announce = True  # unless the thread submits requests, or has ended
        self._closed = False
        self._changed = Condition()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="flatvq-reads")
        self._thread = Thread(target=self._run, name="flatvq-read-ahead", daemon=True)
        self._thread.start()

    def take(self, row: int) -> bytes | None:
        """Return the content of a file, and free its memory; None if it is not being read.

        Raises:
            Exception: what `read` raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: row in self._slots or not self._is_announcing())
            slot = self._slots.get(row)
            if slot is None:
                self._taken_early[row] += 1
                return None
            group = slot.groups.popleft()
            slot.taken += 1
            if not slot.groups:
                del self._slots[row]
        try:
            return slot.result.result()[row]
        finally:
            with self._changed:
                group[0] -= 1
                slot.taken -= 1
                if not slot.groups and not slot.taken and not slot.result.exception():
                    del slot.result.result()[row]
                self._changed.notify_all()

    def close(self) -> None:
        """Stop reading, and free all memory."""
        self._end(CancelledError())
        self._pool.shutdown(cancel_futures=True)
        self._thread.join()

    def _run(self) -> None:
        try:
            for rows in self._groups:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._has_room())
                    if self._closed:
                        return
                announced = self._announce(self._requests(rows))
                for request, result in announced:
                    with self._changed:
                        self._changed.wait_for(partial(self._may_go_on, request.nbytes))
                        if self._closed:
                            return
                        self._running_bytes += request.nbytes
                        self._pool.submit(self._perform, request, result)
                with self._changed:
                    self._may_announce = True
        except BaseException as error:  # raised by each `take` of a file that was to be read
            self._end(error)
        finally:
            with self._changed:
                self._may_announce = False
                self._changed.notify_all()

    def _is_announcing(self) -> bool:
        """Return whether files are about to be announced."""
        return self._may_announce and self._has_room()

    def _has_room(self) -> bool:
        """Return whether another group may be announced."""
        while self._open_groups and not self._open_groups[0][0]:
            self._open_groups.popleft()
        return len(self._open_groups) < _GROUPS

    def _may_go_on(self, nbytes: int) -> bool:
        """Return whether a request of this size may run, or the reader is closed."""
        running = self._running_bytes
        return self._closed or not running or running + nbytes <= self._most_bytes

    def _announce(self, requests: Sequence[Request]) -> list[tuple[Request, Future[dict[int, bytes]]]]:
        """Make slots for the files of a group. Files that are in memory or were taken are not read again."""
        group = [0]
        announced = []
        with self._changed:
            for request in requests:
                result: Future[dict[int, bytes]] = Future()
                missing = []
                for row in request.rows.tolist():
                    if self._taken_early[row]:
                        self._taken_early[row] -= 1
                        continue
                    group[0] += 1
                    if row in self._slots:
                        self._slots[row].groups.append(group)
                    else:
                        self._slots[row] = _Slot(result, group)
                        missing.append(row)
                if missing:
                    self._pending.add(result)
                    announced.append((Request(np.array(missing), request.nbytes), result))
            self._open_groups.append(group)
            self._may_announce = False
            self._changed.notify_all()
        return announced

    def _perform(self, request: Request, result: Future[dict[int, bytes]]) -> None:
        try:
            result.set_result(dict(self._read(request.rows)))
        except BaseException as error:
            with suppress(InvalidStateError):  # it was cancelled
                result.set_exception(error)
        finally:
            with self._changed:
                self._pending.discard(result)
                self._running_bytes -= request.nbytes
                self._changed.notify_all()

    def _end(self, error: BaseException) -> None:
        with self._changed:
            self._closed = True
            for result in self._pending:
                with suppress(InvalidStateError):
                    result.set_exception(error)
            self._slots.clear()
            self._changed.notify_all()
