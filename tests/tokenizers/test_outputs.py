"""What a tokenizer returns is checked wherever it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import flatvq
from flatvq.codes import decode_codes, encode_images
from flatvq.errors import FlatvqError
from flatvq.evaluate.reconstruction import reconstructed
from flatvq.tokenizers.outputs import require_description, require_same_scale

IMAGES = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)


class Means(nn.Module, flatvq.Tokenizer):
    """Stores the mean of each block of 4 x 4 pixels in 16 levels, and changes what is returned."""

    levels = (flatvq.TokenizerLevel(codebook_size=16, factor=4),)
    preprocess = flatvq.Preprocess(crop=16)

    def __init__(
        self,
        change_indices: Callable[[Tensor], Any] = lambda indices: (indices,),
        change_images: Callable[[Tensor], Any] = lambda images: images,
    ) -> None:
        super().__init__()
        self.change_indices, self.change_images = change_indices, change_images
        self.dropout = nn.Dropout(0.5)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        means = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4)[:, 0]
        result: tuple[Tensor, ...] = self.change_indices((means * 15).round().long())
        return result

    def decode(self, indices: Any) -> Tensor:
        grid = nn.functional.interpolate(indices[0][:, None] / 15, scale_factor=4)
        result: Tensor = self.change_images(self.dropout(grid).expand(-1, 3, -1, -1))
        return result


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (16, 16), (200, 200, 200)).save(tmp_path / "pictures" / "grey.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda indices: (indices + 0.5,), "of dtype float32 are not integers"),
        (lambda indices: (indices > 3,), "of dtype bool are not integers"),
        (lambda indices: indices, "returns Tensor, not a tuple"),
        (lambda indices: (indices, indices), "returns 2 of them, not a tuple with one tensor for each level"),
        (lambda indices: (indices.numpy(),), "returns ndarray for level 0"),
        (lambda indices: (indices[:, :2],), r"not \[\d, 4, 4\] below 16: correct its levels"),
        (lambda indices: (indices + 16,), r"below 16: correct its levels"),
        (lambda indices: (indices - 20,), r"below 16: correct its levels"),
        (lambda indices: (indices.to("meta"),), "a tensor on the meta device"),
        (lambda indices: (indices.to_sparse(),), "a tensor of layout torch.sparse_coo"),
        (
            lambda indices: indices[9],
            r"encode\(\) of the tokenizer failed at test_outputs\.py:\d+ \(IndexError: index 9 is out",
        ),
        (lambda indices: exit(7), r"encode\(\) of the tokenizer failed at .*\(SystemExit: 7\)"),
    ],
)
def test_other_indices_are_refused(
    change: Callable[[Tensor], Any], what: str, picture: Path, tmp_path: Path
) -> None:
    tokenizer = Means(change_indices=change)
    with pytest.raises(FlatvqError, match=what):
        encode_images(tokenizer, picture, tmp_path / "new" / "codes")
    assert not (tmp_path / "new").exists()  # so that the corrected tokenizer can encode into it
    with pytest.raises(FlatvqError, match=what):
        reconstructed(tokenizer, IMAGES)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda images: images * torch.nan, "NaN or infinity"),
        (lambda images: images[:, :, :8], r"the shape \[\d, 3, 8, 16\] for images of \[\d, 3, 16, 16\]"),
        (lambda images: images[:, :1], r"the shape \[\d, 1, 16, 16\]"),
        (lambda images: (images * 255).byte(), "uint8 are not floating-point"),
        (lambda images: (images,), "returns tuple, not images"),
        (lambda images: images.to("meta"), "a tensor on the meta device"),
        (
            lambda images: images / torch.ones(5),
            r"decode\(\) of the tokenizer failed at .*RuntimeError: The size",
        ),
        (
            lambda images: images * 255 + 3,
            r"mean of the pixels that decode\(\) .*: return images from 0 to 1",
        ),
    ],
)
def test_other_images_are_refused(
    change: Callable[[Tensor], Any], what: str, picture: Path, tmp_path: Path
) -> None:
    tokenizer = Means(change_images=change)
    encode_images(tokenizer, picture, tmp_path / "codes")
    with pytest.raises(FlatvqError, match=what):
        decode_codes(tokenizer, tmp_path / "codes", tmp_path / "decoded")
    with pytest.raises(FlatvqError, match=what):
        reconstructed(tokenizer, IMAGES)


def test_reconstructions_from_minus_one_to_one_are_refused() -> None:
    stripes = (torch.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16) % 16 // 4 * 60).byte()
    reconstructed(Means(), stripes)
    with pytest.raises(FlatvqError, match="returns images from -1 to 1: convert them to 0 to 1"):
        reconstructed(Means(change_images=lambda images: 2 * images - 1), stripes)


@torch.no_grad()
def test_models_of_random_weights_are_on_no_other_scale() -> None:
    recipe = flatvq.ModelRecipe(width=8, residual_width=4)
    for seed in range(5):
        model = flatvq.build_vqvae(recipe, flatvq.CodebookRecipe(), seed=seed).eval()
        images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).repeat_interleave(8, 3)
        originals = images.repeat_interleave(8, 2)
        require_same_scale(model.decode(model.encode(originals)), originals)


def test_decoding_is_in_eval_mode_and_restores_the_mode(picture: Path, tmp_path: Path) -> None:
    tokenizer = Means()
    assert tokenizer.training
    encode_images(tokenizer, picture, tmp_path / "codes")
    decode_codes(tokenizer, tmp_path / "codes", tmp_path / "decoded")
    assert tokenizer.training
    # 200 is level 12 of 15. Dropout would set half of the pixels to zero.
    assert Image.open(tmp_path / "decoded" / "grey.png.png").getcolors() == [(256, (204, 204, 204))]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"crop": -30}, "crop is -30: pass a whole number from 0 to 65536"),
        ({"resize": 1.5}, "resize is 1.5"),
        ({"channels": 4}, "images of 4 channels are not supported"),
        ({"range": "-1 to 1"}, "range is -1 to 1: pass the values of black and white"),
        ({"range": (0.0, float("inf"))}, "range is"),
        ({"range": (1, 1)}, "range is"),
    ],
)
def test_impossible_preprocessing_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(FlatvqError, match=what):
        flatvq.Preprocess(**change)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"preprocess": None}, "preprocess of it is None: describe the size of images, as in"),
        (
            {"preprocess": property(lambda self: 1 / 0)},
            r"preprocess of it failed at test_outputs\.py:\d+ \(Zero",
        ),
        ({"levels": property(lambda self: 1 / 0)}, r"levels of it failed at test_outputs\.py:\d+ \(Zero"),
        ({"levels": ()}, r"the levels of it are \(\): describe each grid"),
        ({"inference_config": lambda self: {"a": {1}}}, "other values than those of JSON .*type set is not"),
        ({"inference_config": lambda self: {"a": float("nan")}}, "other values than those of JSON"),
    ],
)
def test_impossible_descriptions_are_refused(attributes: dict[str, Any], what: str) -> None:
    with pytest.raises(FlatvqError, match=what):
        require_description(type("Other", (Means,), attributes)(), "it")


def test_a_codebook_too_large_for_files_is_refused(picture: Path, tmp_path: Path) -> None:
    tokenizer = type("Other", (Means,), {"levels": (flatvq.TokenizerLevel(2**40, factor=4),)})()
    with pytest.raises(FlatvqError, match=r"levels .* cannot be stored \(codebook_size: .*4294967296\)"):
        encode_images(tokenizer, picture, tmp_path / "codes")
    assert not (tmp_path / "codes").exists()


@pytest.mark.parametrize("level", [(0, 4), (16, 0), (16, 2.5), (16, 4, (0,))])
def test_impossible_levels_are_refused(level: tuple[Any, ...]) -> None:
    with pytest.raises(FlatvqError, match="pass a whole number of 1 or more"):
        flatvq.TokenizerLevel(*level)


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ({"shard_size": 0}, "shard_size is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"white_level": -1}, "white_level is -1"),
        ({"crop": -30}, "crop is -30"),
    ],
)
def test_impossible_settings_are_refused(
    option: dict[str, int], what: str, picture: Path, tmp_path: Path
) -> None:
    with pytest.raises(FlatvqError, match=f"{what}: pass a whole number"):
        encode_images(Means(), picture, tmp_path / "codes", **option)
    assert not (tmp_path / "codes").exists()
    with pytest.raises(FlatvqError, match="batch_size is -1"):
        decode_codes(Means(), tmp_path / "codes", tmp_path / "decoded", batch_size=-1)
