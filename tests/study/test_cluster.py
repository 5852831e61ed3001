"""Studies on a cluster, with an engine that does what the test says: what is submitted, and what fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import pytest

from flatvq.engines.attempts import _append
from flatvq.engines.engine import ENGINES, NoAnswerError, State, Unit
from flatvq.engines.jobs import jobs_of
from flatvq.engines.silence import silence_of
from flatvq.errors import FlatvqError
from flatvq.recipe import ClusterRecipe, load_cluster, load_recipe, with_cluster_of_user
from flatvq.study import (
    ClusterTrials,
    Outcome,
    Plan,
    StudyData,
    StudyStopped,
    cancel_jobs,
    cluster,
    plan_study,
)


class FakeEngine:
    """Jobs by submission and position. Each call of `states` takes the next step of a script.

    A step that returns None is a query without an answer.
    """

    largest = 3

    def __init__(self) -> None:
        self.jobs: dict[str, dict[int, State]] = {}
        self.units: dict[str, list[Unit]] = {}
        self.running: list[int] = []
        self.limits: dict[str, int] = {}
        self.cancelled: list[str] = []
        self.steps: list = []
        self.refuses = False

    def submit(self, name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        if self.refuses:
            raise FlatvqError("sbatch failed: no such partition", "correct the section cluster")
        assert (folder / f"{name}.json").exists(), "recorded before it is submitted"
        self.jobs[name] = dict.fromkeys(range(len(units)), "running")
        self.units[name] = list(units)
        self.running.append(running)

    def states(self, names: Sequence[str]) -> dict[str, dict[int, State]]:
        if self.steps and self.steps.pop(0)() is None:
            raise NoAnswerError("squeue failed: no route to host", "try again later")
        return {name: self.jobs.get(name, {}) for name in names}

    def limit(self, name: str, running: int) -> None:
        self.limits[name] = running

    def cancel(self, names: Sequence[str]) -> None:
        self.cancelled += names

    def folders(self) -> list[Path]:
        return [unit.folder for units in self.units.values() for unit in units]

    def end(self, folder: Path, state: State = "ended", **end: object) -> None:
        """End the latest job of a trial, with a record of its attempt if one is given."""
        for name, units in self.units.items():
            for index, unit in enumerate(units):
                if unit.folder == folder and self.jobs[name].get(index) == "running":
                    self.jobs[name][index] = state
        if end:
            _append(folder, event="start", host="a", job="1_0", step=0)
            _append(folder, event="end", job="1_0", **{"step": 0, "error": None, **end})
        if end.get("code") == 0:
            (folder / "done").touch()


@pytest.fixture
def engine(monkeypatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setitem(ENGINES._entries, "fake", lambda recipe: engine)
    monkeypatch.setattr(cluster, "_WATCH_SECONDS", 0.0)
    read = cluster.outcome_of

    def with_marks(trial, folder: Path) -> Outcome:
        outcome = read(trial, folder)
        outcome.status = "done" if (folder / trial.run / "done").exists() else outcome.status
        return outcome

    monkeypatch.setattr(cluster, "outcome_of", with_marks)
    return engine


@pytest.fixture
def plan() -> Plan:
    overrides = ["seeds=[0, 1]", "looks=[2]", "cluster.poll_seconds=0.001", "cluster.max_running=4"]
    return plan_study(load_recipe("photographs", overrides), "my study")


@pytest.fixture
def data(plan: Plan) -> StudyData:
    return StudyData(plan)


def _run(plan: Plan, folder: Path, data: StudyData) -> list[Outcome]:
    return ClusterTrials("fake")(plan, folder, data, lambda progress: None)


def test_all_trials_are_submitted_in_parts_and_found_again(engine, plan, data, tmp_path: Path) -> None:
    trials = len(plan.trials)
    assert ClusterTrials("fake").submit(plan, tmp_path, data) == (trials, 0)
    assert [len(units) for units in engine.units.values()] == [3] * (trials // 3) + [trials % 3] * (
        trials % 3 > 0
    )
    assert set(engine.running) == {4 // len(engine.units)}
    assert all(name.startswith("my-study-") for name in engine.units)
    assert sorted(engine.folders()) == sorted((tmp_path / trial.run).resolve() for trial in plan.trials)
    assert ClusterTrials("fake").submit(plan, tmp_path, data) == (0, trials), (
        "running trials are not submitted"
    )

    def end_all() -> bool:
        for folder in engine.folders():
            engine.end(folder, code=0)
        return True

    engine.steps = [lambda: None, end_all]
    outcomes = _run(plan, tmp_path, data)
    assert [outcome.status for outcome in outcomes] == ["done"] * trials
    assert len(engine.folders()) == trials
    assert list((tmp_path / "jobs").glob("*.json")) == []
    assert sorted(engine.cancelled) == sorted(engine.units), "the cluster may forget them"


def test_jobs_that_ended_while_no_program_waited_are_forgotten(
    engine, plan, data, tmp_path: Path, monkeypatch
) -> None:
    ClusterTrials("fake").submit(plan, tmp_path, data)
    for folder in engine.folders():
        engine.end(folder, code=0)
    assert {outcome.status for outcome in _run(plan, tmp_path, data)} == {"done"}
    assert list((tmp_path / "jobs").glob("*.json")) == []
    assert sorted(engine.cancelled) == sorted(engine.units), "the cluster may forget them"
    other = FakeEngine()
    monkeypatch.setitem(ENGINES._entries, "other", lambda recipe: other)
    assert ClusterTrials("other").submit(plan, tmp_path, data) == (0, 0)


def test_a_detached_command_submits_trials_whose_jobs_have_ended(engine, plan, data, tmp_path: Path) -> None:
    """Such as after `scancel`, or after the cluster lost its state: no command waits that would notice."""
    trials = ClusterTrials("fake")
    trials.submit(plan, tmp_path, data)
    done, cancelled, failed, *others = engine.folders()
    engine.end(done, code=0)
    engine.end(cancelled, state="cancelled", code=130)
    engine.end(failed, code=2, error="no folder at 'x': check data.path")
    assert trials.submit(plan, tmp_path, data) == (2, len(others))
    assert engine.folders()[-2:] == [cancelled, failed]
    assert trials.submit(plan, tmp_path, data) == (0, len(others) + 2)


def test_failures_are_tried_again_or_named(engine, plan, data, tmp_path: Path) -> None:
    ClusterTrials("fake").submit(plan, tmp_path, data)
    killed, invalid, cancelled, never, *others = engine.folders()
    for folder in others:
        engine.end(folder, code=0)
    engine.end(killed, code=-9, error="killed by SIGKILL")
    engine.end(invalid, code=2, error="no folder at 'x': check data.path")
    engine.end(cancelled, state="cancelled", code=130)
    engine.end(never)
    engine.steps = [*[lambda: True] * 3, lambda: (engine.end(killed, code=0), True)]
    outcomes = {(tmp_path / each.trial.run).resolve(): each for each in _run(plan, tmp_path, data)}
    assert engine.folders().count(killed) == 2
    assert {outcomes[folder].status for folder in (killed, *others)} == {"done"}
    assert outcomes[invalid].error == "no folder at 'x': check data.path"
    assert outcomes[cancelled].error == "its job was cancelled"
    assert outcomes[never].error.startswith("its job ended before its command started; see ")
    assert len(engine.folders()) == len(plan.trials) + 1

    # The user runs the command again: failed trials get new jobs, and their earlier failures count no more.
    engine.steps = [lambda: [engine.end(folder, code=0) for folder in engine.folders()] or True]
    assert {outcome.status for outcome in _run(plan, tmp_path, data)} == {"done"}
    assert engine.folders().count(invalid) == 2


def test_a_refused_submission_leaves_nothing(engine, plan, data, tmp_path: Path) -> None:
    engine.refuses = True
    with pytest.raises(FlatvqError, match="no such partition"):
        ClusterTrials("fake").submit(plan, tmp_path, data)
    assert list((tmp_path / "jobs").glob("*.json")) == []


def test_a_submission_whose_outcome_is_unknown_is_not_lost(engine, plan, data, tmp_path: Path) -> None:
    """Such as after a timeout of sbatch: it is cancelled, or remembered until the cluster answers again."""
    engine.refuses = True
    with pytest.raises(FlatvqError):
        ClusterTrials("fake").submit(plan, tmp_path, data)
    (name,) = engine.cancelled

    def no_answer(names: Sequence[str]) -> None:
        raise NoAnswerError("scancel failed: no route to host", "try again later")

    engine.cancel = no_answer
    with pytest.raises(NoAnswerError, match="no such partition: try again later"):
        ClusterTrials("fake").submit(plan, tmp_path, data)
    (record,) = (tmp_path / "jobs").glob("*.json")
    assert record.stem != name
    del engine.cancel
    assert cancel_jobs("fake", plan, tmp_path) == 3
    assert engine.cancelled == [name, record.stem]


def test_a_program_that_was_paused_submits_nothing(engine, plan, data, tmp_path: Path, monkeypatch) -> None:
    """Its lease has been taken over. The path of the study is relative, as on the command line."""
    monkeypatch.chdir(tmp_path)
    Path("study").mkdir()
    with jobs_of("fake", Path("study"), plan.recipe.cluster) as jobs:
        for attempt in Path("study/jobs/.lease").iterdir():
            shutil.rmtree(attempt)
        with pytest.raises(OSError, match="No such file or directory"):
            jobs.submit({Path("runs/a"): ("flatvq", "train", "a")}, "late")
    assert engine.units == {}


def test_a_submission_that_was_recorded_but_not_made_is_made_again(
    engine, plan, data, tmp_path: Path
) -> None:
    ClusterTrials("fake").submit(plan, tmp_path, data)
    lost = next(iter(engine.units))
    units = engine.units.pop(lost)
    del engine.jobs[lost]

    def end_all() -> bool:
        for folder in engine.folders():
            engine.end(folder, code=0)
        return True

    engine.steps = [end_all] * 10
    assert {outcome.status for outcome in _run(plan, tmp_path, data)} == {"done"}
    assert sorted(engine.folders()).count(units[0].folder) == 1
    assert len(engine.folders()) == len(plan.trials)


def test_a_trial_that_a_node_cannot_start_again_is_submitted_again(
    engine, plan, data, tmp_path: Path
) -> None:
    """Slurm holds such a job forever, and its state changes no more."""
    ClusterTrials("fake").submit(plan, tmp_path, data)
    held, *others = engine.folders()
    for folder in others:
        engine.end(folder, code=0)
    _append(held, event="start", host="a", job="1_0", step=0)  # on a node that was lost
    engine.end(held, state="lost")
    engine.steps = [lambda: True] * 2 + [lambda: (engine.end(held, code=0), True)] * 9
    assert _states(_run(plan, tmp_path, data)) == {"done"}
    assert engine.folders().count(held) == 2
    assert sorted(engine.cancelled) == sorted(engine.units), "the held job, too"


def test_a_cluster_that_loses_each_job_is_not_asked_forever(engine, plan, data, tmp_path: Path) -> None:
    submit = engine.submit

    def submit_and_lose(name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        submit(name, units, folder, running)
        engine.jobs[name] = {}

    engine.submit = submit_and_lose
    outcomes = _run(plan, tmp_path, data)
    assert all(
        each.error is not None and each.error.startswith("its job ended before its command started; see ")
        for each in outcomes
    )
    assert len(engine.folders()) == 2 * len(plan.trials), "each is submitted again once"


def test_a_cluster_without_an_answer_is_reported_once(engine, plan, data, tmp_path: Path, run_flatvq) -> None:
    notices: list[str] = []
    states: list[set[str]] = []
    shown: list[str] = []

    def show() -> None:
        shown.append(run_flatvq("status", tmp_path)[1])

    def end_all() -> bool:
        for folder in engine.folders():
            engine.end(folder, code=0)
        return True

    engine.steps = [lambda: None, lambda: None, show, lambda: True, end_all]
    trials = ClusterTrials("fake", notices.append)
    outcomes = trials(plan, tmp_path, data, lambda progress: states.append(_states(progress.outcomes)))
    assert {outcome.status for outcome in outcomes} == {"done"}
    # How often the progress is shown depends on the time, the order of the states does not.
    all_alike = [state for state in states if state in ({"unknown"}, {"running"})]
    assert [state for state, _ in groupby(all_alike)] == [{"unknown"}, {"running"}]
    lost, back = notices
    assert lost.startswith("No answer from the cluster since 20")
    assert lost.endswith(
        " (squeue failed: no route to host): next query in 0.001 s, for at most 3600 s. No job was ended."
    )
    assert back.startswith("The cluster answers again after ")
    *rows, counts, last = shown[0].splitlines()
    assert {row.split()[2] for row in rows[1:]} == {"unknown"}
    assert counts == f"{len(plan.trials)} trials: {len(plan.trials)} unknown"
    assert last.startswith("No answer from the cluster since 20")
    assert silence_of(tmp_path) is None
    assert engine.cancelled == list(engine.units), "only what has ended"


def _states(outcomes: list[Outcome]) -> set[str]:
    return {outcome.status for outcome in outcomes}


def test_a_cluster_that_never_answers_ends_the_command_and_no_job(
    engine, data, tmp_path: Path, run_flatvq
) -> None:
    overrides = ["cluster.poll_seconds=0.001", "cluster.answer_seconds=0.01", "seeds=[0, 1]", "looks=[2]"]
    plan = plan_study(load_recipe("photographs", overrides), "my study")
    ClusterTrials("fake").submit(plan, tmp_path, data)
    engine.steps = [lambda: None] * 1000
    with pytest.raises(
        NoAnswerError, match=r"the cluster has not answered since 20.* \(squeue failed"
    ) as ended:
        _run(plan, tmp_path, data)
    assert ended.value.exit_code == 69
    assert ended.value.remedy == "no job was ended; run the same command again to wait for them"
    assert engine.cancelled == []
    code, output, _ = run_flatvq("status", tmp_path, "--json")
    tree = json.loads(output)
    assert (code, tree["no_answer"]["error"]) == (0, "squeue failed: no route to host")
    assert tree["no_answer"]["since"] <= tree["no_answer"]["until"]
    engine.steps = [lambda: [engine.end(folder, code=0) for folder in engine.folders()] or True]
    assert _states(_run(plan, tmp_path, data)) == {"done"}
    assert len(engine.folders()) == len(plan.trials), "the same command found the jobs"
    assert silence_of(tmp_path) is None


def test_a_trial_that_is_tried_again_outlasts_a_cluster_without_an_answer(
    engine, plan, data, tmp_path: Path
) -> None:
    """The cluster stops answering between the query and the submission, which may have been made or not."""
    trials = ClusterTrials("fake")
    trials.submit(plan, tmp_path, data)
    killed, *others = engine.folders()
    for folder in others:
        engine.end(folder, code=0)
    engine.end(killed, code=-9, error="killed by SIGKILL")
    submit, cancel = engine.submit, engine.cancel
    lost: list[str] = []

    def lose(name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        lost.append(name)
        engine.submit = submit
        raise NoAnswerError("sbatch does not answer", "try again later")

    def no_answer(names: Sequence[str]) -> None:
        if names == lost:
            engine.cancel = cancel
            raise NoAnswerError("scancel does not answer", "try again later")

    engine.submit, engine.cancel = lose, no_answer
    engine.steps = [*[lambda: True] * 6, lambda: (engine.end(killed, code=0), True)] * 3
    assert _states(trials(plan, tmp_path, data, lambda progress: None)) == {"done"}
    assert len(lost) == 1
    assert engine.folders().count(killed) == 2
    assert list((tmp_path / "jobs").glob("*.json")) == []


def test_another_limit_also_holds_for_the_jobs_of_earlier_commands(engine, data, tmp_path: Path) -> None:
    def plan_with(most: int) -> Plan:
        overrides = ["seeds=[0, 1]", "looks=[2]", f"cluster.max_running={most}"]
        return plan_study(load_recipe("photographs", overrides), "my study")

    ClusterTrials("fake").submit(plan_with(64), tmp_path, data)
    assert engine.limits == {}
    trials = len(engine.folders())
    assert ClusterTrials("fake").submit(plan_with(trials), tmp_path, data) == (0, trials)
    assert engine.limits == {name: len(units) for name, units in engine.units.items()}
    ClusterTrials("fake").submit(plan_with(1), tmp_path, data)
    assert set(engine.limits.values()) == {1}


def test_ctrl_c_leaves_the_jobs(engine, plan, data, tmp_path: Path) -> None:
    def stop(progress: object) -> None:
        raise StudyStopped

    with pytest.raises(StudyStopped):
        ClusterTrials("fake")(plan, tmp_path, data, stop)
    assert engine.cancelled == []
    assert cancel_jobs("fake", plan, tmp_path) == len(plan.trials)
    assert sorted(engine.cancelled) == sorted(engine.units)


def test_ctrl_c_in_a_callback_is_not_lost(engine, plan, data, tmp_path: Path) -> None:
    calls = []

    def watch(progress: object) -> None:
        calls.append(progress)
        assert len(calls) < 9
        with suppress(StudyStopped):  # as Python does in a destructor
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(StudyStopped):
        ClusterTrials("fake")(plan, tmp_path, data, watch)
    assert len(calls) == 1
    assert engine.cancelled == []


def test_jobs_of_another_engine_are_not_lost(engine, plan, data, tmp_path: Path, monkeypatch) -> None:
    ClusterTrials("fake").submit(plan, tmp_path, data)
    monkeypatch.setitem(ENGINES._entries, "other", lambda recipe: FakeEngine())
    with pytest.raises(FlatvqError, match="has jobs on 'fake', not on 'other': use --on fake"):
        ClusterTrials("other").submit(plan, tmp_path, data)


def test_the_cluster_is_no_part_of_the_identity_of_a_study(engine, plan, data, tmp_path: Path) -> None:
    from flatvq.study.design import design_of
    from flatvq.study.plan import trial_key

    recipe = load_recipe(
        "photographs", ["cluster.partition=gpu", "cluster.nodes=4", "seeds=[0, 1]", "looks=[2]"]
    )
    other = plan_study(recipe, "my study")
    assert design_of(other) == design_of(plan)
    assert [trial_key(a.recipe) for a in other.trials] == [trial_key(b.recipe) for b in plan.trials]


def test_the_settings_of_the_user_complete_those_of_the_recipe(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    recipe = load_recipe("photographs", ["cluster.partition=mine", "cluster.time_limit=90"])
    assert with_cluster_of_user(recipe) == recipe
    (tmp_path / "flatvq").mkdir()
    (tmp_path / "flatvq" / "cluster.yaml").write_text(
        "partition: site\naccount: me\nsetup: [module load cuda]"
    )
    expected = ClusterRecipe(partition="mine", time_limit="90", account="me", setup=("module load cuda",))
    assert with_cluster_of_user(recipe).cluster == expected
    (tmp_path / "flatvq" / "cluster.yaml").write_text("partitoin: site")
    with pytest.raises(FlatvqError, match=r"unknown key 'partitoin' in .*did you mean 'partition'"):
        with_cluster_of_user(recipe)


def test_unusable_settings_of_the_user_are_not_left_out(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "flatvq" / "cluster.yaml"
    path.parent.mkdir()
    path.mkdir()
    with pytest.raises(FlatvqError, match=r"cannot read '.*cluster\.yaml' \(.*directory"):
        load_cluster()
    path.rmdir()
    path.symlink_to("moved.yaml")
    with pytest.raises(FlatvqError, match=r"cannot read '.*cluster\.yaml' \(no such file"):
        load_cluster()
    path.unlink()
    path.write_bytes(b"partition: caf\xe9")
    with pytest.raises(FlatvqError, match=r"cluster\.yaml' is not UTF-8 \(byte 15\): save it as UTF-8"):
        load_cluster()


def test_one_override_does_not_replace_another() -> None:
    with pytest.raises(FlatvqError, match=r"override 'cluster\.cpus=5' replaces 'cluster\.cpus=4'"):
        load_cluster(["cluster.cpus=4", "cluster.cpus=5"])


@pytest.mark.parametrize(
    "override",
    ['cluster.setup=["a\\nb"]', "cluster.partition='a b'", "cluster.options=[gpu]", "cluster.time_limit=1h"],
)
def test_values_that_would_break_a_job_script_are_refused(override: str) -> None:
    with pytest.raises(FlatvqError, match="cluster"):
        load_recipe("photographs", [override])


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"time_limit": 2}, "time_limit=2 (120 seconds) is not longer than stop_seconds=120"),
        ({"time_limit": "1:30"}, "time_limit=1:30 (90 seconds) is not longer than stop_seconds=120"),
        ({"time_limit": "0-1", "stop_seconds": 3600}, "time_limit=0-1 (3600 seconds) is not longer than"),
        ({"cpus": 1, "gpus_per_trial": 4}, "cpus=1 is less than gpus_per_trial=4"),
        ({"options": ["--time=9"]}, "options contains '--time=9', which flatvq sets by time_limit"),
        ({"options": ["-a 0-3"]}, "options contains '-a 0-3', which flatvq sets itself"),
        ({"options": ["-Jmine"]}, "options contains '-Jmine', which flatvq sets itself"),
        ({"options": ["--job=mine"]}, "options contains '--job=mine', which flatvq sets itself"),
        ({"options": ["--wait"]}, "options contains '--wait', which flatvq sets itself"),
        ({"options": ["--test-only"]}, "options contains '--test-only', which flatvq sets itself"),
        ({"options": ["-t9"]}, "options contains '-t9', which flatvq sets by time_limit"),
        ({"options": ["-M all"]}, "options contains '-M all', which flatvq sets by the environment variable"),
    ],
)
def test_values_that_contradict_each_other_are_refused(keys, fault: str, tmp_path: Path, monkeypatch) -> None:
    overrides = [f"cluster.{key}={value}" for key, value in keys.items()]
    for load in (load_cluster, lambda overrides: load_recipe("photographs", overrides)):
        with pytest.raises(FlatvqError) as refused:
            load(overrides)
        assert str(refused.value).startswith(fault)
        assert "override" in refused.value.remedy
    # One value is in the file of the user, and the other in the recipe.
    first, *others = overrides
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "flatvq").mkdir()
    (tmp_path / "flatvq" / "cluster.yaml").write_text(
        "".join(f"{key}: {value}\n" for key, value in list(keys.items())[1:])
    )
    if others:
        with pytest.raises(FlatvqError, match=r"change it in '.*cluster\.yaml' or the section cluster"):
            with_cluster_of_user(load_recipe("photographs", [first]))


@pytest.mark.parametrize(
    "option", ["--time-min=9", "--wait-all-nodes=1", "--nodelist=a", "-pgpu", "--no-kill"]
)
def test_options_with_similar_names_are_accepted(option: str) -> None:
    assert ClusterRecipe(options=(option,)).options == (option,)


@pytest.mark.parametrize("limit", ["", "0", "3", "2:01", "0:02:01", "1-0", "0-0:3"])
def test_a_time_limit_longer_than_the_stop_is_accepted(limit: str) -> None:
    assert ClusterRecipe(time_limit=limit).time_limit == limit


def test_options_of_a_cluster_need_one(run_flatvq, tmp_path: Path) -> None:
    for words in (["--detach"], ["--gpus-per-trial", "0"], ["--cancel"], ["--time-limit", "5"]):
        code, _, errors = run_flatvq("study", "photographs", "--out", tmp_path / "st", *words)
        assert (code, errors) == (2, f"flatvq: {words[0]} needs a cluster: add --on slurm, or leave it out\n")
    code, _, errors = run_flatvq("study", "photographs", "--on", "slrm", "--dry-run")
    assert (code, errors) == (2, "flatvq: no engine is named 'slrm': did you mean 'slurm'?\n")
    assert not (tmp_path / "st").exists()


def test_a_study_with_jobs_does_not_start_on_this_machine(run_flatvq, tmp_path: Path) -> None:
    """Its trials would be taken from the jobs, or be reported as failed."""
    (tmp_path / "st" / "jobs").mkdir(parents=True)
    (tmp_path / "st" / "jobs" / "photographs-0011223344.json").write_text("{}")
    code, _, errors = run_flatvq("study", "photographs", "--out", tmp_path / "st")
    what = f"the study '{tmp_path / 'st'}' has jobs on a cluster"
    remedy = "add --on ENGINE to wait for them, or --on ENGINE --cancel to end them"
    assert (code, errors) == (2, f"flatvq: {what}: {remedy}\n")
    assert [path.name for path in (tmp_path / "st").iterdir()] == ["jobs"]
