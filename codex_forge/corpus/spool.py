"""A file without a name: bytes are added at its end, and read from any place.

It is read with `pread`: pages of a mapped file would count as memory of the process. As it has no
name, nothing of it is left when the process ends, however it ends.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

_BUFFER = 1 << 20


class Spool:
    """Bytes on disk."""

    def __init__(self, scratch: Path | None = None) -> None:
        """An empty one in the folder `scratch`, or in the system's temporary folder."""
        with tempfile.TemporaryFile(dir=scratch) as handle:
            self._file = os.dup(handle.fileno())
        weakref.finalize(self, os.close, self._file)
        self._pending: list[bytes] = []
        self._waiting = 0
        self.size = 0
        """Bytes that it holds."""

    def write(self, data: bytes) -> int:
        """Add bytes; returns the place where they end, and the next will begin."""
        self._pending.append(data)
        self._waiting += len(data)
        self.size += len(data)
        if self._waiting >= _BUFFER:
            self.flush()
        return self.size

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`."""
        if self._pending:
            self.flush()
        data = os.pread(self._file, end - start, start)
        while len(data) < end - start:  # one call gives 2 GiB at most
            more = os.pread(self._file, end - start - len(data), start + len(data))
            if not more:
                raise EOFError(f"the spool ends at byte {start + len(data)}, before {end}")
            data += more
        return data

    def flush(self) -> None:
        """Write what waits in memory."""
        data = memoryview(b"".join(self._pending))
        self._pending.clear()
        self._waiting = 0
        while data:
            data = data[os.write(self._file, data) :]
