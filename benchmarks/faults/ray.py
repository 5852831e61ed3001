"""A Ray cluster of two nodes, in a network namespace without other machines."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.faults.sites import OUTPUT
from benchmarks.faults.slurm import wait_for

__all__ = ["Ray", "missing"]

_NAMESPACE = "ip link set lo up; echo $$ > {file}; while :; do sleep 1 & wait $!; done"
_ADDRESS = "127.0.0.1:6379"
_NODE = ("--num-cpus=2", "--num-gpus=1", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000")


def missing() -> str | None:
    """Return what the cluster needs and this machine does not have; None if it has all."""
    if find_spec("ray") is None:
        return "ray (pip install 'flatvq[ray]')"
    if absent := next((name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None), None):
        return absent
    return None if os.geteuid() == 0 else "root, for a network namespace"


class Ray:
    """The cluster. Programs that join it run in the namespace, too.

    Args:
        root: a folder for the files of Ray. Its path must be short, as Ray's sockets are in it.
        nodes: the number of nodes, each with a GPU by name.
    """

    engine = "ray"

    def __init__(self, root: Path, nodes: int = 2) -> None:
        self.root, self.version = root, version("ray")
        token = root / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_ADDRESS": _ADDRESS,
            "OMP_NUM_THREADS": "1",
        }
        inner = root / "pid"
        command = ["unshare", "-pfn", "--mount-proc", "bash", "-c", _NAMESPACE.format(file=inner)]
        self._outer = subprocess.Popen(command)
        wait_for(inner.exists)
        self._inner = _children(self._outer.pid)[0]
        self._inside = ("nsenter", "-t", str(self._inner), "-p", "-n", "-m")
        head = ("--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={root}")
        self._ray("start", *head, *_NODE)
        for _ in range(1, nodes):
            self.start_node()

    def start_node(self) -> None:
        """Add a node."""
        self._ray("start", f"--address={_ADDRESS}", *_NODE)

    def start(self, arguments: Sequence[str], folder: Path) -> Inside:
        """Start a command. See `Site.start`."""
        with (folder / OUTPUT).open("wb") as output:
            command = [*self._inside, sys.executable, "-m", "flatvq", *arguments]
            return Inside(command, env=self.environment, stdout=output, stderr=output)

    def send(self, process: int, number: int) -> None:
        """Send a signal. See `Site.send`."""
        command = [*self._inside, "kill", f"-{number}", str(process)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            raise ProcessLookupError(process)

    def runs(self, process: int) -> bool:
        """Return whether a process runs. See `Site.runs`."""
        command = [*self._inside, "grep", "-q", "^State:.[^Z]", f"/proc/{process}/status"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def find(self, pattern: str) -> list[int]:
        """Return the processes in the namespace whose command lines match a pattern, oldest first."""
        done = subprocess.run(
            [*self._inside, "pgrep", "-f", pattern], capture_output=True, text=True, check=False
        )
        return [int(line) for line in done.stdout.split()]

    def tend(self) -> None:
        """Ray lets nothing wait."""

    def stop(self) -> None:
        """End all processes of the namespace."""
        os.kill(self._inner, signal.SIGKILL)
        self._outer.wait()

    def _ray(self, *arguments: str) -> None:
        command = [*self._inside, sys.executable, "-m", "ray.scripts.scripts", *arguments]
        subprocess.run(command, env=self.environment, check=True, capture_output=True)


class Inside(subprocess.Popen[bytes]):
    """A command in the namespace: a child of `nsenter`, which ends as that does."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command. See `Command.send_signal`."""
        for child in _children(self.pid):
            os.kill(child, sig)


def _children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(child) for child in text.split()]
