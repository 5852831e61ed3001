"""Archives and folders of shards as other programs write them: nothing in them is left out unnoticed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.data.shard_files import tar_bytes

from flatvq.data import open_images
from flatvq.data.conversion import Conversion
from flatvq.data.shard import Shard
from flatvq.data.shard_files import ShardFiles
from flatvq.data.shard_index import index_shards
from flatvq.data.shard_list import list_shards
from flatvq.errors import FlatvqError


def png(seed: int) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def names(place: Path | str) -> list[str]:
    return [shard.name for shard in list_shards(str(place), "data.path")]


def test_archives_that_were_joined_are_refused(tmp_path: Path) -> None:
    """Of `cat a.tar b.tar`, tar and Python read the first alone."""
    first, second = tar_bytes([("a.png", png(0))]), tar_bytes([("b.png", png(1))])
    (tmp_path / "both.tar").write_bytes(first + second)
    end = tarfile.BLOCKSIZE + -(-len(png(0)) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    with pytest.raises(FlatvqError, match=rf"both\.tar' cannot be read \(it goes on after its end at {end} "):
        open_images(tmp_path / "both.tar", crop=16)
    (tmp_path / "one.tar").write_bytes(first + bytes(2**20))
    assert open_images(tmp_path / "one.tar", crop=16).images.names == ("one.tar/a.png",)


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_to_images_are_listed(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(200):  # so that one link is not too many
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(png(number % 2))
            archive.addfile(member, io.BytesIO(png(number % 2)))
        for name in ("link.png", "link.txt"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "0.png"
            archive.addfile(member)
    opened = open_images(tmp_path / "a.tar", crop=16)
    assert len(opened.images) == 200
    (listed,) = opened.file_statuses
    assert (listed.name, listed.status, listed.reason) == ("a.tar/link.png", "unreadable", "a link")
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        archive.addfile(member.replace(name="only.png"))
    with pytest.raises(FlatvqError) as refused:
        open_images(tmp_path / "links.tar", crop=16)
    assert "tar --dereference --hard-dereference" in refused.value.remedy


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_of_a_folder_has_the_images_of_the_folder(form: int, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    long = "long" * 40 + ".png"
    files = ["a.PNG", "cats/b.png", f"cats/{long}", "cats/.hidden.png", "__MACOSX/c.png", "._a.png"]
    for number, name in enumerate(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    with tarfile.open(tmp_path / "images.tar", "w", format=form) as archive:
        archive.add(folder / "._a.png", "./._a.png")
        for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*")):
            if (folder / name).is_file() and not (form == tarfile.USTAR_FORMAT and long in name):
                archive.add(folder / name, f"./{name}")
    if form == tarfile.USTAR_FORMAT:  # names have at most 100 bytes
        (folder / "cats" / long).unlink()
    opened, expected = open_images(tmp_path / "images.tar", crop=16), open_images(folder, crop=16)
    assert opened.images.names == tuple(f"images.tar/{name}" for name in expected.images.names)
    assert opened.images.fingerprint == expected.images.fingerprint
    assert [each.name for each in opened.file_statuses] == ["hidden (2 entries)"]


def test_a_sparse_member_matters_only_if_it_is_an_image(tmp_path: Path) -> None:
    sparse = {"GNU.sparse.map": "0,4", "GNU.sparse.size": "1000000"}
    for name in ("index.bin", "b.png"):
        with tarfile.open(tmp_path / f"{name}.tar", "w", format=tarfile.PAX_FORMAT) as archive:
            for each, content, headers in (
                ("a.png", png(0), {}),
                (name, b"data", sparse),
                ("c.png", png(1), {}),
            ):
                member = tarfile.TarInfo(each)
                member.size, member.pax_headers = len(content), headers
                archive.addfile(member, io.BytesIO(content))
    assert open_images(tmp_path / "index.bin.tar", crop=16).images.names[1] == "index.bin.tar/c.png"
    (listed,) = open_images(tmp_path / "b.png.tar", crop=16).file_statuses
    assert (listed.name, listed.reason) == ("b.png.tar/b.png", "stored as a sparse file")


def test_a_folder_is_listed_as_people_see_it(tmp_path: Path) -> None:
    for name in (
        "b.TAR",
        "a.tar",
        "._a.tar",
        ".cache/c.tar",
        "d.parquet/part-0.parquet",
        "d.parquet/_SUCCESS",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(tar_bytes([("x.png", png(0))]))
    assert names(tmp_path) == ["a.tar", "b.TAR", "d.parquet/part-0.parquet"]
    assert names(f"{tmp_path}/*") == ["a.tar", "b.TAR", "d.parquet/part-0.parquet"]
    assert names(f"{tmp_path}/*.parquet") == names(tmp_path / "d.parquet") == ["part-0.parquet"]
    assert names(f"{tmp_path}/._*.tar") == ["._a.tar"]
    assert open_images(tmp_path / "b.TAR", crop=16).images.names == ("b.TAR/x.png",)


@pytest.mark.parametrize("name", ["b.tar.gz", "b.TGZ", "b.tar.zst"])
def test_a_compressed_archive_is_not_left_out(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes([("x.png", png(0))]))
    (tmp_path / name).write_bytes(b"")
    for place in (str(tmp_path), f"{tmp_path}/*", str(tmp_path / name)):
        with pytest.raises(FlatvqError, match=rf"{name}' is compressed.*: decompress it"):
            names(place)
    assert names(f"{tmp_path}/*.tar") == ["a.tar"]


def test_a_file_has_one_name_as_a_path_and_as_a_url(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"")
    assert names(f"{{{tmp_path},file://{tmp_path}}}/a.tar") == ["a.tar"]
    with fsspec.open("memory://odd-shards/a.tar", "wb"):
        pass
    with pytest.raises(FlatvqError, match="names files and URLs"):
        names(f"{{{tmp_path},memory://odd-shards}}/a.tar")


def test_the_memory_of_a_request_includes_what_is_between_the_images(tmp_path: Path, monkeypatch) -> None:
    members = [
        (f"{n}.{kind}", png(n) if kind == "png" else bytes(99_000))
        for n in range(90)
        for kind in ("png", "npy")
    ]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    (shard,) = list_shards(str(tmp_path), "data.path")
    index = index_shards("a", [shard], "image", "png", Conversion(16), "")
    files = ShardFiles([shard], index.manifest, "image", memory_mib=64)
    sizes: list[int] = []
    read = Shard.read

    def recorded(shard: Shard, start: int, stop: int) -> bytes:
        sizes.append(stop - start)
        return read(shard, start, stop)

    monkeypatch.setattr(Shard, "read", recorded)
    requests = files._requests(np.random.default_rng(0).permutation(90)[:80])
    assert len(requests) == 3
    for request in requests:
        sizes.clear()
        contents = files._read(request.rows)
        assert request.nbytes >= sum(sizes) + sum(map(len, contents.values()))
        assert request.nbytes <= 5 * 2**20, "a block of 4 MiB"


@pytest.mark.parametrize("structures", [False, True])
def test_a_row_group_of_several_chunks_is_read(structures: bool, tmp_path: Path, monkeypatch) -> None:
    """Of more than 2 GiB, pyarrow makes several chunks, which cannot be joined."""
    cells = [{"bytes": png(seed), "path": None} if structures else png(seed) for seed in range(5)]
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    expected = open_images(tmp_path / "a.parquet", crop=16).images.digests
    read = pq.ParquetFile.read_row_group

    def in_chunks(self, *args, **kwargs) -> pa.Table:
        table = read(self, *args, **kwargs)
        return pa.concat_tables([table.slice(0, 2), table.slice(2)])

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", in_chunks)
    assert open_images(tmp_path / "a.parquet", crop=16).images.digests == expected


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array([png(0)]), pa.array([png(1)])], names=["image", "image"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(FlatvqError, match=r"has several columns 'image'"):
        open_images(tmp_path / "a.parquet", crop=16)
