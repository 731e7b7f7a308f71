"""A tree of objects below one URL, on a local folder or S3.

A local object is written beside its place, synced and renamed; an S3 object is one put (or one
multipart upload, invisible until it is complete). Credentials and endpoint come from the standard
AWS variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, ...).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast

from codex_forge.errors import InputError, StorageDown
from codex_forge.storage.faults import heals, patiently, status_of
from codex_forge.storage.files import filesystem, is_file

T = TypeVar("T")

_PART = ".part"
_SETTLE_SECONDS = 2.0
_SECONDS = 60.0
"""For one operation on a remote store, beside the time for its bytes."""
_SLOWEST = 1_000_000
"""Bytes a second; a remote store that is slower is taken for down."""


class Store:
    """A tree of objects below one URL. Paths are relative, with `/`, and never leave the tree."""

    def __init__(self, url: str, patience: float | None = None) -> None:
        """Open the store at `url` (a folder or `s3://bucket/prefix`); nothing is written yet.

        `patience` is for how many seconds an operation is tried again (see `patiently`).
        """
        path = url.removeprefix("file://").rstrip("/") or "/"
        self.root = path if "://" in path else os.path.expanduser(path)  # noqa: PTH111 - or a URL
        self.is_local = "://" not in self.root
        self._fs = filesystem(self.root)
        self._patience = patience
        self._excludes: bool | None = True if self.is_local else None

    def hasty(self) -> Store:
        """The same store for what is not worth a wait: every operation is tried once."""
        return Store(self.root, patience=0.0)

    def url(self, path: str = "") -> str:
        """Where `path` is, for people and for other tools."""
        return f"{self.root}/{_inside(path)}" if path else self.root

    def exists(self, path: str) -> bool:
        """Whether the object is there."""
        return self._do(path, lambda url: is_file(self._fs, url))

    def read(self, path: str) -> bytes:
        """The whole object.

        Raises:
            InputError: there is no such object, or it may not be read.
            TryAgain: the storage does not answer now.
        """
        return self._do(path, lambda url: cast(bytes, self._call("cat_file", url)))

    def write(self, path: str, data: bytes) -> None:
        """Put a small object, replacing what was there."""

        def attempt(url: str) -> None:
            if self.is_local:
                with _beside(Path(url)) as handle:
                    handle.write(data)
            else:
                self._call("pipe_file", url, data, size=len(data))

        self._do(path, attempt)

    def create(self, path: str, data: bytes) -> bool:
        """Put a small object unless there is one; returns whether it is ours that is there.

        Of several who try at once, one succeeds: by a hard link on a folder, by `If-None-Match`
        on S3. A store that ignores the condition is noticed: there the last writer wins, who is
        known after a pause; two writers are then told apart only if they start within it.
        """
        if self.is_local:
            return self._do(path, lambda url: _link(Path(url), data))
        if self._excludes is None and self.exists(path):
            return self.read(path) == data  # to try the condition might replace it
        if self._excludes is not False and not self._do(path, lambda url: self._put_new(url, data)):
            return self.read(path) == data  # ours, when the answer to the first attempt was lost
        if self._excludes is None:
            self._excludes = not self._do(path, lambda url: self._put_new(url, data))
        if self._excludes:
            return True
        if self.exists(path) and self.read(path) != data:
            return False
        self.write(path, data)
        time.sleep(_SETTLE_SECONDS)
        return self.read(path) == data

    def put(self, local: Path, path: str) -> None:
        """Copy a local file to the store."""

        def attempt(url: str) -> None:
            if self.is_local:
                with _beside(Path(url)) as handle, local.open("rb") as source:
                    shutil.copyfileobj(source, handle, 1 << 20)
            else:
                self._call("put_file", str(local), url, size=local.stat().st_size)

        self._do(path, attempt)

    def get(self, path: str, local: Path) -> None:
        """Copy an object of the store to a local file, which appears whole or not at all."""
        local.parent.mkdir(parents=True, exist_ok=True)
        part = local.with_name(f".{local.name}{_PART}")

        def attempt(url: str) -> None:
            size = 0 if self.is_local else self._call("info", url)["size"]
            self._call("get_file", url, str(part), size=size)

        try:
            self._do(path, attempt)
            part.replace(local)
        finally:
            part.unlink(missing_ok=True)

    def list(self, folder: str) -> list[str]:
        """Paths of all objects below `folder`, sorted; empty when there is none.

        Raises:
            InputError: the bucket itself is not there, or may not be listed.
        """
        return sorted(self.sizes(folder))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of all objects below `folder` by their paths."""
        found = self._do(folder, self._local_sizes if self.is_local else self._remote_sizes)
        return {f"{folder}/{name}" if folder else name: size for name, size in found.items()}

    def states(self, folder: str) -> dict[str, str]:
        """What changes with the content of an object, by path: size, and tag or time."""
        found = self._do(folder, self._local_states if self.is_local else self._remote_states)
        return {f"{folder}/{name}" if folder else name: state for name, state in found.items()}

    def check_sizes(self, folder: str, sizes: Mapping[str, int]) -> None:
        """Make sure that the store shows all of these files at their sizes, before they count.

        Raises:
            StorageDown: it does not: what was written cannot be read yet, or was cut off.
        """

        def attempt(url: str) -> None:
            found = self._local_sizes(url) if self.is_local else self._remote_sizes(url)
            for name, size in sizes.items():
                if found.get(name) != size:
                    raise StorageDown(
                        f"{name} was written with {size} bytes and shows {found.get(name)}",
                        where=url,
                        do="run again",
                    )

        self._do(folder, attempt)

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""

        def attempt(url: str) -> None:
            with suppress(FileNotFoundError):
                self._call("rm_file", url)
            if self.is_local:
                self._prune(Path(url).parent)

        self._do(path, attempt)

    def debris(self, folder: str = "") -> Sequence[tuple[str, float]]:
        """What cut-off writers left that is no object: (name for people, seconds since then)."""
        if self.is_local:
            now = time.time()
            files = self._do(folder, lambda url: list(_files(Path(url))))
            parts = ((path, facts) for path, facts in files if _is_part(path))
            return sorted((str(path), now - facts.st_mtime) for path, facts in parts)
        found = self._do(folder, self._uploads)
        return [(f"{key} (unfinished upload {upload})", age) for key, upload, age in found]

    def sweep(self, older_than: float, folder: str = "") -> int:
        """Remove debris older than so many seconds; returns how much."""
        if self.is_local:
            old = [name for name, age in self.debris(folder) if age > older_than]
            for name in old:
                Path(name).unlink(missing_ok=True)
            return len(old)
        uploads = [u for u in self._do(folder, self._uploads) if u[2] > older_than]
        for key, upload, _ in uploads:
            bucket, _, path = key.partition("/")
            self._do("", self._abort(bucket, path, upload))
        return len(uploads)

    def _abort(self, bucket: str, key: str, upload: str) -> Callable[[str], object]:
        return lambda _: self._fs.call_s3(
            "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload
        )

    def _uploads(self, url: str) -> Sequence[tuple[str, str, float]]:
        """Unfinished multipart uploads below a folder: (bucket/key, upload id, age in seconds)."""
        bucket, _, prefix = url.split("://", 1)[1].partition("/")
        place = f"{prefix}/" if prefix else ""  # not those of a store whose name begins alike
        answer = self._fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=place)
        now = time.time()
        return [
            (f"{bucket}/{u['Key']}", u["UploadId"], now - u["Initiated"].timestamp())
            for u in answer.get("Uploads") or ()
        ]

    def _do(self, path: str, action: Callable[[str], T]) -> T:
        url = self.url(path)
        return patiently(lambda: action(url), url, self._patience)

    def _call(self, method: str, *arguments: Any, size: int = 0, **options: Any) -> Any:
        """An operation of the file system, with an end: a write that is never answered has none.

        The client's own time-outs begin only when a body is sent, and a silent server may never
        ask for it.
        """
        if not getattr(self._fs, "async_impl", False):
            return getattr(self._fs, method)(*arguments, **options)
        from fsspec.asyn import sync

        seconds = _SECONDS + size / _SLOWEST
        action = getattr(self._fs, f"_{method}")
        return sync(self._fs.loop, action, *arguments, timeout=seconds, **options)

    def _put_new(self, url: str, data: bytes) -> bool:
        """Put with a condition; False when the store says that there is one already."""
        try:
            self._call("pipe_file", url, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if status_of(error) == HTTPStatus.PRECONDITION_FAILED:
                return False
            if error.errno in (errno.ENOSYS, errno.EINVAL) and not heals(error):
                self._excludes = False  # it does not know the condition
                return True
            raise
        return True

    def _local_sizes(self, url: str) -> dict[str, int]:
        base = Path(url)
        return {
            path.relative_to(base).as_posix(): facts.st_size
            for path, facts in _files(base)
            if not _is_part(path)
        }

    def _local_states(self, url: str) -> dict[str, str]:
        base = Path(url)
        return {
            path.relative_to(base).as_posix(): f"{facts.st_size} {facts.st_mtime_ns}"
            for path, facts in _files(base)
            if not _is_part(path)
        }

    def _remote_states(self, url: str) -> dict[str, str]:
        tags = ("ETag", "etag", "created")
        return {
            name: f"{facts['size']} {next((facts[tag] for tag in tags if tag in facts), '')}"
            for name, facts in self._remote_facts(url).items()
        }

    def _remote_sizes(self, url: str) -> dict[str, int]:
        return {name: int(facts["size"]) for name, facts in self._remote_facts(url).items()}

    def _remote_facts(self, url: str) -> dict[str, dict[str, Any]]:
        found = self._call("find", url, detail=True)
        # An object of the folder's own name, and the empty `x/` that consoles make, are no files.
        prefix = url.split("://", 1)[1] + "/"
        return {
            key.removeprefix(prefix): facts
            for key, facts in found.items()
            if key.startswith(prefix) and key[-1] != "/"
        }

    def _prune(self, folder: Path) -> None:
        """Remove folders that a deletion left empty, up to the root."""
        root = Path(self.root)
        while folder != root and folder.is_relative_to(root):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _inside(path: str) -> str:
    """`path` itself, when it stays below the root of the store."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or "\\" in path or ".." in parts or not parts:
        raise InputError(f"path {path!r} leaves its folder", do="use a plain relative path")
    return str(PurePosixPath(path))


def _files(base: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files below a folder; what is removed while we look is left out."""

    def missed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for folder, _, names in os.walk(base, onerror=missed):
        for name in names:
            path = Path(folder, name)
            with suppress(FileNotFoundError):
                facts = path.stat()
                if stat.S_ISREG(facts.st_mode):
                    yield path, facts


def _is_part(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(_PART)


@contextmanager
def _beside(target: Path) -> Iterator[IO[bytes]]:
    """Write a file so that it appears at `target` whole, synced to disk, or not at all."""
    descriptor, name = _temporary(target)
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


def _link(target: Path, data: bytes) -> bool:
    """Write a file unless there is one; a link, unlike a rename, never replaces."""
    descriptor, name = _temporary(target)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        Path(name).chmod(0o644)
        try:
            Path(target).hardlink_to(name)
        except FileExistsError:
            return target.read_bytes() == data
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            return _open_new(target, data)
        _sync_folder(target.parent)
        return True
    finally:
        Path(name).unlink(missing_ok=True)


def _open_new(target: Path, data: bytes) -> bool:
    """The same where files cannot be linked; a reader may see it before it is filled."""
    try:
        with target.open("xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
    except FileExistsError:
        return False
    return True


def _temporary(target: Path) -> tuple[int, str]:
    """A new hidden file beside `target`, whose folder another process may remove meanwhile."""
    for _ in range(20):
        with suppress(FileNotFoundError):
            _make_folder(target.parent)
            return tempfile.mkstemp(prefix=".", suffix=_PART, dir=target.parent)
    raise FileNotFoundError(errno.ENOENT, "its folder vanishes again and again", str(target))


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; `mkdir` raises when one vanishes just then."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        for above in (folder, *folder.parents):
            if above.exists() and not above.is_dir():
                raise
        raise FileNotFoundError(errno.ENOENT, "it vanished again", str(folder)) from error


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # removed, with all in it, by another process
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
