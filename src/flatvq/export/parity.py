"""Compares exported programs with the tokenizer that they were exported from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flatvq.data import evaluation_crops, open_folder
from flatvq.errors import FlatvqError
from flatvq.evaluate.batches import batches
from flatvq.export.programs import Program, export, load_program
from flatvq.model import VQVAE
from flatvq.model.pixels import with_channels
from flatvq.staging import adding_files

__all__ = [
    "Parity",
    "check_programs",
    "compare_programs",
    "export_checked",
    "folder_batches",
    "noise_batches",
]

# Rounding decides between codes at nearly the same distance, and in a conditioned hierarchy each such index
# changes the latents of the level below.
_LEAST_EQUAL = 0.999
_LARGEST_DECODE_ERROR = 1e-5
_SIDE = 256


@dataclass(frozen=True)
class Parity:
    """The differences between a program and its tokenizer."""

    indices: int
    """Number of indices that were compared."""
    differing: int
    """Number of indices that differ."""
    largest_decode_error: float
    """Largest difference of a pixel, in [0, 1], of images decoded from the same indices."""

    @property
    def share_equal(self) -> float:
        """Share of indices that are equal."""
        return 1 - self.differing / self.indices if self.indices else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a JSON object."""
        return asdict(self)

    def required(self, programs: str) -> Parity:
        """Return the differences; raise an error if they are larger than rounding explains.

        Args:
            programs: what was compared, for the error message.

        Raises:
            FlatvqError: if more than 1 of 1,000 indices differ, or a decoded pixel differs by more than 1e-5.
        """
        if self.share_equal < _LEAST_EQUAL or self.largest_decode_error > _LARGEST_DECODE_ERROR:
            what = (
                f"{programs} differ from the tokenizer: {self.differing} of {self.indices} "
                f"indices, and decoded pixels by up to {self.largest_decode_error:.1e}"
            )
            raise FlatvqError(what, "do not use them; try the other format, or another version of torch")
        return self


@torch.no_grad()
def compare_programs(model: VQVAE, program: Program, batches: Iterable[Tensor]) -> Parity:
    """Encode and decode images with the tokenizer and with the program.

    Args:
        model: the tokenizer, in eval mode.
        program: the exported program.
        batches: images float32 [B, C, H, W] in [0, 1].

    Returns:
        The differences. If two codes are almost equally near, the rounding of a sum decides between them, so
        a few indices may differ.

    Raises:
        FlatvqError: if the outputs of the program and of the tokenizer differ in shape.
    """
    indices = differing = 0
    error = 0.0
    for images in batches:
        expected, actual = model.encode(images), program.encode(images)
        _require_shapes("indices", actual, expected)
        indices += sum(level.numel() for level in expected)
        differing += sum(int((a != b).sum()) for a, b in zip(expected, actual, strict=True))
        decoded = model.decode(expected).clamp(0, 1)
        returned = program.decode(list(expected))
        _require_shapes("images", [returned], [decoded])
        # NaN would be less than any error.
        error = max(error, float((returned - decoded).abs().nan_to_num(nan=inf).max()))
    return Parity(indices, differing, error)


def _require_shapes(what: str, actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    shapes, needed = ([list(each.shape) for each in tensors] for tensors in (actual, expected))
    if shapes != needed:
        what = f"a program returns {what} {shapes}, and the tokenizer {needed}"
        raise FlatvqError(what, "give programs of this tokenizer")


def check_programs(model: VQVAE, folder: Path, images: Iterable[Tensor], kind: str | None = None) -> Parity:
    """Load exported programs and compare them with their tokenizer.

    Args:
        model: the tokenizer, in eval mode.
        folder: the folder of the programs.
        images: batches float32 [B, C, H, W] in [0, 1].
        kind: the format, `onnx` or `pt2`; None for the first that the folder holds.

    Raises:
        FlatvqError: if the folder holds no programs; they are damaged, or do not accept the inputs of this
            tokenizer; more than 1 of 1,000 indices differ; or a decoded pixel differs by more than 1e-5.
    """
    parity = compare_programs(model, load_program(folder, kind), images)
    return parity.required(f"the programs in '{folder}'")


def export_checked(
    model: VQVAE, folder: Path, kind: str, images: Iterable[Tensor]
) -> tuple[list[Path], Parity]:
    """Export a tokenizer as `export` does, and compare the programs with it before they appear in the folder.

    Args:
        model: the tokenizer, in eval mode.
        folder: the folder to write to; created if it does not exist. If the check fails, it is unchanged.
        kind: the format, `onnx` or `pt2`.
        images: batches float32 [B, C, H, W] in [0, 1].

    Returns:
        The files, and the differences.

    Raises:
        FlatvqError: see `export` and `check_programs`.
        MissingExtraError: if a library that the format needs is not installed.
    """
    with adding_files(folder) as stage:
        names = [file.name for file in export(model, stage, kind)]
        parity = compare_programs(model, load_program(stage, kind), images).required(f"the {kind} programs")
    return [folder / name for name in names], parity


def noise_batches(model: VQVAE) -> Iterator[Tensor]:
    """Yield random images of several sizes."""
    random = torch.Generator().manual_seed(1)
    for batch, rows, columns in ((1, 8, 8), (3, 4, 12), (2, 2, 3)):
        shape = (batch, model.recipe.channels, rows * model.factor, columns * model.factor)
        coarse = torch.rand(batch, model.recipe.channels, rows + 1, columns + 1, generator=random)
        yield torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear")


def folder_batches(model: VQVAE, folder: Path) -> Iterator[Tensor]:
    """Return the centre crops of a folder's images, with a side of about 256 pixels.

    Raises:
        FlatvqError: if the folder holds no readable image.
    """
    crop = max(1, _SIDE // model.factor) * model.factor
    crops = evaluation_crops(open_folder(folder, crop=crop, resize=crop).images, crop)
    return (with_channels(pixels, model.recipe.channels).float() / 255 for _, pixels in batches(crops, 8))
