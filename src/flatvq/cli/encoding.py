"""`flatvq encode --on ENGINE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flatvq.cli.cluster import ClusterCommand
from flatvq.codes import CodeManifest
from flatvq.codes.cluster import ClusterEncoding
from flatvq.paths import require_no_credentials
from flatvq.recipe import load_cluster

__all__ = ["encode_on"]


def encode_on(
    command: ClusterCommand,
    arguments: tuple[str, str],
    out: Path,
    options: Mapping[str, object],
    parts: int | None,
    overrides: Sequence[str],
) -> CodeManifest | None:
    """Encode images on a cluster.

    Args:
        command: what to do there.
        arguments: the tokenizer and the images, as arguments of `flatvq encode`.
        out: the folder of the codes.
        options: the options of `flatvq encode` by name. Those that are None, False or empty are left
            out.
        parts: the number of jobs that share the shards; None for as many as may run at a time.
        overrides: of the section `cluster`.

    Returns:
        The manifest; None if the jobs were only submitted or cancelled.

    Raises:
        FlatvqError: if a job fails, or the cluster refuses it.
    """
    require_no_credentials(arguments[1])
    command_line = ["flatvq", "encode", *arguments, str(out.resolve())]
    for name, value in options.items():
        if value is not None and value is not False and value != "":
            flag = f"--{name.replace('_', '-')}"
            command_line += [flag] if value is True else [flag, str(value)]
    cluster = load_cluster(overrides)
    return command.run(
        ClusterEncoding(command.kind, cluster, out, tuple(command_line), parts or cluster.max_running)
    )
