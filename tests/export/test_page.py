"""The parts of an exported page: stored weights, graphs, subject and runtime. A browser is not needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flatvq.errors import FlatvqError
from flatvq.export.page import find_runtime, subject_of
from flatvq.export.page import runtime as runtime_module
from flatvq.export.page.assemble import MAIN, WORKER
from flatvq.export.page.graphs import DecodeKept
from flatvq.export.page.weights import FILE, StoredArm, rounded, stored_arm
from flatvq.levels.codes import code_vectors_of
from flatvq.model import build_vqvae
from flatvq.recipe import CodebookRecipe, ModelRecipe
from flatvq.tokenizers import Preprocess, VQVAETokenizer, load

HEADLINE = Path(__file__).parents[2] / "results" / "headline"
TWO = [
    {"downsample": 4, "codebook_size": 24, "code_dim": 6},
    {"downsample": 2, "codebook_size": 16, "code_dim": 6},
]
STAGES = {"downsample": 4, "codebook_size": 16, "code_dim": 4, "quantizer": "residual", "stages": 3}


def tokenizer(**model: Any) -> VQVAETokenizer:
    torch.manual_seed(0)
    recipe = ModelRecipe(width=8, residual_width=4, residual_blocks=1, **model)
    built = build_vqvae(recipe, CodebookRecipe()).eval()
    config = {"model": recipe.model_dump(mode="json"), "codebook": {}}
    return VQVAETokenizer(built, Preprocess(crop=32, channels=recipe.channels), config)


@pytest.mark.parametrize(
    "model",
    [
        {"levels": [{"downsample": 8, "codebook_size": 32, "code_dim": 4}]},
        {"levels": TWO, "hierarchy": "parallel"},
        {"levels": TWO, "hierarchy": "conditioned"},
        {"levels": TWO, "hierarchy": "residual"},
        {"levels": [STAGES]},
        {"levels": [{"downsample": 4, "scalar_levels": [8, 5]}], "channels": 1},
    ],
    ids=["one level", "parallel", "conditioned", "residual", "stages", "scalar"],
)
@torch.no_grad()
def test_levels_are_kept_or_replaced_by_their_mean(model: dict[str, Any]) -> None:
    original = tokenizer(**model)
    indices = [torch.randint(level.codebook_size, (2, *level.shape_for(32, 48))) for level in original.levels]
    decode, levels = DecodeKept(original), len(indices)
    complete, *colours = decode(indices, torch.ones(levels))
    assert torch.equal(complete, original.decode(indices).clamp(0, 1))
    for grid, colour in zip(indices, colours, strict=True):
        assert colour.shape == (2, 3, *grid.shape[-2:])
        assert 0 <= colour.min() <= colour.max() <= 1
    for off in range(levels):
        kept = torch.ones(levels)
        kept[off] = 0
        vectors = code_vectors_of(original, indices)
        vectors[off] = vectors[off].mean(dim=(2, 3), keepdim=True).expand_as(vectors[off])
        without = decode(indices, kept)[0]
        torch.testing.assert_close(without, original.decode_code_vectors(vectors).clamp(0, 1))
        assert (without - complete).abs().max() > 1e-4


@torch.no_grad()
def test_similar_codes_have_similar_colours() -> None:
    original = tokenizer(levels=[{"downsample": 4, "codebook_size": 64, "code_dim": 8}])
    vectors = original.quantizers[0].codebook.weight
    axes = torch.linalg.qr(torch.randn(8, 8))[0][:, :3]  # three directions hold nearly all of the variance
    scales = torch.tensor([3.0, 2.0, 1.0])
    latent = torch.rand(64, 3) - 0.5
    vectors.copy_(latent * scales @ axes.T + 5 + 0.001 * torch.randn(64, 8))
    _, colours = DecodeKept(original)([torch.arange(64).view(1, 8, 8)], torch.ones(1))
    shades = colours[0].flatten(1).T  # [64, 3]
    # Green is the direction of the largest variance, up to its sign; then red, then blue.
    for channel, direction in ((1, 0), (0, 1), (2, 2)):
        correlation = np.corrcoef(shades[:, channel], latent[:, direction])[0, 1]
        assert abs(correlation) > 0.95


def test_rounded_weights_are_those_of_a_tokenizer_saved_in_float16(tmp_path: Path) -> None:
    original = tokenizer(levels=TWO, hierarchy="conditioned")
    saved = load(original.save_pretrained(tmp_path, dtype="float16"))
    assert rounded(original).id == saved.id != original.id
    with torch.no_grad():
        next(original.parameters())[0] = 1e6  # float16 has no such number
    assert next(rounded(original).parameters())[0].max() == 1e6


def test_stored_weights_are_unpacked_to_the_same_values(tmp_path: Path) -> None:
    helper = pytest.importorskip("onnx.helper", reason="the onnx extra is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    random = np.random.default_rng(0)
    shared = random.standard_normal((8, 16)).astype("f2").astype("f4")
    exact = random.standard_normal((16, 5)).astype("f4")  # not representable in float16
    small = np.float32([0.1, 0.2, 0.3, 0.4, 0.5])

    def graph(*matrices: np.ndarray) -> Any:
        names = [f"m{number}" for number in range(len(matrices))]
        steps = [
            helper.make_node("MatMul" if matrix.ndim == 2 else "Add", [f"x{n}", names[n]], [f"x{n + 1}"])
            for n, matrix in enumerate(matrices)
        ]
        tensors = [onnx_tensor(name, matrix) for name, matrix in zip(names, matrices, strict=True)]
        last = f"x{len(matrices)}"
        values = [
            helper.make_tensor_value_info(name, 1, ["n", width])
            for name, width in (("x0", 8), (last, matrices[-1].shape[-1]))
        ]
        built = helper.make_graph(steps, "graph", values[:1], values[1:], tensors)
        return helper.make_model(built, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def onnx_tensor(name: str, matrix: np.ndarray) -> Any:
        return helper.make_tensor(name, 1, matrix.shape, matrix.tobytes(), raw=True)

    stored = stored_arm(graph(shared, exact, small), graph(shared))
    assert [kind for kind, _, _ in stored.tensors] == ["float16", "float32"], "equal tensors are stored once"
    encoder, decoder, weights = stored.unpacked()
    for name, content in (("encoder", encoder), ("decoder", decoder), (FILE, weights)):
        (tmp_path / name).write_bytes(content)
    given = random.standard_normal((3, 8)).astype("f4")
    for name, expected in (("encoder", given @ shared @ exact + small), ("decoder", given @ shared)):
        session = onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x0": given})[0], expected, rtol=1e-5, atol=1e-5)


def test_content_is_as_small_as_its_weights() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal(50_000).astype("<f2")
    helper = pytest.importorskip("onnx.helper", reason="the onnx extra is not installed")
    tensor = helper.make_tensor("w", 1, values.shape, values.astype("<f4").tobytes(), raw=True)
    models = [helper.make_model(helper.make_graph([], name, [], [], [tensor])) for name in "ab"]
    stored: StoredArm = stored_arm(*models)
    assert 4 / 3 * len(stored.content) < 2.7 * values.size


def test_the_page_of_a_study_has_its_verdict_and_its_arms() -> None:
    subject = subject_of(HEADLINE)
    study = json.loads((HEADLINE / "study.json").read_text())
    assert subject.title == study["title"]
    assert f"{subject.lead} {subject.rest}".strip() == study["verdict"]["sentence"]
    assert [arm.name for arm in subject.arms] == ["single", "parallel", "conditioned", "residual"]
    assert [arm.note for arm in subject.arms] == ["healthy, seed 1000"] * 4
    assert (subject.crop, subject.resize) == (64, 96)
    assert [arm.name for arm in subject_of(HEADLINE, ["parallel"], 1000).arms] == ["parallel"]


def test_arms_without_a_tokenizer_are_named(tmp_path: Path) -> None:
    shutil.copy(HEADLINE / "study.json", tmp_path)
    with pytest.raises(FlatvqError, match=r"no finished trial of the study in .* has its tokenizer"):
        subject_of(tmp_path)
    for name, seed in (("single", 1000), ("single", 1001)):
        shutil.copytree(
            HEADLINE / "models" / f"{name}-seed-1000", tmp_path / "models" / f"{name}-seed-{seed}"
        )
    trials = json.loads((HEADLINE / "study.json").read_text())["trials"]
    (run,) = [trial["run"] for trial in trials if (trial["arm"], trial["seed"]) == ("parallel", 1001)]
    shutil.copytree(HEADLINE / "models" / "parallel-seed-1000", tmp_path / run / "model")
    subject = subject_of(tmp_path)
    assert [arm.note for arm in subject.arms] == ["healthy, seed 1001"] * 2, "the seed of the most arms"
    assert "not on this page: conditioned" in subject.facts
    with pytest.raises(FlatvqError, match="arm 'parallel' has no tokenizer of seed 1000"):
        subject_of(tmp_path, ["single", "parallel"], 1000)
    with pytest.raises(FlatvqError, match="there is no tokenizer of seed 1012"):
        subject_of(tmp_path, seed=1012)
    with pytest.raises(FlatvqError, match="which it does not define: did you mean"):
        subject_of(tmp_path, ["sing"])


def test_one_tokenizer_has_no_arms_to_choose() -> None:
    folder = HEADLINE / "models" / "conditioned-seed-1000"
    subject = subject_of(folder)
    assert subject.title == "conditioned-seed-1000"
    assert subject.lead.startswith("2 levels, conditioned")
    with pytest.raises(FlatvqError, match="is not a study"):
        subject_of(folder, ["single"])
    with pytest.raises(FlatvqError, match=r"no folder|no tokenizer"):
        subject_of(folder / "nowhere")


def test_the_runtime_is_found_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FlatvqError, match=r"not in ./node_modules: run `npm install onnxruntime-web@"):
        find_runtime()
    package = tmp_path / "node_modules" / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    (package / "dist" / runtime_module.SCRIPT).write_bytes(b"script")
    with pytest.raises(FlatvqError, match="no onnxruntime-web in"):
        find_runtime(package)
    (package / "dist" / runtime_module.PROGRAM).write_bytes(b"program")
    with pytest.raises(FlatvqError, match=r"ort.wasm.bundle.min.mjs' is not the file of onnxruntime-web 1"):
        find_runtime()
    for folder in (None, tmp_path, tmp_path / "node_modules", package, package / "dist"):
        runtime = find_runtime(folder, any_version=True)
        assert (runtime.script, runtime.program, runtime.pinned) == (b"script", b"program", False)


def test_every_script_is_on_the_page() -> None:
    folder = Path(runtime_module.__file__).parent
    assert {path.stem for path in folder.glob("*.js")} == {*MAIN, *WORKER}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "pag"], "no format is named 'pag': did you mean 'page'?"),
        (["--to", "onnx"], "OUT is missing"),
        (["a", "--out", "b"], "OUT is given twice"),
        (["a", "--arm", "single"], "--to onnx takes no options of a page"),
        (["--to", "page", "--onnxruntime-web", "nowhere"], "no onnxruntime-web in 'nowhere'"),
    ],
)
def test_wrong_options_are_one_line(run_flatvq: Any, words: list[str], message: str) -> None:
    code, _, error = run_flatvq("export", HEADLINE / "models" / "single-seed-1000", *words)
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
