"""Downloads tokenizers from the Hugging Face hub, and uploads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flatvq.errors import FlatvqError, MissingExtraError

__all__ = ["download", "is_repository_id", "upload"]

# The files of a tokenizer's repository. Only these are downloaded.
FILES = ("config.json", "model.safetensors", "prior.json", "prior.safetensors", "README.md")
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


def is_repository_id(spec: str) -> bool:
    """Return whether a string has the form of a repository on the hub, OWNER/NAME.

    Example:
        >>> is_repository_id("flatvq/imagenet-f4"), is_repository_id("./imagenet-f4"), is_repository_id("f4")
        (True, False, False)
    """
    return _REPOSITORY.fullmatch(spec) is not None


def download(
    repo_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Download a repository into the cache of `huggingface_hub`, unless it is there.

    Args:
        repo_id: the repository, OWNER/NAME.
        revision: branch, tag or commit; None for `main`.
        cache_dir: folder of the cache; None for the default.
        local_files_only: whether to use only what has been downloaded before.

    Returns:
        The folder of the files.

    Raises:
        FlatvqError: if it does not exist, or cannot be downloaded.
        MissingExtraError: if `huggingface_hub` is not installed.
    """
    library = _library()
    try:
        folder = library.snapshot_download(
            repo_id,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            allow_patterns=list(FILES),
        )
    except Exception as error:  # of the library, of its HTTP client, or of the operating system
        at = f" at revision {revision!r}" if revision else ""
        what = f"no folder at '{repo_id}', and no such repository{at} on the Hugging Face hub can be read"
        raise FlatvqError(f"{what} ({_reason(error)})", "check the path or name, and the network") from None
    return Path(folder)


def upload(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str,
) -> str:
    """Upload the files of a folder in one commit.

    Args:
        folder: the folder.
        repo_id: the repository, OWNER/NAME; created if it does not exist.
        private: whether a new repository is private; None for the default of the owner.
        revision: the branch; None for `main`.
        token: the access token; None for the stored one.
        commit_message: the message of the commit.

    Returns:
        The URL of the commit.

    Raises:
        FlatvqError: if the upload fails.
        MissingExtraError: if `huggingface_hub` is not installed.
    """
    api = _library().HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
        )
    except Exception as error:
        what = f"cannot upload to '{repo_id}' ({_reason(error)})"
        raise FlatvqError(what, "check the name, the network and `hf auth login`") from None
    return str(commit.commit_url)


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtraError("tokenizers on the Hugging Face hub", "huggingface_hub", "hub") from None
    return huggingface_hub


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
