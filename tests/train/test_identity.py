"""A run resumes only with the images and the version of flatvq that it started with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import flatvq
from flatvq import cli
from flatvq.errors import FlatvqError
from flatvq.recipe import TrialRecipe, parse
from flatvq.train import run_trial
from flatvq.train.identity import read_identity
from flatvq.versions import commit

HEAD = 64 * 1024


def noise(seed: int) -> np.ndarray:
    """A picture whose file is longer than 64 KiB."""
    return np.random.default_rng(seed).integers(0, 256, (160, 160, 3), np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of six pictures to train on, and one of two that are held out."""
    folder = tmp_path / "pictures"
    for seed in range(8):
        side = folder / ("train" if seed < 6 else "held-out")
        side.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(seed)).save(side / f"{seed}.png")
    return folder


@pytest.fixture
def recipe(pictures: Path) -> TrialRecipe:
    return parse(
        TrialRecipe,
        {
            "data": {
                "source": "folder",
                "path": str(pictures / "train"),
                "validation_path": str(pictures / "held-out"),
                "crop": 16,
            },
            "model": {
                "width": 8,
                "residual_width": 4,
                "residual_blocks": 1,
                "levels": [{"codebook_size": 8, "code_dim": 4}],
            },
            "codebook": {"init": {"kind": "data", "vectors_per_code": 1}},
            "train": {"steps": 4, "batch_size": 2, "checkpoint_every": 2, "precision": "float32"},
            "evaluate": {"samples": 1},
        },
    )


@pytest.fixture
def finished(recipe: TrialRecipe, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    assert run_trial(recipe, run)
    return run


def contents(run: Path) -> dict[Path, bytes]:
    files = (path for path in run.rglob("*") if path.is_file() and ".lease" not in path.parts)
    return {path: path.read_bytes() for path in files}


def change_a_pixel(pictures: Path) -> None:
    path = pictures / "train" / "3.png"
    before, pixels = path.read_bytes(), noise(3)
    pixels[-1, -1, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert path.read_bytes() != before
    assert path.read_bytes()[:HEAD] == before[:HEAD], "the change is in the first part"


def add_an_image(pictures: Path) -> None:
    Image.fromarray(noise(100)).save(pictures / "held-out" / "new.png")


def swap_sides(pictures: Path) -> None:
    (pictures / "train").rename(pictures / "other")
    (pictures / "held-out").rename(pictures / "train")
    (pictures / "other").rename(pictures / "held-out")


def test_the_identity_holds_the_fingerprints_of_the_images(finished: Path, pictures: Path) -> None:
    stored = json.loads((finished / "identity.json").read_text())
    digests = {
        side: [
            hashlib.sha256(path.read_bytes()).hexdigest()[:32]
            for path in sorted((pictures / folder).iterdir())
        ]
        for side, folder in (("training", "train"), ("validation", "held-out"))
    }
    for side, hashes in digests.items():
        text = "".join(f"{digest} 1\n" for digest in hashes)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()[:32]
        assert stored.pop(side) == {"images": len(hashes), "fingerprint": fingerprint}
    assert stored == {
        "flatvq": flatvq.__version__,
        "training_protocol": 5,
        "evaluation_protocol": "flatvq-1/crop-16/own-size",
        "source": f"folder '{pictures / 'train'}' and '{pictures / 'held-out'}'",
        "parent": "",
    }
    metrics = json.loads((finished / "metrics.json").read_text())
    weights = (finished / "model" / "model.safetensors").read_bytes()
    assert metrics["measured_on"] == {
        "flatvq": flatvq.__version__,
        "commit": commit(),
        "training_protocol": 5,
        "fingerprint": fingerprint,
        "tokenizer": hashlib.sha256(weights).hexdigest(),
        "weights": {},
    }


def test_what_changes_only_rounding_is_recorded_but_not_compared(finished: Path) -> None:
    (start,) = (
        json.loads(line)
        for line in (finished / "records.jsonl").read_text().splitlines()
        if '"start"' in line
    )
    assert start["torch"] == torch.__version__
    assert start["processor"]
    assert not {"torch", "processor", "device"} & json.loads((finished / "identity.json").read_text()).keys()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_a_pixel, r"training images 6 \(\w{8}\), now 6 \(\w{8}\): restore"),
        (add_an_image, r"started with held-out images 2 \(\w{8}\), now 3 \(\w{8}\): restore"),
        (swap_sides, r"training images 6 \(\w{8}\), now 2 \(\w{8}\); held-out images 2 \(\w{8}\), now 6"),
    ],
)
@pytest.mark.parametrize("ended", [True, False], ids=["finished", "stopped"])
def test_other_images_are_refused_in_one_line(
    recipe: TrialRecipe,
    finished: Path,
    pictures: Path,
    change: Callable[[Path], None],
    named: str,
    ended: bool,
) -> None:
    if not ended:
        (finished / "metrics.json").unlink()
        shutil.rmtree(finished / "checkpoints" / "step-00000004")
    before = contents(finished)
    kept = pictures.parent / "kept"
    shutil.copytree(pictures, kept)
    change(pictures)
    with pytest.raises(FlatvqError, match=named) as raised:
        run_trial(recipe, finished)
    assert str(raised.value).count("\n") == 0
    assert str(pictures / "train") in raised.value.remedy
    after = contents(finished)
    # An unfinished run now has the status failed; nothing else has changed.
    assert {path.name for path, content in after.items() if before.get(path) != content} == (
        set() if ended else {"status.json"}
    )
    shutil.rmtree(pictures)
    kept.rename(pictures)
    assert run_trial(recipe, finished)


def test_the_command_refuses_in_one_line(finished: Path, pictures: Path, monkeypatch, capsys) -> None:
    change_a_pixel(pictures)
    monkeypatch.setattr(sys, "argv", ["flatvq", "train", str(finished)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert output.startswith(f"flatvq: '{finished}' was started with training images 6 (")
    assert (output.count("\n"), output[-1]) == (1, "\n")


def test_files_that_were_only_touched_or_renamed_are_the_same_images(
    recipe: TrialRecipe, finished: Path, pictures: Path
) -> None:
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        os.utime(path, (number, number))
        path.rename(path.with_name(f"photo-{path.name}"))
    assert run_trial(recipe, finished)


def test_another_version_is_refused(recipe: TrialRecipe, finished: Path, monkeypatch) -> None:
    version = flatvq.__version__
    monkeypatch.setattr("flatvq.train.identity.VERSION", "9.8.7")
    with pytest.raises(
        FlatvqError, match=rf"started with flatvq {version}, now 9\.8\.7: install flatvq {version}"
    ):
        run_trial(recipe, finished)
    monkeypatch.undo()
    assert run_trial(recipe, finished)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("training_protocol", 4, "training protocol 4, now 5"),
        (
            "evaluation_protocol",
            "flatvq-0/x",
            "evaluation protocol flatvq-0/x, now flatvq-1/crop-16/own-size",
        ),
    ],
)
def test_another_protocol_is_refused(
    recipe: TrialRecipe, finished: Path, key: str, value: object, named: str
) -> None:
    stored = json.loads((finished / "identity.json").read_text())
    (finished / "identity.json").write_text(json.dumps({**stored, key: value}))
    with pytest.raises(FlatvqError, match=named):
        run_trial(recipe, finished)


@pytest.mark.parametrize("left", ["metrics.json", "checkpoints"])
def test_a_run_without_an_identity_is_refused(recipe: TrialRecipe, finished: Path, left: str) -> None:
    (finished / "identity.json").unlink()
    if left == "metrics.json":
        shutil.rmtree(finished / "checkpoints")
    else:
        (finished / "metrics.json").unlink()
    with pytest.raises(FlatvqError, match=r"started without identity\.json.*choose another --out"):
        run_trial(recipe, finished)
    assert not (finished / "identity.json").exists()


def test_a_recipe_is_replaced_until_the_run_has_started(recipe: TrialRecipe, tmp_path: Path) -> None:
    elsewhere = recipe.data.model_copy(update={"path": str(tmp_path / "nowhere")})
    run = tmp_path / "run"
    with pytest.raises(FlatvqError, match="no folder at"):
        run_trial(recipe.model_copy(update={"data": elsewhere}), run)
    assert run_trial(recipe, run)
    assert json.loads((run / "recipe.json").read_text())["data"]["path"] == recipe.data.path
    with pytest.raises(FlatvqError, match="holds a run of another recipe"):
        run_trial(recipe.model_copy(update={"seed": 1}), run)


def test_a_run_without_a_checkpoint_starts_again(recipe: TrialRecipe, finished: Path) -> None:
    for path in (finished / "identity.json", finished / "metrics.json"):
        path.unlink()
    shutil.rmtree(finished / "checkpoints")
    assert run_trial(recipe, finished)
    assert read_identity(finished) is not None


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b'{"flatvq": "0.1.0"}', b"\xff\xfe", b'{"flatvq": NaN}', b"[" * 99_999],
)
def test_a_damaged_identity_is_one_line(recipe: TrialRecipe, finished: Path, damage: bytes) -> None:
    (finished / "identity.json").write_bytes(damage)
    with pytest.raises(FlatvqError, match=r"identity\.json'") as raised:
        run_trial(recipe, finished)
    assert str(raised.value).count("\n") == 0


# --- several processes

PROCESS = """
import json, sys
from pathlib import Path
import torch
from flatvq.errors import FlatvqError
from flatvq.recipe import TrialRecipe, parse
from flatvq.train import run_trial

torch.set_num_threads(1)
run = Path(sys.argv[1])
recipe = parse(TrialRecipe, json.loads((run / "recipe.json").read_text()))
try:
    run_trial(recipe, run)
except FlatvqError as error:
    print(error)
    sys.exit(2)
"""


def two_processes(run: Path, *folders: Path) -> list[tuple[int, str]]:
    """Train with one process in each of two folders; return their exit codes and outputs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROCESS, str(run)],
            cwd=folder,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, folder in enumerate(folders)
    ]
    printed = [process.communicate(timeout=120)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, printed, strict=True)]


@pytest.fixture
def nodes(recipe: TrialRecipe, pictures: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A run whose recipe has a relative path, and two folders with copies of the images at that path."""
    data = recipe.data.model_copy(update={"path": "train", "validation_path": "held-out"})
    shared = tmp_path / "shared"
    shared.mkdir()
    tree = recipe.model_copy(update={"data": data}).model_dump(mode="json")
    (shared / "recipe.json").write_text(json.dumps(tree))
    for name in ("node-0", "node-1"):
        shutil.copytree(pictures, tmp_path / name)
    return shared, tmp_path / "node-0", tmp_path / "node-1"


@pytest.mark.slow
@pytest.mark.processes
def test_processes_with_different_images_stop_together(nodes: tuple[Path, Path, Path]) -> None:
    run, first, second = nodes
    change_a_pixel(second)
    (code, output), other = two_processes(run, first, second)
    assert (code, output) == other
    assert (code, output.count("\n")) == (2, 1)
    assert "process 0 has training images 6 (" in output
    assert ", process 1 has 6 (" in output
    assert not (run / "identity.json").exists()


@pytest.mark.slow
@pytest.mark.processes
def test_all_processes_stop_if_one_has_no_images(nodes: tuple[Path, Path, Path]) -> None:
    run, first, second = nodes
    (second / "train").rename(second / "elsewhere")
    (code, output), other = two_processes(run, first, second)
    assert (code, output) == other
    assert (code, output.count("\n")) == (2, 1)
    assert "no folder at" in output


@pytest.mark.slow
@pytest.mark.processes
def test_all_processes_refuse_a_run_of_other_images(nodes: tuple[Path, Path, Path]) -> None:
    run, first, second = nodes
    assert [code for code, _ in two_processes(run, first, second)] == [0, 0]
    for node in (first, second):
        add_an_image(node)
    (code, output), other = two_processes(run, first, second)
    assert (code, output) == other
    assert (code, output.count("\n")) == (2, 1)
    assert "started with held-out images 2 (" in output
