"""A Slurm cluster of two nodes with two GPUs each, all on this machine, in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from benchmarks.faults.local import has_ended
from benchmarks.faults.sites import OUTPUT

__all__ = ["Slurm", "missing", "started", "wait_for"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")

_CONF = """
ClusterName=fake
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={run}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
MaxArraySize={array}
SlurmctldPort={ports[0]}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
SlurmdTimeout=20
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 Gres=gpu:2
PartitionName=main Nodes=n1,n2 Default=YES State=UP PriorityTier=1 GraceTime=1
PartitionName=urgent Nodes=n1,n2 State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str | None:
    """Return what the cluster needs and this machine does not have; None if it has all."""
    if absent := next((name for name in _PROGRAMS if shutil.which(name) is None), None):
        return f"{absent} (Debian: slurm-wlm and munge)"
    return None if os.geteuid() == 0 else "root, as Slurm starts jobs of users"


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: if it does not.
    """
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.2)


class Slurm:
    """The daemons of the cluster. Its commands find it by `SLURM_CONF`.

    Args:
        root: a folder for keys, states and logs. Its path must be short, as it holds a socket, and munged
            refuses it below a private folder such as pytest's.
        array: Slurm's MaxArraySize.
    """

    engine, version = "slurm", ""

    def __init__(self, root: Path, array: int = 1001) -> None:
        self.root, self.run, self._tended = root, root / "run", 0.0
        root.chmod(0o755)
        for name in ("run", "log", "state", "dev"):
            (root / name).mkdir()
        for number in range(4):
            subprocess.run(["mknod", root / f"dev/nvidia{number}", "c", "1", "3"], check=True)
        (self.run / "munge.key").write_bytes(os.urandom(128))
        (self.run / "munge.key").chmod(0o400)
        values = {"host": socket.gethostname(), "root": root, "run": self.run, "array": array}
        (root / "slurm.conf").write_text(_CONF.format(**values, ports=_free_ports(3)))
        gpus = "NodeName=n{} Name=gpu File={}/dev/nvidia[{}]\n"
        parts = ["AutoDetect=off\n", gpus.format(1, root, "0-1"), gpus.format(2, root, "2-3")]
        (root / "gres.conf").write_text("".join(parts))
        self.environment = {**os.environ, "SLURM_CONF": str(root / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def start(self, arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
        """Start a command. See `Site.start`."""
        with (folder / OUTPUT).open("wb") as output:
            command = [sys.executable, "-m", "flatvq", *arguments]
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)

    def send(self, process: int, number: int) -> None:
        """Send a signal. See `Site.send`."""
        os.kill(process, number)

    def runs(self, process: int) -> bool:
        """Return whether a process runs. See `Site.runs`."""
        return not has_ended(process)

    def begin(self) -> None:
        """Start the daemons and wait for both nodes."""
        files = {name: self.run / f"munged.{name}" for name in ("pid", "log", "seed")}
        self._start(
            "munged",
            f"--socket={self.run / 'munge.socket'}",
            f"--key-file={self.run / 'munge.key'}",
            *(f"--{name}-file={path}" for name, path in files.items()),
        )
        self.start_controller()
        self.start_node("n1")
        self.start_node("n2")
        wait_for(lambda: self.slurm("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * 4)
        self.version = self.slurm("sinfo", "--version")

    def start_controller(self) -> None:
        """Start the controller."""
        self._start("slurmctld")

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        self._start("slurmd", "-N", name)

    def kill(self, name: str) -> None:
        """End a daemon, such as `slurmd-n1`, by SIGKILL."""
        process = int((self.run / f"{name}.pid").read_text())
        os.kill(process, 9)

    def lose_node(self, name: str) -> None:
        """End the daemon of a node and all its jobs by SIGKILL, and wait until the controller has noticed.

        It asks an idle node rarely. After a minute, the node is declared down, as by an administrator.
        """
        self.kill(f"slurmd-{name}")
        _kill_with(f"SLURMD_NODENAME={name}", f"SLURM_CONF={self.root}/slurm.conf")
        with suppress(TimeoutError):
            wait_for(lambda: "down" in self.slurm("sinfo", "-h", "-n", name, "-o", "%T"))
            return
        self.slurm("scontrol", "update", f"nodename={name}", "state=down", "reason=lost")

    def kill_job(self, array: str, task: str) -> None:
        """End all processes of a job by SIGKILL, its script included."""
        job = (f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={task}")
        _kill_with(*job, f"SLURM_CONF={self.root}/slurm.conf")

    def having(self, command: str, variable: str) -> list[int]:
        """Return the processes with a command line that contains a text, and an environment variable."""
        matching = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                arguments = (path / "cmdline").read_bytes().replace(b"\0", b" ")
                variables = (path / "environ").read_bytes().split(b"\0")
                if command.encode() in arguments and variable.encode() in variables:
                    matching.append(int(path.name))
        return matching

    def slurm(self, *command: str) -> str:
        """Run a Slurm command and return its output."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def tend(self) -> None:
        """Let requeued jobs start at once, without a time limit: Slurm makes them wait for two minutes."""
        if time.monotonic() < self._tended + 0.5:
            return
        self._tended = time.monotonic()
        with suppress(subprocess.CalledProcessError):  # the controller restarts
            self._start_now()

    def _start_now(self) -> None:
        for line in self.slurm("squeue", "-h", "-r", "-t", "PD", "-o", "%F_%K %r").splitlines():
            job, reason = line.split(" ", 1)
            if reason == "BeginTime":
                subprocess.run(
                    ["scontrol", "update", f"jobid={job}", "StartTime=now", "TimeLimit=UNLIMITED"],
                    env=self.environment,
                    capture_output=True,
                    check=False,
                )

    def stop(self) -> None:
        """End all jobs and daemons."""
        subprocess.run(["scancel", "-u", "root"], env=self.environment, capture_output=True, check=False)
        with suppress(TimeoutError, subprocess.CalledProcessError):
            wait_for(lambda: not self.slurm("squeue", "-h"), 20)
        for path in sorted(self.run.glob("*.pid")):
            with suppress(ProcessLookupError, ValueError, TimeoutError):
                process = int(path.read_text())
                os.kill(process, 9 if path.name == "munged.pid" else 15)
                wait_for(partial(has_ended, process), 20)

    def _start(self, *command: str) -> None:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr}")


def started(root: Path) -> Slurm:
    """Return a cluster whose daemons run."""
    cluster = Slurm(root)
    try:
        cluster.begin()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _kill_with(*variables: str) -> None:
    """End all processes by SIGKILL that have these environment variables."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (path / "environ").read_bytes().split(b"\0")
            if {one.encode() for one in variables} <= set(environment):
                os.kill(int(path.name), 9)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
