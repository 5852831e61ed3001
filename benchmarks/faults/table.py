"""The faults of each site, by name."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Any, get_args

from benchmarks.crashes.killer import Accident
from benchmarks.faults.disk import Disk
from benchmarks.faults.local import LEASE_SECONDS, Local
from benchmarks.faults.ray import Ray
from benchmarks.faults.slurm_faults import GANG, SLURM
from benchmarks.faults.study import Fault, MissedError, SmallStudy
from flatvq.train.lease import newest_owner

__all__ = ["FAULTS", "faults_on"]

_Act = Callable[[SmallStudy[Any], random.Random], None]
_ACCIDENTS: tuple[Accident, ...] = tuple(one for one in get_args(Accident) if one != "disk full")
_WRITES = 1500  # of a study, roughly: a call beyond its end is a fault that came too late


def _signal_trial(number: int) -> _Act:
    def act(study: SmallStudy[Any], randomness: random.Random) -> None:
        study.site.send(study.one_running(randomness)[1], number)

    return act


def _signal_command(number: int) -> _Act:
    def act(study: SmallStudy[Any], randomness: random.Random) -> None:
        assert study.command is not None
        if study.command.poll() is not None:
            raise MissedError
        study.command.send_signal(number)
        if number == signal.SIGKILL:
            study.command.wait()
            time.sleep(randomness.uniform(0, 0.5))
            study.start()

    return act


def _kill_all(study: SmallStudy[Local], randomness: random.Random) -> None:
    assert study.command is not None
    if study.command.poll() is not None:
        raise MissedError
    study.command.send_signal(signal.SIGKILL)
    for process in study.running().values():
        study.site.send(process, signal.SIGKILL)
    study.command.wait()


def _kill_at_a_write(study: SmallStudy[Local], randomness: random.Random) -> None:
    killer = study.site.killer
    at = randomness.randrange(1, _WRITES)
    killer.arm(study.folder, at, randomness.choice(_ACCIDENTS))
    try:
        study.start()
        study.wait_for(lambda: False)  # a killed trial ends it, too
        if len(killer.writes()) < at:
            raise MissedError
    finally:
        killer.disarm()


def _pause(study: SmallStudy[Local], randomness: random.Random) -> None:
    """Stop a trial and kill its command; another command takes the trial over, and the trial continues."""
    assert study.command is not None
    run, process = study.one_running(randomness)
    attempt = newest_owner(run)[0]
    study.site.send(process, signal.SIGSTOP)
    try:
        study.command.send_signal(signal.SIGKILL)
        study.command.wait()
        study.start()
        study.wait_for(lambda: newest_owner(run)[0] > attempt)
        if newest_owner(run)[0] == attempt:
            raise MissedError
        wait = time.monotonic() + randomness.uniform(0, LEASE_SECONDS / 2)
        study.wait_for(lambda: time.monotonic() > wait)
    finally:
        study.site.send(process, signal.SIGCONT)


def _break_disk(begin: Callable[[Disk], None], undo: Callable[[Disk], None], disk: Disk) -> _Act:
    def act(study: SmallStudy[Any], randomness: random.Random) -> None:
        study.one_running(randomness)
        begin(disk)
        try:
            wait = time.monotonic() + randomness.uniform(0.5, 3)
            study.wait_for(lambda: time.monotonic() > wait)
        finally:
            undo(disk)

    return act


def _kill_matching(pattern: str, then: Callable[[Ray], None] = lambda ray: None) -> Fault[Ray]:
    def act(study: SmallStudy[Ray], randomness: random.Random) -> None:
        study.one_running(randomness)
        matching = study.site.find(pattern)
        if not matching:
            raise MissedError
        study.site.send(matching[-1], signal.SIGKILL)
        then(study.site)

    return Fault(act)


def _after_a_while(ray: Ray) -> None:
    time.sleep(3)
    ray.start_node()


_ANYWHERE: dict[str, Fault[Any]] = {
    "kill -9 of a trial": Fault(_signal_trial(signal.SIGKILL)),
    "SIGTERM to a trial": Fault(_signal_trial(signal.SIGTERM)),
}
_DISK = {"full disk": (Disk.fill, Disk.free), "read-only mount": (Disk.protect, Disk.release)}
FAULTS: dict[str, dict[str, Fault[Any]]] = {
    "local": {
        **_ANYWHERE,
        "kill -9 of the driver": Fault(_signal_command(signal.SIGKILL), "first write"),
        "kill -9 of the driver and its trials": Fault(_kill_all),
        "SIGTERM to the driver": Fault(_signal_command(signal.SIGTERM), "first write"),
        "SIGINT to the driver": Fault(_signal_command(signal.SIGINT), "first write"),
        "pause of a trial beyond its lease": Fault(_pause),
        "kill -9 in mid-write": Fault(_kill_at_a_write, "start"),
    },
    "slurm": {
        **_ANYWHERE,
        "kill -9 of the driver": Fault(_signal_command(signal.SIGKILL), "first write", 8),
        **SLURM,
    },
    "slurm-gang": {
        "kill -9 of the first rank": Fault(_signal_trial(signal.SIGKILL)),
        **GANG,
    },
    "ray": {
        **_ANYWHERE,
        "kill -9 of the driver": Fault(_signal_command(signal.SIGKILL), "first write", 8),
        "kill -9 of a worker": _kill_matching("^ray::_run"),
        "kill -9 of the submission": _kill_matching("^ray::_Submission"),
        "loss of a node": _kill_matching("raylet/raylet ", _after_a_while),
    },
}
"""The faults by site. `faults_on` adds the faults of a disk."""


def faults_on(site: str, disk: Disk | None) -> dict[str, Fault[Any]]:
    """Return the faults of a site, and the faults of the disk that holds the study."""
    broken = {name: Fault(_break_disk(*pair, disk)) for name, pair in _DISK.items()} if disk else {}
    return {**FAULTS[site], **broken}
