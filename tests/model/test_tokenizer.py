from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.model import build_vqvae, load_tokenizer, save_tokenizer
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe

LEVELS = (LevelRecipe(codebook_size=9, code_dim=3), LevelRecipe(downsample=2, scalar_levels=(3, 4)))
RECIPE = ModelRecipe(levels=LEVELS, hierarchy="conditioned", width=8, residual_width=3)
CODEBOOK = CodebookRecipe(metric="cosine")
BIAS = "encoders.0.0.bias"
CONFIG = {
    "model": RECIPE.model_dump(mode="json"),
    "codebook": CODEBOOK.model_dump(mode="json"),
    "note": "kept",
}


@pytest.fixture
def model():
    model = build_vqvae(RECIPE, CODEBOOK, seed=3)
    model(
        torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    )  # so that the codebook is trained
    return model.eval()


@pytest.fixture
def folder(model, tmp_path):
    save_tokenizer(tmp_path / "deep" / "model", model, CONFIG)
    return tmp_path / "deep" / "model"


def test_the_loaded_model_equals_the_saved_one(model, folder):
    loaded = load_tokenizer(str(folder))
    assert not loaded.training
    assert loaded.recipe == RECIPE
    images = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(model.encode(images), loaded.encode(images), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(model(images).reconstruction, loaded(images).reconstruction)


def test_the_folder_is_a_hub_repository(model, folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == 3
    assert config["note"] == "kept"
    assert config["model"]["levels"][1]["scalar_levels"] == [3, 4]
    assert load_file(folder / "model.safetensors").keys() == model.state_dict().keys()


def test_a_failed_write_leaves_the_old_files(model, folder, monkeypatch):
    def full(descriptor):
        raise OSError("no space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_tokenizer(folder, build_vqvae(RECIPE, CODEBOOK, seed=4), CONFIG)
    assert {name: (folder / name).read_bytes() for name in before} == before


KILLED = """
import os, pathlib, signal, sys
from flatvq.model import build_vqvae, load_tokenizer, save_tokenizer
from flatvq.recipe import CodebookRecipe
model = load_tokenizer(sys.argv[1])
codebook = CodebookRecipe(metric="euclidean")
replace = pathlib.Path.replace
def replace_and_die(path, target):
    replace(path, target)
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.replace = replace_and_die
config = {"model": model.recipe.model_dump(mode="json"), "codebook": codebook.model_dump(mode="json")}
save_tokenizer(sys.argv[1], build_vqvae(model.recipe, codebook, seed=5), config)
"""


@pytest.mark.slow
def test_weights_are_never_read_with_the_config_of_others(folder):
    # The weights of the two models have the same shapes.
    before = (folder / "model.safetensors").read_bytes()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder)])
    assert killed.returncode == -signal.SIGKILL
    assert (folder / "model.safetensors").read_bytes() != before
    with pytest.raises(FlatvqError, match=r"holds no config\.json"):
        load_tokenizer(folder)


def test_a_config_of_another_model_is_not_saved(model, tmp_path):
    others = ({"width": 16}, {"levels": CONFIG["model"]["levels"][::-1]})
    not_the_models = [
        ({**CONFIG, "model": {**CONFIG["model"], **other}}, "do not describe the model") for other in others
    ]
    # Without the codebook section, codes would be searched by another metric.
    no_codebook = {"model": CONFIG["model"]}
    for config, what in (
        *not_the_models,
        (no_codebook, "model and codebook sections of the config do not describe the model"),
        ({**CONFIG, "codebook": {"metric": "euclidean"}}, "do not describe the model"),
        ({"width": 8}, "no section 'model'"),
    ):
        with pytest.raises(FlatvqError, match=what):
            save_tokenizer(tmp_path / "never", model, config)
    assert not (tmp_path / "never").exists()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "wrap", [AveragedModel, partial(torch.compile, backend="eager"), torch.nn.Sequential]
)
def test_a_wrapper_of_a_model_is_not_saved(model, tmp_path, wrap):
    with pytest.raises(FlatvqError, match="is not a VQVAE: pass the wrapped model"):
        save_tokenizer(tmp_path / "never", wrap(model), CONFIG)
    assert not (tmp_path / "never").exists()


def test_a_model_without_weights_or_with_nan_is_not_saved(model, tmp_path):
    with torch.no_grad():
        model.state_dict()[BIAS][0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"the model holds NaN or infinity in 'encoders\.0\.0\.bias'"):
        save_tokenizer(tmp_path / "never", model, CONFIG)
    with pytest.raises(FlatvqError, match="meta device"):
        save_tokenizer(tmp_path / "never", model.to("meta"), CONFIG)
    assert not (tmp_path / "never").exists()


def drop(folder, name):
    (folder / name).unlink()


def truncate(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-20])


def reconfigure(folder, **keys):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def reweigh(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: drop(folder, "config.json"), "holds no config.json"),
        (lambda folder: drop(folder, "model.safetensors"), "holds no model.safetensors"),
        (lambda folder: truncate(folder, "config.json"), "config.json' is damaged"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "config.json' is damaged"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "has format empty"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "nested too deeply"),
        (lambda folder: (folder / "config.json").write_text('{"format": 2, "format": 2}'), "'format' twice"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes().replace(b'"F32"', b'"F4" ', 1)
            ),
            "model.safetensors' is damaged",
        ),
        # 60 GB of weights, refused before memory is allocated.
        (
            lambda folder: reconfigure(folder, model={**CONFIG["model"], "width": 65536}),
            r"model.safetensors' has [\d.]+ kB, and the config's model takes [\d,.]+ [GT]B",
        ),
        (lambda folder: truncate(folder, "model.safetensors"), "model.safetensors' is damaged"),
        (lambda folder: reconfigure(folder, format=1), "has format 1, and flatvq .* reads format 3"),
        (lambda folder: reconfigure(folder, model={"widht": 8}), "did you mean 'width'"),
        (
            lambda folder: reconfigure(folder, model={**CONFIG["model"], "width": 10}),
            r"has numbers of shape \[8\] for .* numbers of shape \[10\]",
        ),
        (
            lambda folder: reweigh(folder, lambda tensors: tensors.pop("encoders.0.0.bias")),
            "nothing for 'encoders.0.0",
        ),
        (
            lambda folder: reweigh(folder, lambda tensors: tensors.update(x=torch.ones(1))),
            r"for 'x'.* nothing",
        ),
        (
            lambda folder: reweigh(folder, lambda tensors: tensors.update({BIAS: tensors[BIAS].int()})),
            r"has int32 of shape \[4\] for 'encoders.0.0.bias', .* numbers of shape \[4\]",
        ),
        (
            lambda folder: reweigh(folder, lambda tensors: tensors[BIAS].fill_(float("nan"))),
            "holds NaN or infinity in 'encoders.0.0.bias'",
        ),
    ],
)
def test_damage_is_reported_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(FlatvqError, match=message) as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def test_nothing_is_unpickled(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(FlatvqError, match="damaged"):
        load_tokenizer(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_missing_device_is_refused(folder, device):
    with pytest.raises(FlatvqError, match=f"device '{device}' is not available"):
        load_tokenizer(folder, device)
