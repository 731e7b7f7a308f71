"""Copies of models, each made once, whole, and checked before each use.

    <CODEX_FORGE_CACHE>/models/<key>/files/...     the model
                                     sums.json     their sha256
                              .<key>.lock          held by the one who copies

A copy is made beside its place and renamed, so that it is there whole or not at all. Without
CODEX_FORGE_CACHE it lives as long as its process.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from codex_forge.artifact import hash_file
from codex_forge.errors import ConfigError
from codex_forge.model.lasting import CACHE_VARIABLE, lasting_folder
from codex_forge.stopping import stop

log = logging.getLogger("codex_forge")

_FILES, _SUMS = "files", "sums.json"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class Source(Protocol):
    """A model that is elsewhere."""

    @property
    def key(self) -> str:
        """Another one for each content."""

    def bring(self, into: Path) -> Path:
        """Copy the files; returns their folder, below `into`."""


def copy_of(source: Source, url: str) -> Path:
    """The folder of a whole copy, made now unless it is there; `url` is for people.

    Raises:
        ConfigError: there is no place for one.
        TryAgain: the model changes, or its store does not answer.
    """
    place = lasting_folder("models") / source.key
    if not _is_whole(place):
        _copy(source, place, url)
    return place / _FILES


def _copy(source: Source, place: Path, url: str) -> None:
    """Make the copy, unless another process does while we wait for its lock."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place, url) as alone:
            if not _is_whole(place):
                _make(source, place, url, alone=alone)
    except PermissionError as error:
        raise _no_room(error, place.parent) from error
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise
        raise _no_room(error, place.parent) from error


def _no_room(error: OSError, folder: Path) -> ConfigError:
    return ConfigError(
        f"no copy of a model can be made there ({error.strerror})",
        where=folder,
        do=f"set {CACHE_VARIABLE} to a folder that may be written",
    )


@contextmanager
def _locked(place: Path, url: str) -> Iterator[bool]:
    """Wait until nobody else copies it; tells whether that is so: some disks know no locks."""
    with place.with_name(f".{place.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("  another process copies %s; waiting for it", url)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            yield False
            return
        yield True


def _make(source: Source, place: Path, url: str, *, alone: bool) -> None:
    for left in place.parent.glob(f".{place.name}-*") if alone else ():  # of one that was killed
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        log.info("  copying %s", url)
        copied = source.bring(work / "brought")
        whole = work / "whole"
        whole.mkdir()
        copied.rename(whole / _FILES)
        (whole / _SUMS).write_text(json.dumps(_sums(whole / _FILES), indent=1))
        _put(whole, place, work / "damaged")
    finally:
        with stop.held():
            shutil.rmtree(work, ignore_errors=True)


def _put(whole: Path, place: Path, damaged: Path) -> None:
    """Put a copy in its place; where there are no locks, another one may have come first."""
    if place.exists():
        log.warning("  the copy in %s was damaged; it is made again", place)
        place.rename(damaged)
    try:
        whole.rename(place)
    except OSError:
        if not _is_whole(place):
            raise


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def _is_whole(place: Path) -> bool:
    """Whether the copy is there and as it was made."""
    try:
        told = json.loads((place / _SUMS).read_bytes())
        return bool(told == _sums(place / _FILES))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
