"""Shards of given files: tar in the layout of WebDataset, and parquet."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from flatvq.data import DataSplit, open_data
from flatvq.recipe import DataRecipe

Members = Sequence[tuple[str, bytes]]


def tar_bytes(members: Members) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, file in members:
            member = tarfile.TarInfo(name)
            member.size = len(file)
            archive.addfile(member, io.BytesIO(file))
    return content.getvalue()


def named(files: Sequence[bytes], first: int = 0) -> list[tuple[str, bytes]]:
    """Return members of images and labels."""
    members = []
    for number, file in enumerate(files, start=first):
        members += [(f"{number:04}.cls", b"3"), (f"{number:04}.png", file)]
    return members


def parquet_bytes(files: Sequence[bytes], rows: int = 5, structures: bool = True) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": file, "path": None} for file in files] if structures else list(files)
    content = io.BytesIO()
    table = pa.table({"label": list(range(len(files))), "image": cells})
    pq.write_table(table, content, row_group_size=rows)
    return content.getvalue()


def write_tars(folder: Path, files: Sequence[bytes], each: int = 10) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(files), each)):
        content = tar_bytes(named(files[start : start + each], start))
        (folder / f"train-{number:03}.tar").write_bytes(content)
    return folder


def write_parquets(folder: Path, files: Sequence[bytes], each: int = 10) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(files), each)):
        (folder / f"train-{number:03}.parquet").write_bytes(parquet_bytes(files[start : start + each]))
    return folder


def open_shards(path: Path | str, **changes: object) -> DataSplit:
    keys = {"source": "shards", "path": str(path), "crop": 16, "validation_share": 0.25, **changes}
    return open_data(DataRecipe.model_validate(keys))
