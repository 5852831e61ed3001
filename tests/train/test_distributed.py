"""Several processes with a part of the batch each train like one process with the whole batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.train.conftest import OTHER_LEVELS, VECTOR_LEVELS

from flatvq.recipe import TrialRecipe

pytestmark = [pytest.mark.slow, pytest.mark.processes]

# The program of each process: train as `run_trial` does, and save the whole state.
PROCESS = """
import json, sys
from pathlib import Path
from signal import SIGTERM
import torch
from safetensors.torch import save_file
from flatvq.data import open_data
from flatvq.recipe import TrialRecipe, parse
from flatvq.train.interrupt import StopRequest
from flatvq.train.journal import Journal
from flatvq.train.loop import Trainer
from flatvq.train.machine import machine_for

torch.set_num_threads(1)
folder = Path(sys.argv[1])
recipe = parse(TrialRecipe, json.loads((folder / "recipe.json").read_text()))
with machine_for(recipe.train) as machine:
    journal = Journal(folder, recipe.train.steps, silent=machine.rank > 0)
    trainer = Trainer(recipe, open_data(recipe.data), machine, journal)
    trainer.resume()
    stop = StopRequest()
    stop_at = int(sys.argv[2])
    trainer.train(stop, lambda done, total: setattr(stop, "signal", SIGTERM if done == stop_at else None))
    state = {key: value.contiguous() for key, value in trainer.model.state_dict().items()}
    save_file(state, folder / f"{machine.world_size}-{machine.rank}.safetensors")
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _train(folder: Path, processes: int, stop_at: int = 0) -> list[dict[str, torch.Tensor]]:
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error::FutureWarning", "-c", PROCESS, str(folder), str(stop_at)],
            env={
                **os.environ,
                **together,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
            },
        )
        for rank in range(processes)
    ]
    assert [process.wait() for process in started] == [0] * processes
    return [load_file(folder / f"{processes}-{rank}.safetensors") for rank in range(processes)]


@pytest.mark.parametrize("levels", [VECTOR_LEVELS, OTHER_LEVELS], ids=["vector", "residual, lookup-free"])
def test_two_processes_train_as_one(tmp_path: Path, small_recipe, levels) -> None:
    # Enough steps to initialize and update both codebooks, and to replace codes at step 6. Few enough that
    # rounding, which each nearest-code decision amplifies, does not make the trainings diverge.
    recipe: TrialRecipe = small_recipe(levels, steps=10, validate_every=100)
    (alone,) = _train(_run(tmp_path / "alone", recipe), 1)
    first, second = _train(_run(tmp_path / "together", recipe), 2)
    for key, value in first.items():
        assert torch.equal(value, second[key]), f"ranks differ in {key}"
    _require_alike(first, alone)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 4)])
def test_a_run_resumes_with_another_number_of_processes(
    tmp_path: Path, small_recipe, before: int, after: int
) -> None:
    recipe: TrialRecipe = small_recipe(steps=10, validate_every=100)
    (alone,) = _train(_run(tmp_path / "alone", recipe), 1)
    run = _run(tmp_path / "resumed", recipe)
    _train(run, before, stop_at=5)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000005"]
    _require_alike(_train(run, after)[0], alone)


def _run(folder: Path, recipe: TrialRecipe) -> Path:
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    return folder


def _require_alike(state: dict[str, torch.Tensor], alone: dict[str, torch.Tensor]) -> None:
    assert state.keys() == alone.keys()
    for key, value in state.items():
        # The sum of two halves rounds differently from the sum of the batch, and Adam turns the last bits of
        # a gradient near zero into steps of up to the learning rate: 10 x 3e-4 at the worst.
        torch.testing.assert_close(
            value, alone[key], rtol=1e-3, atol=1e-3, msg=lambda text, k=key: f"{k}: {text}"
        )
    # Check that the trainings reached a replacement.
    last_events = [value for key, value in state.items() if key.endswith("last_event_step")]
    assert max(map(int, last_events)) == 6, "no replacement happened"


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch, small_recipe) -> None:
    import pytest

    from flatvq.errors import FlatvqError
    from flatvq.train.machine import machine_for

    launched = {"WORLD_SIZE": "3", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(FlatvqError, match="batch_size 4 cannot be shared by 3"),
        machine_for(small_recipe().train),
    ):
        pass


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ((2, "cpu", "float32"), (2, False), ""),
        ((2, "cpu", "float32"), (1, False), "resumes with 1 process instead of 2 processes: "),
        ((1, "cuda", "float32"), (4, False), "4 processes instead of 1 process, cpu instead of cuda: "),
        ((1, "cpu", "bfloat16"), (1, False), "float32 instead of bfloat16: "),
    ],
)
def test_a_resume_states_what_differs(tmp_path: Path, before, now, words: str) -> None:
    from flatvq.train.elastic import resume_notice
    from flatvq.train.machine import Machine

    records = tmp_path / "records.jsonl"
    machine = Machine(torch.device("cpu"), bfloat16=now[1], rank=0, world_size=now[0])
    assert resume_notice(records, machine) == ""
    row = dict(zip(("world_size", "device", "precision"), before, strict=True), kind="start", step=0)
    records.write_text(json.dumps(row) + "\n" + json.dumps({"kind": "train", "step": 3}) + "\n")
    text = resume_notice(records, machine)
    assert words in text
    assert bool(words) == bool(text)
    if text:
        effect = "precision" if before[2] == "bfloat16" else "rounding"
        assert text.endswith(f"stay the same, results differ by {'the ' * (effect == 'precision')}{effect}")
