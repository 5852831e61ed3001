"""The engine `slurm` with stubs of Slurm's programs: odd names, odd environments, and odd answers."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flatvq.engines.attempts import attempts_of
from flatvq.engines.engine import NoAnswerError, Unit
from flatvq.engines.slurm import Slurm
from flatvq.errors import FlatvqError
from flatvq.recipe import ClusterRecipe

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Slurm has no Windows")

# Each stub appends its words and its environment to `calls`, and prints the file of its name, if any.
_STUB = f"""#!{sys.executable}
import json, os, pathlib, sys
place = pathlib.Path(__file__).parent
name = pathlib.Path(__file__).name
with (place / "calls").open("a") as calls:
    calls.write(json.dumps([name, sys.argv[1:], dict(os.environ)]) + "\\n")
for suffix, stream in ((".out", sys.stdout), (".err", sys.stderr)):
    if (place / (name + suffix)).exists():
        stream.buffer.write((place / (name + suffix)).read_bytes())
sys.exit(int((place / (name + ".err")).exists()))
"""


class Programs:
    """Stubs in a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        for name in ("sbatch", "squeue", "scancel", "scontrol", "sleep"):
            (place / name).write_text(_STUB)
            (place / name).chmod(0o755)
        (place / "scontrol.out").write_text("MaxArraySize            = 1001\n")

    def calls(self, name: str) -> list[tuple[list[str], dict[str, str]]]:
        rows = [json.loads(line) for line in (self.place / "calls").read_text().splitlines()]
        return [(words, environment) for program, words, environment in rows if program == name]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{programs.place}:{os.environ['PATH']}")
    return programs


def run_script(script: str, task: int) -> subprocess.CompletedProcess[str]:
    """Run a job of an array, with the variables that Slurm sets."""
    job = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "9", "SLURM_JOB_ID": "11"}
    return subprocess.run(["bash", script], env={**os.environ, **job}, capture_output=True, text=True)


ODD = [
    "it's",
    'two "quotes"',
    "$HOME `id` $(id)",
    "50% off %a",
    "trailing ",
    "a;b&c|d",
    "naïve 🙂",
    "-dash",
    "bad\udcff",
]


@pytest.mark.parametrize("name", ODD)
def test_a_job_runs_its_command_whatever_the_paths_are(
    name: str, programs: Programs, tmp_path: Path, monkeypatch
) -> None:
    jobs, cwd = tmp_path / name / "jobs", tmp_path / f"{name} cwd"
    units = [tmp_path / name / str(number) for number in range(2)]
    for folder in (jobs, cwd, *units):
        folder.mkdir(parents=True)
    (cwd / "json.py").write_text("raise SystemExit('a module of the working directory')")
    monkeypatch.chdir(cwd)
    words = ("timeit", "-n1", "-r1", f"open({str(units[1] / 'made')!r}, 'w').close()")
    commands = [Unit(units[0], ("timeit", "-n1", "-r1", "1")), Unit(units[1], words)]
    Slurm(ClusterRecipe(gpus_per_trial=0)).submit("s-1", commands, jobs, 7)
    ((sbatch, _),) = programs.calls("sbatch")
    assert [os.fsencode(word) for word in sbatch[:4]] == [
        b"--job-name=s-1",
        b"--array=0-1%7",
        b"--output=" + os.fsencode(str(jobs).replace("%", "%%") + "/s-1-%a.log"),
        b"--chdir=" + os.fsencode(cwd),
    ]
    done = run_script(sbatch[-1], task=1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (units[1] / "made").exists()
    (attempt,) = attempts_of(units[1]).latest
    assert (attempt.code, attempt.job) == (0, "9_1")
    assert attempts_of(units[0]).total == 0


@pytest.mark.parametrize(
    ("state", "again"),
    [
        ("RUNNING None", True),
        ("COMPLETING TimeLimit", True),
        ("", True),
        ("COMPLETING None", False),
        ("CLUSTER: second\nCOMPLETING None", False),
    ],
)
def test_a_job_that_is_cancelled_is_not_queued_again(
    state: str, again: bool, programs: Programs, tmp_path: Path
) -> None:
    """`scontrol requeue` would succeed, and the job would run again after two minutes."""
    unit = Unit(tmp_path, ("timeit", "-n1", "-r1", "raise SystemExit(75)"))
    Slurm(ClusterRecipe(gpus_per_trial=0)).submit("s-1", [unit], tmp_path, 1)
    (programs.place / "squeue.out").write_text(f"{state}\n")
    done = run_script(str(tmp_path / "s-1.sh"), task=0)
    assert (done.returncode, done.stderr) == (75, "")
    requeued = [words for words, _ in programs.calls("scontrol") if words[0] == "requeue"]
    assert requeued == [["requeue", "9_0"]] * again
    ((words, _),) = programs.calls("squeue")
    assert "--jobs=9_0" in words


def test_a_line_break_in_a_path_is_refused(programs: Programs, tmp_path: Path, monkeypatch) -> None:
    for place, unit in (("cwd\ntouch made\n", "unit"), ("cwd", "unit\ntouch made\n")):
        folder = tmp_path / place
        folder.mkdir()
        monkeypatch.chdir(folder)
        with pytest.raises(FlatvqError, match=r"has a line break in .*: rename the folder") as refused:
            Slurm(ClusterRecipe()).submit("s-1", [Unit(tmp_path / unit, ("flatvq",))], tmp_path, 1)
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("s-1*"))


def test_defaults_of_the_user_hide_no_job(programs: Programs, tmp_path: Path, monkeypatch) -> None:
    """With SQUEUE_PARTITION, squeue lists none of the jobs; with SBATCH_WAIT, sbatch returns at their end."""
    for name in (
        "SQUEUE_PARTITION",
        "SQUEUE_FORMAT",
        "SCANCEL_INTERACTIVE",
        "SBATCH_WAIT",
        "SBATCH_PARTITION",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SBATCH_CLUSTERS", "second")
    slurm = Slurm(ClusterRecipe())
    slurm.submit("s-1", [Unit(tmp_path, ("flatvq",))], tmp_path, 1)
    slurm.states(["s-1"])
    slurm.cancel(["s-1"])
    for program in ("sbatch", "squeue", "scancel"):
        ((_, environment),) = programs.calls(program)
        given = {name for name in environment if name.startswith(("SQUEUE_", "SCANCEL_", "SBATCH_"))}
        assert given == {"SBATCH_PARTITION", "SBATCH_CLUSTERS"}
        assert environment["SLURM_CLUSTERS"] == "second"


def test_a_job_does_not_inherit_the_job_in_which_it_was_submitted(programs: Programs, monkeypatch) -> None:
    """In a job that has both, srun ends: SLURM_MEM_PER_CPU and SLURM_MEM_PER_NODE are mutually exclusive."""
    for name in ("SLURM_MEM_PER_CPU", "SLURM_CPU_BIND", "SLURM_EXPORT_ENV", "SLURM_CONF", "SLURM_JWT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    slurm = Slurm(ClusterRecipe())
    slurm.states(["s-1"])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    slurm.states(["s-1"])
    (_, alone), (_, in_a_job) = programs.calls("squeue")
    assert {"SLURM_MEM_PER_CPU", "SLURM_CPU_BIND", "SLURM_EXPORT_ENV"} <= set(alone)
    assert {name for name in in_a_job if name.startswith("SLURM_")} == {"SLURM_CONF", "SLURM_JWT"}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("PENDING", "waiting"),
        ("PENDING|Resources", "waiting"),
        ("PENDING|JobHeldUser", "waiting"),
        ("PENDING|launch failed requeued held", "lost"),
        ("PENDING|launch_failed_requeued_held", "lost"),
        ("RUNNING|None", "running"),
        ("REQUEUE_HOLD", "waiting"),
        ("A_STATE_OF_LATER_VERSIONS", "waiting"),
        ("RUNNING", "running"),
        ("COMPLETING", "running"),
        ("COMPLETED", "ended"),
        ("OUT_OF_MEMORY", "ended"),
        ("CANCELLED", "cancelled"),
    ],
)
def test_states_are_read_among_other_lines(state: str, expected: str, programs: Programs) -> None:
    lines = [
        "CLUSTER: second",
        "Dear users: | maintenance | on | Monday",
        "",
        f"s-1|3|{state}",
        "s-1|N/A|RUNNING",
    ]
    (programs.place / "squeue.out").write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    assert Slurm(ClusterRecipe()).states(["s-1", "s-2"]) == {"s-1": {3: expected}, "s-2": {}}


def test_waiting_jobs_that_were_cancelled_by_user_are_no_lost_jobs(programs: Programs) -> None:
    """Slurm 22.05 forgets their indices. Jobs 0 and 1 ran, and jobs 2 and 3 waited."""
    lines = [
        "s-1|N/A|CANCELLED|JobArrayTaskLimit",
        "s-1|0|COMPLETED|None",
        "s-1|1|CANCELLED|None",
        "s-2|1|RUNNING",
    ]
    (programs.place / "squeue.out").write_text("\n".join(lines))
    states = Slurm(ClusterRecipe()).states(["s-1", "s-2"])
    assert [states["s-1"].get(index) for index in range(4)] == [
        "ended",
        "cancelled",
        "cancelled",
        "cancelled",
    ]
    assert states["s-2"] == {1: "running"}


def test_a_controller_that_does_not_answer_ends_no_job(programs: Programs) -> None:
    (programs.place / "squeue.out").write_text("s-1|0|RUNNING\n")
    (programs.place / "squeue.err").write_bytes(b"slurm_load_jobs error: Unable to contact \xff\n")
    slurm = Slurm(ClusterRecipe())
    with pytest.raises(
        NoAnswerError, match=r"squeue failed: slurm_load_jobs error: Unable to contact .: try"
    ):
        slurm.states(["s-1"])
    (programs.place / "squeue.err").unlink()
    assert slurm.states(["s-1"]) == {"s-1": {0: "running"}}


def test_the_limit_of_an_array_changes(programs: Programs) -> None:
    slurm = Slurm(ClusterRecipe())
    slurm.limit("s-1", 7)
    assert programs.calls("scontrol")[-1][0] == ["update", "jobname=s-1", "arraytaskthrottle=7"]
    (programs.place / "scontrol.err").write_text("scontrol: error: No jobs with name 's-1'\n")
    slurm.limit("s-1", 7)


def test_a_refusal_is_told_in_one_line(programs: Programs, tmp_path: Path) -> None:
    (programs.place / "sbatch.err").write_bytes(
        b"sbatch: note\nsbatch: error: invalid partition: caf\xe9\n\n"
    )
    with pytest.raises(FlatvqError) as refused:
        Slurm(ClusterRecipe()).submit("s-1", [Unit(tmp_path, ("flatvq",))], tmp_path, 1)
    assert str(refused.value) == (
        "sbatch failed: sbatch: error: invalid partition: caf\ufffd: correct the section cluster"
    )


@pytest.mark.parametrize("missing", ["sbatch", "scontrol"])
def test_a_missing_program_is_named(missing: str, programs: Programs, monkeypatch) -> None:
    (programs.place / missing).unlink()
    monkeypatch.setenv("PATH", str(programs.place))
    with pytest.raises(FlatvqError, match=f"Slurm's command '{missing}' is not on this machine"):
        Slurm(ClusterRecipe())


def test_the_script_says_how_it_was_submitted(programs: Programs, tmp_path: Path) -> None:
    Slurm(ClusterRecipe(partition="gpu", options=("--constraint=a b",))).submit(
        "s-1", [Unit(tmp_path, ("flatvq",))], tmp_path, 1
    )
    ((words, _),) = programs.calls("sbatch")
    assert (tmp_path / "s-1.sh").read_text().splitlines()[1] == f"# {shlex.join(['sbatch', *words])}"
