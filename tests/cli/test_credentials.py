"""Passwords and tokens in URLs: refused before anything is written, and hidden in every message."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flatvq.cli import main
from flatvq.credentials import holds_credentials, without_credentials
from flatvq.data.reasons import reason_of
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe
from flatvq.translation import cause_of

SECRET = "wJalr/XUtnFEMI+bPxRfiCY"
URLS = [
    f"s3://AKIDEXAMPLE:{SECRET}@bucket/set/*.tar",
    f"https://me:{SECRET}@host:8443/train-{{000..127}}.tar",
    f"https://{SECRET.replace('/', '')}@host/a.tar",
    f"https://host/a.tar?X-Amz-Signature={SECRET}",
    f"https://host/a.tar?{SECRET}",
    f"s3://bucket/a.tar?X-Amz-Signature={SECRET}&X-Amz-Date=2026",
    f"simplecache::ftp://me:{SECRET}@host/a.tar",
]


@pytest.mark.parametrize("url", URLS)
def test_messages_hide_credentials(url: str) -> None:
    texts = [
        str(FlatvqError(f"'{url}' cannot be reached", f"check {url}")),
        reason_of(ValueError(f"no answer from {url}, which was asked twice")),
        reason_of(FileNotFoundError(2, "No such file", url)),
        cause_of(RuntimeError(f"403, message='Forbidden', url='{url}'")),
        without_credentials(f"{url} and {url}"),
    ]
    for text in texts:
        assert SECRET not in text
        assert SECRET.replace("/", "") not in text
        assert SECRET.rpartition("/")[2] not in text
        assert "***" in text


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/train-{000..127}.tar",
        "s3://bucket/?[0-9]/*.tar",
        "gs://bucket/me@home/a.tar",
        "http://host:8080/me@home/a.tar",
        "sftp://me@host/a.tar",
        "abfs://container@account.dfs.core.windows.net/a.tar",
        "a folder/with: a colon@home?x=1",
    ],
)
def test_urls_without_credentials_stay(url: str) -> None:
    assert without_credentials(url) == url
    assert not holds_credentials(url)
    assert DataRecipe(source="shards", path=url).path == url


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "command", ["study", "train", "encode", "encode-dataset", "encode-slurm", "evaluate"]
)
def test_commands_refuse_credentials(
    url: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    out = tmp_path / "out"
    recipe = ["photographs", "--out", str(out), "--set", "data.source=shards", "--set", f"data.path={url}"]
    words = {
        "study": ["study", *recipe],
        "train": ["train", *recipe, "--arm", "single-level-healthy"],
        "encode": ["encode", "flatvq-f4", url, str(out)],
        "encode-dataset": ["encode", "flatvq-f4", url, str(out), "--dataset"],
        "encode-slurm": ["encode", "flatvq-f4", url, str(out), "--on", "slurm"],
        "evaluate": ["evaluate", "flatvq-f4", "--data", url],
    }[command]
    monkeypatch.setattr(sys, "argv", ["flatvq", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.err.count("\n") == 1
    assert "holds credentials" in captured.err
    assert SECRET.rpartition("/")[2] not in captured.err + captured.out
    assert not [path for path in out.rglob("*") if path.is_file()]
