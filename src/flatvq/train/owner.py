"""The process that owns a lease, as owner.json describes it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flatvq.unvalidated import count_in, json_object, text_in

__all__ = ["Owner", "has_ended", "parsed_owner", "this_process"]


@dataclass(frozen=True)
class Owner:
    """The content of owner.json."""

    host: str
    process: int
    machine: str
    """The boot of the host and the namespace of its process IDs."""
    started: str
    """When the kernel started the process. It distinguishes processes that had the same ID."""
    beat: int = 0
    held: bool = True
    """False once the owner has released the lease."""


def parsed_owner(content: bytes | None) -> Owner | None:
    """Read the content of owner.json; None if it is missing or damaged."""
    tree = json_object(content or b"")
    host, machine, started = (text_in(tree, key) for key in ("host", "machine", "started"))
    process, beat, held = count_in(tree, "process"), count_in(tree, "beat"), tree.get("held")
    if host is None or machine is None or started is None or process is None or beat is None:
        return None
    return Owner(host, process, machine, started, beat, held) if isinstance(held, bool) else None


def this_process() -> Owner:
    """Return this process as an owner."""
    process = os.getpid()
    return Owner(socket.gethostname(), process, _machine(), _start_of(process) or "")


@cache
def _machine() -> str:
    """Return what two processes share if they see each other's IDs; empty if the system does not say."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _start_of(process: int) -> str | None:
    """Return when a process started; None if it does not run."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    return None


def has_ended(owner: Owner) -> bool:
    """Return whether this host can see for certain that the process of an owner has ended."""
    if (owner.host, owner.machine) != (socket.gethostname(), _machine()):
        return False
    if owner.machine:
        return _start_of(owner.process) != owner.started
    if os.name != "nt":  # signal 0 is Ctrl-C there
        try:
            os.kill(owner.process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
    return False
