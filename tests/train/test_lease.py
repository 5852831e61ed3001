"""A run has at most one owner, for any order of calls, also if an owner is paused."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flatvq.files import replacing_folder, write_text
from flatvq.train import lease
from flatvq.train.lease import BusyError, LeaseLostError, Timing, leased, newest_owner
from flatvq.train.owner import Owner, this_process

ELSEWHERE = Owner("other-host", 1, "another machine", "1")


def _write_owner(run: Path, owner: Owner, attempt: int = 1) -> None:
    folder = run / ".lease" / f"{attempt:08d}"
    stage = folder / "stage"
    stage.mkdir(parents=True, exist_ok=True)
    lease._write(stage, owner)


class _Clock:
    """A clock that only `sleep` moves. Owners may do something in the meantime."""

    def __init__(self, each: Callable[[float], None] = lambda now: None) -> None:
        self.now, self.each = 1e6, each

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.each(self.now)

    def timing(self) -> Timing:
        return Timing(beat=1000.0, expiry=60.0, poll=1.0, clock=lambda: self.now, sleep=self.sleep)


def test_an_owner_on_another_host_without_heartbeats_is_succeeded_after_a_minute(tmp_path: Path) -> None:
    _write_owner(tmp_path, ELSEWHERE)
    clock = _Clock()
    with leased(tmp_path, timing=clock.timing()) as held:
        assert held.attempt == 2
        assert 60 <= clock.now - 1e6 <= 61
        assert newest_owner(tmp_path)[1] == this_process()
    with leased(tmp_path, timing=clock.timing()) as held:
        assert held.attempt == 3, "a released lease is free at once"
    assert clock.now - 1e6 <= 61


def test_an_owner_whose_heartbeats_go_on_keeps_the_run(tmp_path: Path) -> None:
    _write_owner(tmp_path, ELSEWHERE)

    def beat(now: float) -> None:
        _write_owner(tmp_path, Owner(**{**vars(ELSEWHERE), "beat": int(now) // 50}))

    clock = _Clock(beat)
    with pytest.raises(BusyError, match=r"another process is training in .*process 1 on other-host"):
        leased(tmp_path, timing=clock.timing()).__enter__()
    assert clock.now - 1e6 >= 30
    assert newest_owner(tmp_path)[0] == 1


def test_an_ended_owner_on_this_host_is_succeeded_at_once(tmp_path: Path) -> None:
    me = this_process()
    with subprocess.Popen(["true"]) as ended:
        pass
    clock = _Clock()
    _write_owner(tmp_path, Owner(me.host, ended.pid, me.machine, me.started))
    with leased(tmp_path, timing=clock.timing()) as held:
        assert held.attempt == 2
    # The ID of an ended process may be that of a new one, which started later.
    _write_owner(tmp_path, Owner(me.host, me.process, me.machine, "1"), attempt=7)
    with leased(tmp_path, timing=clock.timing()) as held:
        assert held.attempt == 8
    assert clock.now == 1e6


@pytest.mark.parametrize("paused_at", ["between two reads", "after a read"])
def test_a_pause_of_the_waiting_process_is_no_silence_of_the_owner(
    paused_at: str, tmp_path: Path, monkeypatch
) -> None:
    """Both may be paused together, and the waiting process may go on first."""
    _write_owner(tmp_path, ELSEWHERE)
    beats = count(1)

    def beat(now: float) -> None:
        _write_owner(tmp_path, Owner(**{**vars(ELSEWHERE), "beat": next(beats)}))

    clock = _Clock()
    read = lease._content

    def read_and_pause(folder: Path) -> bytes | None:
        content = read(folder)
        if clock.now - 1e6 == 5:
            clock.now += 1e4
            beat(clock.now)
        return content

    def sleep(seconds: float) -> None:
        clock.sleep(1e4 if clock.now - 1e6 == 5 else seconds)
        if clock.now - 1e6 > 1e4 + 10:
            beat(clock.now)

    timing = Timing(beat=10.0, expiry=60.0, poll=1.0, clock=lambda: clock.now, sleep=clock.sleep)
    if paused_at == "after a read":
        monkeypatch.setattr(lease, "_content", read_and_pause)
    else:
        timing = replace(timing, sleep=sleep)
    with pytest.raises(BusyError):
        leased(tmp_path, timing=timing).__enter__()
    assert newest_owner(tmp_path)[0] == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 1}'])
def test_a_damaged_owner_file_is_a_silent_owner(tmp_path: Path, content: bytes) -> None:
    _write_owner(tmp_path, ELSEWHERE)
    (tmp_path / ".lease" / "00000001" / "owner.json").write_bytes(content)
    clock = _Clock()
    with leased(tmp_path, timing=clock.timing()) as held:
        assert held.attempt == 2
    assert clock.now - 1e6 >= 60


def test_heartbeats_change_what_others_see(tmp_path: Path) -> None:
    with leased(tmp_path, timing=Timing(beat=0.01)):
        deadline = time.monotonic() + 30
        while (owner := newest_owner(tmp_path)[1]) is None or owner.beat < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert newest_owner(tmp_path) == (1, Owner(**{**vars(this_process()), "held": False}))


# Interleavings: processes are threads that wait before each call that reads or changes the file system. They
# may count any owner as ended at any time, which is worse than any clock and any pause.
_CALLS = ["mkdir", "rmdir", "unlink", "rename", "replace", "listdir", "scandir", "open"]


@dataclass
class _Turns:
    """Lets one of several threads make one call at a time, in a given order."""

    order: list[int]
    count: int
    number: threading.local = field(default_factory=threading.local)
    ready: threading.Condition = field(default_factory=threading.Condition)
    waiting: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    current: int | None = None

    def wait(self) -> None:
        me = getattr(self.number, "value", None)
        if me is None:
            return
        with self.ready:
            self.waiting.add(me)
            self._choose()
            assert self.ready.wait_for(lambda: self.current == me, 60)
            self.waiting.discard(me)
            self.current = None

    def end(self) -> None:
        with self.ready:
            self.ended.add(self.number.value)
            self._choose()

    def _choose(self) -> None:
        """Choose once all threads wait, so that the order alone decides."""
        if self.current is None and self.waiting and len(self.waiting | self.ended) == self.count:
            candidates = sorted(self.waiting)
            self.current = candidates[(self.order.pop() if self.order else 0) % len(candidates)]
            self.ready.notify_all()


@contextmanager
def _taking_turns(turns: _Turns) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            call = getattr(os, name)

            def gated(*args, _call=call, **kwargs):
                turns.wait()
                return _call(*args, **kwargs)

            patch.setattr(os, name, gated)
        opened = io.open

        def gated_open(*args, **kwargs):
            turns.wait()
            return opened(*args, **kwargs)

        patch.setattr(io, "open", gated_open)
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(lease.threading, "Thread", _NoThread)
        patch.setattr(lease, "flock_of", lambda run: _always_locked())
        yield


class _NoThread:
    def __init__(self, **kwargs: object) -> None: ...
    def start(self) -> None: ...
    def join(self) -> None: ...


@contextmanager
def _always_locked() -> Iterator[Callable[[], bool]]:
    yield lambda: True


def _train(run: Path, remove: bool, owners: list[str], faults: list[str]) -> None:
    """Continue a run for two checkpoints, as `run_trial` does, and note every change by a late owner."""
    timing = Timing(expiry=0.0, poll=0.0, sleep=lambda seconds: None)
    with leased(run, timing=timing, remove=remove) as held:
        me = held.stage.name
        owners.append(me)
        done = sorted(int(path.name[5:]) for path in run.glob("step-*"))
        for step in range(len(done), len(done) + 2):
            with replacing_folder(run / f"step-{step}") as temporary:
                (temporary / "owner").write_text(me)
            if owners[-1] != me:
                faults.append(f"owner {me} wrote step {step} after {owners}")
            write_text(run / "status", f"{me} {step}")
            if owners[-1] != me:
                faults.append(f"owner {me} wrote its status after {owners}")


def _interleaved(
    place: Path, order: list[int], count: int, remove: bool = False
) -> tuple[list[str], list[str], list[str]]:
    """Run several trainings of one run in an order; return owners, faults and other errors."""
    run = place / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    # A path per training: a process has one stage per path.
    paths = [place / f"run-{number}" for number in range(count)]
    for path in paths:
        path.unlink(missing_ok=True)
        path.symlink_to(run)
    turns, owners, faults, errors = _Turns(list(order), count), [], [], []

    def work(number: int) -> None:
        turns.number.value = number
        try:
            _train(paths[number], remove, owners, faults)
        except LeaseLostError:
            pass
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
        finally:
            turns.end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    with _taking_turns(turns):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return owners, faults, errors


@pytest.mark.slow
@settings(max_examples=60)
@example(order=[1] * 200 + [0] * 40, remove=False)
@example(order=[1] * 200 + [0] * 40, remove=True)
@given(order=st.lists(st.integers(0, 2), min_size=20, max_size=400), remove=st.booleans())
def test_no_order_of_calls_lets_a_late_owner_change_the_run(
    tmp_path_factory, order: list[int], remove: bool
) -> None:
    place = tmp_path_factory.getbasetemp()
    owners, faults, errors = _interleaved(place, order, 3, remove)
    assert faults == []
    assert errors == []
    assert len(owners) == len(set(owners)) > 0
    if remove:
        assert {path.name for path in (place / "run").iterdir() if path.name[0] == "."} <= {".lease"}


def test_a_lease_that_is_removed_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with leased(tmp_path, remove=True) as held:
            assert held.attempt == 1
            write_text(tmp_path / "status", "done")
        assert [path.name for path in tmp_path.iterdir()] == ["status"]


def test_a_claim_on_a_full_disk_names_the_folder_and_leaves_the_lease_free(
    tmp_path: Path, monkeypatch
) -> None:
    with leased(tmp_path):
        pass
    write = Path.write_text

    def full(path: Path, *words: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*00000002'"):
        leased(tmp_path).__enter__()
    monkeypatch.setattr(Path, "write_text", write)
    clock = _Clock()
    with leased(tmp_path, timing=clock.timing()) as held:
        assert (held.attempt, clock.now) == (2, 1e6)


def test_a_late_owner_does_not_remove_the_lease_of_its_successor(tmp_path: Path) -> None:
    timing = Timing(expiry=0.0, poll=0.0)
    with leased(tmp_path, timing=timing, remove=True) as late:
        (tmp_path / ".lock").unlink(missing_ok=True)  # as a host that does not see the lock
        (other_path := tmp_path / "link").symlink_to(tmp_path)
        with leased(other_path, timing=timing) as successor:
            assert (late.attempt, successor.attempt) == (1, 2)
            with pytest.raises(LeaseLostError):
                late.confirm()
            with suppress(OSError):
                lease._remove_attempt(late)
            successor.confirm()


def test_without_the_stage_a_late_owner_is_noticed(tmp_path: Path, monkeypatch) -> None:
    """The test above can fail: with temporary files next to their targets, some order overwrites."""

    @contextmanager
    def unstaged(folder: Path, stage: Path) -> Iterator[None]:
        yield

    monkeypatch.setattr(lease, "staged", unstaged)
    overwritten = [_interleaved(tmp_path, [1] * 200 + [0] * turn, 2)[1] for turn in range(20, 50)]
    assert any(overwritten)


def test_records_of_a_paused_owner_are_lost_even_if_its_successor_released_the_lease(
    tmp_path: Path, small_recipe
) -> None:
    """Such as a successor that ended on a full disk, before it changed anything."""
    from flatvq.train import run_trial

    recipe = small_recipe(steps=2)
    run_trial(recipe, tmp_path)
    records = tmp_path / "records.jsonl"
    with records.open("ab") as of_paused_owner:
        run_trial(recipe, tmp_path)
        of_paused_owner.write(b'{"kind": "train", "step": 99}\n')
    assert b'"step": 99' not in records.read_bytes()


_TRIAL = """
import sys
from pathlib import Path
import torch
from flatvq.cli.endings import exit_code_of
from flatvq.recipe import load_trial
from flatvq.train import lease, run_trial
torch.set_num_threads(1)
lease.TIMING = lease.Timing(beat=0.1, expiry=1.0, poll=0.05)
run = Path(sys.argv[1])
def show(done, total):
    print(done, flush=True)
    if done == int(sys.argv[2]):
        sys.stdin.readline()
try:
    print(run_trial(load_trial(run), run, progress=show))
except Exception as error:
    sys.exit(exit_code_of(error))
"""


def _start(run: Path, pause_at: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _TRIAL, str(run), str(pause_at)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, text=True, **pipes)


def _all_but_lease(run: Path) -> dict[str, bytes]:
    paths = (path for path in run.rglob("*") if path.is_file() and path.relative_to(run).parts[0][0] != ".")
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop processes")
def test_a_paused_owner_ends_with_one_line_and_changes_nothing(tmp_path: Path, small_recipe) -> None:
    from flatvq.train import run_trial

    recipe = small_recipe(steps=8)
    assert run_trial(recipe, tmp_path / "undisturbed")
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text(recipe.model_dump_json())
    with _start(run, pause_at=5) as late:
        assert late.stdout is not None
        assert [late.stdout.readline() for _ in range(5)][-1] == "5\n"
        late.send_signal(signal.SIGSTOP)
        with _start(run, pause_at=-1) as second:
            output, errors = second.communicate(timeout=120)
        assert (second.returncode, errors, output.split()[-1]) == (0, "", "True")
        before = _all_but_lease(run)
        late.send_signal(signal.SIGCONT)
        _, errors = late.communicate("\n", timeout=120)
    assert late.returncode == 75
    assert errors.count("\n") == 1
    assert f"process {second.pid} on" in errors
    assert "this process has changed nothing since" in errors
    assert _all_but_lease(run) == before
    metrics = [
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "undisturbed", run)
    ]
    assert metrics[0] == metrics[1]
