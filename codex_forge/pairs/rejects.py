"""What was set aside while pairs were made: kept with its reason, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from codex_forge.corpus import BadRecord
from codex_forge.jsonl import write_jsonl

Rejected = dict[str, Any]


class Rejects:
    """Counts by kind and reason; every shard meets what concerns the whole, the first keeps it."""

    def __init__(self, path: Path, *, of_whole: bool = True) -> None:
        """`path` is written by `write`; `of_whole`: keep more than the pairs of this shard."""
        self._path, self._of_whole = path, of_whole
        self._kept: list[Rejected] = []
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, reason: str, about: str, text: str) -> None:
        """Set one thing aside."""
        self.keep({"kind": kind, "reason": reason, "about": about, "text": text})

    def keep(self, record: Rejected) -> None:
        """Set a record aside that knows its `kind` and `reason`."""
        if self._of_whole or record["kind"] == "pair":
            self._kept.append(record)
            self.counts[f"{record['kind']}: {record['reason']}"] += 1

    def write(self, bad: Iterable[BadRecord] = ()) -> int:
        """Write everything, records that could not be read first; returns how many there are."""
        return write_jsonl(self._path, self._all(bad))

    def _all(self, bad: Iterable[BadRecord]) -> Iterator[Rejected]:
        for record in bad if self._of_whole else ():
            self.counts["bad record"] += 1
            yield {"kind": "record", "reason": str(record), "record": record.record}
        yield from self._kept
