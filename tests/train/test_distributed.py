"""Two processes with half of the batch each train like one process with the whole batch."""

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
    journal = Journal(folder, recipe.train.steps, silent=True)
    trainer = Trainer(recipe, open_data(recipe.data), machine, journal)
    trainer.train(StopRequest(), lambda done, total: None)
    state = {key: value.contiguous() for key, value in trainer.model.state_dict().items()}
    save_file(state, folder / f"{machine.world_size}-{machine.rank}.safetensors")
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _train(folder: Path, processes: int) -> list[dict[str, torch.Tensor]]:
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error::FutureWarning", "-c", PROCESS, str(folder)],
            env={
                **os.environ,
                **together,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "OMP_NUM_THREADS": "1",
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
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    (alone,) = _train(tmp_path, 1)
    first, second = _train(tmp_path, 2)
    assert first.keys() == second.keys() == alone.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), f"ranks differ in {key}"
        # The sum of two halves rounds differently from the sum of the batch, and Adam turns the last bits of
        # a gradient near zero into steps of up to the learning rate: 10 x 3e-4 at the worst.
        torch.testing.assert_close(
            value, alone[key], rtol=1e-3, atol=1e-3, msg=lambda text, k=key: f"{k}: {text}"
        )
    # Check that the trainings reached a replacement.
    last_events = [value for key, value in first.items() if key.endswith("last_event_step")]
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
