"""Parts of an encoding: together they have the bytes of an encoding by one process, also on a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.faults.machine import Machine

import flatvq
from flatvq.codes import CodeManifest, encode_images
from flatvq.codes.cluster import ClusterEncoding
from flatvq.codes.encode import Encoder
from flatvq.engines.engine import ENGINES
from flatvq.errors import FlatvqError
from flatvq.recipe import ClusterRecipe
from flatvq.train.lease import newest_owner

from .test_encode import bytes_of

pytestmark = pytest.mark.slow


@pytest.fixture
def encode(tokenizer: flatvq.VQVAETokenizer, pictures: Path):
    """Encode in shards of four images: six shards."""

    def encode(out: Path, part: tuple[int, int] | None = None) -> CodeManifest:
        return encode_images(tokenizer, pictures, out, shard_size=4, batch_size=3, part=part)

    return encode


@pytest.fixture
def whole(encode, tmp_path: Path) -> dict[str, bytes]:
    encode(tmp_path / "whole")
    return bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_parts_in_any_order_have_the_bytes_of_one_process(encode, whole, tmp_path: Path, count: int) -> None:
    out = tmp_path / "out"
    written: list[str] = []
    for number in reversed(range(count)):
        manifest = encode(out, (number, count))
        assert [shard.name for shard in manifest.shards] == [
            f"codes-{shard:05d}-of-00006.parquet" for shard in range(6) if shard % count == number
        ]
        written += [shard.name for shard in manifest.shards]
        assert json.loads((out / "manifest.json").read_text())["shards"] == []
    assert sorted(written) == sorted(path.name for path in out.glob("*.parquet")), "each shard once"
    assert encode(out).complete
    assert bytes_of(out) == whole
    assert not (out / "parts").exists()


def test_nothing_is_encoded_twice(encode, whole, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    written: list[int] = []
    write = Encoder._write

    def record(self: Encoder, number: int, rows: object) -> None:
        written.append(number)
        write(self, number, rows)

    monkeypatch.setattr(Encoder, "_write", record)
    encode(out, (0, 3))
    encode(out, (0, 3))
    encode(out, (0, 2))  # another number of parts: shards 0, 2 and 4, of which 0 is done
    assert written == [0, 3, 2, 4]
    (out / "codes-00002-of-00006.parquet").write_bytes(b"PAR1 damaged")
    encode(out)
    assert written[4:] == [1, 2, 5]
    assert bytes_of(out) == whole
    encode(out, (1, 2))
    assert len(written) == 7, "the shards of a complete manifest are not encoded again"


def test_commands_on_a_finished_folder_leave_it_as_it_was(
    encode, whole, tmp_path: Path, tokenizer: flatvq.VQVAETokenizer, pictures: Path
) -> None:
    out = tmp_path / "whole"
    assert set(whole) == {"manifest.json", *(f"codes-{number:05d}-of-00006.parquet" for number in range(6))}
    assert encode(out).complete
    assert bytes_of(out) == whole
    encode(out, (1, 2))
    assert bytes_of(out) == whole
    for part in (None, (0, 2)):
        with pytest.raises(FlatvqError, match="holds codes with settings shard_size 4, now 5"):
            encode_images(tokenizer, pictures, out, shard_size=5, batch_size=3, part=part)
        assert bytes_of(out) == whole
    (out / "codes-00003-of-00006.parquet").unlink()
    encode(out, (1, 2))
    encode(out)
    assert bytes_of(out) == whole


def test_a_part_of_other_images_is_refused_and_its_shards_are_not_used(
    encode, whole, tmp_path: Path, pictures: Path
) -> None:
    out = tmp_path / "out"
    encode(out, (0, 2))
    record = out / "parts" / "codes-00000-of-00006.json"
    tree = json.loads(record.read_text())
    (pictures / "999.png").write_bytes((pictures / "002.png").read_bytes())
    with pytest.raises(FlatvqError, match="holds codes with images count 23, now 24"):
        encode(out, (1, 2))
    (pictures / "999.png").unlink()
    # A part that was paused before it read manifest.json may record a shard of another encoding.
    (out / "codes-00000-of-00006.parquet").write_bytes((out / "codes-00002-of-00006.parquet").read_bytes())
    shard = {
        **json.loads((out / "parts" / "codes-00002-of-00006.json").read_text())["shard"],
        "name": "codes-00000-of-00006.parquet",
    }
    record.write_text(json.dumps({**tree, "encoding": "0" * 64, "shard": shard}))
    encode(out)
    assert bytes_of(out) == whole


def test_a_part_that_was_paused_until_the_encoding_was_complete_changes_nothing(
    encode, whole, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "out"
    write = Encoder._write

    def paused(self: Encoder, number: int, rows: object) -> None:
        shutil.rmtree(out / "parts")  # as the last step of an encoding does
        write(self, number, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "_write", paused)
        with pytest.raises(FlatvqError, match=r"took .* over while this process did not respond") as lost:
            encode(out, (1, 2))
    assert lost.value.exit_code == 75
    assert list(out.glob("*.parquet")) == []
    encode(out)
    assert bytes_of(out) == whole


@pytest.mark.parametrize("text", ["3", "3/", "a/4", "-1/4", "4/4", "0/0", "1/9999999"])
def test_no_such_part_is_one_line(run_flatvq, tokenizer_folder: Path, pictures: Path, text: str) -> None:
    code, _, errors = run_flatvq("encode", tokenizer_folder, pictures, "out", f"--part={text}")
    assert (code, errors.count("\n")) == (2, 1)
    assert "part" in errors


def test_an_image_that_cannot_be_read_is_in_the_manifest(encode, tmp_path: Path, pictures: Path) -> None:
    intact = (pictures / "010.jpg").read_bytes()
    (pictures / "010.jpg").write_bytes(intact[:-60])
    encode(tmp_path / "whole")
    for number in range(6):  # one of them has no other images
        encode(tmp_path / "out", (number, 6))
    assert [name for name, _ in encode(tmp_path / "out").unreadable] == ["010.jpg"]
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


# --- on a cluster


@pytest.fixture
def machine(monkeypatch) -> Machine:
    machine = Machine()
    monkeypatch.setitem(ENGINES._entries, "machine", lambda recipe: machine)
    return machine


@pytest.mark.slow
@pytest.mark.processes
def test_an_encoding_on_a_cluster_has_the_bytes_of_one_process(
    machine: Machine, tokenizer_folder: Path, pictures: Path, tmp_path: Path, run_flatvq, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    options = ("--shard-size", 9, "--batch-size", 4, "--size", 40, "--crop", 32)
    words = ("encode", tokenizer_folder, pictures, "codes", *options)
    on = (*words, "--on", "machine", "--set", "cluster.poll_seconds=0.5")
    code, output, errors = run_flatvq(*on, "--parts", 2, "--detach")
    assert (code, errors) == (0, "")
    assert output.startswith("Submitted: 2 jobs. ")
    code, _, errors = run_flatvq(*on, "--parts", 3)
    assert (code, errors) == (
        2,
        "flatvq: 'codes' has a job for part-00000-of-00002, which is not one of this command: "
        "give the same --parts, or end the jobs with --cancel first\n",
    )
    machine.kills = 1
    code, output, errors = run_flatvq(*on, "--parts", 2)
    assert code == 0, errors
    assert output.startswith("codes: 23 images in 3 shards, ")
    assert machine.attempts == 4, "two parts, of which one was killed once, and the last job"
    assert run_flatvq(*words[:3], "alone", *options)[0] == 0
    made, alone = bytes_of_files(Path("codes")), bytes_of_files(Path("alone"))
    assert made == alone
    assert {path.name for path in Path("codes").iterdir()} == set(alone), "nothing of the jobs is left"
    assert run_flatvq(*on, "--parts", 2)[0] == 0
    assert machine.attempts == 5, "a repeated command verifies alone"
    assert bytes_of_files(Path("codes")) == alone
    code, _, errors = run_flatvq(*on, "--parts", 2, "--white-level", 3)
    assert code == 2
    assert "1 of 1 jobs failed, such as last ('" in errors
    assert "holds codes with settings white_level 0, now 3" in errors


def bytes_of_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}


def test_jobs_can_be_cancelled(machine: Machine, tmp_path: Path) -> None:
    encoding = ClusterEncoding("machine", ClusterRecipe(), tmp_path, ("flatvq", "encode"), 5)
    assert encoding.submit() == 5
    assert encoding.submit() == 0
    assert [len(units) for units in machine.units.values()] == [2, 2, 1]
    assert encoding.cancel() == 5
    assert machine.units == {}


def test_options_of_a_cluster_are_checked(run_flatvq, tokenizer_folder: Path, pictures: Path) -> None:
    words = ("encode", tokenizer_folder, pictures, "out")
    for more, message in (
        (["--parts", 3], "--parts needs a cluster: add --on slurm, or leave it out"),
        (["--on", "slrm"], "no engine is named 'slrm': did you mean 'slurm'?"),
        (
            ["--on", "slurm", "--part", "0/3"],
            "--part 0/3 and --on slurm are both given: leave one of them out",
        ),
        (
            ["--on", "slurm", "--set", "cluster.nodes=2"],
            "cluster.nodes is 2, and each job of `flatvq encode` is one process: add --set cluster.nodes=1, "
            "and let more jobs run",
        ),
        (
            ["--on", "slurm", "--set", "train.steps=2"],
            "override 'train.steps=2' is not of the section cluster",
        ),
    ):
        code, _, errors = run_flatvq(*words, *more)
        assert (code, errors.count("\n")) == (2, 1)
        assert errors.startswith(f"flatvq: {message}")


KILLED = """
import os, signal, sys, time
from pathlib import Path
import flatvq
from flatvq.codes import encode_images
from flatvq.codes.encode import Encoder

write = Encoder._write
def slow(self, number, rows):
    write(self, number, rows)
    print(number, flush=True)
    time.sleep(60)
Encoder._write = slow
encode_images(flatvq.load(sys.argv[1]), sys.argv[2], sys.argv[3], shard_size=4, batch_size=3, part=(0, 2))
"""


@pytest.mark.slow
@pytest.mark.processes
def test_a_killed_part_goes_on_where_it_was(
    encode, whole, tokenizer_folder: Path, pictures: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-c", KILLED, str(tokenizer_folder), str(pictures), str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"0\n"
        killed.kill()
    started = time.monotonic()
    shown: list[tuple[int, int]] = []
    tokenizer = flatvq.load(tokenizer_folder)
    encode_images(
        tokenizer,
        pictures,
        out,
        shard_size=4,
        batch_size=3,
        part=(0, 2),
        progress=lambda *counts: shown.append(counts),
    )
    assert shown[0] == (4, 12)
    assert time.monotonic() - started < 30, "the lease of a process of this host that ended is free at once"
    encode(out, (1, 2))
    encode(out)
    assert bytes_of(out) == whole


STOPPED = """
import sys, time
from flatvq.cli.app import app
import flatvq.cli.commands
from flatvq.codes.encode import Encoder

write = Encoder._write
def slow(self, number, rows):
    write(self, number, rows)
    print(number, flush=True)
    time.sleep(2)
Encoder._write = slow
app()
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_a_part_that_is_asked_to_stop_leaves_its_lease_and_its_progress(
    tokenizer_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["encode", str(tokenizer_folder), str(pictures), str(out), "--part", "0/1", "--shard-size", "4"]
    with subprocess.Popen([sys.executable, "-c", STOPPED, *words], stdout=subprocess.PIPE) as stopped:
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == b"0\n"
        stopped.terminate()
        assert stopped.wait(60) == 130
    place = out / "parts" / "part-00000-of-00001"
    owner = newest_owner(place)[1]
    assert owner is not None
    assert not owner.held
    assert int((place / "progress").read_text()) in (1, 2)
