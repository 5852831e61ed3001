"""Decodes the codes of a folder to PNG files."""

from __future__ import annotations

import hashlib
import re
import sys
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
from flatvq.codes.encoding import device_of, module_of
from flatvq.codes.manifest import NAME, CodeManifest
from flatvq.codes.row_groups import read_keys, read_row_group, row_groups_of
from flatvq.codes.shards import Row
from flatvq.data.survey import decoding_threads
from flatvq.errors import FlatvqError
from flatvq.evaluate.fidelity import as_stored
from flatvq.model.mode import eval_mode
from flatvq.paths import clash
from flatvq.quantize.checks import whole_number
from flatvq.tokenizers import Tokenizer
from flatvq.tokenizers.outputs import decoded

__all__ = ["decode_codes"]

# Of paths of images: what file systems allow, and more folders than data sets have.
_LONGEST_BYTES, _DEEPEST = 255, 100
# A batch of larger images takes as much memory as one of this size.
_USUAL_PIXELS = 512 * 512


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
        FlatvqError: if the codes belong to another tokenizer or are incomplete or damaged, a key is not a
            relative path inside of `out`, or two images have the same path.

    Example:
        >>> from flatvq.tokenizers import load
        >>> decode_codes(load("flatvq-f4"), "nowhere", "images")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no manifest.json in 'nowhere': give a folder that `flatvq encode` wrote
    """
    batch_size = whole_number("batch_size", batch_size, 1)
    source, target = Path(codes), Path(out)
    manifest = complete_manifest(source)
    if target.exists() and target.samefile(source):
        raise FlatvqError(f"'{target}' is the folder of the codes", "choose another folder for the images")
    if tokenizer.id != manifest.tokenizer.id:
        what = f"the codes in '{source}' are of tokenizer {manifest.tokenizer.id[:12]}"
        raise FlatvqError(
            f"{what}, and this one is {tokenizer.id[:12]}", "give the tokenizer that encoded them"
        )
    if manifest.tokenizer_levels != tokenizer.levels or manifest.tokenizer.factor != tokenizer.factor:
        what = f"'{source / NAME}' describes other levels than those of its tokenizer"
        raise FlatvqError(what, "encode the images again, into another folder")
    require_float32(tokenizer)
    _require_paths(source, manifest)
    device, done = device_of(tokenizer), 0
    rows = chain.from_iterable(read_row_group(source, group, manifest) for group in row_groups_of(manifest))
    progress(0, manifest.rows)
    with (
        ThreadPoolExecutor(decoding_threads(), thread_name_prefix="flatvq-png") as pool,
        eval_mode(module_of(tokenizer)),
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
    """Group consecutive images of one size, fewer of them if they are large."""
    for (height, width), group in groupby(rows, key=lambda row: (row.height, row.width)):
        fitting = max(1, min(batch_size, batch_size * _USUAL_PIXELS // (height * width)))
        while batch := list(islice(group, fitting)):
            yield batch


def _decoded(tokenizer: Tokenizer, batch: list[Row], device: torch.device) -> Tensor:
    """Return 8-bit images, uint8 [B, H, W, C]."""
    levels = [
        torch.stack([torch.from_numpy(row.levels[number].astype("int64")) for row in batch]).to(device)
        for number in range(len(batch[0].levels))
    ]
    height, width = batch[0].height, batch[0].width
    below, right = -height % tokenizer.factor, -width % tokenizer.factor
    images = decoded(tokenizer, levels, height + below, width + right)[:, :, :height, :width]
    return as_stored(images).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def _require_paths(source: Path, manifest: CodeManifest) -> None:
    """Check all keys before the first image is written."""
    keys = (key for group in row_groups_of(manifest) for key in read_keys(source, group, manifest))
    # The file systems of these systems do not distinguish all names.
    fold = sys.platform in ("win32", "darwin")
    if pair := clash((str(_path_of(key)) for key in keys), fold=fold):
        what = f"the images {pair[0]!r} and {pair[1]!r} cannot exist together"
        raise FlatvqError(what, "rename one of the images, and encode again")


def _path_of(key: str) -> PurePosixPath:
    """Return the path of an image inside the folder of images."""
    path = PurePosixPath(f"{key}.png")
    parts = re.split(r"[/\\]", key)
    if not key or path.is_absolute() or ".." in parts or PureWindowsPath(key).drive:
        what = f"key {key!r} is not a path inside of the folder"
    elif not key.isprintable():
        what = f"key {key!r} has characters that are not printable"
    elif len(parts) > _DEEPEST:
        what = f"key {key!r} has more than {_DEEPEST} parts"
    elif max(len(part.encode()) for part in path.parts) > _LONGEST_BYTES:
        what = f"key {key!r} has a part of more than {_LONGEST_BYTES - len('.png')} bytes"
    else:
        return path
    raise FlatvqError(what, "rename the image, and encode again")


def _write(path: Path, pixels: Tensor) -> None:
    array = pixels.numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    # A reader never sees a part of an image. The name of the image may be as long as file systems allow.
    digest = hashlib.blake2b(path.name.encode(), digest_size=8).hexdigest()
    partial = path.with_name(f".{digest}.partial")
    try:
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(partial, "PNG")
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
