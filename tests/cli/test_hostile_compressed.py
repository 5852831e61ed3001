"""Compressed files, names and tokenizers from an attacker."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from tests.cli.hostile import Case, alarm, refused
from tests.codec.tokenizers import image, tokenizer

from flatvq.codec import Codec
from flatvq.codec.container import CodedImage, _varint, pack, read_contents, read_streams
from flatvq.codec.prior import FittedKind
from flatvq.codec.storage import _digest, save_prior
from flatvq.codec.training import encode_images, fit_prior
from flatvq.model import save_tokenizer

KINDS: tuple[FittedKind, ...] = ("table", "network")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tokenizers, one with a prior, and their files."""
    folder = tmp_path_factory.mktemp("originals")
    for name, kind, seed in (("tok", "one level", 0), ("other", "one level", 1), ("parallel", "parallel", 0)):
        model = tokenizer(kind, seed)
        config = {"model": model.recipe.model_dump(mode="json"), "codebook": {}}
        save_tokenizer(folder / name, model, {**config, "preprocess": {"resize": 0, "crop": 32}})
    model = tokenizer()
    pixels = [image(36, 40, number) for number in range(4)]
    encoded = encode_images(model, pixels)
    for kind in KINDS:
        shutil.copytree(folder / "tok", folder / kind)
        save_prior(folder / kind, *fit_prior(model, encoded, kind, contexts=4, steps=2))
    (folder / "one.fvq").write_bytes(Codec(model).compress(pixels[0]))
    (folder / "pictures").mkdir()
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(folder / "pictures" / f"{number}.png")
    return folder


@pytest.fixture
def work(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy the working folder."""
    shutil.copytree(originals, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def sealed(content: bytes) -> bytes:
    return content + zlib.crc32(content).to_bytes(4, "little")


def named(*names: str) -> Callable[[Path], object]:
    """Write a collection with these names, which `pack` would refuse."""

    def write(folder: Path) -> None:
        file = BytesIO((folder / "one.fvq").read_bytes())
        contents = read_contents(file, "one.fvq")
        coded = read_streams(file, contents.entries[0])
        placeholders = [f"{number:06d}" for number in range(len(names))]
        content = pack("none", contents.identity, [coded] * len(names), placeholders)[:-4]
        for placeholder, name in zip(placeholders, names, strict=True):
            stored = name.encode("utf-8", "surrogateescape")
            content = content.replace(
                bytes([len(placeholder)]) + placeholder.encode(), _varint(len(stored)) + stored, 1
            )
        (folder / "x.fvqs").write_bytes(sealed(content))

    return write


def written(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Write a changed file of one image."""
    return lambda folder: (folder / "x.fvq").write_bytes(change((folder / "one.fvq").read_bytes()))


def size(width: int, height: int, stream: bytes) -> Callable[[Path], object]:
    """Write a file whose checksum is right and whose size is not."""
    fields = b"\x01" + _varint(width) + _varint(height) + _varint(len(stream)) + stream
    return written(lambda content: sealed(content[:14] + fields))


ONE, SEVERAL = ("decompress", "tok", "x.fvq"), ("decompress", "tok", "x.fvqs")
FILES = {
    "empty": Case(written(lambda content: b""), ONE, "is not a compressed image"),
    "cut": Case(written(lambda content: content[:-7]), ONE, "checksum"),
    "magic": Case(written(lambda content: b"PNG" + content[3:]), ONE, "is not a compressed image"),
    "too many pixels": Case(size(65_536, 2700, b""), ONE, "an image of 65536 x 2700 pixels"),
    "stream too short": Case(size(4096, 4096, b"\xff" * 10), ONE, "is too short for 1024 x 1024 indices"),
    "no pixels": Case(size(0, 0, b""), ONE, "an image of 0 x 0 pixels"),
    "folder": Case(lambda folder: (folder / "x.fvq").mkdir(), ONE, "is a directory"),
    "FIFO": Case(lambda folder: os.mkfifo(folder / "x.fvq"), ONE, "'x.fvq' is a FIFO"),
    "FIFO to inspect": Case(lambda folder: os.mkfifo(folder / "x.fvq"), ("inspect", "x.fvq"), "is a FIFO"),
    "device": Case(lambda folder: None, ("inspect", "/dev/zero"), "'/dev/zero' is a device"),
    "loop": Case(lambda folder: (folder / "x.fvq").symlink_to("x.fvq"), ONE, "symbolic links"),
    "null in the path": Case(lambda folder: None, ("inspect", "a\0b"), "null"),
    "other tokenizer": Case(
        lambda folder: None, ("decompress", "other", "one.fvq", "-o", "y.png"), "another tokenizer"
    ),
    "below a file": Case(
        lambda folder: None, ("decompress", "tok", "one.fvq", "-o", "one.fvq/y.png"), "is a file"
    ),
    "FIFO as image": Case(
        lambda folder: os.mkfifo(folder / "p.png"), ("compress", "tok", "p.png"), "'p.png' is a FIFO"
    ),
    "device as image": Case(
        lambda folder: None, ("compress", "tok", "/dev/zero", "-o", "y.fvq"), "is a device"
    ),
    "bomb as image": Case(
        lambda folder: Image.new("1", (11_000, 11_000)).save(folder / "b.png"),
        ("compress", "tok", "b.png"),
        "'b.png' cannot be used",
    ),
    "name above": Case(named("../../x"), SEVERAL, "has the part '..'"),
    "folder above": Case(named(".."), SEVERAL, "has the part '..'"),
    "folder as name": Case(named("a/"), SEVERAL, "has the part ''"),
    "name above, Windows": Case(named("..\\x"), SEVERAL, "no file can have"),
    "absolute name": Case(named("/tmp/x"), SEVERAL, "has the part ''"),
    "drive": Case(named("C:x"), SEVERAL, "contains ':'"),
    "line break": Case(named("a\nb"), SEVERAL, r"'a\nb'"),
    "escape sequence": Case(named("a\x1b[31mb"), SEVERAL, r"\x1b"),
    "right to left": Case(named("a\u202egnp.exe"), SEVERAL, r"\u202e"),
    "not UTF-8": Case(named("a\udcff"), SEVERAL, "not UTF-8"),
    "same name": Case(named("a", "a"), SEVERAL, "cannot exist together"),
    "case": Case(named("A", "a"), SEVERAL, "'A' and 'a', which cannot exist together"),
    "case of a folder": Case(named("dogs/x", "Dogs/x"), SEVERAL, "cannot exist together"),
    "accent": Case(named("\u00e9", "e\u0301"), SEVERAL, "cannot exist together"),
    "file and folder": Case(named("a", "a.png/b"), SEVERAL, "cannot exist together"),
    "folder and file": Case(named("a.png/b", "a"), SEVERAL, "cannot exist together"),
    "device name": Case(named("nul"), SEVERAL, "device on Windows"),
    "folder that ends with a dot": Case(named("a./b"), SEVERAL, "ends with a space or a dot"),
    "folder that ends with a space": Case(named("a /b"), SEVERAL, "ends with a space or a dot"),
    "long name": Case(named("x" * 300), SEVERAL, "longer than 255 bytes"),
    "deep name": Case(named("/".join("a" * 2000)), SEVERAL, "more than 32 parts"),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_files(name: str, work: Path, run_flatvq: Any) -> None:
    refused(run_flatvq, FILES[name], work)
    assert [path.name for path in work.parent.iterdir()] == ["work"]


def test_names_that_cannot_be_read_are_not_written(work: Path, run_flatvq: Any) -> None:
    """Two names that some systems do not distinguish, and one that Windows does not allow."""
    content = (work / "pictures" / "0.png").read_bytes()
    for first, second in (("B.png", "b.png"), ("a:b.png", "c.png"), ("line\nbreak.png", "d.png")):
        folder = work / f"of {second}"
        folder.mkdir()
        for name in (first, second):
            (folder / name).write_bytes(content)
        words = ("compress", "tok", str(folder), "-o", "out.fvqs")
        refused(run_flatvq, Case(lambda folder: None, words, "--no-names"), work)
        assert run_flatvq(*words, "--no-names")[0] == 0
        (work / "out.fvqs").unlink()
    # A suffix may tell names apart.
    (work / "pictures" / "0.bmp").write_bytes(content)
    assert run_flatvq("compress", "tok", "pictures", "-o", "all.fvqs")[0] == 0
    with (work / "all.fvqs").open("rb") as file:
        names = [entry.name for entry in read_contents(file, "all.fvqs").entries]
    assert names == ["0.bmp", "0.png", "1", "2", "3"]


def test_long_names_can_be_written(work: Path, run_flatvq: Any) -> None:
    name = "é" * 120
    (work / "pictures" / f"{name}.png").write_bytes((work / "pictures" / "0.png").read_bytes())
    assert run_flatvq("compress", "tok", "pictures", "-o", "all.fvqs")[0] == 0
    assert run_flatvq("decompress", "tok", "all.fvqs", "-o", "out")[0] == 0
    assert (work / "out" / f"{name}.png").is_file()


def config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the config of a tokenizer."""

    def write(folder: Path) -> None:
        tree = json.loads((folder / "tok/config.json").read_text())
        change(tree)
        (folder / "tok/config.json").write_text(json.dumps(tree))

    return write


def replaced(name: str, write: Callable[[Path], object]) -> Callable[[Path], object]:
    """Replace a file of the tokenizer with the prior."""

    def prepare(folder: Path) -> None:
        (folder / "table" / name).unlink()
        write(folder / "table" / name)

    return prepare


def weights(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the weights of a tokenizer."""

    def write(folder: Path) -> None:
        tensors = load_file(folder / "table/model.safetensors")
        change(tensors)
        save_file(tensors, folder / "table/model.safetensors")

    return write


def fill_with_nan(tensors: dict[str, Any], name: str) -> None:
    if tensors[name].dtype == np.float32:
        tensors[name] = np.full_like(tensors[name], np.nan)


def header(content: bytes) -> Callable[[Path], object]:
    """Replace the weights by a header."""
    return replaced(
        "model.safetensors", lambda path: path.write_bytes(struct.pack("<Q", len(content)) + content)
    )


def prior(change: Callable[[dict[str, Any]], object], kind: FittedKind = "table") -> Callable[[Path], object]:
    """Change the integers of the prior of a kind, and its digest."""

    def write(folder: Path) -> None:
        arrays = load_file(folder / kind / "prior.safetensors")
        change(arrays)
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(arrays, folder / kind / "prior.safetensors")
        record = json.loads((folder / kind / "prior.json").read_text())
        record["digest"] = _digest(kind, arrays).hex()
        (folder / kind / "prior.json").write_text(json.dumps(record))

    return write


def filled(name: str, value: int, kind: FittedKind = "table") -> Callable[[Path], object]:
    return prior(lambda arrays: arrays.update({name: np.full_like(arrays[name], value)}), kind)


def resized(name: str, *shape: int) -> Callable[[Path], object]:
    """Replace an array of the network by zeros of another shape."""
    return prior(lambda arrays: arrays.update({name: np.zeros(shape, arrays[name].dtype)}), "network")


def wide_network(arrays: dict[str, Any]) -> None:
    """Describe embeddings of 2,000 dimensions, which fit each other."""
    arrays["0.embeddings"] = np.zeros((1, 31, 2000), np.int8)
    arrays["0.coarser"] = np.zeros((0, 1, 2000), np.int8)
    arrays["0.first"] = np.zeros((2, arrays["0.first"].shape[1], 24, 2000), np.int8)


def many_contexts(arrays: dict[str, Any]) -> None:
    """Describe a million contexts by zeros, whose distances would take 60 GB."""
    count, dim = 10**6, arrays["0.centroids"].shape[3]
    arrays["0.centroids"] = np.zeros((2, 1, count, dim), np.int32)
    arrays["0.groups"] = np.zeros((2, 1, count), np.uint8)
    arrays["0.bounds"] = np.zeros(arrays["0.pass_strengths"].shape[0] * count + 1, np.uint32)
    arrays["0.codes"], arrays["0.occurrences"] = arrays["0.codes"][:0], arrays["0.occurrences"][:0]


def sparse(path: Path) -> None:
    """Write a file that claims a terabyte and takes none."""
    path.touch()
    os.truncate(path, 2**40)


TOK = ("compress", "tok", "pictures/0.png", "-o", "y.fvq")
TABLE = ("compress", "table", "pictures/0.png", "-o", "y.fvq")
NETWORK = ("compress", "network", "pictures/0.png", "-o", "y.fvq")
EMPTY = b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
TOKENIZERS = {
    "nested config": Case(
        replaced("config.json", lambda path: path.write_bytes(b'{"a":' * 100_000)), TABLE, "nested too deeply"
    ),
    "huge config": Case(replaced("config.json", sparse), TABLE, "1,099,511,627,776 bytes, more than"),
    "config as FIFO": Case(replaced("config.json", os.mkfifo), TABLE, "is a FIFO"),
    "config as folder": Case(replaced("config.json", Path.mkdir), TABLE, "cannot read"),
    "format": Case(config(lambda tree: tree.update(format="3\n\x1b[31m")), TOK, "has format"),
    "model": Case(config(lambda tree: tree.update(model=[1])), TOK, "is not a mapping"),
    "wide": Case(config(lambda tree: tree["model"].update(width=65_536)), TOK, "takes"),
    "many codes": Case(
        config(lambda tree: tree["model"]["levels"][0].update(codebook_size=2**62)), TOK, "takes"
    ),
    "many levels": Case(
        config(lambda tree: tree["model"].update(levels=tree["model"]["levels"] * 5000)), TOK, "'levels'"
    ),
    "preprocess": Case(
        config(lambda tree: tree.update(preprocess={"resize": -1})),
        ("encode", "tok", "pictures", "out"),
        "no valid 'preprocess'",
    ),
    "weights as FIFO": Case(replaced("model.safetensors", os.mkfifo), TABLE, "is a FIFO"),
    "weights as device": Case(
        replaced("model.safetensors", lambda path: path.symlink_to("/dev/zero")), TABLE, "is a device"
    ),
    "huge weights": Case(replaced("model.safetensors", sparse), TABLE, "bytes, more than"),
    "pickle": Case(
        replaced("model.safetensors", lambda path: path.write_bytes(pickle.dumps(print))), TABLE, "damaged"
    ),
    "NaN": Case(
        weights(lambda tensors: [fill_with_nan(tensors, name) for name in list(tensors)]),
        TABLE,
        "NaN",
    ),
    "integers": Case(
        weights(lambda tensors: tensors.update({k: v.astype(np.int32) for k, v in tensors.items()})),
        TABLE,
        "int32",
    ),
    "escape sequence": Case(
        weights(lambda tensors: tensors.update({"a\n\x1b[31m": np.zeros(3, np.float32)})), TABLE, "nothing"
    ),
    "header too long": Case(
        replaced("model.safetensors", lambda path: path.write_bytes(b"\xff" * 8 + b"{}")), TABLE, "damaged"
    ),
    "nested header": Case(header(b'{"a":' + b"[" * 100_000), TABLE, "damaged"),
    "size overflow": Case(
        header(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
        TABLE,
        "damaged",
    ),
    "same tensor twice": Case(header(b"{" + EMPTY + b"," + EMPTY + b"}"), TABLE, "model.safetensors"),
    "other weights": Case(
        lambda folder: shutil.copy(folder / "parallel/model.safetensors", folder / "table"),
        TABLE,
        "the model",
    ),
    "prior of another tokenizer": Case(
        lambda folder: [
            shutil.copy(folder / "table" / name, folder / "other")
            for name in ("prior.json", "prior.safetensors")
        ],
        ("compress", "other", "pictures/0.png", "-o", "y.fvq"),
        "belongs to another tokenizer",
    ),
    "prior as FIFO": Case(replaced("prior.safetensors", os.mkfifo), TABLE, "is a FIFO"),
    "pickled prior": Case(
        replaced("prior.safetensors", lambda path: path.write_bytes(pickle.dumps(print))), TABLE, "damaged"
    ),
    "cut record": Case(replaced("prior.json", lambda path: path.write_text("{")), TABLE, "damaged"),
    "no strength": Case(filled("0.strengths", 0), TABLE, "strengths outside"),
    "codes beyond K": Case(filled("0.codes", 60_000), TABLE, "codes outside"),
    "groups": Case(filled("0.groups", 255), TABLE, "groups outside"),
    "occurrences": Case(filled("0.occurrences", 0), TABLE, "occurrences outside"),
    "falling bounds": Case(
        prior(lambda arrays: arrays.update({"0.bounds": arrays["0.bounds"][::-1]})),
        TABLE,
        "do not fit together",
    ),
    "a million contexts": Case(prior(many_contexts), TABLE, "do not fit together"),
    "table as network": Case(
        lambda folder: shutil.copy(folder / "table/prior.safetensors", folder / "network"),
        NETWORK,
        "no embeddings that fit",
    ),
    "network for fewer codes": Case(resized("0.embeddings", 1, 30, 32), NETWORK, "no embeddings that fit"),
    "network for more inputs": Case(resized("0.first", 2, 128, 25, 32), NETWORK, "no first that fit"),
    "network without embeddings": Case(resized("0.embeddings", 1, 31, 0), NETWORK, "no first that fit"),
    "network without features": Case(resized("0.features", 1, 0, 128), NETWORK, "features_multipliers"),
    "network without groups": Case(resized("0.group_logits", 1, 0, 64), NETWORK, "group_logits_multipliers"),
    "wide network": Case(prior(wide_network, "network"), NETWORK, "a network of 2000 dimensions"),
    "weights of -128": Case(filled("0.first", -128, "network"), NETWORK, "first outside"),
    "large multipliers": Case(filled("0.code_logits_multipliers", 2**31, "network"), NETWORK, "outside"),
    "codes in no group": Case(filled("0.groups", 200, "network"), NETWORK, "groups outside"),
    "all codes in one group": Case(filled("0.groups", 0, "network"), NETWORK, "groups without codes"),
    "missing layers": Case(
        prior(lambda arrays: arrays.pop("0.middle"), "network"), NETWORK, "no middle that fit"
    ),
    "missing tables": Case(prior(lambda arrays: arrays.pop("0.groups")), TABLE, "no groups that fit"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_hostile_tokenizers(name: str, work: Path, run_flatvq: Any) -> None:
    refused(run_flatvq, TOKENIZERS[name], work)


def test_a_decompressed_image_replaces_a_link_and_not_its_target(work: Path, run_flatvq: Any) -> None:
    (work / "mine.txt").write_text("mine")
    (work / "y.png").symlink_to("mine.txt")
    with alarm():
        assert run_flatvq("decompress", "tok", "one.fvq", "-o", "y.png")[0] == 2
        assert run_flatvq("decompress", "tok", "one.fvq", "-o", "y.png", "--force")[0] == 0
    assert (work / "mine.txt").read_text() == "mine"


def test_streams_of_several_images_are_decoded_one_at_a_time(work: Path, run_flatvq: Any) -> None:
    coded = CodedImage(4096, 4096, (b"\xff" * 10,))
    identity = (work / "one.fvq").read_bytes()[6:14]
    (work / "x.fvqs").write_bytes(pack("none", identity, [coded] * 1000, [""] * 1000))
    refused(run_flatvq, Case(lambda folder: None, SEVERAL, "too short for 1024 x 1024"), work)
