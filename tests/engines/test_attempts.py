"""Attempts of a unit: what is recorded, and what is tried again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flatvq.engines.attempts import AGAIN, attempts_of, record_submission, run


def _attempt(folder: Path, program: str, limit: int = 3) -> int:
    return run(folder, [sys.executable, "-c", program], limit)


def test_a_unit_that_ends_well_is_recorded_and_done(tmp_path: Path) -> None:
    record_submission(tmp_path, "first")
    assert _attempt(tmp_path, "print('hello')") == 0
    assert (tmp_path / "log.txt").read_text() == "hello\n"
    attempts = attempts_of(tmp_path)
    assert (attempts.total, attempts.submitted, attempts.latest[0].code) == (1, True, 0)
    assert 0 <= attempts.seconds < 60


def test_a_killed_unit_is_tried_again_but_not_twice_at_the_same_step(tmp_path: Path, capfd) -> None:
    kill = f"import os; os.kill(os.getpid(), {signal.SIGKILL})"
    assert _attempt(tmp_path, kill) == AGAIN
    assert _attempt(tmp_path, kill) == 1
    assert attempts_of(tmp_path).latest[-1].error == f"killed by SIGKILL; see {tmp_path / 'log.txt'}"
    assert _attempt(tmp_path, "") == 1, "a queued job of a unit that was given up does not start it"
    assert capfd.readouterr().err.startswith("flatvq: not tried again: failed twice in the same way: killed")
    record_submission(tmp_path, "again")
    assert _attempt(tmp_path, kill) == AGAIN, "a new submission counts anew"
    (tmp_path / "checkpoints" / "step-00000040").mkdir(parents=True)
    assert _attempt(tmp_path, kill) == AGAIN, "there was progress in between"
    (tmp_path / "checkpoints" / "step-00000060").mkdir()
    assert _attempt(tmp_path, kill) == 1, "three failures are the limit"


def test_invalid_input_is_not_tried_again_and_its_line_is_recorded(tmp_path: Path) -> None:
    line = "flatvq: no folder: check data.path"
    program = f"import sys; print('noise'); print({line!r}, file=sys.stderr); sys.exit(2)"
    assert _attempt(tmp_path, program) == 2
    assert attempts_of(tmp_path).latest[-1].error == "no folder: check data.path"


def test_stops_with_progress_are_no_failures(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for step in range(10):
        program = f"import os, sys; os.makedirs({str(folder)!r} + '/step-{step + 1:08d}'); sys.exit(130)"
        assert _attempt(tmp_path, program) == AGAIN
    for _ in range(2):
        assert _attempt(tmp_path, "import sys; sys.exit(130)") == AGAIN
    assert _attempt(tmp_path, "import sys; sys.exit(130)") == 130, "three attempts came to nothing"


def test_the_end_of_an_attempt_is_not_taken_for_that_of_the_next_one(tmp_path: Path) -> None:
    """A paused attempt continues, and finds that another one has taken its lease."""
    later = "import sys; from flatvq.engines.attempts import run; from pathlib import Path; "
    later += "sys.exit(run(Path(sys.argv[1]), ['false'], 9))"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {later!r}, {str(tmp_path)!r}])"
    assert _attempt(tmp_path, f"{program}; sys.exit(75)", limit=9) == AGAIN
    assert [attempt.code for attempt in attempts_of(tmp_path).latest] == [75, 1]
    lines = (tmp_path / "attempts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "attempts.jsonl").write_text("".join([*lines[:2], lines[3]]))
    assert [attempt.code for attempt in attempts_of(tmp_path).latest] == [75, None], "the later one runs"
    record_submission(tmp_path, "again")
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.writelines([lines[1], lines[3]])
    assert [attempt.code for attempt in attempts_of(tmp_path).latest] == [None]


def test_a_host_that_was_lost_twice_at_the_same_step_is_given_up(tmp_path: Path) -> None:
    lost = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    words = [sys.executable, "-m", "flatvq.engines.attempts", "5", str(tmp_path), sys.executable, "-c", lost]
    for _ in range(2):
        assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert attempts_of(tmp_path).total == 2
    assert _attempt(tmp_path, "") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_sigterm_reaches_the_command(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); "
        "print(1, flush=True); time.sleep(60)"
    )
    words = ["-m", "flatvq.engines.attempts", "3", str(tmp_path), sys.executable, "-c", program]
    with subprocess.Popen([sys.executable, *words]) as supervisor:
        deadline = time.monotonic() + 60
        while not (tmp_path / "log.txt").exists() or not (tmp_path / "log.txt").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        supervisor.terminate()
        assert supervisor.wait(60) == AGAIN
    assert attempts_of(tmp_path).latest[-1].error == "stopped on request"


def test_an_event_after_a_cut_off_line_is_kept(tmp_path: Path) -> None:
    assert _attempt(tmp_path, "") == 0
    with (tmp_path / "attempts.jsonl").open("ab") as file:
        file.write(b'{"time": 1.0, "event": "sta')  # the disk was full, or the host was lost
    assert _attempt(tmp_path, "") == 0
    attempts = attempts_of(tmp_path)
    assert attempts.total == 2
    assert [each.code for each in attempts.latest] == [0, 0]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on file sizes")
def test_a_full_disk_ends_with_one_line(tmp_path: Path) -> None:
    words = f"{sys.executable} -m flatvq.engines.attempts 3 {tmp_path} {sys.executable} -c ''"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 0; {words}"], capture_output=True, text=True, check=False
    )
    path = tmp_path / "attempts.jsonl"
    remedy = "raise the limit on file sizes (ulimit -f), then run the same command again"
    assert done.stderr == f"flatvq: cannot write '{path}' (file too large): {remedy}\n"
    assert done.returncode == 74
    assert attempts_of(tmp_path).total == 0
