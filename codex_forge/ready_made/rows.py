"""Rows of a file, one at a time: JSONL, JSON, CSV, TSV and Parquet, all of them also gzip'd.

A row that cannot be read is a row with a problem, and the next one is read all the same. Bytes that
are no text in the file's encoding become lone surrogates, which whoever takes a value refuses.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import IO, Any, NamedTuple, cast

from codex_forge.corpus.bad import BadRecordError
from codex_forge.corpus.encodings import Lines, open_lines
from codex_forge.corpus.strict_json import kind_of, parse_line
from codex_forge.errors import Damaged, InputError
from codex_forge.ready_made.json_text import json_rows
from codex_forge.ready_made.row import Row, bad_row
from codex_forge.storage import open_text

_LARGEST_FIELD = 1 << 24
"""Characters of a CSV field: what a forgotten quote swallows is bounded."""

_AHEAD = 1_000
"""Records of a JSON file whose keys are taken for its columns."""

_BATCH = 1_024

_WIDE = ("utf-16", "utf-32")
"""Encodings in which a line feed is no byte: their lines come as UTF-8."""


class _Format(NamedTuple):
    """How a kind of file is read; the rows of a table all have the columns of its head."""

    read: Callable[[str, str, Sequence[str] | None], Iterator[Row]]
    columns: Callable[[str, str], list[str]]
    is_table: bool


def rows_of(name: str, encoding: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a file in order, one in memory at a time (of Parquet, a row group's pages).

    Args:
        name: path or URL; its ending says what it is.
        encoding: of texts; `auto` is UTF-8, or what a byte order mark says.
        columns: read no others, where the format allows it.

    Raises:
        InputError: the file as a whole is not what its name says.
    """
    return _format_of(name).read(name, encoding, columns)


def columns_of(name: str, encoding: str) -> list[str]:
    """The columns of a table; the keys of the first 1,000 records of JSON, in order of meeting."""
    return _format_of(name).columns(name, encoding)


def is_table(name: str) -> bool:
    """Whether every row has every column."""
    return _format_of(name).is_table


def _format_of(name: str) -> _Format:
    ending = _path(name).removesuffix(".gz").rpartition(".")[2]
    if ending not in _FORMATS:
        raise InputError(
            "what is in it cannot be told from its name",
            where=name,
            do=f"call it {', '.join('.' + known for known in _FORMATS)}, or one with .gz",
        )
    return _FORMATS[ending]


def _path(name: str) -> str:
    """A path or URL without what may follow it, in small letters."""
    return (name.split("?", 1)[0] if "://" in name else name).lower()


def _is_gzip(name: str) -> bool:
    with open_text(name) as handle:
        return handle.read(2) == b"\x1f\x8b"


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    packed = _is_gzip(name)
    with open_text(name) as handle, _damage(name):
        if not packed:
            yield handle
            return
        with gzip.GzipFile(fileobj=handle) as inner:
            yield cast(IO[bytes], inner)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Name files whose content is broken; the storage's own faults pass."""
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise Damaged(f"is no whole gzip file ({error})", where=name, do="make it again") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"not {error.encoding} (byte {error.start})", where=name, do="set corpus.encoding"
        ) from error


@contextmanager
def _lines(name: str, encoding: str) -> Iterator[Iterator[str]]:
    """Lines of text with their line feeds."""
    with open_lines(name, encoding) as lines, closing(_bytes_of(lines)) as raw:
        yield (_decoded(line, lines) for line in raw)


def _bytes_of(lines: Lines) -> Generator[bytes, None, None]:
    yield from lines


def _decoded(line: bytes, lines: Lines) -> str:
    try:
        return lines.as_utf8(line).decode().removeprefix("\ufeff")
    except (BadRecordError, UnicodeDecodeError):
        # Columns keep their places; half a character marks the value, so that it is refused.
        known = "utf-8" if lines.encoding in _WIDE else lines.encoding
        return line.decode(known, "replace").replace("\ufffd", "\udcff")


def _records(name: str, encoding: str, _: Sequence[str] | None) -> Iterator[Row]:
    with open_lines(name, encoding) as lines, closing(_bytes_of(lines)) as raw:
        for number, line in enumerate(raw, start=1):
            if not line.strip():
                continue
            try:
                value, _plain = parse_line(lines.as_utf8(line))
                if not isinstance(value, dict):
                    raise BadRecordError("", f"expected an object, got {kind_of(value)}")
            except BadRecordError as problem:
                yield Row(str(number), {}, problem, line.decode("utf-8", "replace"))
            else:
                yield Row(str(number), value)


def _tree(name: str, encoding: str, _: Sequence[str] | None) -> Iterator[Row]:
    with open_lines(name, encoding) as lines:
        found = "utf-8-sig" if lines.encoding == "utf-8" else lines.encoding
    with (
        _opened(name) as handle,
        io.TextIOWrapper(handle, found, errors="surrogateescape", newline="\n") as text,
    ):
        yield from json_rows(text)


def _keys(name: str, encoding: str) -> list[str]:
    found: dict[str, None] = {}
    with closing(rows_of(name, encoding)) as rows:  # type: ignore[type-var]
        for row in islice(rows, _AHEAD):
            found.update(dict.fromkeys(row.values))
    return list(found)


@contextmanager
def _table(name: str, encoding: str) -> Iterator[tuple[list[str], Any]]:
    """The head of a CSV or TSV file, and the reader of what follows."""
    csv.field_size_limit(_LARGEST_FIELD)
    tabs = _path(name).removesuffix(".gz").endswith(".tsv")
    with _lines(name, encoding) as lines:
        first = next(lines, "")
        between = "\t" if tabs else ";" if first.count(";") > first.count(",") else ","
        reader = csv.reader(_again(first, lines), delimiter=between, strict=True)
        try:
            head = [column.strip() for column in next(reader, [])]
        except csv.Error as error:
            raise InputError(f"its head cannot be read ({error})", where=f"{name}:1") from error
        _check_head(name, head)
        yield head, reader


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _check_head(name: str, head: Sequence[str]) -> None:
    if not any(head):
        raise InputError("is empty", where=name, do="its first line must name its columns")
    if twice := [column for column in head if column and head.count(column) > 1]:
        raise InputError(f"has two columns {twice[0]!r}", where=f"{name}:1", do="rename one")


def _separated(name: str, encoding: str, _: Sequence[str] | None) -> Iterator[Row]:
    with _table(name, encoding) as (head, reader):
        while True:
            place = str(reader.line_num + 1)
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield bad_row(place, f"not CSV ({error})")
                continue
            if len(cells) == len(head):
                yield Row(place, dict(zip(head, cells, strict=True)))
            elif cells:
                text = json.dumps(cells, ensure_ascii=False)
                yield bad_row(place, f"expected {len(head)} fields, got {len(cells)}", text)


def _head(name: str, encoding: str) -> list[str]:
    with _table(name, encoding) as (head, _):
        return head


@contextmanager
def _parquet_file(name: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _opened(name) as handle, tempfile.TemporaryFile() as copy:
        source: IO[bytes] = handle
        if _is_gzip(name):  # Parquet is read from its end, gzip is not
            shutil.copyfileobj(handle, copy, 1 << 20)
            source = copy
        try:
            yield pq.ParquetFile(source)
        except pa.ArrowException as error:
            raise Damaged(f"is no Parquet ({error})", where=name, do="make it again") from error
        except OSError as error:
            if error.errno is not None or type(error) is not OSError:
                raise
            raise Damaged(f"is broken ({error})", where=name, do="make it again") from error


def _parquet_rows(name: str, _: str, columns: Sequence[str] | None) -> Iterator[Row]:
    number = 0
    with _parquet_file(name) as file:
        wanted = None if columns is None else list(columns)
        for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"row {number}", values)


def _parquet_columns(name: str, _: str) -> list[str]:
    with _parquet_file(name) as file:
        columns = list(file.schema_arrow.names)
    _check_head(name, columns)
    return columns


_FORMATS = {
    "jsonl": _Format(_records, _keys, is_table=False),
    "ndjson": _Format(_records, _keys, is_table=False),
    "json": _Format(_tree, _keys, is_table=False),
    "csv": _Format(_separated, _head, is_table=True),
    "tsv": _Format(_separated, _head, is_table=True),
    "parquet": _Format(_parquet_rows, _parquet_columns, is_table=True),
}
