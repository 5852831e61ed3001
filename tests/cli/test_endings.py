"""How commands end on errors of the operating system: one line, the right exit code, no lost results."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

pytestmark = pytest.mark.processes

COMMAND = [sys.executable, "-m", "flatvq"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A working directory with images and a recipe."""
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        image = Image.fromarray(random.integers(0, 256, (40, 44, 3), np.uint8))
        image.save(tmp_path / "pictures" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    recipe(tmp_path)
    return tmp_path


def recipe(place: Path, **extra: Any) -> None:
    tree = {
        "data": {"source": "folder", "path": "pictures", "crop": 32, "validation_share": 0.3},
        "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 16, "code_dim": 4}]},
        "codebook": {"init": {"kind": "data", "vectors_per_code": 1}},
        "train": {"steps": 2, "batch_size": 2, "device": "cpu", "compile": "never"},
        "evaluate": {"samples": 1},
        "seeds": [0],
        "workers": 2,
        **extra,
    }
    (place / "tiny.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


@pytest.fixture
def flatvq(run_flatvq) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process."""
    return run_flatvq


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process."""
    return subprocess.run([*COMMAND, *words], text=True, check=False, capture_output=True, **options)


def files_up_to(size: int) -> Callable[[], None]:
    """Limit the size of files in bytes, as `ulimit -f` does and a full disk would."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def only_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert text.startswith("flatvq: "), text
    return text.removeprefix("flatvq: ").rstrip("\n")


def test_training_resumes_after_a_full_disk(place: Path) -> None:
    train = {"steps": 60, "batch_size": 2, "device": "cpu", "compile": "never", "precision": "float32"}
    level = {"codebook_size": 4, "code_dim": 2}
    model = {"width": 2, "residual_width": 1, "residual_blocks": 0, "levels": [level]}
    recipe(place, model=model, train={**train, "record_every": 1, "checkpoint_every": 10})
    whole = run("train", "tiny.yaml", "--out", "undisturbed")
    assert whole.returncode == 0, whole.stderr
    sizes = [path.stat().st_size for path in Path("undisturbed/checkpoints").rglob("*.safetensors")]
    records = Path("undisturbed/records.jsonl").stat().st_size
    limit = max(*sizes, records // 2)
    assert limit < records, "the records fill the disk, after some checkpoints"

    ended = run("train", "tiny.yaml", "--out", "run", preexec_fn=files_up_to(limit))
    assert ended.returncode == 74
    assert "cannot write 'run/records.jsonl' (file too large): " in only_line(ended.stderr)
    assert list(Path("run/checkpoints").glob("step-*")), "checkpoints before it stay"
    lines = Path("run/records.jsonl").read_text().splitlines()
    assert all(json.loads(line)["kind"] for line in lines)
    status = json.loads(Path("run/status.json").read_text())
    assert status["status"] == "failed"
    assert "cannot write 'run/records.jsonl'" in status["error"]

    again = run("train", "run")
    assert again.returncode == 0, again.stderr
    for name in ("model/model.safetensors", "metrics.json", "codes.json"):
        assert (Path("run") / name).read_bytes() == (Path("undisturbed") / name).read_bytes()


def test_a_study_reports_the_first_cause_even_if_its_trials_cannot_write_it(place: Path) -> None:
    ended = run("study", "tiny.yaml", "--out", "made", preexec_fn=files_up_to(5000))
    assert ended.returncode == 74
    (failed,) = [line for line in ended.stdout.splitlines() if line.startswith("failed: ")]
    assert failed.startswith("failed: default seed 0: cannot write 'made/runs/default/seed-0-")
    assert "file too large" in failed
    assert "cannot write 'made/report.html' (file too large)" in only_line(ended.stderr)
    (trial,) = json.loads(Path("made/study.json").read_text())["trials"]
    assert failed.endswith(trial["error"])
    assert "\n" not in trial["error"]
    # With space the same command ends well.
    assert run("study", "tiny.yaml", "--out", "made").returncode == 0


def test_a_search_resumes_its_trials_after_a_full_disk(place: Path) -> None:
    space = {"code_dim": {"choices": [2, 4]}}
    recipe(place, tune={"trials": 2, "length": 1.0, "space": space, "set_aside": 0.3})
    ended = run("tune", "tiny.yaml", "--out", "made", preexec_fn=files_up_to(9000))
    assert ended.returncode == 74
    assert "stopped: cannot write 'made/runs/000" in only_line(ended.stderr)
    again = run("tune", "tiny.yaml", "--out", "made")
    assert again.returncode == 0, again.stderr
    trials = json.loads(Path("made/tune.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["done", "done"]


def test_a_full_disk_leaves_no_partial_line_in_a_journal(place: Path) -> None:
    recipe(place, tune={"trials": 2, "set_aside": 0.3})
    ended = run("tune", "tiny.yaml", "--out", "made", preexec_fn=files_up_to(3000))
    assert ended.returncode == 74
    assert "made/journal.log' (file too large)" in only_line(ended.stderr)
    journal = Path("made/journal.log").read_bytes()
    assert journal.endswith(b"\n")
    assert [json.loads(line) for line in journal.splitlines()]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["recipes", "photographs"], ["capacity", "tiny.yaml"], ["--help"]])
def test_output_to_a_full_device_is_a_one_line_error(place: Path, words: list[str], unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*COMMAND, *words], env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 74
    assert only_line(ended.stderr).startswith("cannot write to standard output (no space left on device): ")


@pytest.mark.parametrize("words", [["recipes", "--fields"], ["capacity", "tiny.yaml"]])
def test_a_broken_pipe_ends_a_command_silently(place: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        ended = subprocess.run([*COMMAND, *words], stdout=unread, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("stream", [1, 2])
def test_a_closed_stream_is_no_error(place: Path, stream: int) -> None:
    ended = run("capacity", "tiny.yaml", "--json", preexec_fn=lambda: os.close(stream))
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = run("capacity", "absent.yaml", preexec_fn=lambda: os.close(stream))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == (stream == 1)


def test_a_broken_pipe_stops_the_trials_of_a_study(place: Path) -> None:
    arms = {"short": {}, "endless": {"train": {"steps": 1_000_000}}}
    recipe(place, arms=arms, compare=[["short", "endless"]])
    command = [*COMMAND, "study", "tiny.yaml", "--out", "made"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as study:
        assert study.stdout is not None
        assert study.stderr is not None
        while b"Look 1 of" not in study.stdout.readline():
            pass
        # The end of the short trial is the next news.
        study.stdout.close()
        assert (study.wait(), study.stderr.read()) == (128 + signal.SIGPIPE, b"")
    (status,) = Path("made/runs/endless").glob("*/status.json")
    assert json.loads(status.read_text())["status"] == "stopped"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "tiny.yaml", "--out", "file"], "'file' is a file: choose another folder"),
        (["train", "tiny.yaml", "--out", "file/run"], "(not a directory): choose another folder"),
        (["study", "tiny.yaml", "--out", "~nobody-here/x"], "no home folder for '~nobody-here/x'"),
        (["train", "~nobody-here/tiny.yaml"], "no home folder for '~nobody-here/tiny.yaml'"),
        (["evaluate", "~nobody-here", "--data", "pictures"], "no home folder for '~nobody-here'"),
        (["evaluate", "run", "--data", "~nobody-here"], "no home folder for '~nobody-here'"),
        (["evaluate", "run", "--data", "x", "--weights", "~nobody-here"], "no home folder for"),
        (["train", "tiny.yaml", "--set", "data.path=~nobody-here/pics"], "no home folder for"),
        (["pack", "~nobody-here", "out"], "no home folder for"),
        (["train", "tiny.yaml", "--out", "x" * 300], "(file name too long)"),
        (["train", "x" * 300 + ".yaml"], "file name too long"),
        (["train", "..yaml"], "a folder cannot be named after recipe '..yaml': '.' starts with '.'"),
        (["study", "-x.yaml"], ""),
        (["study", "./-x.yaml"], "a folder cannot be named after recipe './-x.yaml': '-x' starts with '-'"),
        (["study", "./NUL.yaml"], "is the name of a device on Windows: rename the file, or give --out"),
        (["tune", "./NUL.yaml"], "is the name of a device on Windows: rename the file, or give --out"),
        (["train", "made", "--set", "seed=1"], "a resumed run keeps its recipe"),
        (["train", "tiny.yaml", "--out", "taken"], "cannot read 'taken/recipe.json' (is a directory)"),
        (["report", "study"], "no study.json in 'study'"),
        (["train", "tiny.yaml", "--set", "model.levels.0.codebook_size=100000000000"], "TB of memory"),
        (["capacity", "a\nb.yaml"], "cannot read recipe 'a\\nb.yaml'"),
    ],
)
def test_invalid_arguments_are_named(place: Path, flatvq, words: list[str], message: str) -> None:
    Path("file").touch()
    for folder in ("run", "made", "taken/recipe.json", "study/study.json"):
        Path(folder).mkdir(parents=True)
    for name in ("..yaml", "-x.yaml", "NUL.yaml"):
        Path(name).write_bytes(Path("tiny.yaml").read_bytes())
    Path("made/recipe.json").write_text("{}")
    code, _, err = flatvq(*words)
    assert code == 2
    assert message in err
    if message:
        only_line(err)


def test_a_leading_tilde_is_the_home_folder(place: Path, flatvq, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(place / "home"))
    code, _, err = flatvq("train", "tiny.yaml", "--out=~/run")
    assert (code, err) == (0, "")
    assert (place / "home" / "run" / "metrics.json").exists()
    assert not Path("~").exists()
    assert flatvq("evaluate", "~/run", "--data", "pictures")[0] == 0


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["train", "tiny.yaml"], "--seed"),
        (["evaluate", "run", "--data", "pictures"], "--crop"),
        (["evaluate", "run", "--data", "pictures"], "--resize"),
        (["capacity", "tiny.yaml"], "--size"),
        (["levels", "run"], "--steps"),
    ],
)
@pytest.mark.parametrize("number", ["99999999999999999999", "9" * 5000, "-1", "1.5", "one"])
def test_numbers_on_the_command_line_have_ranges(
    place: Path, flatvq, command: list[str], option: str, number: str
) -> None:
    code, _, err = flatvq(*command, option, number)
    assert code == 2
    assert option in err


def test_trials_do_not_inherit_variables_of_a_launcher(place: Path, flatvq, monkeypatch) -> None:
    for name, value in {"WORLD_SIZE": "4", "RANK": "7", "LOCAL_RANK": "x", "MASTER_PORT": "y"}.items():
        monkeypatch.setenv(name, value)
    code, out, err = flatvq("study", "tiny.yaml", "--out", "made")
    assert (code, err) == (0, ""), out
    assert flatvq("study", "tiny.yaml", "--dry-run")[0] == 0
    code, _, err = flatvq("train", "tiny.yaml", "--out", "run")
    assert code == 2
    assert only_line(err).endswith("start with torchrun, or unset LOCAL_RANK")


@pytest.mark.parametrize("name", ["../../../elsewhere", "/elsewhere", "a/b", "CON"])
def test_an_arm_stays_inside_the_folder_of_the_study(place: Path, flatvq, name: str) -> None:
    recipe(place, arms={name: {}})
    before = sorted(place.rglob("*"))
    code, _, err = flatvq("study", "tiny.yaml", "--out", "made")
    assert code == 2
    assert "cannot be a folder name" in only_line(err)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("module", ["typer", "torch"])
def test_ctrl_c_ends_a_command_at_once(place: Path, module: str) -> None:
    # While the module is being imported.
    script = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "sys.argv = ['flatvq', 'study', 'tiny.yaml', '--dry-run']\n"
        "from flatvq.cli import main\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_a_damaged_recipe_of_a_run_is_rejected(place: Path, flatvq) -> None:
    Path("run").mkdir()
    Path("run/recipe.json").write_text('{"seed": 1, "train": {"steps": 1}, "seed": 2}')
    for words in (["train", "run"], ["evaluate", "run", "--data", "pictures"]):
        code, _, err = flatvq(*words)
        assert code == 2
        assert "'run/recipe.json' is damaged (the key 'seed' twice)" in only_line(err)
