"""Records that cannot be used: where each is, which field, why. They are kept on disk.

A corpus in the wrong encoding can hold a million of them; memory holds eight bytes of each.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, overload

from codex_forge.corpus.spool import Spool
from codex_forge.errors import InputError

_SHOWN = 10


class BadRecord(NamedTuple):
    """A record that was set aside: where it is, which field, and what was expected."""

    file: str
    place: str
    field: str
    reason: str
    record: Any

    def __str__(self) -> str:
        at = f"{self.file}:{self.place}"
        text = f"{at}: {self.field}: {self.reason}" if self.field else f"{at}: {self.reason}"
        # A field name comes from the data: it must not write lines of its own to a log.
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


class BadRecordError(Exception):
    """A record is unusable."""

    def __init__(self, field: str, reason: str) -> None:
        """`field` is empty when the whole record is meant."""
        super().__init__(field, reason)
        self.field, self.reason = field, reason


class BadRecords(Sequence[BadRecord]):
    """Bad records in the order in which they were found; each is read from disk when asked for."""

    def __init__(self, scratch: Path | None = None) -> None:
        """None yet; they will lie in the folder `scratch`, or in the system's temporary one."""
        self._spool = Spool(scratch)
        self._starts = array("q", [0])

    def append(self, bad: BadRecord) -> None:
        """Keep one more."""
        # In ASCII: the record, or the name of its field, may hold half of a surrogate pair.
        self._starts.append(self._spool.write(json.dumps(bad).encode("ascii")))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, key: int) -> BadRecord: ...
    @overload
    def __getitem__(self, key: slice) -> list[BadRecord]: ...
    def __getitem__(self, key: int | slice) -> BadRecord | list[BadRecord]:
        if isinstance(key, slice):
            return [self._read(row) for row in range(len(self))[key]]
        return self._read(range(len(self))[key])

    def __iter__(self) -> Iterator[BadRecord]:
        return (self._read(row) for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BadRecords) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _read(self, row: int) -> BadRecord:
        data = self._spool.read(self._starts[row], self._starts[row + 1])
        return BadRecord(*json.loads(data))


def refuse(bad: BadRecords) -> NoReturn:
    """Stop at bad records, of which the first ten are shown.

    Raises:
        InputError: always.
    """
    shown = "\n  ".join(str(record) for record in bad[:_SHOWN])
    more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise InputError(
        f"{len(bad)} bad record{'s' * (len(bad) > 1)}, nothing was written:\n  {shown}{more}\n",
        do="mend them, or set corpus.on_bad_record=reject to go on without them",
    )
