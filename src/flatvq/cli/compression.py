"""The commands for compressed images: which files they read and write, and what they print."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from PIL import Image

from flatvq.cli.contents import described
from flatvq.cli.folders import writable_file
from flatvq.cli.progress import task_progress
from flatvq.codec import Codec, load_codec, read_contents
from flatvq.codec.container import Contents, Entry, read_streams
from flatvq.codec.names import SUFFIX, require_names
from flatvq.codec.prior import FittedKind
from flatvq.codec.storage import PriorRecord, has_prior, save_prior
from flatvq.codec.training import encode_images, fit_prior, require_small_codebooks
from flatvq.data import FileStatus, open_folder
from flatvq.data.conversion import Conversion, Rejected
from flatvq.data.decoding import decode
from flatvq.data.stand_in import load_exactly
from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError
from flatvq.files import write_bytes
from flatvq.model import load_tokenizer, tokenizer_folder
from flatvq.paths import expanded, same_name
from flatvq.regular import open_regular
from flatvq.staging import adding_files
from flatvq.tokenizers.pretrained import pretrained_folder

__all__ = ["compress_files", "decompress_file", "description_of", "fit_to_folder"]

_ONE, _SEVERAL = ".fvq", ".fvqs"
# The smallest side that images are enlarged to: with 1, they keep their size.
_ANY_SIZE = 1


def compress_files(
    tokenizer: Path,
    paths: Sequence[Path],
    out: Path | None,
    *,
    prior: bool,
    names: bool,
    replace: bool,
    echo: Callable[[str], None],
) -> None:
    """Compress images and folders of images to one file.

    Args:
        tokenizer: folder of the tokenizer or of a run.
        paths: the images and folders.
        out: the file; None for a name that follows from the images.
        prior: whether to use the prior of the tokenizer.
        names: whether to store names in a collection.
        replace: whether to replace the file if it exists.
        echo: prints a line.
    """
    sources = [expanded(path) for path in paths]
    single = len(sources) == 1 and not sources[0].is_dir() and (out is None or out.suffix != _SEVERAL)
    target = out or _default_target(sources, single)
    if target.suffix != (_ONE if single else _SEVERAL):
        kinds = f"{_ONE} for one image, {_SEVERAL} for several"
        raise FlatvqError(
            f"the name '{target}' does not end with {_ONE if single else _SEVERAL}", f"use {kinds}"
        )
    _require_absent(target, replace, sources)
    writable_file(target, "images.fvqs")
    codec = load_codec(tokenizer, prior=prior)
    if single:
        content = codec.compress(_pixels_of(sources[0]))
    else:
        images, statuses = _listed(sources)
        for status in statuses:
            echo(f"{status.status}: {status.name}: {status.reason}")
        with task_progress("compressing", len(images), "images") as progress:
            content = codec.compress_collection(_named(images, names, progress))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, content)
    description = described(target, read_contents(io.BytesIO(content), f"'{target}'"))
    echo(
        f"{target}: {len(content):,} bytes, {description['bits_per_pixel']:.4f} bits per pixel, "
        f"prior: {description['prior']}"
    )


def decompress_file(
    tokenizer: Path, path: Path, out: Path | None, *, replace: bool, echo: Callable[[str], None]
) -> None:
    """Decompress a file to PNG images. If one of them cannot be decompressed or written, none is left.

    Args:
        tokenizer: folder of the tokenizer or of a run.
        path: the file.
        out: the PNG file or the folder to write; None for a name that follows from the file.
        replace: whether to replace images that exist.
        echo: prints a line.
    """
    codec = load_codec(tokenizer)
    with _opened(path) as file:
        contents = codec.open(file, f"'{path}'")
        folder, targets = _targets(path, contents, out, replace)
        for target in targets:
            _require_absent(target, replace, [path])
            writable_file(target, "decoded.png")
        with (
            task_progress("decompressing", len(targets), "images") as progress,
            adding_files(folder) as stage,
        ):
            for done, (entry, target) in enumerate(zip(contents.entries, targets, strict=True), start=1):
                image = stage / target.relative_to(folder)
                image.parent.mkdir(parents=True, exist_ok=True)
                image.write_bytes(_png(_decoded(codec, contents, entry, file, path)))
                progress(done, len(targets))
    echo(f"{targets[0]}" if len(targets) == 1 else f"{len(targets)} images from {path}")


def description_of(path: Path) -> dict[str, Any]:
    """Describe a file, without a tokenizer."""
    with _opened(path) as file:
        return described(path, read_contents(file, f"'{path}'"))


def fit_to_folder(
    tokenizer: Path,
    images: Path,
    kind: FittedKind,
    *,
    contexts: int,
    steps: int,
    resize: Sequence[int],
    seed: int,
    replace: bool,
) -> PriorRecord:
    """Fit a prior to a folder of images, and store it in the folder of the tokenizer.

    Args:
        tokenizer: folder of the tokenizer or of a run.
        images: the folder of images.
        kind: the kind of the prior.
        contexts: the number of contexts of a table.
        steps: the largest number of training steps of a network.
        resize: lengths of the shorter side; 0 for the size of each image.
        seed: the seed of the clusterings or of the training.
        replace: whether to replace a prior.

    Raises:
        FlatvqError: if there is a prior, and `replace` is not set.
    """
    folder = tokenizer_folder(tokenizer)
    if pretrained_folder(folder.name) == folder:
        remedy = f"save a copy with flatvq.load({folder.name!r}).save_pretrained(FOLDER)"
        raise FlatvqError(f"'{folder.name}' comes with flatvq, so its prior cannot be replaced", remedy)
    model = load_tokenizer(folder)
    if has_prior(folder) and not replace:
        what = f"'{folder}' has a prior, and files compressed with it need it"
        raise FlatvqError(what, "add --replace, or copy the tokenizer to another folder")
    if kind != "order-0":
        require_small_codebooks(model.recipe, kind)
    opened = [open_folder(images, _ANY_SIZE, size).images for size in resize]
    # A long and narrow image can be too large at one of the sizes.
    places = [{name: number for number, name in enumerate(each.names)} for each in opened]
    names = [name for name in places[0] if all(name in each for each in places)]
    total = len(names) * len(opened)
    # Sizes of one image are neighbours, which are held out together.
    sizes = list(zip(opened, places, strict=True))
    loaded = (load_exactly(each, numbers[name]) for name in names for each, numbers in sizes)
    with task_progress("encoding", total, "images") as progress:
        encoded = encode_images(model, loaded, progress=lambda done: progress(done, total))
    with task_progress("fitting the prior") as progress:
        record, arrays = fit_prior(
            model,
            encoded,
            kind,
            contexts=contexts,
            steps=steps,
            seed=seed,
            sizes=len(resize),
            progress=progress,
        )
    save_prior(folder, record, arrays)
    return record


def _default_target(sources: Sequence[Path], single: bool) -> Path:
    if single:
        return sources[0].with_suffix(_ONE)
    if len(sources) == 1:
        folder = sources[0]
        if folder.name in ("", ".."):  # such as `.`
            folder = folder.resolve()
        return folder.with_name(folder.name + _SEVERAL)
    raise FlatvqError(f"{len(sources)} images need a name for their file", f"give --out NAME{_SEVERAL}")


def _require_absent(path: Path, replace: bool, sources: Sequence[Path]) -> None:
    """Refuse to replace a file that exists without `--force`, and one that is read in any case."""
    if path.exists() and any(path.samefile(source) for source in sources if source.exists()):
        raise FlatvqError(f"'{path}' would replace the file that is read", "give another --out")
    if path.exists() and not replace:
        raise FlatvqError(f"'{path}' exists", "add --force, or give another --out")


def _pixels_of(path: Path) -> Pixels:
    try:
        with open_regular(path) as stream:
            return decode(stream, Conversion(_ANY_SIZE))
    except Rejected as rejected:
        remedy = rejected.remedy or "give an image, or a folder of images"
        raise FlatvqError(f"'{path}' cannot be used: {rejected.reason}", remedy) from None


def _listed(sources: Sequence[Path]) -> tuple[list[tuple[str, Callable[[], Pixels]]], list[FileStatus]]:
    """Return images by name, as functions that load them, and the status of files that were not used."""
    images: list[tuple[str, Callable[[], Pixels]]] = []
    statuses: list[FileStatus] = []
    for source in sources:
        if not source.is_dir():
            images.append((source.name, partial(_pixels_of, source)))
            continue
        opened = open_folder(source, _ANY_SIZE)
        statuses += opened.file_statuses
        for number, name in enumerate(opened.images.names):
            images.append((name, partial(load_exactly, opened.images, number)))
    return images, statuses


def _named(
    images: Sequence[tuple[str, Callable[[], Pixels]]], names: bool, progress: Callable[[int, int], None]
) -> Iterator[tuple[str, Pixels]]:
    """Load images, with the names to store."""
    stored = _names_of([name for name, _ in images]) if names else [""] * len(images)
    for done, (name, (_, load)) in enumerate(zip(stored, images, strict=True), start=1):
        yield name, load()
        progress(done, len(images))


def _names_of(paths: Sequence[str]) -> list[str]:
    """Return the names to store: paths without suffix, unless two of them are equal on some system."""
    stems = [_without_suffix(path) for path in paths]
    counts = Counter(same_name(stem) for stem in stems)
    names = [stem if counts[same_name(stem)] == 1 else path for stem, path in zip(stems, paths, strict=True)]
    require_names(names)
    return names


def _without_suffix(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = open_regular(path)
    except FileNotFoundError:
        raise FlatvqError(f"no file at '{path}'", "check the path") from None
    with file:
        yield file


def _targets(path: Path, contents: Contents, out: Path | None, replace: bool) -> tuple[Path, list[Path]]:
    """Return the folder to write to, and the PNG file of each image."""
    if not contents.collection:
        target = out or path.with_suffix(SUFFIX)
        suffix = target.suffix.lower()
        if suffix != SUFFIX and not target.is_dir() and suffix in Image.registered_extensions():
            what = f"the name '{target}' does not end with {SUFFIX}, the only format of decoded images"
            raise FlatvqError(what, f"use {SUFFIX}, and convert the image afterwards")
        image = target / f"{path.stem}{SUFFIX}" if target.is_dir() else target
        return image.parent, [image]
    folder = out or path.with_suffix("")
    if out is None and folder.exists() and not replace:  # it may hold the original images
        raise FlatvqError(f"'{folder}' exists", "give --out FOLDER, or add --force to write into it")
    digits = len(str(len(contents.entries)))
    return folder, [
        folder / f"{entry.name or f'{number:0{digits}d}'}{SUFFIX}"
        for number, entry in enumerate(contents.entries, start=1)
    ]


def _decoded(codec: Codec, contents: Contents, entry: Entry, file: BinaryIO, path: Path) -> Pixels:
    try:
        return codec.from_streams(read_streams(file, entry), contents.prior)
    except FlatvqError as error:
        raise FlatvqError(f"'{path}': {error.what}", error.remedy) from None


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
