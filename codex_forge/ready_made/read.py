"""Ready-made files as a stream of records that can be read again, with what was set aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codex_forge.artifact import Input, hash_json
from codex_forge.config.pairs import ReadyData
from codex_forge.corpus.bad import BadRecord, BadRecordError, BadRecords, refuse
from codex_forge.corpus.encodings import encoding_named
from codex_forge.errors import InputError
from codex_forge.progress import progress
from codex_forge.ready_made.columns import Columns, match_columns, never_met, said_of
from codex_forge.ready_made.row import Row
from codex_forge.ready_made.rows import columns_of, is_table, rows_of
from codex_forge.ready_made.values import record_of
from codex_forge.records import ReadyPair, ScoredPair
from codex_forge.storage import expand, hash_of

_LONGEST = 2_000

Record = ReadyPair | ScoredPair


@dataclass(frozen=True)
class ReadyFiles:
    """The files of ready-made data, each with the entry of the config that names it."""

    files: tuple[tuple[str, ReadyData], ...]

    def inputs(self) -> dict[str, Input]:
        """What an artifact records: a digest over the content of all files; none for no files."""
        if not self.files:
            return {}
        digest = hash_json([hash_of(name) for name, _ in self.files])
        names = ", ".join(name for name, _ in self.files)
        return {"data": Input("file", names, digest, digest)}


@dataclass
class ReadyMade:
    """All usable records, streamed anew each time they are iterated over, in the files' order."""

    files: ReadyFiles
    encoding: str
    columns: tuple[Columns, ...]
    """Of each file."""
    bad: BadRecords
    """What was set aside; on disk."""
    pairs: int = 0
    scored: int = 0

    def __iter__(self) -> Iterator[Record]:
        """The records; what is bad is passed over, for `bad` names it."""
        for record in self._stream():
            if not isinstance(record, BadRecord):
                yield record

    def __len__(self) -> int:
        """How many records there are."""
        return self.pairs + self.scored

    def read_through(self) -> None:
        """Read everything once, to know what is bad and how much is not."""
        for record in progress(self._stream(), "ready-made records read"):
            if isinstance(record, BadRecord):
                self.bad.append(record)
            elif isinstance(record, ReadyPair):
                self.pairs += 1
            else:
                self.scored += 1

    def _stream(self) -> Iterator[Record | BadRecord]:
        taken: dict[str, bytes] = {}
        for (name, data), columns in zip(self.files.files, self.columns, strict=True):
            yield from self._file(name, data, columns, taken)

    def _file(
        self, name: str, data: ReadyData, columns: Columns, taken: dict[str, bytes]
    ) -> Iterator[Record | BadRecord]:
        met: dict[str, None] = {}
        there = columns.used(columns_of(name, self.encoding)) if is_table(name) else None
        for row in rows_of(name, self.encoding, there):
            met.update(dict.fromkeys(row.values))
            try:
                if row.problem is not None:
                    raise row.problem
                record = record_of(row.values, columns)
                _check_id(record, row, columns, taken)
            except BadRecordError as problem:
                yield BadRecord(name, row.place, problem.field, problem.reason, _kept(row))
            else:
                yield record
        for column in never_met(data, met) if met and there is None else ():
            yield BadRecord(name, "all", column, said_of(column, list(met)), None)


def find_ready(data: Sequence[ReadyData]) -> ReadyFiles:
    """Resolve the paths, globs and URLs of `pairs.data`.

    Raises:
        InputError: one of them names no file.
    """
    return ReadyFiles(
        tuple((name, entry) for entry in data for path in entry.files for name in expand(path))
    )


def read_ready(
    files: ReadyFiles,
    encoding: str = "auto",
    on_bad_record: str = "fail",
    scratch: Path | None = None,
) -> ReadyMade:
    """Check the columns of every file, then every record; what is returned streams the good ones.

    Args:
        files: from `find_ready`.
        encoding: of texts, as `corpus.encoding`.
        on_bad_record: `fail` or `reject`.
        scratch: a folder for what is set aside; the system's temporary one when not given.

    Raises:
        InputError: columns are not there; or there are bad records and `on_bad_record` is `fail`;
            or no usable record is left.
    """
    encoding = encoding_named(encoding)
    found = [_columns(name, data, encoding) for name, data in files.files]
    if wrong := [said for said in found if isinstance(said, str)]:
        raise InputError(
            "\n  ".join(["ready-made data cannot be read:", *wrong]) + "\n",
            do="say under pairs.data.columns what the columns are called there",
        )
    columns = tuple(c for c in found if isinstance(c, Columns))
    ready = ReadyMade(files, encoding, columns, BadRecords(scratch))
    ready.read_through()
    if ready.bad and on_bad_record == "fail":
        refuse(ready.bad)
    if files.files and not len(ready):
        first = f"the first problem was {ready.bad[0]}" if ready.bad else "give some"
        raise InputError("no usable ready-made record", where=files.files[0][0], do=first)
    return ready


def _columns(name: str, data: ReadyData, encoding: str) -> Columns | str:
    there = columns_of(name, encoding)
    if not there:  # nothing but bad rows, which are named one by one
        return Columns(False, {})
    found = match_columns(data, there, is_table=is_table(name))
    return f"{name}: {found}" if isinstance(found, str) else found


def _check_id(record: Record, row: Row, columns: Columns, taken: dict[str, bytes]) -> None:
    """Refuse an id that two different records claim; the same record twice is a duplicate."""
    column = columns.names["id"]
    if row.values.get(column) is None:
        return
    content = hashlib.blake2b(repr(record).encode(), digest_size=8).digest()
    if taken.setdefault(record.pair_id, content) != content:
        raise BadRecordError(column, f"{record.pair_id} is the id of another record as well")


def _kept(row: Row) -> object:
    """What is kept of a row that was set aside: JSON that every file can hold."""
    if not row.values:
        return row.text.encode("utf-8", "backslashreplace").decode().strip()[:_LONGEST] or None
    text = json.dumps(row.values, ensure_ascii=True, default=str)
    return json.loads(text) if "\\ud" not in text else text[:_LONGEST]
