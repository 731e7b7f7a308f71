"""One `Store` for local folders and `s3://`: every object appears whole or not at all.

A local object is written beside its place, synced and renamed; an S3 object is one put (or one
multipart upload, invisible until it is complete). Credentials and endpoint come from the standard
AWS variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, ...).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from codex_forge.errors import ForgeError, InputError, TryAgain

_S3_OPTIONS: dict[str, Any] = {
    # The listing cache never expires and would hide what other jobs wrote.
    "use_listings_cache": False,
    # s3fs retries around botocore's retries; together they must stay within minutes.
    "config_kwargs": {
        "retries": {"max_attempts": 3, "mode": "standard"},
        "connect_timeout": 10,
        "read_timeout": 60,
    },
}


_SCHEMES = ("file", "s3", "memory", "http", "https")


class Store:
    """A tree of objects below one URL. Paths are relative, with `/`, and never leave the tree."""

    def __init__(self, url: str) -> None:
        """Open the store at `url` (a folder or `s3://bucket/prefix`); nothing is written yet."""
        path = url.removeprefix("file://").rstrip("/") or "/"
        self.root = path if "://" in path else os.path.expanduser(path)  # noqa: PTH111 - or a URL
        self.is_local = "://" not in self.root
        self._fs = filesystem(self.root)

    def url(self, path: str = "") -> str:
        """Where `path` is, for people and for other tools."""
        return f"{self.root}/{_inside(path)}" if path else self.root

    def exists(self, path: str) -> bool:
        """Whether the object is there."""
        with faults(self.url(path)):
            return _is_file(self._fs, self.url(path))

    def read(self, path: str) -> bytes:
        """The whole object.

        Raises:
            InputError: there is no such object, or it may not be read.
            TryAgain: the storage does not answer now.
        """
        with faults(self.url(path)):
            return cast(bytes, self._fs.cat_file(self.url(path)))

    def write(self, path: str, data: bytes) -> None:
        """Put a small object, replacing what was there."""
        with faults(self.url(path)):
            if self.is_local:
                with _beside(Path(self.url(path))) as handle:
                    handle.write(data)
            else:
                self._fs.pipe_file(self.url(path), data)

    def put(self, local: Path, path: str) -> None:
        """Copy a local file to the store."""
        with faults(self.url(path)):
            if self.is_local:
                with _beside(Path(self.url(path))) as handle, local.open("rb") as source:
                    shutil.copyfileobj(source, handle, 1 << 20)
            else:
                self._fs.put_file(str(local), self.url(path))

    def get(self, path: str, local: Path) -> None:
        """Copy an object of the store to a local file."""
        local.parent.mkdir(parents=True, exist_ok=True)
        with faults(self.url(path)):
            self._fs.get_file(self.url(path), str(local))

    def list(self, folder: str) -> list[str]:
        """Paths of all objects below `folder`, sorted; empty when there is none.

        Raises:
            InputError: the bucket itself is not there, or may not be listed.
        """
        base = self.url(folder)
        with faults(base):
            if self.is_local:
                found = (p for p in Path(base).rglob("*") if p.is_file())
                return sorted(f"{folder}/{p.relative_to(base).as_posix()}" for p in found)
            keys = self._fs.find(base)
        # An object of the folder's own name, and the empty `x/` that consoles make, are no files.
        prefix = base.split("://", 1)[1] + "/"
        below = (k.removeprefix(prefix) for k in keys if k.startswith(prefix) and k[-1] != "/")
        return sorted(f"{folder}/{name}" for name in below)

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        with faults(self.url(path)):
            try:
                self._fs.rm_file(self.url(path))
            except FileNotFoundError:
                return


def filesystem(url: str) -> Any:
    """The fsspec file system of a URL or path; s3fs is imported only for `s3://`."""
    import fsspec

    if "\0" in url:
        raise InputError("a path cannot hold a NUL byte", where=ascii(url))
    scheme = url.split("://", 1)[0] if "://" in url else "file"
    if scheme not in _SCHEMES:
        raise InputError(f"{scheme}:// is not supported", where=url, do="use a path or s3://")
    if scheme != "s3":
        return fsspec.filesystem(scheme)
    s3 = fsspec.filesystem("s3", **_S3_OPTIONS)
    s3.retries = 3
    return s3


@contextmanager
def open_text(url: str) -> Iterator[IO[bytes]]:
    """Open an input file (local path or URL) for reading as bytes; faults become our errors."""
    with faults(url), filesystem(url).open(url, "rb") as handle:
        yield handle


def expand(pattern: str) -> list[str]:
    """The files that a path, glob or URL names, sorted.

    Raises:
        InputError: it names no file.
    """
    fs = filesystem(pattern)
    with faults(pattern):
        if any(sign in pattern for sign in "*?["):
            scheme = pattern.split("://", 1)[0] + "://" if "://" in pattern else ""
            found = fs.glob(pattern, detail=True)
            names = sorted(scheme + n for n, facts in found.items() if facts["type"] == "file")
            names = [_relative(name) for name in names] if not scheme else names
        else:
            names = [pattern] if _is_file(fs, pattern) else []
    if not names:
        raise InputError("no such file", where=pattern, do="check the path in the config")
    return names


def _is_file(fs: Any, url: str) -> bool:
    """Whether a file is there; unlike fsspec's `isfile`, a storage that refuses is no "no"."""
    try:
        return bool(fs.info(url)["type"] == "file")
    except (FileNotFoundError, NotADirectoryError):
        return False


def _relative(name: str) -> str:
    """A path below the working folder in its short form."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name


def _inside(path: str) -> str:
    """`path` itself, when it stays below the root of the store."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or "\\" in path or ".." in parts or not parts:
        raise InputError(f"path {path!r} leaves its folder", do="use a plain relative path")
    return str(PurePosixPath(path))


@contextmanager
def _beside(target: Path) -> Iterator[IO[bytes]]:
    """Write a file so that it appears at `target` whole, synced to disk, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        Path(name).chmod(0o644)
        os.replace(name, target)
        _sync_folder(target.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def faults(url: str) -> Iterator[None]:
    """Turn errors of disks, networks and S3 into ours: what, which URL, what to do."""
    try:
        yield
    except ForgeError:
        raise
    except FileNotFoundError as error:
        raise InputError("not found", where=url, do="check the path, and the bucket") from error
    except OSError as error:
        raise _of_os(error, url) from error
    except Exception as error:
        known = _of_botocore(error, url)
        if known is None:
            raise
        raise known from error


def _of_os(error: OSError, url: str) -> ForgeError:
    code = str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TryAgain("no space left", where=url, do="free disk space and run again")
    if isinstance(error, PermissionError):
        return InputError(
            f"access refused {code}".strip(),
            where=url,
            do="check the folder's permissions, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
            "and the bucket's policy",
        )
    if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
        return InputError(f"not usable as a store ({error.strerror})", where=url)
    return TryAgain(f"storage failed ({error})", where=url, do="run again when it answers")


def _of_botocore(error: Exception, url: str) -> ForgeError | None:
    """Errors that botocore raises before any answer came; None for what is not its."""
    if not type(error).__module__.startswith(("botocore", "aiobotocore", "aiohttp")):
        return None
    if "Credentials" in type(error).__name__ or "Token" in type(error).__name__:
        return InputError(
            "no credentials",
            where=url,
            do="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod a role",
        )
    if "ParamValidation" in type(error).__name__ or "InvalidBucket" in str(error):
        return InputError(f"not a usable S3 URL ({error})", where=url)
    return TryAgain(
        f"storage does not answer ({error})", where=url, do="check AWS_ENDPOINT_URL, or run again"
    )
