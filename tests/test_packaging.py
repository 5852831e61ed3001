"""A wheel works without the repository: what it holds, and what runs when it alone is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.processes]

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/flatvq"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a pure-Python wheel of a copy of the sources, with the build tools of this environment."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    names = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"]
    for file in [*map(ROOT.joinpath, names), *(path for path in PACKAGE.rglob("*") if _is_source(path))]:
        copy = source / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(place),
        str(source),
    ]
    built = subprocess.run(command, env={**os.environ, "FLATVQ_NATIVE": "0"}, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel into an empty folder, which is what an installation of a pure-Python wheel does."""
    place = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Run Python in a folder outside of the repository, with the installed package in front."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    data = {".yaml", ".html", ".css", ".js", ".typed", ".py", ".pyi"}
    data |= {".json", ".safetensors", ".md"}  # of the pretrained tokenizers
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("flatvq/")}
    expected = {
        str(path.relative_to(ROOT / "src"))
        for path in PACKAGE.rglob("*")
        if _is_source(path) and (path.suffix in data or path.name == "py.typed")
    }
    assert held == expected
    assert wheel.name.endswith("py3-none-any.whl")


def test_the_wheel_states_its_version_and_links(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = archive.read(name).decode()
    version = re.search(r'^VERSION = "(.+)"$', (PACKAGE / "versions.py").read_text(), re.M)
    assert version is not None
    assert f"\nVersion: {version[1]}\n" in metadata
    for label in ("Documentation", "Source", "Issues", "Changelog"):
        assert f"Project-URL: {label}, https://" in metadata


def test_recipes_and_photographs_are_there_without_the_repository(installed: Path, tmp_path: Path) -> None:
    program = (
        "import flatvq, flatvq.data\n"
        "split = flatvq.data.open_data(flatvq.load_recipe('photographs').data)\n"
        "print(flatvq.__file__, len(split.training))\n"
    )
    file, images = run(installed, tmp_path, "-c", program).split()
    assert Path(file).is_relative_to(installed)
    assert int(images) > 0


def test_a_pretrained_tokenizer_works_without_the_repository(installed: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    run(installed, tmp_path, "-m", "flatvq", "compress", "flatvq-f8", "noise.png")
    run(installed, tmp_path, "-m", "flatvq", "decompress", "flatvq-f8", "noise.fvq", "--out", "decoded.png")
    with Image.open(tmp_path / "decoded.png") as decoded:
        assert decoded.size == (96, 64)


def test_a_trial_and_its_tokenizer_work_without_the_repository(installed: Path, tmp_path: Path) -> None:
    settings = ["train.steps=2", "train.batch_size=4", "model.width=8", "model.residual_width=2"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    arm = ["--arm", "single-level-naive", "--out", "run"]
    run(installed, tmp_path, "-m", "flatvq", "train", "photographs", *arm, *overrides)
    program = "import flatvq, torch; print(len(flatvq.load('run/model').encode(torch.rand(1, 3, 64, 64))))"
    assert run(installed, tmp_path, "-c", program) == "1\n"
    assert run(installed, tmp_path, "-m", "flatvq", "--version").startswith("flatvq ")
