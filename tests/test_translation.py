"""Errors of the system and of torch are translated into one line; other exceptions are not."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from flatvq.errors import FlatvqError, StorageError
from flatvq.translation import cause_of, explained


def raised(act: object) -> BaseException:
    with pytest.raises(Exception) as error:
        act()  # type: ignore[operator]
    return error.value


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO], ids=lambda number: errno.errorcode[number]
)
def test_a_disk_that_fails_has_an_exit_code_of_its_own(number: int) -> None:
    known = explained(OSError(number, os.strerror(number), "run/status.json"))
    assert isinstance(known, StorageError)
    assert known.exit_code == 74
    assert str(known).startswith(f"cannot write 'run/status.json' ({os.strerror(number).lower()}): ")
    assert "run the same command again" in known.remedy


def test_other_errors_of_the_system_name_the_path(tmp_path: Path) -> None:
    absent = explained(raised(lambda: (tmp_path / "absent").read_text()))
    assert str(absent) == f"cannot use '{tmp_path / 'absent'}' (no such file or directory): check the path"
    folder = explained(raised(tmp_path.read_text))
    assert folder is not None
    assert (folder.exit_code, folder.what) == (2, f"cannot use '{tmp_path}' (is a directory)")


@pytest.mark.parametrize(
    ("act", "size"),
    [
        (lambda: torch.empty(10**15, dtype=torch.float32), " for 4.0 PB more"),
        (lambda: torch.empty(2**62, 2**10), ""),
        (lambda: np.empty(10**15, np.float32), ""),
        (lambda: bytearray(10**15), ""),
    ],
)
def test_failed_allocations(act: object, size: str) -> None:
    known = explained(raised(act))
    assert known is not None
    assert (known.what, known.exit_code) == (f"not enough memory{size}", 2)


def test_memory_of_an_accelerator() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total ...")
    assert explained(error).what == "not enough memory for 20.00 GiB more"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "fault", [KeyError("width"), RuntimeError("shapes differ"), OSError("not a PNG"), ValueError("no size")]
)
def test_bugs_of_flatvq_are_not_translated(fault: Exception) -> None:
    assert explained(fault) is None
    assert cause_of(fault) == f"{type(fault).__name__}: {fault}"


def test_a_cause_is_one_line() -> None:
    assert cause_of(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert cause_of(AssertionError()) == "AssertionError"
    assert cause_of(FlatvqError("no folder at 'a\nb'", "check\nit")) == "no folder at 'a\\nb': check\\nit"


def test_an_error_crosses_processes_with_its_exit_code() -> None:
    again = pickle.loads(pickle.dumps(StorageError("cannot write 'a'", "make space")))
    assert (type(again), str(again), again.exit_code) == (StorageError, "cannot write 'a': make space", 74)
