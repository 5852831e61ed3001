"""Writes and loads programs: ONNX graphs, and PyTorch's exported programs (`.pt2`)."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flatvq.data.reasons import reason_of
from flatvq.errors import FlatvqError, MissingExtraError, suggestion
from flatvq.export.archives import load_archive
from flatvq.export.description import NAME, describe, read_description
from flatvq.export.graphs import Decode, Encode, dynamic_shapes, examples
from flatvq.files import write_bytes, write_json
from flatvq.model import VQVAE
from flatvq.staging import adding_files

__all__ = ["FORMATS", "Program", "export", "load_program", "onnx_model"]

OPSET = 20
"""Version of the ONNX operators."""


@dataclass(frozen=True)
class Program:
    """A tokenizer that runs from exported files."""

    encode: Callable[[Tensor], list[Tensor]]
    """Images float32 [B, C, H, W] to the indices of each level, int64."""
    decode: Callable[[Sequence[Tensor]], Tensor]
    """Indices of each level to images float32 [B, C, H, W] in [0, 1]."""


def export(model: VQVAE, folder: Path, kind: str) -> list[Path]:
    """Write encoder and decoder of a tokenizer as programs.

    The batch and the sides of the images are dynamic; the sides must be multiples of the total downsampling.
    If the export fails, no file is left. `export_checked` also compares the programs with the tokenizer.

    Args:
        model: the tokenizer, which stays as it is.
        folder: the folder to write to; created if it does not exist.
        kind: a key of `FORMATS`: `onnx` or `pt2`.

    Returns:
        The files: encoder, decoder and `program.json`, which describes them.

    Raises:
        FlatvqError: if there is no such format.
        MissingExtraError: if a library that the format needs is not installed.
    """
    if kind not in FORMATS:
        raise FlatvqError(f"no format is named {kind!r}", suggestion(kind, FORMATS))
    model = deepcopy(model).eval().float().cpu()  # the caller's model keeps its mode, dtype and device
    encoder, decoder = names = [f"{half}.{kind}" for half in ("encoder", "decoder")]
    images, indices = examples(model)
    image_shapes, index_shapes = dynamic_shapes(model)
    with adding_files(folder) as stage, _quiet():
        FORMATS[kind].write(Encode(model), (images,), (image_shapes,), stage / encoder)
        FORMATS[kind].write(Decode(model), (indices,), (index_shapes,), stage / decoder)
        write_json(stage / NAME, describe(model, kind).model_dump(mode="json"))
    return [folder / name for name in (*names, NAME)]


def load_program(folder: Path, kind: str | None = None) -> Program:
    """Load the programs that `export` wrote.

    Nothing but tensors is unpickled. A program runs the operations that its author chose, so load only
    programs from sources that you trust.

    Args:
        folder: their folder.
        kind: a key of `FORMATS`, if the folder holds programs of several formats; None for the first of them.

    Returns:
        The programs. They raise a `FlatvqError` for images whose sides are not multiples of the total
        downsampling, for indices outside of their codebooks, and for what else they do not accept.

    Raises:
        FlatvqError: if the folder holds no programs, or they are damaged.
        MissingExtraError: if a library that the format needs is not installed.
    """
    for name in FORMATS if kind is None else [kind]:
        files = [folder / f"{half}.{name}" for half in ("encoder", "decoder")]
        if all(file.is_file() for file in files):
            with _one_line(f"cannot read the {name} programs in '{folder}'", "export the tokenizer again"):
                program = FORMATS[name].load(*files)
            return _checked(program, folder)
    raise FlatvqError(f"'{folder}' holds no exported programs", "give the folder of `flatvq export`")


def _checked(program: Program, folder: Path) -> Program:
    """Return the same programs, whose errors are a `FlatvqError`."""
    remedy = "give programs of this tokenizer, and sides that are multiples of its total downsampling"
    description = read_description(folder)

    def encode(images: Tensor) -> list[Tensor]:
        if description is not None:
            description.require_images(images)
        with _one_line(f"the encoder in '{folder}' does not accept images {list(images.shape)}", remedy):
            return program.encode(images)

    def decode(indices: Sequence[Tensor]) -> Tensor:
        if description is not None:
            description.require_indices(indices)
        shapes = [list(level.shape) for level in indices]
        with _one_line(f"the decoder in '{folder}' does not accept indices {shapes}", remedy):
            return program.decode(indices)

    return Program(encode, decode)


@contextmanager
def _one_line(what: str, remedy: str) -> Iterator[None]:
    """Translate the errors of torch and onnxruntime, which have no common type."""
    try:
        yield
    except FlatvqError:
        raise
    except Exception as error:
        raise FlatvqError(f"{what} ({reason_of(error)})", remedy) from None


@dataclass(frozen=True)
class _Format:
    write: Callable[[torch.nn.Module, tuple[Any, ...], tuple[Any, ...], Path], None]
    load: Callable[[Path, Path], Program]


def _write_pt2(module: torch.nn.Module, inputs: tuple[Any, ...], shapes: tuple[Any, ...], file: Path) -> None:
    content = io.BytesIO()
    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), content)
    write_bytes(file, content.getvalue())


def _load_pt2(encoder: Path, decoder: Path) -> Program:
    encode, decode = (load_archive(file) for file in (encoder, decoder))
    return Program(lambda images: list(encode(images)), lambda indices: decode(list(indices)))


def onnx_model(
    module: torch.nn.Module,
    inputs: tuple[Any, ...],
    shapes: tuple[Any, ...],
    input_names: list[str],
    output_names: list[str],
) -> Any:
    """Return a module as an `onnx.ModelProto`.

    Args:
        module: the module, in eval mode.
        inputs: example inputs.
        shapes: the dynamic axes of each input, as `torch.export` reads them.
        input_names: the names of the inputs.
        output_names: the names of the outputs.

    Raises:
        MissingExtraError: if onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript

        from flatvq.export.onnx_lookup import translations
    except ImportError:
        raise MissingExtraError("ONNX export", "onnx and onnxscript", extra="onnx") from None
    assert onnxscript
    with _quiet():
        program = torch.onnx.export(
            torch.export.export(module, inputs, dynamic_shapes=shapes),
            (),
            opset_version=OPSET,
            custom_translation_table=translations(),
            input_names=input_names,
            output_names=output_names,
            verbose=False,
        )
        assert program is not None
        program.optimize()
    proto = program.model_proto
    _remove_traces(proto)
    onnx.checker.check_model(proto)
    return proto


def _remove_traces(proto: Any) -> None:
    """Remove debugging notes of the exporter, such as lines of source code with their local paths."""
    graph = proto.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (proto, graph, *graph.node, *values):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _write_onnx(
    module: torch.nn.Module, inputs: tuple[Any, ...], shapes: tuple[Any, ...], file: Path
) -> None:
    proto = onnx_model(module, inputs, shapes, *_names(module))
    write_bytes(file, proto.SerializeToString())


def _names(module: torch.nn.Module) -> tuple[list[str], list[str]]:
    """Return the names of the inputs and of the outputs."""
    levels = [f"level_{number}" for number in range(len(_model(module).recipe.levels))]
    return (["images"], levels) if isinstance(module, Encode) else (levels, ["images"])


def _model(module: torch.nn.Module) -> VQVAE:
    model = module.model
    assert isinstance(model, VQVAE)
    return model


def _load_onnx(encoder: Path, decoder: Path) -> Program:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("ONNX programs", "onnxruntime", extra="onnx") from None
    encode, decode = (
        onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        for file in (encoder, decoder)
    )

    def encoded(images: Tensor) -> list[Tensor]:
        outputs = encode.run(None, {"images": images.numpy()})
        return [torch.from_numpy(output) for output in outputs]

    def decoded(indices: Sequence[Tensor]) -> Tensor:
        feed = {f"level_{number}": level.numpy() for number, level in enumerate(indices)}
        return torch.from_numpy(decode.run(None, feed)[0])

    return Program(encoded, decoded)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide messages of the exporters about their own internals, such as that torchvision is not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


FORMATS = {"onnx": _Format(_write_onnx, _load_onnx), "pt2": _Format(_write_pt2, _load_pt2)}
"""The formats by name."""
