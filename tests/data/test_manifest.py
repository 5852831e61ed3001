"""Manifests and what is computed on their columns, against plain Python on lists."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from flatvq.data import fingerprint_of, open_data
from flatvq.data.holdout import _first_kept, first_by_hash, is_held_out, without_copies
from flatvq.data.manifest import Image, Manifest, joined, manifest_of, read_manifest
from flatvq.data.selection import Selection, selection
from flatvq.data.walk import list_files
from flatvq.recipe import DataRecipe

pytestmark = pytest.mark.slow

# Hashes of few values, some of which end with zeros, which numpy does not count as part of a text.
DIGESTS = st.lists(st.integers(0, 9).map(lambda n: f"{n * 2**124:032x}"), max_size=30)


def images_of(digests: list[str], prefix: str = "") -> Selection:
    images = [Image(digest, n + 1, 2 * n + 1, ("x",) * (n % 3)) for n, digest in enumerate(digests)]
    # Names are not in the order of the images.
    paths = [f"{prefix}{-n % 7}-{n}".encode() for n in range(len(digests))]
    places = {"number": np.arange(len(digests))}
    return selection(manifest_of(paths, images, places), None)


def rows_of(manifest: Manifest) -> list[tuple[object, ...]]:
    rows = range(len(manifest))
    return [
        (
            manifest.name(n),
            manifest.digest(n),
            manifest.size(n),
            manifest.notes_of(n),
            int(manifest.places["number"][n]),
        )
        for n in rows
    ]


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = images_of([f"{n:030x}00" for n in range(20)]).manifest
    manifest.write(tmp_path / "a.arrow", {"about": [1, "x"]})
    stored, about = read_manifest(tmp_path / "a.arrow", ["number"])
    assert rows_of(stored) == rows_of(manifest)
    assert about == {"about": [1, "x"]}
    assert read_manifest(tmp_path / "a.arrow", ["other"]) is None
    whole = rows_of(manifest)
    assert rows_of(stored.part(3, 9)) == whole[3:9]
    assert rows_of(stored.at(np.array([7, 2, 2]))) == [whole[7], whole[2], whole[2]]
    assert rows_of(joined([stored.part(0, 4), manifest.part(4, 20)])) == whole


@given(digests=DIGESTS, limit=st.integers(0, 32))
def test_the_first_by_hash(digests: list[str], limit: int) -> None:
    images = images_of(digests)
    expected = sorted(range(len(digests)), key=lambda n: (digests[n], images.name(n)))[: limit or None]
    assert first_by_hash(images, limit).rows.tolist() == sorted(expected)


@given(digests=DIGESTS, others=DIGESTS)
def test_copies(digests: list[str], others: list[str]) -> None:
    images, other_images = images_of(digests), images_of(others, "other ")
    distinct, copies = without_copies(images, other_images)
    assert distinct.rows.tolist() == [n for n, digest in enumerate(digests) if digest not in others]
    assert copies == {
        images.name(n): other_images.name(others.index(digest))
        for n, digest in enumerate(digests)
        if digest in others
    }


@given(share=st.floats(1e-6, 1 - 1e-6))
def test_the_first_hash_that_is_kept(share: float) -> None:
    first = int.from_bytes(_first_kept(share), "big")
    assert not is_held_out(f"{first:032x}", share)
    assert is_held_out(f"{first - 1:032x}", share)


@given(digests=DIGESTS)
def test_fingerprints(digests: list[str]) -> None:
    assert images_of(digests).fingerprint == fingerprint_of(digests, [1] * len(digests))


@pytest.mark.skipif(os.name == "nt", reason="such names are not possible there")
def test_paths_are_listed_in_the_order_of_text(tmp_path: Path) -> None:
    names = [
        "a/b/c",
        "a/b-c",
        "a/b.c",
        "a-b",
        "a.b/c",
        "ab",
        "b/ä",
        "b/z",
        "b/\udcff",
        "b/𝄞",
        "b/\ufffd",
        "b/c/d",
        "c",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name if name.isprintable() else "")
    listing = list_files(tmp_path, "")
    paths = [listing.path(number) for number in range(len(names))]
    assert paths == sorted(names)
    sizes = [(tmp_path / path).stat().st_size for path in paths]
    assert listing.times["size"].tolist() == sizes


def test_an_image_of_a_known_folder_takes_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("flatvq.data.survey_cache._SETTLED_SECONDS", 0.0)
    (tmp_path / "images").mkdir()
    for number in range(3000):
        pixels = np.full((16, 16, 3), [number % 256, number // 256, 0], np.uint8)
        Picture.fromarray(pixels).save(tmp_path / "images" / f"{number:04}.bmp")
    recipe = DataRecipe(source="folder", path=str(tmp_path / "images"), crop=16, cache_mib=0)
    first = open_data(recipe)
    tracemalloc.start()
    try:
        second = open_data(recipe)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert second.training.fingerprint == first.training.fingerprint
    assert size / 3000 < 60
