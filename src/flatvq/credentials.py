"""Credentials in URLs: passwords, tokens and signed queries, which no message and no record may show."""

from __future__ import annotations

import re

__all__ = ["holds_credentials", "without_credentials"]

# A password between the user and the host. A secret key may contain slashes; a port does not end with @.
_PASSWORD = re.compile(r"(://[^\s/@:'\"]*:)(?!\d*/)[^\s@'\"]*@")
# For HTTP, the part before the host is a secret even without a password: it may be an access token.
_USER = re.compile(r"(https?://)[^\s/@:'\"]+@", re.IGNORECASE)
# Signed URLs have their signature in the query. Elsewhere, ? alone is a wildcard.
_QUERY = re.compile(r"(https?://[^\s?'\"]*\?)[^\s'\"]+|(://[^\s?'\"]*\?)[^\s'\"]*=[^\s'\"]*", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """Replace passwords, tokens and queries of all URLs in a text by `***`.

    Args:
        text: any text, such as a URL or a message of a library.

    Example:
        >>> without_credentials("no answer from 'https://me:secret@host/a.tar?signature=1f', or s3://b/?.tar")
        "no answer from 'https://me:***@host/a.tar?***', or s3://b/?.tar"
        >>> without_credentials("https://token@host/a.tar s3://KEY:SEC/RET@bucket http://host:80/a@b.tar")
        'https://***@host/a.tar s3://KEY:***@bucket http://host:80/a@b.tar'
    """
    if "://" not in text:
        return text
    text = _USER.sub(r"\1***@", _PASSWORD.sub(r"\1***@", text))
    return _QUERY.sub(lambda match: f"{match[1] or match[2]}***", text)


def holds_credentials(url: str) -> bool:
    """Return whether a URL holds a password, a token or a query.

    Example:
        >>> holds_credentials("s3://bucket/train-{000..127}.tar"), holds_credentials("ftp://me:secret@host/a.tar")
        (False, True)
    """
    return without_credentials(url) != url
