"""Input files: paths, globs and URLs, opened for reading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from codex_forge.errors import InputError
from codex_forge.storage.faults import faults, patiently

_S3_OPTIONS: dict[str, Any] = {
    # The listing cache never expires and would hide what other jobs wrote.
    "use_listings_cache": False,
    # Trying again is done in one place (`patiently`); here retries would multiply.
    "config_kwargs": {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": 5,
        "read_timeout": 30,
    },
}

_READ_RETRIES = 6
"""A stream that is half read cannot be begun again: its requests are repeated one by one."""

_SCHEMES = ("file", "s3", "memory", "http", "https")


def filesystem(url: str, *, retries: int = 1) -> Any:
    """The fsspec file system of a URL or path; s3fs is imported only for `s3://`.

    `retries` counts the attempts of one request to S3.
    """
    import fsspec

    if "\0" in url:
        raise InputError("a path cannot hold a NUL byte", where=ascii(url))
    scheme = url.split("://", 1)[0] if "://" in url else "file"
    if scheme not in _SCHEMES:
        raise InputError(f"{scheme}:// is not supported", where=url, do="use a path or s3://")
    if scheme != "s3":
        return fsspec.filesystem(scheme)
    # One instance for each number: they are cached by their options.
    s3 = fsspec.filesystem("s3", **_S3_OPTIONS, default_fill_cache=retries == 1)
    s3.retries = retries
    return s3


@contextmanager
def open_text(url: str) -> Iterator[IO[bytes]]:
    """Open an input file (local path or URL) for reading as bytes; faults become our errors."""
    opened = patiently(lambda: filesystem(url, retries=_READ_RETRIES).open(url, "rb"), url)
    with faults(url), opened as handle:
        yield handle


def expand(pattern: str) -> list[str]:
    """The files that a path, glob or URL names, sorted.

    Raises:
        InputError: it names no file.
    """
    names = patiently(lambda: _matches(pattern), pattern)
    if not names:
        raise InputError("no such file", where=pattern, do="check the path in the config")
    return names


def _matches(pattern: str) -> list[str]:
    fs = filesystem(pattern)
    if not any(sign in pattern for sign in "*?["):
        return [pattern] if is_file(fs, pattern) else []
    scheme = pattern.split("://", 1)[0] + "://" if "://" in pattern else ""
    found = fs.glob(pattern, detail=True)
    names = sorted(scheme + n for n, facts in found.items() if facts["type"] == "file")
    return names if scheme else [_relative(name) for name in names]


def is_file(fs: Any, url: str) -> bool:
    """Whether a file is there; unlike fsspec's `isfile`, a storage that refuses is no "no"."""
    try:
        return bool(fs.info(url)["type"] == "file")
    except (FileNotFoundError, NotADirectoryError):
        return False


def _relative(name: str) -> str:
    """A path below the working folder in its short form."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name


def hash_of(name: str) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with open_text(name) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()  # type: ignore[arg-type]
