"""Assembles the page: template, styles, scripts, onnxruntime-web, and the stored arms."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import lcm
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from flatvq.errors import MissingExtraError
from flatvq.export.page.graphs import graphs
from flatvq.export.page.runtime import VERSION as RUNTIME_VERSION
from flatvq.export.page.runtime import Runtime
from flatvq.export.page.subject import PageArm, Subject
from flatvq.export.page.weights import FILE, StoredArm, rounded, stored_arm
from flatvq.export.parity import Parity, compare_programs, noise_batches
from flatvq.export.programs import Program
from flatvq.files import write_text
from flatvq.model import VQVAE
from flatvq.versions import VERSION

__all__ = ["PageParity", "write_page"]

# Modules of the page and of its worker, each after those that it imports from.
MAIN = ("bytes", "resample", "picture", "measures", "drawing", "arms", "app")
WORKER = ("bytes", "worker")
_SIDES = (64, 128, 256, 384, 512)
# Offered sizes keep the distances of all cells to all codes below this many bytes.
_LARGEST_SEARCH = 192 * 2**20
_MODULE = Path(__file__).parent


@dataclass(frozen=True)
class PageParity:
    """The differences of an arm on the page."""

    arm: str
    """The name of the arm."""
    parity: Parity
    """Between the stored programs and the tokenizer with the same rounded weights."""
    rounding: Parity
    """Between the tokenizer with rounded weights and the original; images decoded from the same indices."""
    bytes: int
    """Size of the arm in the page."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a JSON object."""
        return asdict(self)


def write_page(
    subject: Subject,
    file: Path,
    runtime: Runtime,
    images: Callable[[VQVAE], Iterable[Tensor]] = noise_batches,
    progress: Callable[[str], None] = lambda arm: None,
) -> list[PageParity]:
    """Write a page in which a visitor encodes and decodes a picture with each arm.

    The page needs no server and no network: it contains the runtime and the arms. The weights are rounded to
    float16.

    Args:
        subject: what the page shows.
        file: the file to write.
        runtime: the files of onnxruntime-web.
        images: returns batches float32 [B, C, H, W] in [0, 1], on which an arm's programs are compared.
        progress: called with the name of each arm before its export.

    Returns:
        The differences of each arm. The stored form is unpacked again for the comparison.

    Raises:
        FlatvqError: if more than 1 of 1,000 indices of an arm differ from the indices of the tokenizer with
            the same weights, or a pixel decoded from the same indices differs by more than 1e-5.
        MissingExtraError: if onnx, onnxscript or onnxruntime is not installed.
    """
    stored, parities = [], []
    for arm in subject.arms:
        progress(arm.name)
        model = rounded(arm.tokenizer)
        each = stored_arm(*graphs(model))
        batches = list(images(model))
        parity = compare_programs(model, _program(each), batches).required(f"arm {arm.name!r} of the page")
        rounding = compare_programs(arm.tokenizer, _as_program(model), batches)
        stored.append((each, model.id))
        parities.append(PageParity(arm.name, parity, rounding, len(_text(each.content))))
    write_text(file, _page(subject, runtime, stored))
    return parities


def _as_program(model: VQVAE) -> Program:
    return Program(lambda images: list(model.encode(images)), lambda grids: model.decode(grids).clamp(0, 1))


def _program(stored: StoredArm) -> Program:
    """Load an arm from its stored form."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("pages", "onnxruntime", extra="onnx") from None
    with TemporaryDirectory() as folder:
        for name, content in zip(("encoder", "decoder", FILE), stored.unpacked(), strict=True):
            (Path(folder) / name).write_bytes(content)
        encode, decode = (
            onnxruntime.InferenceSession(f"{folder}/{name}", providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder")
        )

    def encoded(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(grid) for grid in encode.run(None, {"images": images.numpy()})]

    def decoded(indices: Sequence[Tensor]) -> Tensor:
        feed = {f"level_{number}": grid.numpy() for number, grid in enumerate(indices)}
        kept = np.ones(len(indices), np.float32)
        return torch.from_numpy(decode.run(None, {**feed, "kept": kept})[0])

    return Program(encoded, decoded)


def _page(subject: Subject, runtime: Runtime, stored: Sequence[tuple[StoredArm, str]]) -> str:
    """Render the page.

    Args:
        subject: what it shows.
        runtime: the files of onnxruntime-web.
        stored: the stored form of each arm, and the identity of its tokenizer with rounded weights.
    """
    environment = Environment(
        loader=PackageLoader("flatvq", "export/page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    report = PackageLoader("flatvq", "report").get_source(environment, "page.css")[0]
    factor = lcm(*(arm.tokenizer.factor for arm in subject.arms))
    data = {
        "arms": [_described(arm, *each) for arm, each in zip(subject.arms, stored, strict=True)],
        "factor": factor,
        "sides": _sides(subject, factor),
        "trained": {"crop": subject.crop, "resize": subject.resize},
    }
    return environment.get_template("page.html").render(
        subject=subject,
        style=Markup(report + (_MODULE / "page.css").read_text(encoding="utf-8")),
        data=Markup(_in_script(json.dumps(data))),
        main=Markup(_in_script(_joined(MAIN))),
        worker=Markup(_in_script(_joined(WORKER))),
        payloads={
            "ort-script": Markup(_text(gzip.compress(runtime.script, 9, mtime=0))),
            "ort-program": Markup(_text(gzip.compress(runtime.program, 9, mtime=0))),
            **{f"arm-{number}": Markup(_text(each.content)) for number, (each, _) in enumerate(stored)},
        },
        version=VERSION,
        runtime_version=RUNTIME_VERSION if runtime.pinned else "of another version",
    )


def _described(arm: PageArm, stored: StoredArm, identity: str) -> dict[str, Any]:
    """Return what the scripts of the page know of an arm."""
    tokenizer = arm.tokenizer
    return {
        "name": arm.name,
        "id": identity,
        "channels": tokenizer.preprocess.channels,
        "levels": [
            {
                "codebook_size": level.codebook_size,
                "factor": level.factor,
                "indices": level.indices_per_cell,
            }
            for level in tokenizer.levels
        ],
        "sizes": stored.sizes,
        "tensors": stored.tensors,
        "file": FILE,
    }


def _sides(subject: Subject, factor: int) -> list[int]:
    """Return the sides of pictures that the page offers: multiples of the factor, at least two times it."""
    distances = [  # bytes for each pixel
        4 * level.codebook_size / level.factor**2
        for arm in subject.arms
        for level, recipe in zip(arm.tokenizer.levels, arm.tokenizer.recipe.levels, strict=True)
        if recipe.has_codebook
    ]
    sides = {max(2, side // factor) * factor for side in _SIDES}
    fitting = [side for side in sorted(sides) if max(distances, default=0) * side**2 <= _LARGEST_SEARCH]
    return fitting or [2 * factor]


def _joined(modules: Sequence[str]) -> str:
    """Return modules as one: without imports of each other, and without `export`."""
    parts = []
    for index, name in enumerate(modules):
        source = (_MODULE / f"{name}.js").read_text(encoding="utf-8")
        imported = re.findall(r'^import .* from "\./(\w+)\.js";$', source, flags=re.MULTILINE)
        assert set(imported) <= set(modules[:index]), f"{name}.js imports a module that comes later"
        source = re.sub(r"^import .*\n", "", source, flags=re.MULTILINE)
        parts.append(f"// {name}.js\n{re.sub('^export ', '', source, flags=re.MULTILINE)}")
    return "\n".join(parts)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _in_script(text: str) -> str:
    """Escape what would end a script element."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")
