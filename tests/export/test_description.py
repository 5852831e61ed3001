"""Inputs of exported programs are checked, with programs that accept everything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.codec.tokenizers import tokenizer
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.export import Program, export, load_program, programs


def write(module: torch.nn.Module, inputs: Any, shapes: Any, file: Path) -> None:
    file.write_bytes(b"program")


def load(encoder: Path, decoder: Path) -> Program:
    def decode(indices: Sequence[Tensor]) -> Tensor:
        return torch.zeros(1)

    return Program(lambda images: [], decode)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(programs.FORMATS, "pt2", programs._Format(write, load))
    model = tokenizer().double().train()
    export(model, tmp_path, "pt2")
    assert model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float64}
    return tmp_path


def test_images_that_do_not_fit_are_refused(exported: Path) -> None:
    factor = tokenizer().factor
    program = load_program(exported)
    assert program.encode(torch.rand(2, 3, 3 * factor, 2 * factor)) == []
    for height, width in ((3 * factor + 1, 2 * factor), (2 * factor, factor - 1)):
        with pytest.raises(
            FlatvqError, match=rf"images of {height}x{width} pixels do not fit .* of {factor}:"
        ):
            program.encode(torch.rand(1, 3, height, width))
    with pytest.raises(FlatvqError, match="size 1 in axis 1"):
        program.encode(torch.rand(1, 1, factor, factor))


def test_indices_outside_of_the_codebook_are_refused(exported: Path) -> None:
    model = tokenizer()
    program = load_program(exported)
    indices = [torch.zeros(1, *level.index_shape, 4, 4).long() for level in model.recipe.levels]
    assert program.decode(indices).tolist() == [0.0]
    size = model.recipe.levels[0].codebook_size
    for value in (-1, size):
        with pytest.raises(FlatvqError, match=rf"indices\[0\] range from {value} to {value}, outside of"):
            program.decode([indices[0] + value, *indices[1:]])
    with pytest.raises(FlatvqError, match="are not integers"):
        program.decode([level.float() for level in indices])
    with pytest.raises(FlatvqError, match="pass one tensor per level"):
        program.decode([*indices, indices[0]])


def test_a_damaged_description_is_named_and_a_missing_one_is_not_needed(exported: Path) -> None:
    described = json.loads((exported / "program.json").read_text())
    (exported / "program.json").write_text(json.dumps({**described, "factor": 0}))
    with pytest.raises(FlatvqError, match=r"program\.json' .*factor"):
        load_program(exported)
    (exported / "program.json").unlink()
    assert load_program(exported).encode(torch.rand(1, 3, 5, 5)) == []
