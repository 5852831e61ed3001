"""Tokenizers of flatvq: identity, preprocessing, saving without training state, and the hub."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import flatvq
from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.model import VQVAE, build_vqvae, load_tokenizer, save_tokenizer
from flatvq.recipe import CodebookRecipe, ModelRecipe
from flatvq.tokenizers.identity import identity_of

RECIPE = ModelRecipe.model_validate(
    {
        "levels": [
            {"codebook_size": 9, "code_dim": 3},
            {"downsample": 2, "quantizer": "residual", "stages": 2, "codebook_size": 5, "code_dim": 2},
        ],
        "width": 8,
        "residual_width": 3,
    }
)
CONFIG = {
    "model": RECIPE.model_dump(mode="json"),
    "codebook": {"metric": "cosine"},
    "preprocess": {"resize": 96, "crop": 64},
}
IMAGES = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(1))


def trained() -> VQVAE:
    """Return a model whose codebooks have learned from one batch."""
    model = build_vqvae(RECIPE, CodebookRecipe(metric="cosine"), seed=3)
    model(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tokenizer(tmp_path / "trained", trained(), CONFIG)
    return tmp_path / "trained"


def equal(ours: Any, theirs: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_loaded_tokenizer_is_a_vqvae_with_the_protocol(folder: Path) -> None:
    tokenizer, model = flatvq.load(folder), load_tokenizer(folder)
    assert isinstance(tokenizer, flatvq.VQVAE)
    assert isinstance(tokenizer, flatvq.Tokenizer)
    assert tokenizer.preprocess == flatvq.Preprocess(resize=96, crop=64, channels=3)
    assert tokenizer.factor == 8
    assert not tokenizer.training
    indices = tokenizer.encode(IMAGES)
    assert equal(indices, model.encode(IMAGES))
    assert torch.equal(tokenizer.decode(indices), model.decode(indices))
    assert equal(tokenizer.state_dict().values(), model.state_dict().values())
    for level, grid in zip(tokenizer.levels, indices, strict=True):
        assert grid.shape[1:] == level.shape_for(32, 16)
        assert int(grid.max()) < level.codebook_size
    assert [level.indices_per_cell for level in tokenizer.levels] == [1, 2]


def test_the_identity_is_the_documented_hash() -> None:
    weight = torch.arange(6, dtype=torch.float32).view(2, 3)
    expected = hashlib.sha256(b'{"a":[1,"\\u00e9"],"b":null}\n')
    expected.update(b'["flag","bool",[]]\n\x01')
    expected.update(b'["weight","float32",[2,3]]\n' + np.arange(6, dtype="<f4").tobytes())
    tensors = {"weight": weight, "flag": torch.tensor(True)}
    assert identity_of({"b": None, "a": [1, "é"]}, tensors) == expected.hexdigest()
    assert identity_of({"b": None, "a": [1, "é"]}, {**tensors, "weight": weight.t().contiguous().t()}) == (
        expected.hexdigest()
    )


CANONICAL = (
    b'{"levels":[{"codebook_size":4,"factor":4,"index_shape":[]}],"model":{"metric":"euclidean","recipe":'
    b'{"levels":[{"code_dim":2,"codebook_size":4}],"residual_width":1,"width":2}},"preprocess":{"channels":3,'
    b'"crop":32,"interpolation":"bicubic","range":[-1.0,1.0],"resize":0}}\n'
)


def test_the_identity_of_a_stored_tokenizer_never_changes(tmp_path: Path) -> None:
    """Codes in shards name this hash: if it changes, they are refused."""
    recipe = ModelRecipe.model_validate(
        {"width": 2, "residual_width": 1, "levels": [{"codebook_size": 4, "code_dim": 2}]}
    )
    config = {"model": recipe.model_dump(mode="json"), "preprocess": {"resize": 0, "crop": 32}}
    save_tokenizer(tmp_path, build_vqvae(recipe, CodebookRecipe()).eval(), config)
    expected = hashlib.sha256(CANONICAL)
    arrays = load_file(tmp_path / "model.safetensors")
    training = ("counts", "births", "step_count", "last_event_step", "init_checksum", "is_initialized")
    for name in sorted(arrays):
        if not name.endswith((*training, "is_frozen")):
            expected.update(
                json.dumps([name, "float32", [*arrays[name].shape]], separators=(",", ":")).encode()
            )
            expected.update(b"\n" + arrays[name].astype("<f4").tobytes())
    assert flatvq.load(tmp_path).id == expected.hexdigest()


def test_the_identity_depends_on_what_inference_reads(folder: Path) -> None:
    tokenizer = flatvq.load(folder)
    before = tokenizer.id
    state = tokenizer.state_dict()
    state["quantizers.0.codebook.counts"] += 1
    state["quantizers.0.codebook.step_count"] += 1
    assert tokenizer.id == before
    state["quantizers.0.codebook.weight"][0, 0] += 1
    weight = tokenizer.id
    assert weight != before
    state["quantizers.0.codebook.weight"][0, 0] -= 1
    tokenizer.preprocess = flatvq.Preprocess(resize=96, crop=32)
    assert len({before, weight, tokenizer.id}) == 3


def test_other_searches_have_other_identities(folder: Path) -> None:
    before = flatvq.load(folder).id
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "codebook": {"metric": "euclidean"}}))
    assert flatvq.load(folder).id != before


def test_saved_tokenizers_hold_what_inference_reads(folder: Path, tmp_path: Path) -> None:
    tokenizer = flatvq.load(folder)
    place = tokenizer.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in place.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    stored = load_file(place / "model.safetensors")
    codebooks = {name for name in stored if "codebook" in name}
    assert {name.rsplit(".", 1)[1] for name in codebooks} == {"weight"}
    loaded = flatvq.load(place)
    assert loaded.id == tokenizer.id
    assert equal(loaded.encode(IMAGES), tokenizer.encode(IMAGES))
    assert loaded.preprocess == tokenizer.preprocess
    assert all(bool(flag) for name, flag in loaded.state_dict().items() if name.endswith("is_initialized"))
    loaded.train()(IMAGES)  # codes are not drawn again from the data
    assert torch.allclose(
        loaded.quantizers[0].codebook.code_vectors, tokenizer.quantizers[0].codebook.code_vectors, atol=0.2
    )


def test_float16_rounds_the_stored_weights(folder: Path, tmp_path: Path) -> None:
    tokenizer = flatvq.load(folder)
    exact = tokenizer.save_pretrained(tmp_path / "exact") / "model.safetensors"
    place = tokenizer.save_pretrained(tmp_path / "half", dtype="float16")
    assert {array.dtype for array in load_file(place / "model.safetensors").values()} == {np.dtype("float16")}
    assert (place / "model.safetensors").stat().st_size < 0.7 * exact.stat().st_size
    loaded = flatvq.load(place)
    state = loaded.state_dict()
    assert all(state[name].dtype == torch.float32 for name in load_file(exact))
    for name, array in load_file(exact).items():
        assert np.array_equal(state[name].numpy(), array.astype(np.float16).astype(np.float32))
    assert loaded.id != tokenizer.id
    assert f"`{loaded.id}`" in (place / "README.md").read_text()
    with torch.no_grad():
        tokenizer.state_dict()["encoders.0.0.bias"][0] = 1e5
    with pytest.raises(NonFiniteError, match="the model in float16 holds NaN or infinity"):
        tokenizer.save_pretrained(tmp_path / "never", dtype="float16")


def test_an_unknown_dtype_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FlatvqError, match="cannot be stored as 'bfloat16': use 'float32' or 'float16'"):
        flatvq.load(folder).save_pretrained(tmp_path / "saved", dtype="bfloat16")  # type: ignore[arg-type]
    assert not (tmp_path / "saved").exists()


def test_a_tokenizer_may_lie_next_to_a_folder_named_model(folder: Path, tmp_path: Path) -> None:
    tokenizer = flatvq.load(folder)
    other = tmp_path / "saved" / "model"
    save_tokenizer(other, trained(), {**CONFIG, "preprocess": {"resize": 0, "crop": 16}})
    tokenizer.save_pretrained(tmp_path / "saved")
    assert flatvq.load(tmp_path / "saved").id == tokenizer.id
    assert flatvq.load(other).id != tokenizer.id


def test_the_folder_of_a_run_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}")
    with pytest.raises(FlatvqError, match="is the folder of a run: save to another folder"):
        flatvq.load(folder).save_pretrained(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.json"]


def test_a_range_that_is_not_stored_is_refused(folder: Path, tmp_path: Path) -> None:
    tokenizer = flatvq.load(folder)
    tokenizer.preprocess = flatvq.Preprocess(96, 64, range=(0.0, 1.0))
    with pytest.raises(FlatvqError, match="another range or other channels: change only its resize and crop"):
        tokenizer.save_pretrained(tmp_path / "saved")


def test_partly_stripped_weights_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file as load_tensors
    from safetensors.torch import save_file

    tensors = load_tensors(folder / "model.safetensors")
    del tensors["quantizers.0.codebook.births"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FlatvqError, match=r"has nothing for 'quantizers\.0\.codebook\.births'"):
        flatvq.load(folder)


@pytest.mark.parametrize("value", ["64", {"crop": -1}, {"crop": 1.5}, {"resize": True}, [0, 64]])
def test_an_invalid_preprocess_is_refused(folder: Path, value: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "preprocess": value}))
    with pytest.raises(FlatvqError, match="holds no valid 'preprocess'"):
        flatvq.load(folder)


def hub_cache(root: Path, files: Path, commit: str = "0" * 40) -> Path:
    """Lay out a folder as a download of OWNER/NAME in the cache of `huggingface_hub`."""
    repository = root / "models--someone--tokenizer"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for file in files.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    return root


def test_a_repository_in_the_cache_of_the_hub_loads(folder: Path, tmp_path: Path) -> None:
    tokenizer = flatvq.load(folder)
    cache = hub_cache(tmp_path / "cache", tokenizer.save_pretrained(tmp_path / "saved"))
    loaded = flatvq.load("someone/tokenizer", cache_dir=cache, local_files_only=True)
    assert loaded.id == tokenizer.id
    same = flatvq.Tokenizer.from_pretrained("someone/tokenizer", cache_dir=cache, local_files_only=True)
    assert same.id == tokenizer.id


def test_a_local_folder_comes_before_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = hub_cache(tmp_path / "cache", flatvq.load(folder).save_pretrained(tmp_path / "saved"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "tokenizer").mkdir(parents=True)
    with pytest.raises(FlatvqError, match=r"'someone/tokenizer' holds no config\.json"):
        flatvq.load("someone/tokenizer", cache_dir=cache, local_files_only=True)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("nowhere", "no tokenizer at 'nowhere'"),
        ("./no/where", "no tokenizer at './no/where'"),
        ("a/b/c", "no tokenizer at 'a/b/c'"),
        ("no/where", "no folder at 'no/where', and no such repository on the Hugging Face hub"),
    ],
)
def test_what_is_nowhere_is_named(tmp_path: Path, source: str, what: str) -> None:
    with pytest.raises(FlatvqError) as error:
        flatvq.load(source, cache_dir=tmp_path, local_files_only=True)
    assert str(error.value).startswith(what)


def test_a_file_is_not_a_tokenizer(folder: Path) -> None:
    with pytest.raises(FlatvqError, match="is a file, not a folder"):
        flatvq.load(folder / "config.json")


class FakeApi:
    """Records what is uploaded."""

    calls: list[tuple[str, dict[str, Any]]]
    files: dict[str, bytes]

    def __init__(self, token: str | None = None) -> None:
        type(self).calls = [("HfApi", {"token": token})]

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))

    def upload_folder(self, **options: Any) -> SimpleNamespace:
        place = Path(options.pop("folder_path"))
        type(self).files = {file.name: file.read_bytes() for file in place.iterdir()}
        self.calls.append(("upload_folder", options))
        return SimpleNamespace(commit_url="https://huggingface.co/someone/tokenizer/commit/1")


def test_what_is_pushed_loads(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    tokenizer = flatvq.load(folder)
    url = tokenizer.push_to_hub("someone/tokenizer", private=True, token="secret", commit_message="First")
    assert url == "https://huggingface.co/someone/tokenizer/commit/1"
    assert FakeApi.calls == [
        ("HfApi", {"token": "secret"}),
        ("create_repo", {"repo_id": "someone/tokenizer", "private": True, "exist_ok": True}),
        (
            "upload_folder",
            {"repo_id": "someone/tokenizer", "revision": None, "commit_message": "First"},
        ),
    ]
    (tmp_path / "downloaded").mkdir()
    for name, content in FakeApi.files.items():
        (tmp_path / "downloaded" / name).write_bytes(content)
    assert flatvq.load(tmp_path / "downloaded").id == tokenizer.id


def test_a_failed_upload_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("401 Client Error\nmore")

    monkeypatch.setattr(FakeApi, "create_repo", refuse)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    with pytest.raises(FlatvqError, match=r"cannot upload to 'a/b' \(OSError: 401 Client Error\)"):
        flatvq.load(folder).push_to_hub("a/b")


def test_from_pretrained_ignores_the_working_folder_of_a_run(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    folder.rename(run / "model")
    assert flatvq.load(run).id == flatvq.load(run / "model").id
