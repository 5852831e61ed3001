"""Names of version 0.1: they work, warn, and are refused together with their new names."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import flatvq.quantize
import flatvq.recipe
import flatvq.records
from flatvq.data import open_folder
from flatvq.errors import FlatvqError
from flatvq.model import build_vqvae
from flatvq.quantize import (
    DeadCodeReplacement,
    Ema,
    KMeansInit,
    RandomInit,
    VectorQuantizer,
    rotation_trick,
    straight_through,
)
from flatvq.recipe import CodebookRecipe, ParameterRange, load_recipe


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("KMeansSeeding", "KMeansInit"),
        ("DataSeeding", "DataInit"),
        ("RandomSeeding", "RandomInit"),
        ("SeedingEvent", "InitEvent"),
        ("Revival", "DeadCodeReplacement"),
        ("RevivalEvent", "ReplacementEvent"),
    ],
)
def test_old_classes_are_the_new_ones(old, new):
    with pytest.warns(
        DeprecationWarning, match=rf"flatvq.quantize.{old} is now flatvq.quantize.{new}; .* 0.3"
    ):
        assert getattr(flatvq.quantize, old) is getattr(flatvq.quantize, new)
    with pytest.raises(AttributeError, match="no attribute 'KMeans'"):
        _ = flatvq.quantize.KMeans


def test_old_arguments_and_attributes():
    with pytest.warns(DeprecationWarning, match="is now") as warned:
        old = VectorQuantizer(8, 2, seeding=RandomInit(), revival=DeadCodeReplacement(every=3))
    assert {str(one.message).split(";")[0] for one in warned} == {
        "seeding= is now init=",
        "revival= is now replacement=",
    }
    assert (old.codebook.init, old.codebook.replacement) == (RandomInit(), DeadCodeReplacement(every=3))
    new = VectorQuantizer(8, 2, init=RandomInit())
    latents = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    out = new.eval()(latents)
    with pytest.warns(
        DeprecationWarning, match=r"VectorQuantizer.codes is now VectorQuantizer.decode_indices"
    ):
        assert torch.equal(new.codes(out.indices), out.quantized)
    with pytest.warns(DeprecationWarning, match=r"Quantized.codes is now Quantized.code_vectors"):
        assert out.codes is out.code_vectors
    with pytest.warns(DeprecationWarning, match=r"Codebook.codes is now Codebook.weight"):
        new.codebook.codes.fill_(3.0)
    assert bool((new.codebook.weight == 3).all())
    with pytest.warns(DeprecationWarning, match=r"Codebook.seeded is now Codebook.initialized"):
        assert new.codebook.seeded
    with pytest.warns(DeprecationWarning, match="set_codes is now"):
        new.codebook.set_codes(torch.ones(8, 2))
    assert bool((new.codebook.code_vectors == 1).all())


def test_codes_are_now_code_vectors():
    vectors, code_vectors = torch.zeros(3, 2), torch.ones(3, 2)
    for estimator in (straight_through, rotation_trick):
        with pytest.warns(DeprecationWarning, match="codes= is now code_vectors="):
            assert torch.equal(estimator(vectors, codes=code_vectors), code_vectors)
    with pytest.raises(FlatvqError, match="codes= and code_vectors= are the same argument"):
        straight_through(vectors, codes=code_vectors, code_vectors=code_vectors)
    quantizer = VectorQuantizer(3, 2)
    with pytest.warns(DeprecationWarning, match="codes= is now code_vectors="):
        quantizer.codebook.set_code_vectors(codes=code_vectors)
    assert torch.equal(quantizer.codebook.code_vectors, code_vectors)
    recipe = load_recipe("photographs").trial("two-level-naive", 0)
    model = build_vqvae(recipe.model, recipe.codebook)
    levels = [
        torch.zeros(1, level.code_dim, n, n) for level, n in zip(recipe.model.levels, (4, 2), strict=True)
    ]
    with pytest.warns(DeprecationWarning, match="codes= is now code_vectors="):
        old = model.decode_code_vectors(codes=levels)
    assert torch.equal(old, model.decode_code_vectors(levels))


def test_an_old_recipe_class():
    with pytest.warns(DeprecationWarning, match="KnobRecipe is now flatvq.recipe.ParameterRange"):
        assert flatvq.recipe.KnobRecipe is ParameterRange


def test_the_old_key_of_a_parameter_range():
    with pytest.warns(FutureWarning, match="'whole' is now 'integer'"):
        old = ParameterRange(low=2, high=9, whole=True)
    assert old == ParameterRange(low=2, high=9, integer=True)
    override = "tune.space={upper_bits: {low: 2, high: 9, whole: true}}"
    with pytest.warns(FutureWarning, match="'whole' is now 'integer'"):
        assert load_recipe("photographs", [override]).tune.space == {"upper_bits": old}
    with pytest.raises(ValueError, match="'whole' and 'integer' are the same key"):
        ParameterRange(low=2, high=9, whole=True, integer=True)


def test_statuses_of_files(tmp_path):
    Image.new("L", (32, 32), 90).save(tmp_path / "grey.png")
    opened = open_folder(tmp_path, crop=32)
    with pytest.warns(DeprecationWarning, match="OpenedFolder.fates is now OpenedFolder.file_statuses"):
        (status,) = opened.fates
    with pytest.warns(DeprecationWarning, match="FileStatus.fate is now FileStatus.status"):
        assert status.fate == status.status == "converted"
    with pytest.warns(DeprecationWarning, match=r"StoredImages.load\(index\) is now flatvq.data.load_image"):
        pixels = opened.images.load(0)
    assert (pixels.shape, pixels.min(), pixels.max()) == ((32, 32, 3), 90, 90)


def test_both_names_are_refused():
    with pytest.raises(FlatvqError, match="seeding= and init= are the same argument"):
        VectorQuantizer(8, 2, init=KMeansInit(), seeding=KMeansInit())
    with pytest.raises(ValueError, match="'seeding' and 'init' are the same key"):
        CodebookRecipe(init={}, seeding={})


def test_an_old_state_dict_loads():
    torch.manual_seed(0)
    trained = VectorQuantizer(8, 2, update=Ema(0.5), init=KMeansInit(vectors_per_code=1))
    trained(torch.randn(40, 2))
    old_names = {"weight": "codes", "is_initialized": "is_seeded", "init_checksum": "drawn_checksum"}
    state = {}
    for key, value in trained.state_dict().items():
        prefix, _, name = key.rpartition(".")
        state[f"{prefix}.{old_names.get(name, name)}"] = value
    assert "codebook.codes" in state
    loaded = VectorQuantizer(8, 2, seed=4)
    loaded.load_state_dict(state)
    assert loaded.codebook.initialized
    for key, value in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_old_recipe_keys(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(
        "codebook: {seeding: {kind: data}, revival: {every: 7}}\n"
        "arms: {a: {codebook: {revival: null}}, b: {}}\n"
    )
    with pytest.warns(FutureWarning) as warned:
        recipe = load_recipe(str(path), ["codebook.seeding.vectors_per_code=3"])
    assert {str(one.message) for one in warned} == {
        "the recipe key 'seeding' is now 'init'; flatvq 0.3 rejects the old name",
        "the recipe key 'revival' is now 'replacement'; flatvq 0.3 rejects the old name",
    }
    init, replacement = recipe.codebook.init, recipe.codebook.replacement
    assert (init.kind, init.vectors_per_code, replacement.every) == ("data", 3, 7)
    assert recipe.trial("a", 0).codebook.replacement is None
    path.write_text("codebook: {seeding: {kind: data}, init: {kind: data}}\n")
    with pytest.raises(FlatvqError, match=r"'seeding' and 'init' are the same key in 'codebook' of recipe"):
        load_recipe(str(path))
