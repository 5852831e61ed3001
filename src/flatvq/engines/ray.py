"""Ray: for hosts reached by SSH, Kubernetes (KubeRay) and clouds. It needs `flatvq[ray]`, Ray's core alone.

A submission is a detached actor with its name. The actor starts the units one after another, as the cluster
has room, and continues when the program that submitted it ends. Each unit runs in its own process. A unit of
several nodes has a placement group, so that it starts on all of them or on none.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

from flatvq.engines.attempts import AGAIN, attempts_of, ended_well
from flatvq.engines.engine import NoAnswerError, State, Unit
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.recipe import ClusterRecipe

__all__ = ["Ray"]

_NAMESPACE = "flatvq"
_TIMEOUT = 60.0
_LARGEST = 100_000
_MESSAGE = 120
_PORT = 29_400
# Each task has a process of its own, and the rule for new attempts is not Ray's.
_OPTIONS = {"max_calls": 1, "max_retries": 0}
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class Ray:
    """A Ray cluster.

    Args:
        cluster: the section `cluster` of a recipe.

    Raises:
        FlatvqError: if Ray is not installed, no address or no token is given, or the cluster does not answer.
    """

    largest = _LARGEST

    def __init__(self, cluster: ClusterRecipe) -> None:
        self.cluster = cluster
        address = cluster.address or os.environ.get("RAY_ADDRESS", "")
        if not address:
            remedy = "set cluster.address or RAY_ADDRESS to HOST:PORT of its head"
            raise FlatvqError("no Ray cluster is named", remedy)
        _require_token()
        try:
            import ray
        except ImportError:
            raise MissingExtraError("Ray clusters", "ray", extra="ray") from None
        self._ray = ray
        # By default, Ray ends this process, with exit code 1, a minute after the head has been lost.
        patience = round(cluster.answer_seconds + 5 * _TIMEOUT)
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(patience))
        if not ray.is_initialized():
            try:
                ray.init(address, namespace=_NAMESPACE, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # Ray raises many kinds
                what = f"cannot join the Ray cluster at {address!r} ({_reason(error)})"
                raise FlatvqError(what, "check cluster.address and the token") from None

    def submit(self, name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        """Start the actor of a submission. See `Engine.submit`."""
        cluster = self.cluster
        resources = {
            "num_cpus": cluster.cpus or 1,
            "num_gpus": cluster.gpus_per_trial,
            "memory": round(cluster.memory_gb * 2**30),
        }
        options = {
            "name": name,
            "lifetime": "detached",
            "num_cpus": 0,
            "max_restarts": -1,
            "max_concurrency": 4,
        }
        actor = self._ray.remote(_Submission).options(**options)
        log = str(folder / name)
        actor.remote(units, resources, cluster.nodes, cluster.attempts, running, str(Path.cwd()), log)

    def states(self, names: Sequence[str]) -> dict[str, dict[int, State]]:
        """Ask the actors. See `Engine.states`."""
        ray = self._ray
        states: dict[str, dict[int, State]] = {}
        for name in names:
            try:
                states[name] = ray.get(ray.get_actor(name, _NAMESPACE).states.remote(), timeout=_TIMEOUT)
            except ValueError:  # no such actor
                states[name] = {}
            except ray.exceptions.RayError as error:
                raise _no_answer(error) from None
        return states

    def limit(self, name: str, running: int) -> None:
        """Change the limit of an actor. See `Engine.limit`."""
        with suppress(ValueError):  # no such actor: its units have ended
            self._ray.get_actor(name, _NAMESPACE).limit.remote(running)

    def cancel(self, names: Sequence[str]) -> None:
        """End the units and the actors of submissions. See `Engine.cancel`."""
        ray = self._ray
        for name in names:
            try:
                actor = ray.get_actor(name, _NAMESPACE)
                with suppress(ray.exceptions.RayActorError):  # it has ended, or is started again
                    ray.get(actor.cancel.remote(), timeout=_TIMEOUT)
                ray.kill(actor)
            except ValueError:  # no such actor
                continue
            except ray.exceptions.RayError as error:
                raise _no_answer(error) from None


class _Submission:
    """Runs units on the cluster. A Ray actor."""

    def __init__(
        self,
        units: Sequence[Unit],
        resources: dict[str, Any],
        nodes: int,
        limit: int,
        running: int,
        directory: str,
        log: str,
    ) -> None:
        from ray import get_runtime_context

        self._units, self._resources, self._nodes = units, resources, nodes
        self._limit, self._most, self._directory, self._log = limit, running, directory, log
        self._losses: Counter[tuple[int, int]] = Counter()  # of a unit after a number of attempts
        self._states: dict[int, State] = dict.fromkeys(range(len(units)), "waiting")
        self._cancelled = False
        self._restarted = bool(get_runtime_context().was_current_actor_reconstructed)
        self._tasks: dict[Any, int] = {}
        threading.Thread(target=self._work, daemon=True).start()

    def states(self) -> dict[int, State]:
        """Return the states of the units."""
        return dict(self._states)

    def limit(self, running: int) -> None:
        """Change how many units run at a time."""
        self._most = running

    def cancel(self) -> None:
        """Ask all units to write a checkpoint and end."""
        import ray

        self._cancelled = True
        for task in list(self._tasks):
            ray.cancel(task, force=True)

    def _work(self) -> None:
        try:
            self._run_all()
        finally:  # after an error, too, so that nobody waits for these units
            self._states = dict.fromkeys(self._states, "ended")

    def _run_all(self) -> None:
        import ray

        waiting = list(self._states)
        if self._restarted:  # and does not know which units had ended
            root = Path(self._directory)
            done = {index for index in waiting if ended_well(root / self._units[index].folder)}
            self._states |= dict.fromkeys(done, "ended")
            waiting = [index for index in waiting if index not in done]
        while (waiting or self._tasks) and not self._cancelled:
            while waiting and len(self._tasks) < self._most:
                index = waiting.pop(0)
                self._tasks[self._start(index)] = index
                self._states[index] = "running"
            for task in ray.wait(list(self._tasks), timeout=1.0)[0]:
                index = self._tasks.pop(task)
                try:
                    code = ray.get(task)
                except ray.exceptions.RayError as error:  # its process or its host has ended
                    code = AGAIN if self._may_start(index, str(error)) else 1
                self._states[index] = "waiting" if code == AGAIN else "ended"
                if code == AGAIN:
                    waiting.append(index)

    def _may_start(self, index: int, error: str) -> bool:
        """Return whether a unit is started again after an error of Ray, which is written to its log.

        A unit that cannot start, such as on a host without its directory, records no attempt.
        """
        with suppress(OSError), Path(f"{self._log}-{index}.log").open("a", encoding="utf-8") as file:
            file.write(f"{error}\n")
        key = index, attempts_of(self._units[index].folder).total
        self._losses[key] += 1
        return self._losses[key] < self._limit

    def _start(self, index: int) -> Any:
        import ray

        unit = self._units[index]
        supervisor = [sys.executable, "-m", "flatvq.engines.attempts", str(self._limit), str(unit.folder)]
        gpus = max(1, self._resources["num_gpus"])
        if gpus * self._nodes == 1:
            task = ray.remote(**_OPTIONS)(_run).options(**self._resources)
            return task.remote([*supervisor, sys.executable, "-m", *unit.module], self._directory)
        gang = ray.remote(**_OPTIONS)(_run_gang).options(num_cpus=0)
        return gang.remote(supervisor, unit.module, self._resources, self._nodes, index, self._directory)


def _run(command: list[str], directory: str) -> int:
    """Run a command on this host and return its exit code. It gets SIGTERM when this process ends."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_parent() -> None:
        if prctl is not None:
            prctl(_DIE_WITH_PARENT, signal.SIGTERM)

    # No module of the working directory takes the place of another one.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    # Workers of Ray may ignore SIGINT, and their children would, too.
    child = subprocess.Popen(
        command, cwd=directory, env=environment, preexec_fn=die_with_parent, start_new_session=True
    )
    return child.wait()


def _run_gang(
    supervisor: list[str],
    module: Sequence[str],
    resources: dict[str, Any],
    nodes: int,
    index: int,
    directory: str,
) -> int:
    """Run a unit on several nodes or GPUs at a time, and return the exit code of the first node."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    processes = max(1, resources["num_gpus"])
    bundle = {"CPU": resources["num_cpus"], "GPU": resources["num_gpus"], "memory": resources["memory"]}
    group = placement_group([{key: value for key, value in bundle.items() if value}] * nodes, "STRICT_SPREAD")
    try:
        ray.get(group.ready())

        def on(node: int, function: Any) -> Any:
            strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=node)
            return ray.remote(**_OPTIONS)(function).options(scheduling_strategy=strategy, **resources)

        head = ray.get(on(0, ray.util.get_node_ip_address).remote())
        torchrun = shlex.split(
            f"{shlex.quote(sys.executable)} -m torch.distributed.run --nnodes={nodes} "
            f"--nproc-per-node={processes} --rdzv-backend=c10d --rdzv-id={group.id.hex()} "
            f"--rdzv-endpoint={head}:{_PORT + index % 1000} -m"
        )
        tasks = [
            on(node, _run).remote([*([] if node else supervisor), *torchrun, *module], directory)
            for node in range(nodes)
        ]
        code: int = ray.get(tasks[0])
        return code
    finally:
        remove_placement_group(group)  # ends what still runs there


def _no_answer(error: Exception) -> NoAnswerError:
    return NoAnswerError(f"the Ray cluster does not answer ({_reason(error)})", "try again later")


def _reason(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return shorten(line, _MESSAGE, placeholder=" ...")


def _require_token() -> None:
    """Refuse to join a cluster without a token: anyone who can reach such a cluster can run commands on it.

    Raises:
        FlatvqError: if no token is set.
    """
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if os.environ.get("RAY_AUTH_MODE") == "token" and (os.environ.get("RAY_AUTH_TOKEN") or path.is_file()):
        return
    remedy = (
        "run `ray get-auth-token --generate`, copy ~/.ray/auth_token to all hosts, set RAY_AUTH_MODE=token "
        "everywhere, and restart the cluster"
    )
    raise FlatvqError("flatvq joins no Ray cluster without a token", remedy)
