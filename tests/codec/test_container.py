from __future__ import annotations

import zlib
from io import BytesIO
from random import Random

import pytest
from benchmarks.fuzz.mutations import mutated_bytes

from flatvq.codec.container import CodedImage, Contents, Entry, pack, read_contents, read_streams
from flatvq.errors import FlatvqError

ID = bytes(range(1, 9))
ONE = pack("table", ID, [CodedImage(300, 5, (b"top", b"bottom!"))], names=None)
SEVERAL = pack(
    "none",
    ID,
    [CodedImage(64, 64, (b"a",)), CodedImage(64, 64, (b"",)), CodedImage(9, 1, (b"xyz",))],
    ["b/ä", "c", "d"],
)


def contents(content: bytes) -> Contents:
    return read_contents(BytesIO(content), "'it'")


def sealed(content: bytes) -> bytes:
    """Append the checksum, so that only other checks can refuse the content."""
    return content + zlib.crc32(content).to_bytes(4, "little")


def test_golden_bytes() -> None:
    assert (
        ONE.hex(" ")
        == (
            "8b 46 56 51 "  # magic
            "01 02 "  # version; flags: table
            "01 02 03 04 05 06 07 08 "  # identity
            "02 "  # levels
            "ac 02 05 "  # 300 x 5 pixels
            "03 07 "  # bytes of the streams, top first
            "74 6f 70 62 6f 74 74 6f 6d 21 "  # streams
        )
        + zlib.crc32(ONE[:-4]).to_bytes(4, "little").hex(" ")
    )
    assert (
        SEVERAL.hex(" ")
        == (
            "8b 46 56 51 01 30 01 02 03 04 05 06 07 08 01 "
            "03 "  # images
            "04 62 2f c3 a4 40 40 01 "  # name, size, bytes of the stream
            "01 63 00 00 "  # the same size
            "01 64 09 01 03 "
            "61 78 79 7a "
        )
        + zlib.crc32(SEVERAL[:-4]).to_bytes(4, "little").hex(" ")
    )


def test_contents_are_what_was_packed() -> None:
    one = contents(ONE)
    assert (one.version, one.collection, one.prior, one.identity, one.levels) == (1, False, "table", ID, 2)
    assert one.entries == (Entry("", 300, 5, (3, 7)),)
    assert one.size == len(ONE)
    with BytesIO(SEVERAL) as file:
        several = read_contents(file, "it")
        assert [entry.name for entry in several.entries] == ["b/ä", "c", "d"]
        assert [(entry.width, entry.height) for entry in several.entries] == [(64, 64), (64, 64), (9, 1)]
        assert [read_streams(file, entry).streams for entry in several.entries] == [
            (b"a",),
            (b"",),
            (b"xyz",),
        ]


def test_an_empty_collection_is_valid() -> None:
    assert contents(pack("none", ID, [], [])).entries == ()


@pytest.mark.parametrize("content", [ONE, SEVERAL])
def test_every_cut_and_every_changed_bit_is_refused(content: bytes) -> None:
    for end in range(len(content)):
        with pytest.raises(FlatvqError):
            contents(content[:end])
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(FlatvqError):
            contents(bytes(changed))


HEAD = ONE[:14]
LARGE = b"\xff\xff\xff\xff\x0f"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD[:4] + b"\x02" + HEAD[5:] + b"\x01\x01\x01\x00", "version 2"),
        (HEAD[:5] + b"\x42" + HEAD[6:] + b"\x01\x01\x01\x00", "flags 0x42"),
        (HEAD[:5] + b"\x0f" + HEAD[6:] + b"\x01\x01\x01\x00", "flags 0x0f"),
        (HEAD + b"\x41" + bytes(80), "number of levels"),
        (HEAD + b"\x01\x00\x00", "an image of 0 x 0 pixels"),
        (HEAD + b"\x01\x01\x00\x00", "an image of 1 x 0 pixels"),
        (HEAD + b"\x01\x81\x00\x01\x00", "unusual"),
        (HEAD + b"\x01" + LARGE + b"\x01\x00", "a width"),
        (HEAD + b"\x01\x80\x80\x04\x80\x80\x04\x00", "65536 x 65536 pixels"),
        (HEAD + b"\x01\x01\x01" + LARGE, "a length"),
        (HEAD + b"\x01\x01\x01\x05abc", "lists 5"),
        (HEAD + b"\x01\x01\x01\x02abc", "lists 2"),
        (HEAD + b"\x01\x80", "no streams"),
        (HEAD[:5] + b"\x12" + HEAD[6:] + b"\x01" + LARGE + b"\x01\x01\x01", "number of images"),
        (HEAD[:5] + b"\x32" + HEAD[6:] + b"\x01\x01\x02../\x01\x01\x00", "which no file can have"),
        (HEAD[:5] + b"\x32" + HEAD[6:] + b"\x01\x01\x02/a\x01\x01\x00", "which no file can have"),
        (HEAD[:5] + b"\x32" + HEAD[6:] + b"\x01\x01\x02C:\x01\x01\x00", "which no file can have"),
        (HEAD[:5] + b"\x32" + HEAD[6:] + b"\x01\x01\x02..\x01\x01\x00", "which no file can have"),
        (HEAD[:5] + b"\x32" + HEAD[6:] + b"\x01\x01\x01\xff\x01\x01\x00", "not UTF-8"),
        (HEAD[:5] + b"\x32" + HEAD[6:] + b"\x01\x02\x01a\x01\x01\x00\x01a\x00\x00", "the names 'a' and 'a'"),
    ],
)
def test_impossible_fields_are_refused_with_one_line(content: bytes, message: str) -> None:
    with pytest.raises(FlatvqError) as caught:
        contents(sealed(content))
    assert message in str(caught.value)


def test_mutated_files_with_a_valid_checksum_are_read_or_refused() -> None:
    random = Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(4000):
        content, other = random.sample((ONE, SEVERAL), 2)
        try:
            parsed = contents(sealed(mutated_bytes(content[:-4], other[:-4], random)))
        except FlatvqError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert sum(sum(entry.lengths) for entry in parsed.entries) == parsed.size - parsed.start - 4
    assert min(outcomes.values()) > 100
