"""Datasets in the layouts of Hugging Face `datasets`, written without it where that is possible."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from flatvq.data import DataSplit, open_data
from flatvq.recipe import DataRecipe

COUNT = 24


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(folder: Path, files: list[bytes], split: str = "train") -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    columns = {
        "image": [{"bytes": file, "path": None} for file in files],
        "raw": files,
        "label": list(range(len(files))),
    }
    pq.write_table(pa.table(columns), folder / f"{split}-00000.parquet")
    return folder


def write_tar(folder: Path, files: list[bytes]) -> Path:
    folder.mkdir()
    with tarfile.open(folder / "shard-0.tar", "w") as tar:
        for number, file in enumerate(files):
            for suffix, content in (("png", file), ("cls", b"3")):
                member = tarfile.TarInfo(f"{number:04}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


def write_image_folder(folder: Path, files: list[bytes]) -> Path:
    (folder / "train").mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / "train" / f"{number:04}.png").write_bytes(file)
    return folder


def save_to_disk(folder: Path, rows: object) -> Path:
    """Save a `Dataset` or `DatasetDict`, quietly."""
    import datasets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets.disable_progress_bars()
        rows.save_to_disk(folder)
        datasets.enable_progress_bars()
    return folder


def open_dataset(path: Path | str, **changes: object) -> DataSplit:
    keys = {"source": "huggingface", "path": str(path), "crop": 16, "validation_share": 0.25, **changes}
    return open_data(DataRecipe.model_validate(keys))
