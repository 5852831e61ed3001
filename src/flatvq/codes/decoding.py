"""Decodes the codes of a folder to PNG files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, groupby, islice
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from PIL import Image
from torch import Tensor

from flatvq.codes.arithmetic import float32_arithmetic, require_float32
from flatvq.codes.dataset import complete_manifest
from flatvq.codes.encoding import device_of
from flatvq.codes.row_groups import read_row_group, row_groups_of
from flatvq.codes.shards import Row
from flatvq.data.manifest import decoding_threads
from flatvq.errors import FlatvqError
from flatvq.evaluate.fidelity import as_stored
from flatvq.tokenizers import Tokenizer

__all__ = ["decode_codes"]


def decode_codes(
    tokenizer: Tokenizer,
    codes: str | Path,
    out: str | Path,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Decode all codes of a folder to PNG files.

    Args:
        tokenizer: the tokenizer that encoded the images.
        codes: the folder that `encode_images` wrote.
        out: the folder for the images; created if it does not exist. An image is named by its key, with
            `.png` appended.
        batch_size: images that the tokenizer decodes at a time.
        progress: called with the number of decoded images and of all images.

    Returns:
        The number of images.

    Raises:
        FlatvqError: if the codes are those of another tokenizer, incomplete or damaged, or a key is not a
            relative path inside of `out`.
    """
    source, target = Path(codes), Path(out)
    manifest = complete_manifest(source)
    if tokenizer.id != manifest.tokenizer.id:
        what = f"the codes in '{source}' are of tokenizer {manifest.tokenizer.id[:12]}"
        raise FlatvqError(
            f"{what}, and this one is {tokenizer.id[:12]}", "give the tokenizer that encoded them"
        )
    require_float32(tokenizer)
    device, done = device_of(tokenizer), 0
    rows = chain.from_iterable(read_row_group(source, group, manifest) for group in row_groups_of(manifest))
    progress(0, manifest.rows)
    with (
        ThreadPoolExecutor(decoding_threads(), thread_name_prefix="flatvq-png") as pool,
        torch.inference_mode(),
        float32_arithmetic(device),
    ):
        pending: deque[Future[None]] = deque()
        for batch in _batches(rows, batch_size):
            for row, pixels in zip(batch, _decoded(tokenizer, batch, device), strict=True):
                pending.append(pool.submit(_write, target / _path_of(row.key), pixels))
            while len(pending) > 2 * batch_size:
                pending.popleft().result()
            done += len(batch)
            progress(done, manifest.rows)
        for future in pending:
            future.result()
    return done


def _batches(rows: Iterator[Row], batch_size: int) -> Iterator[list[Row]]:
    """Group consecutive images of one size."""
    for _, group in groupby(rows, key=lambda row: (row.height, row.width)):
        while batch := list(islice(group, batch_size)):
            yield batch


def _decoded(tokenizer: Tokenizer, batch: list[Row], device: torch.device) -> Tensor:
    """Return 8-bit images, uint8 [B, H, W, C]."""
    levels = [
        torch.stack([torch.from_numpy(row.levels[number].astype("int64")) for row in batch]).to(device)
        for number in range(len(batch[0].levels))
    ]
    images = tokenizer.decode(levels)[:, :, : batch[0].height, : batch[0].width]
    return as_stored(images).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def _path_of(key: str) -> PurePosixPath:
    """Return the path of an image inside the folder of images."""
    path = PurePosixPath(f"{key}.png")
    if not key or path.is_absolute() or ".." in path.parts or PureWindowsPath(key).drive or "\0" in key:
        raise FlatvqError(
            f"key {key!r} is not a path inside of the folder", "rename the image, and encode again"
        )
    return path


def _write(path: Path, pixels: Tensor) -> None:
    array = pixels.numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")  # a reader never sees a part of an image
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(partial, "PNG")
    partial.replace(path)
