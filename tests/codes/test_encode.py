"""Encoding a data set: what the shards hold, how they are divided, and what a resumed encoding accepts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import flatvq
from flatvq.codes import encode_images
from flatvq.codes.arithmetic import float32_arithmetic
from flatvq.codes.encode import Encoder
from flatvq.codes.shards import Row, shard_bytes
from flatvq.errors import FlatvqError
from flatvq.tokenizers import TokenizerLevel

from .conftest import write_pictures


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Read all shards with pyarrow alone."""
    paths = sorted(folder.glob("*.parquet"))
    return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def names_of(pictures: Path) -> list[str]:
    files = [path for path in pictures.rglob("*") if path.is_file()]
    return sorted(path.relative_to(pictures).as_posix() for path in files)


def as_tensor(pixels: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(pixels.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rows_hold_the_indices_of_each_image(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    manifest = encode_images(tokenizer, pictures, tmp_path / "out", shard_size=10, batch_size=4)
    assert [shard.rows for shard in manifest.shards] == [10, 10, 3]
    assert sorted(bytes_of(tmp_path / "out")) == [
        *(f"codes-{number:05d}-of-00003.parquet" for number in range(3)),
        "manifest.json",
    ]
    rows = rows_of(tmp_path / "out")
    assert [row["key"] for row in rows] == names_of(pictures)
    for row in rows:
        with Image.open(pictures / row["key"]) as image:
            left, top = (image.width - 32) // 2, (image.height - 32) // 2
            crop = image.convert("RGB").crop((left, top, left + 32, top + 32))
        assert (row["width"], row["height"]) == (32, 32)
        bottom, residual = tokenizer.encode(as_tensor(crop))
        assert row["level_0"] == bottom.flatten().tolist()
        assert row["level_1"] == residual.flatten().tolist()


def test_whole_images_are_extended_to_multiples_of_the_factor(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    encode_images(tokenizer, pictures, tmp_path / "out", crop=0, batch_size=1)
    for row in rows_of(tmp_path / "out"):
        with Image.open(pictures / row["key"]) as image:
            assert (row["width"], row["height"]) == image.size
            pixels = np.array(image.convert("RGB"))
        below, right = -pixels.shape[0] % 8, -pixels.shape[1] % 8
        padded = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
        indices = tokenizer.encode(as_tensor(Image.fromarray(padded)))
        assert [row["level_0"], row["level_1"]] == [level.flatten().tolist() for level in indices]


def test_size_scales_and_crops(tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path) -> None:
    manifest = encode_images(tokenizer, pictures, tmp_path / "out", resize=16)
    assert manifest.preprocess == {
        "resize": 16,
        "crop": 16,
        "channels": 3,
        "range": [-1.0, 1.0],
        "interpolation": "bicubic",
    }
    with Image.open(pictures / "000.jpg") as image:
        scaled = image.convert("RGB").resize((round(50 * 16 / 41), 16), Image.Resampling.BICUBIC)
    left = (scaled.width - 16) // 2
    (bottom, _) = tokenizer.encode(as_tensor(scaled.crop((left, 0, left + 16, 16))))
    assert rows_of(tmp_path / "out")[0]["level_0"] == bottom.flatten().tolist()


def test_the_manifest_says_what_made_the_codes(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "zz.jpg").write_bytes(b"\xff\xd8\xff no image")
    (pictures / "notes.txt").write_text("no image")
    encode_images(tokenizer, pictures, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["tokenizer"]["id"] == tokenizer.id
    assert [level["index_shape"] for level in manifest["tokenizer"]["levels"]] == [[], [2]]
    assert manifest["arithmetic"] == "float32"
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["images"]["count"] == 23
    assert {file["status"]: file["name"] for file in manifest["files"]} == {
        "unreadable": "zz.jpg",
        "skipped": "*.txt (1 file)",
    }


def test_an_image_that_breaks_later_has_no_row(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    intact = (pictures / "010.jpg").read_bytes()
    (pictures / "010.jpg").write_bytes(intact[:-60])  # the header is intact
    manifest = encode_images(tokenizer, pictures, tmp_path / "out", shard_size=10)
    assert [shard.rows for shard in manifest.shards] == [9, 10, 3]
    assert [name for name, _ in manifest.unreadable] == ["010.jpg"]
    assert [row["key"] for row in rows_of(tmp_path / "out")] == [
        name for name in names_of(pictures) if name != "010.jpg"
    ]


def test_no_readable_image_is_an_error(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    intact = (pictures / "010.jpg").read_bytes()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(intact[:-60])
    with pytest.raises(FlatvqError, match=r"none of the 1 images can be read, such as 'a\.jpg'"):
        encode_images(tokenizer, tmp_path / "broken", tmp_path / "out")


def test_only_missing_and_damaged_shards_are_encoded(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    encode_images(tokenizer, pictures, out, shard_size=5)
    undisturbed = bytes_of(out)
    (out / "codes-00001-of-00005.parquet").unlink()
    (out / "codes-00003-of-00005.parquet").write_bytes(b"PAR1 damaged")
    written = []
    write = Encoder._write

    def record(self: Encoder, number: int, rows: Any) -> None:
        written.append(number)
        write(self, number, rows)

    monkeypatch.setattr(Encoder, "_write", record)
    shown: list[tuple[int, int]] = []
    encode_images(tokenizer, pictures, out, shard_size=5, progress=lambda *counts: shown.append(counts))
    assert written == [1, 3]
    assert shown[0] == (13, 23)
    assert shown[-1] == (23, 23)
    assert bytes_of(out) == undisturbed


def test_a_finished_encoding_is_not_repeated(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_images(tokenizer, pictures, tmp_path / "out")
    monkeypatch.setattr(tokenizer, "encode", None)
    assert encode_images(tokenizer, pictures, tmp_path / "out").complete


def test_a_resumed_encoding_with_other_inputs_is_refused(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    encode_images(tokenizer, pictures, out, shard_size=10)
    before = bytes_of(out)

    def refused(**options: Any) -> str:
        with pytest.raises(FlatvqError) as error:
            encode_images(tokenizer, **{"images": pictures, "out": out, "shard_size": 10, **options})
        assert bytes_of(out) == before
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "settings shard_size 10, now 11" in refused(shard_size=11)
    assert "settings batch_size 64, now 8" in refused(batch_size=8)
    assert "preprocess crop 32, now 40" in refused(crop=40)
    write_pictures(tmp_path / "others", 23, seed=1)
    assert "images fingerprint" in refused(images=tmp_path / "others")
    (pictures / "000.jpg").rename(pictures / "0.jpg")
    assert "images names" in refused()
    (pictures / "0.jpg").rename(pictures / "000.jpg")
    with torch.no_grad():
        tokenizer.state_dict()["decoders.0.trunk.0.bias"][0] += 1
    assert "tokenizer id" in refused()


def test_shards_without_a_manifest_are_not_overwritten(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    encode_images(tokenizer, pictures, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(FlatvqError, match=r"holds codes-00000-of-00001\.parquet and no manifest\.json"):
        encode_images(tokenizer, pictures, tmp_path / "out")


def test_weights_of_another_format_are_refused(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(FlatvqError, match=r"is bfloat16, which changes indices: convert the tokenizer"):
        encode_images(tokenizer.bfloat16(), pictures, tmp_path / "out")


def test_autocast_of_the_caller_changes_nothing(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path
) -> None:
    encode_images(tokenizer, pictures, tmp_path / "a")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encode_images(tokenizer.train(), pictures, tmp_path / "b")
    assert tokenizer.training
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_reduced_precision_of_products_is_off_while_encoding() -> None:
    matmul = torch.backends.mkldnn.matmul
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # bfloat16 where a processor accelerates it
    try:
        with float32_arithmetic(torch.device("cpu")):
            assert matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "bf16"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_error_of_the_tokenizer_ends_all_threads(
    tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    def fail(images: torch.Tensor) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(tokenizer, "encode", fail)
    with pytest.raises(RuntimeError, match="broken"):
        encode_images(tokenizer, pictures, tmp_path / "out", batch_size=1)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("flatvq")] == []


class Wrong(flatvq.Tokenizer):
    """A tokenizer that returns indices that its levels do not allow."""

    levels = (TokenizerLevel(codebook_size=4, factor=2),)
    preprocess = flatvq.Preprocess(crop=16)

    def __init__(self, side: int, value: int) -> None:
        self.side, self.value = side, value

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.full((len(images), self.side, 8), self.value),)

    def decode(self, indices: Any) -> torch.Tensor:
        raise NotImplementedError

    def inference_tensors(self) -> dict[str, torch.Tensor]:
        return {}


@pytest.mark.parametrize(("side", "value"), [(7, 0), (8, 4), (8, -1)])
def test_indices_outside_of_the_levels_are_refused(
    pictures: Path, tmp_path: Path, side: int, value: int
) -> None:
    with pytest.raises(FlatvqError, match=r"not \[.*8, 8\] below 4: correct its levels"):
        encode_images(Wrong(side, value), pictures, tmp_path / "out")


def test_large_codebooks_are_stored_in_32_bits(tmp_path: Path) -> None:
    grid = np.array([[0, 65_536], [70_000, 99_999]])
    rows = [Row("a", 8, 8, (grid, grid % 7))]
    levels = [TokenizerLevel(100_000, 4), TokenizerLevel(65_536, 4)]
    (tmp_path / "a.parquet").write_bytes(shard_bytes(rows, levels, 64))
    table = pq.read_table(tmp_path / "a.parquet")
    assert [str(kind) for kind in table.schema.types[3:]] == [
        "list<element: uint32>",
        "list<element: uint16>",
    ]
    assert table["level_0"].to_pylist() == [[0, 65_536, 70_000, 99_999]]


@pytest.mark.slow
def test_a_grid_of_photographs_takes_few_bytes(imagenet_sample: Path, tmp_path: Path) -> None:
    """The nominal size of 64 x 64 indices below 2,435 is 5,760 bytes, and that of 16-bit integers 8,192."""
    folder = Path(__file__).parents[2] / "results/evaluation/models/single-seed-10"
    chosen = tmp_path / "photographs"
    chosen.mkdir()
    for path in sorted(imagenet_sample.rglob("*.*"))[::20]:
        (chosen / path.name).write_bytes(path.read_bytes())
    manifest = encode_images(flatvq.load(folder), chosen, tmp_path / "out", resize=256)
    assert manifest.rows > 10
    assert sum(shard.bytes for shard in manifest.shards) / manifest.rows <= 5_600


KILLED = """
import os, signal, sys
from pathlib import Path
import flatvq, pyarrow.parquet, torch  # what a child needs is imported once
from flatvq.codes import encode_images

torch.set_num_threads(1)
model, pictures, place = sys.argv[1:]
tokenizer = flatvq.load(model)

def encode(out, fatal=0):
    # Encode in a child. It is killed before the write, sync or rename of number `fatal`.
    child = os.fork()
    if not child:
        if fatal:
            calls = 0
            def dying(function):
                def call(*arguments, **options):
                    nonlocal calls
                    calls += not str(arguments[0]).rpartition("/")[2].startswith(".owner.json")  # heartbeats
                    if calls == fatal:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*arguments, **options)
                return call
            os.fsync, Path.replace = dying(os.fsync), dying(Path.replace)
        encode_images(tokenizer, pictures, out, shard_size=9, batch_size=4)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert encode(f"{place}/undisturbed") == 0
ends = []
for fatal in range(1, 100):
    out = f"{place}/killed-{fatal}"
    ends.append(encode(out, fatal))
    if ends[-1] == 0:
        break
    if fatal % 3 == 0:
        encode(out, 8)  # killed again, after one more shard
    assert encode(out) == 0
print(*ends)
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_encoding_ends_with_the_same_bytes(
    tokenizer_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(tokenizer_folder), str(pictures), str(tmp_path)]
    ends = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    # Of the first manifest and of three shards, each with a manifest: two syncs and a rename each.
    assert ends == ["-9"] * 21 + ["0"]
    undisturbed = bytes_of(tmp_path / "undisturbed")
    assert len(undisturbed) == 4
    for fatal in range(1, 22):
        assert bytes_of(tmp_path / f"killed-{fatal}") == undisturbed
