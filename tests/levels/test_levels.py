"""Analyses of levels, on models and codes for which the result is known."""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flatvq.data import ImageSet, load_image, open_data
from flatvq.errors import FlatvqError
from flatvq.levels import RefittedDecoder, refit, replacement_losses
from flatvq.levels.codes import code_vectors_of, encode_pixels, mean_psnr
from flatvq.levels.conditional_entropy import _LevelPredictors
from flatvq.levels.marginal_gain import marginal_gain, single_level_counterpart
from flatvq.levels.masked import CodePredictor
from flatvq.model import VQVAE, build_vqvae
from flatvq.recipe import (
    CodebookRecipe,
    DataRecipe,
    LevelRecipe,
    ModelRecipe,
    TrainRecipe,
    TrialRecipe,
    UpdateRecipe,
)
from flatvq.train.machine import Machine

pytestmark = pytest.mark.slow

MACHINE = Machine(torch.device("cpu"), bfloat16=False, rank=0, world_size=1)


def two_levels(bottom: int = 8, top: int = 8, hierarchy: str = "parallel") -> ModelRecipe:
    levels = (
        LevelRecipe(downsample=4, codebook_size=bottom, code_dim=4),
        LevelRecipe(downsample=2, codebook_size=top, code_dim=4),
    )
    return ModelRecipe(levels=levels, hierarchy=hierarchy, width=8, residual_width=4, residual_blocks=1)


def built(recipe: ModelRecipe) -> VQVAE:
    return build_vqvae(recipe, CodebookRecipe(update=UpdateRecipe(kind="gradient"))).eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8, generator=draws)


def psnr_by_hand(model: VQVAE, indices, pixels) -> float:
    """The mean of the images' PSNR in dB, 8 bits, written out."""
    with torch.no_grad():
        stored = (model.decode(indices).clamp(0, 1) * 255).round() / 255
    errors = [((image - original / 255) ** 2).mean() for image, original in zip(stored, pixels, strict=True)]
    return sum(-10 * math.log10(error) for error in errors) / len(errors)


# --- replacement losses


@pytest.mark.parametrize("hierarchy", ["parallel", "conditioned", "residual"])
def test_replacing_a_level_that_the_decoder_ignores_changes_nothing(hierarchy: str, pixels) -> None:
    model = built(two_levels(hierarchy=hierarchy))
    with torch.no_grad():
        for upsampler in model.decoders[0].upsamplers:
            for weight in upsampler.parameters():
                weight.zero_()
    losses = replacement_losses(model, pixels)
    assert [(loss.level, loss.by) for loss in losses] == [
        (level, by) for level in (0, 1) for by in ("shuffled", "mean", "random")
    ]
    assert all(loss.loss_db == 0 for loss in losses if loss.level == 1)
    assert any(loss.loss_db != 0 for loss in losses if loss.level == 0)


def test_of_two_images_each_gets_the_others_codes(pixels) -> None:
    model, pair = built(two_levels()), pixels[:2]
    indices = model.encode(pair / 255)
    whole = psnr_by_hand(model, indices, pair)
    for level in (0, 1):
        swapped = [grid.flip(0) if number == level else grid for number, grid in enumerate(indices)]
        expected = psnr_by_hand(model, swapped, pair)
        (loss,) = (
            loss for loss in replacement_losses(model, pair) if (loss.level, loss.by) == (level, "shuffled")
        )
        assert loss.psnr_db == pytest.approx(expected, abs=1e-4)
        assert loss.loss_db == pytest.approx(whole - expected, abs=1e-4)


def test_no_image_keeps_its_own_codes_when_they_are_shuffled(monkeypatch, pixels) -> None:
    module = sys.modules["flatvq.levels.replacement"]
    seen = []
    whole = module.level_code_vectors
    monkeypatch.setattr(
        module,
        "level_code_vectors",
        lambda model, level, grid: seen.append(grid) or whole(model, level, grid),
    )
    model = built(two_levels())
    # Indices that name their image.
    grids = tuple(torch.arange(5)[:, None, None].expand(5, side, side) for side in (4, 2))
    monkeypatch.setattr(module, "encode_pixels", lambda model, pixels: grids)
    for seed in range(20):
        seen.clear()
        replacement_losses(model, pixels, seed)
        own, shuffled, _ = seen[:3]
        assert torch.equal(own, grids[0])
        assert not (shuffled == own).any()
        assert sorted(shuffled[:, 0, 0].tolist()) == [0, 1, 2, 3, 4]


def test_the_codes_of_one_image_are_not_shuffled(pixels) -> None:
    with pytest.raises(FlatvqError, match="one image"):
        replacement_losses(built(two_levels()), pixels[:1])


def test_psnr_is_that_of_decoded_indices(pixels) -> None:
    model = built(two_levels())
    indices = encode_pixels(model, pixels)
    psnr_db = mean_psnr(model.decode_code_vectors, code_vectors_of(model, indices), pixels)
    assert psnr_db == pytest.approx(psnr_by_hand(model, indices, pixels), abs=1e-4)


# --- refit


@pytest.fixture
def flat_pictures(tmp_path: Path) -> DataRecipe:
    """Pictures of one grey value each, so that the brightness describes them completely."""
    random = np.random.default_rng(0)
    for number in range(24):
        grey = np.full((20, 20, 3), random.integers(20, 236), np.uint8)
        grey[number % 20, 0] = number  # no two files are the same
        Image.fromarray(grey).save(tmp_path / f"{number:02}.png")
    return DataRecipe(source="folder", path=str(tmp_path), crop=16, validation_share=0.25)


def brightness_coder(recipe: ModelRecipe, images: torch.Tensor) -> VQVAE:
    """A model in which each level encodes the brightness around a cell, unless it has only one code."""
    model = built(recipe)
    convs = [
        [conv for conv in part.modules() if isinstance(conv, torch.nn.Conv2d)]
        for part in (*model.encoders, *model.projections)
    ]
    with torch.no_grad():
        for conv in (conv for part in convs for conv in part):
            conv.bias.zero_()
            conv.weight.zero_()
            conv.weight[0, 0] = 1 / conv.weight[0, 0].numel()
        convs[0][0].bias[0] = 1  # black is 0 then, and white is 2: no ReLU cuts anything off
        for level, quantizer in enumerate(model.quantizers):
            deviation, mean = torch.std_mean(model(images).levels[level].latents[:, 0])
            model.projections[level][-1].weight.div_(deviation)
            model.projections[level][-1].bias[0] = -mean / deviation
            vectors = model(images).levels[level].latents.permute(0, 2, 3, 1).flatten(0, 2)
            size = quantizer.codebook_size
            codes = vectors[:: len(vectors) // size][:size]
            quantizer.codebook.set_code_vectors(codes if size > 1 else torch.zeros_like(codes))
    return model


def crops_of(images: ImageSet) -> torch.Tensor:
    """The top left corners, uint8 [B, 3, 16, 16]."""
    corners = [torch.from_numpy(load_image(images, number)[:16, :16].copy()) for number in range(len(images))]
    return torch.stack(corners).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("bottom", "top", "useful"), [(1, 64, True), (64, 1, False)])
def test_a_level_gains_only_what_the_others_lack(flat_pictures, bottom: int, top: int, useful: bool) -> None:
    recipe = TrialRecipe(
        data=flat_pictures,
        model=two_levels(bottom, top),
        train=TrainRecipe(steps=1, batch_size=8, learning_rate=3e-3),
    )
    data = open_data(flat_pictures)
    model = brightness_coder(recipe.model, crops_of(data.training) / 255)
    before = copy.deepcopy(model.state_dict())
    steps = []
    held_out = crops_of(data.validation)
    decoders = refit(model, recipe, data, held_out, MACHINE, 120, lambda: steps.append(None))
    assert [decoder.without for decoder in decoders] == [None, 1]
    assert len(steps) == 120
    gain = decoders[0].psnr_db - decoders[1].psnr_db
    assert gain > 5 if useful else gain == 0
    assert decoders[0].psnr_db > 20  # either way the brightness gets through
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# --- conditional entropy


def test_no_cell_sees_itself_or_what_comes_after() -> None:
    torch.manual_seed(0)
    net = CodePredictor(3, 5, below=(2, 2)).eval()
    codes, below = torch.randn(1, 3, 6, 6, requires_grad=True), torch.randn(1, 2, 12, 12, requires_grad=True)
    for row, column in [(0, 0), (2, 3), (5, 5)]:
        codes.grad = None
        net(codes, below)[0, :, row, column].sum().backward()
        seen = codes.grad[0].abs().sum(0) > 0
        place = row * 6 + column
        assert not seen.flatten()[place:].any()
        assert bool(seen.any()) == (place > 0)
    assert bool((below.grad != 0).any())


@pytest.mark.slow
@pytest.mark.parametrize("determined", [True, False])
def test_the_share_of_synthetic_codes_is_known(determined: bool) -> None:
    recipe = TrialRecipe(model=two_levels(8, 8))
    model = built(recipe.model)
    draws = torch.Generator().manual_seed(0)
    predictors = _LevelPredictors(model, recipe, 1, scales=[1.0, 1.0])

    def draw_indices(count: int) -> list[torch.Tensor]:
        bottom = torch.randint(8, (count, 8, 8), generator=draws)
        top = torch.randint(8, (count, 4, 4), generator=draws)
        return [bottom, bottom[:, ::2, ::2].contiguous() if determined else top]

    for step in range(250):
        predictors.train_step(draw_indices(32), step / 250)
    predictors.validate(draw_indices(64))
    entropy = predictors.measure(draw_indices(64))
    # The codes are uniform and independent: only the level below predicts them, if it determines them.
    assert entropy.nominal_bits == 3
    assert entropy.marginal_bits == pytest.approx(3, abs=0.05)
    assert entropy.alone_bits == pytest.approx(3, abs=0.1)
    assert entropy.share > 0.8 if determined else abs(entropy.share) < 0.05


# --- marginal gain


def test_marginal_gain_by_hand() -> None:
    model = two_levels(256, 16)
    flat = ModelRecipe(levels=(LevelRecipe(downsample=4, codebook_size=512, code_dim=4),))
    # 64 px: 16 x 16 cells of 8 bits and 8 x 8 cells of 4; flat: 16 x 16 cells of 9.
    upper, single_level = marginal_gain(
        model, 64, [RefittedDecoder(None, 25.0), RefittedDecoder(1, 24.0)], (flat, 24.5)
    )
    assert (upper[1].bits, upper[1].gain_db) == (256, 1.0)
    assert upper[1].db_per_kilobit == pytest.approx(1000 / 256)
    assert single_level is not None
    assert (single_level.bits, single_level.gain_db) == (256, 0.5)


def test_the_counterpart_is_of_the_same_study_and_seed(tmp_path: Path) -> None:
    names = ["two-level-naive", "two-level-healthy", "single-level-naive", "single-level-healthy"]
    for name in names:
        for seed in (1, 11):
            (tmp_path / "runs" / name / f"seed-{seed}-abc" / "model").mkdir(parents=True)
    pairs = [("single-level-naive", "two-level-naive"), ("single-level-healthy", "two-level-healthy")]
    level = {"grid": [4, 4], "codebook_size": 8, "code_dim": 4}
    tables = {"two-level": [level] * 2, "single-level": [{**level, "codebook_size": 16}]}
    study = {
        "format": 2,
        "margin_db": 0.1,
        "trials": [
            {"arm": name, "seed": seed, "status": "done", "run": f"runs/{name}/seed-{seed}-abc"}
            for name in names
            for seed in (1, 11)
        ],
        "arms": [
            {
                "name": name,
                "healthy": "healthy" in name,
                "levels": 2 if "two" in name else 1,
                "level_table": tables[name.rsplit("-", 1)[0]],
            }
            for name in names
        ],
        "comparisons": [
            {"question": question, "a": a, "b": b, "margin": 0.1, "verdict": "inconclusive"}
            for question, a, b in (
                ("intervention", names[1], names[0]),
                *(("hierarchy", a, b) for a, b in pairs),
            )
        ],
        "verdict": {"sentence": "", "naive": None, "healthy": None},
    }
    (tmp_path / "study.json").write_text(json.dumps(study))
    runs = tmp_path / "runs"
    assert single_level_counterpart(runs / names[1] / "seed-1-abc") == runs / names[3] / "seed-1-abc"
    assert single_level_counterpart(runs / names[0] / "seed-11-abc") == runs / names[2] / "seed-11-abc"
    # The bottom of the hierarchy alone has no additional bits.
    alone = json.loads((tmp_path / "study.json").read_text())
    for arm in alone["arms"]:
        arm["level_table"] = arm["level_table"] if "two" in arm["name"] else [level]
    (tmp_path / "study.json").write_text(json.dumps(alone))
    assert single_level_counterpart(runs / names[1] / "seed-1-abc") is None
    (tmp_path / "study.json").write_text(json.dumps(study))
    # Runs of other recipes are in the same folders; the record has the ones that were compared.
    for name in (names[1], names[3]):
        (runs / name / "seed-1-aaa" / "model").mkdir(parents=True)
    assert single_level_counterpart(runs / names[1] / "seed-1-abc") == runs / names[3] / "seed-1-abc"
    assert single_level_counterpart(runs / names[1] / "seed-1-aaa") is None
    (runs / names[3] / "seed-1-abc" / "model").rmdir()
    assert single_level_counterpart(runs / names[1] / "seed-1-abc") is None
    for damage in ("[]", "{", '{"trials": [{"run": 1}]}', '{"trials": 3}'):
        (tmp_path / "study.json").write_text(damage)
        with pytest.raises(FlatvqError, match=r"study\.json"):
            single_level_counterpart(runs / names[0] / "seed-1-abc")
    (tmp_path / "study.json").unlink()
    assert single_level_counterpart(runs / names[0] / "seed-1-abc") is None
