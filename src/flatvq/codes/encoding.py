"""Encodes a folder of images or a dataset, or a part of it: opens the images, starts or resumes, and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL
import torch
from pydantic import ValidationError
from torch import nn

from flatvq.codes.arithmetic import ARITHMETIC
from flatvq.codes.encode import Encoder
from flatvq.codes.manifest import (
    CodeManifest,
    ImagesRecord,
    Level,
    Settings,
    Shard,
    TokenizerRecord,
    digest_of,
)
from flatvq.codes.parts import Part
from flatvq.codes.resuming import encode_all, encode_part
from flatvq.codes.shards import ROW_GROUP_SIZE
from flatvq.data import OpenedFolder, open_images
from flatvq.errors import FlatvqError
from flatvq.model.mode import eval_mode
from flatvq.paths import require_no_credentials
from flatvq.quantize.checks import whole_number
from flatvq.recipe import DataRecipe
from flatvq.records.run import FileRecord
from flatvq.staging import created_folder
from flatvq.tokenizers import Preprocess, Tokenizer
from flatvq.tokenizers.outputs import require_description
from flatvq.versions import VERSION

__all__ = ["device_of", "encode_images", "module_of"]


def encode_images(
    tokenizer: Tokenizer,
    images: str | Path,
    out: str | Path,
    *,
    dataset: bool = False,
    split: str = "train",
    image_column: str = "image",
    image_suffix: str = "",
    resize: int | None = None,
    crop: int | None = None,
    white_level: int = 0,
    shard_size: int = 1000,
    batch_size: int = 64,
    part: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CodeManifest:
    """Encode all images of a folder or a dataset to parquet shards, for the training of a generator.

    If a call is killed, repeat it to resume. On the same machine, it then writes the same bytes as an
    undisturbed call. Images are decoded in threads while the tokenizer computes. Computations are in float32.

    Args:
        tokenizer: the tokenizer, on the device to compute on.
        images: a folder of images with its sub-folders; a pattern or URL of .tar or .parquet shards; or, with
            `dataset`, a Hugging Face dataset: a name on the hub or a local folder.
        out: the folder for shards and manifest.json; created if it does not exist.
        dataset: whether `images` is a Hugging Face dataset.
        split: the split of the dataset.
        image_column: the column of the dataset or of parquet shards that holds the images.
        image_suffix: the suffix of the members of tar shards that hold the images, such as `jpg` or
            `rgb.png`; empty for all members that are images.
        resize: pixels of the shorter side after scaling, 0 for no scaling; None for the tokenizer's value.
        crop: side of the centre crop in pixels, 0 for whole images; None for the value of `resize` if it is
            given, otherwise for the tokenizer's value.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.
        shard_size: images of each shard.
        batch_size: images that the tokenizer encodes at a time. It can change the index of a near-tie.
        part: number and count, such as (0, 16) to (15, 16): encode only the shards of this part. A last call
            without `part` then completes manifest.json. Calls for different parts can run at the same time,
            on any hosts that share the disk.
        progress: called with the number of encoded images and the number of all images.

    Returns:
        The content of manifest.json. With `part`, it lists only the shards of this part.

    Raises:
        FlatvqError: if a number is out of its range, no image can be read, the tokenizer returns other
            indices than its levels allow, or `out` holds codes of another tokenizer, other images or other
            settings.
        BusyError: if another process encodes the same images, or the same part, into `out`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from flatvq.model import build_vqvae
        >>> from flatvq.recipe import CodebookRecipe, ModelRecipe
        >>> from flatvq.tokenizers import VQVAETokenizer
        >>> model = build_vqvae(ModelRecipe(width=8, residual_width=4), CodebookRecipe()).eval()
        >>> tokenizer = VQVAETokenizer(model, Preprocess(crop=32), {})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (40, 40)).save(f"{folder}/black.png")
        ...     manifest = encode_images(tokenizer, folder, f"{folder}/codes")
        >>> [(shard.name, shard.rows) for shard in manifest.shards]
        [('codes-00000-of-00001.parquet', 1)]
    """
    require_description(tokenizer, f"the tokenizer of type {type(tokenizer).__name__}")
    size = tokenizer.preprocess.with_size(resize, crop)
    shard_size = whole_number("shard_size", shard_size, 1)
    settings = Settings(
        shard_size=shard_size,
        row_group_size=min(ROW_GROUP_SIZE, shard_size),
        batch_size=whole_number("batch_size", batch_size, 1),
        device=device_of(tokenizer).type,
        white_level=whole_number("white_level", white_level, 0, 65_535),
    )
    smallest = size.crop or tokenizer.factor
    if dataset:
        require_no_credentials(str(images))
        if image_suffix:
            what = f"--image-suffix {image_suffix} selects images of shards, not of a dataset"
            raise FlatvqError(what, "leave it out, or give --image-column")
        opened = _open_split(str(images), split, image_column, smallest, size.resize, white_level)
    else:
        opened = open_images(images, smallest, size.resize, white_level, 0, image_column, image_suffix)
    folder = Path(out)
    if folder.exists() and Path(images).exists() and folder.samefile(images):
        raise FlatvqError(f"'{folder}' is the folder of the images", "choose another folder for the codes")
    started = _manifest(tokenizer, size, opened, settings)
    with eval_mode(module_of(tokenizer)), created_folder(folder):

        def encode(manifest: CodeManifest, record: Callable[[Shard], None], shards: Sequence[int]) -> None:
            device = device_of(tokenizer)
            encoder = Encoder(tokenizer, opened.images, size.crop, device, folder, manifest, record)
            encoder.run(shards, {shard.name for shard in manifest.shards}, progress)

        if part is not None:
            return encode_part(folder, started, Part(*part), encode)
        manifest = encode_all(folder, started, encode)
    if not manifest.rows:
        name, reason = manifest.unreadable[0]
        what = f"none of the {manifest.images.count} images can be read, such as '{name}' ({reason})"
        raise FlatvqError(what, "repair the files")
    return manifest


def device_of(tokenizer: Tokenizer) -> torch.device:
    """Return the device of the weights of a tokenizer; the CPU if it has none."""
    return next((weight.device for weight in module_of(tokenizer).parameters()), torch.device("cpu"))


def module_of(tokenizer: Tokenizer) -> nn.Module:
    """Return a tokenizer as a module; an empty module if it is none."""
    return tokenizer if isinstance(tokenizer, nn.Module) else nn.Module()


def _open_split(path: str, split: str, column: str, crop: int, resize: int, white_level: int) -> OpenedFolder:
    from flatvq.data.huggingface import open_split

    # A recipe has no crops below 16 pixels; `open_split` reads the crop as the smallest size alone.
    recipe = DataRecipe(source="huggingface", path=path, split=split, image_column=column, cache_mib=0)
    return open_split(recipe.model_copy(update={"crop": crop, "resize": resize, "white_level": white_level}))


def _tokenizer_record(tokenizer: Tokenizer) -> TokenizerRecord:
    try:
        levels = tuple(
            Level(
                codebook_size=level.codebook_size, factor=level.factor, index_shape=tuple(level.index_shape)
            )
            for level in tokenizer.levels
        )
        return TokenizerRecord(
            id=tokenizer.id, factor=tokenizer.factor, channels=tokenizer.preprocess.channels, levels=levels
        )
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        what = f"the levels of the tokenizer cannot be stored ({place}: {fault['msg']})"
        raise FlatvqError(what, "encode with a tokenizer within these limits") from None


def _manifest(
    tokenizer: Tokenizer, size: Preprocess, opened: OpenedFolder, settings: Settings
) -> CodeManifest:
    import pyarrow as pa

    images = opened.images
    return CodeManifest(
        format=1,
        tokenizer=_tokenizer_record(tokenizer),
        preprocess=size.to_dict(),
        arithmetic=ARITHMETIC,
        images=ImagesRecord(
            count=len(images),
            fingerprint=images.fingerprint,
            names=digest_of("\n".join(images.names).encode()),
        ),
        settings=settings,
        versions={
            "flatvq": VERSION,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "pyarrow": pa.__version__,
        },
        files=tuple(
            FileRecord(**asdict(file)) for file in opened.file_statuses if file.status != "converted"
        ),
    )
