"""A file that is computed once and kept for other runs, within a limit of bytes for its folder.

Ranks that see the same folder share the work. The file is whole when it has its name; two runs may
make it at the same time: they write the same, and either may finish it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from codex_forge.errors import Preempted
from codex_forge.progress import progress
from codex_forge.stopping import stop
from codex_forge.train import ranks

log = logging.getLogger("codex_forge")

_STALE_SECONDS = 86_400.0


@dataclass(frozen=True)
class KeptFile:
    """Where the file is, its size in bytes, and the most that files of its kind may take there.

    Files are of a kind when their names are the same before the last `-`.
    """

    path: Path
    size: int
    limit: float

    def provide(
        self, pieces: Sequence[int], compute: Callable[[int], memoryview], what: str
    ) -> bool:
        """See that the file is there, and say whether it is. All ranks must call it.

        Args:
            pieces: the byte where each piece begins.
            compute: gives the bytes of the piece of this number.
            what: a word for the pieces, for the progress.

        Raises:
            Preempted: a signal came.
        """
        if any(ranks.any_of(not self._is_whole())):
            self._make(pieces, compute, what)
        if not self._is_whole():
            return False
        with suppress(OSError):
            os.utime(self.path)  # used last now
        return True

    def _is_whole(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size == self.size

    def _make(self, pieces: Sequence[int], compute: Callable[[int], memoryview], what: str) -> None:
        part = self.path.with_suffix(".part")
        share = _Share.of(self.path.parent, len(pieces))
        handle = self._open(part)
        failed = any(ranks.any_of(handle is None))
        if handle is not None:
            try:
                if not failed:
                    failed = self._write(handle, share, pieces, compute, what)
            finally:
                os.close(handle)
        if any(ranks.any_of(failed)):
            part.unlink(missing_ok=True)
        elif share.place == 0:
            with suppress(FileNotFoundError):  # another run was first
                part.replace(self.path)
        ranks.any_of(False)  # none goes on before the file is there

    def _open(self, part: Path) -> int | None:
        """A handle on a file that has its bytes on the disk; None when it cannot be had."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room()
            handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            self._give_up(error)
            return None
        try:
            os.ftruncate(handle, self.size)
            os.posix_fallocate(handle, 0, self.size)  # a disk that is full says so now
        except OSError as error:
            os.close(handle)
            part.unlink(missing_ok=True)
            self._give_up(error)
            return None
        return handle

    def _write(
        self,
        handle: int,
        share: _Share,
        pieces: Sequence[int],
        compute: Callable[[int], memoryview],
        what: str,
    ) -> bool:
        """Write this rank's pieces, and wait for the others'; whether it failed."""
        failed = False
        turns = range(share.rounds)
        for turn in progress(turns, what) if ranks.rank() == 0 else turns:
            if ranks.world_size() > 1 and any(ranks.any_of(stop.requested)):
                raise Preempted("stopped before the first step")
            number = share.place + turn * share.together
            if number < len(pieces) and not failed:
                data = compute(number)
                try:
                    _write_at(handle, pieces[number], data)
                except OSError as error:
                    self._give_up(error)
                    failed = True
        if not failed:
            os.fsync(handle)
        return failed

    def _make_room(self) -> None:
        """Remove the files used longest ago until there is room for this one."""
        kind = self.path.name.rpartition("-")[0]
        others = []
        for path in self.path.parent.glob(f"{kind}-*"):
            with suppress(FileNotFoundError):
                told = path.stat()
                is_part = path.suffix == ".part" and time.time() - told.st_mtime < _STALE_SECONDS
                # Another rank may write to what is there of this very file.
                if not is_part and path.stem != self.path.stem:
                    others.append((told.st_mtime, told.st_size, path))
        total = self.size + sum(size for _, size, _ in others)
        for _, size, path in sorted(others):
            if total > self.limit:
                path.unlink(missing_ok=True)  # a run that reads it goes on reading
                total -= size

    def _give_up(self, error: OSError) -> None:
        where, why = self.path.parent, error.strerror or error
        log.warning("  %s: %s; what was to be kept there is computed each time", where, why)


@dataclass(frozen=True)
class _Share:
    """A rank's part of the pieces: every `together`-th, from `place` on, in `rounds`."""

    place: int
    together: int
    rounds: int

    @classmethod
    def of(cls, folder: Path, pieces: int) -> _Share:
        own = (socket.gethostname(), str(folder.absolute()))
        all_of = ranks.from_all(own)
        group = [rank for rank, other in enumerate(all_of) if other == own]
        fewest = min(all_of.count(other) for other in all_of)
        return cls(group.index(ranks.rank()), len(group), -(-pieces // fewest))


def _write_at(handle: int, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        offset, data = offset + written, data[written:]
