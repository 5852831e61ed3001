"""Loads PyTorch's exported programs (`.pt2`) without unpickling anything but tensors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flatvq.errors import FlatvqError
from flatvq.regular import require_regular

__all__ = ["load_archive"]

# What `torch.export.save` writes for a program that computes with tensors alone. Other members, such as
# `data/constants/opaque_obj_0`, are unpickled when they are loaded, and may run any code.
_KNOWN = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
)
# `torch.export.load` unpickles tensors with `weights_only=False`; torch reads this variable in `torch.load`.
_TENSORS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def load_archive(file: Path) -> torch.nn.Module:
    """Load an exported program.

    The program runs the operations that its author chose, so load only programs from sources that you trust.

    Args:
        file: a `.pt2` file of `torch.export.save`.

    Returns:
        A module that runs the program.

    Raises:
        FlatvqError: if the file contains other objects than tensors.
        OSError: if it cannot be opened.
        RuntimeError: if it is not an exported program. torch may also raise other errors.
    """
    require_regular(file)
    reader: Any = torch._C.PyTorchFileReader(str(file))
    for name in reader.get_all_records():
        if not _KNOWN.fullmatch(name):
            what = f"'{file}' contains {name!r}, which is not a tensor"
            raise FlatvqError(what, "export the tokenizer again")
    with _tensors_only():
        module: torch.nn.Module = torch.export.load(file).module()
    return module


@contextmanager
def _tensors_only() -> Iterator[None]:
    before = os.environ.get(_TENSORS_ONLY)
    os.environ[_TENSORS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TENSORS_ONLY]
        else:
            os.environ[_TENSORS_ONLY] = before
