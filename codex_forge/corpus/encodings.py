"""Input files as lines of UTF-8, whatever they are packed with and written in.

A file that begins as gzip, bzip2, xz or Zstandard data does is unpacked, whatever its name. A byte
order mark says which Unicode encoding it is in; else it is what `corpus.encoding` names, and UTF-8
when that is `auto`. Lines end with LF or CR LF, never with U+2028 or other signs within texts.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, cast

from codex_forge.corpus.strict_json import decoded, not_in
from codex_forge.errors import ConfigError, InputError
from codex_forge.storage import faults, open_text

AUTO = "auto"

_BUFFER = 1 << 20

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_NUL = b"\0"

_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


def encoding_named(name: str) -> str:
    """The one name of an encoding that has many, or `auto`.

    Raises:
        ConfigError: it is the name of none.
    """
    if name == AUTO:
        return AUTO
    try:
        # Some codecs (`idna`) are for single words: they cannot leave out what is no character.
        decoder = codecs.getincrementaldecoder(name)("ignore")
        if decoder.decode("{\n".encode(name)) == "{\n":
            return codecs.lookup(name).name
    except (LookupError, ValueError):  # unknown, or no encoding of texts
        pass
    raise ConfigError(
        f"{name!a} is no encoding",
        where="corpus.encoding",
        do="give auto, or a name that Python knows, such as utf-8, utf-16, cp1252 or shift_jis",
    )


class Lines:
    """The lines of one file, opened by `open_lines`."""

    def __init__(self, stream: io.BufferedReader, name: str, encoding: str) -> None:
        """Find out what the file is written in."""
        self._stream, self._name = stream, name
        self.head = stream.peek(_BUFFER)
        self.encoding = _encoding_of(self.head, encoding, name)
        self._is_split_as_bytes = "\n".encode(self.encoding) == b"\n"
        self.encoding_of_lines = self.encoding if self._is_split_as_bytes else "utf-8"
        """Of what the iteration gives."""

    def begins(self) -> str:
        """The first characters, a few thousand or fewer, without marks and white space."""
        codec = codecs.getincrementaldecoder(self.encoding)("ignore")
        return codec.decode(self.head[:8192]).lstrip("\ufeff \t\r\n")

    def __iter__(self) -> Iterator[bytes]:
        """Lines as they are; of encodings in which a line feed is no byte, as UTF-8.

        Raises:
            InputError: they cannot be split, as the file is not in that encoding.
        """
        return iter(self._stream) if self._is_split_as_bytes else self._decoded()

    def _decoded(self) -> Iterator[bytes]:
        number = 0
        text = io.TextIOWrapper(self._stream, self.encoding, newline="\n")
        try:
            for text_line in text:
                number += 1
                yield text_line.encode()
        except UnicodeDecodeError as error:
            raise _not_in(error, self._name, self.encoding, number) from error
        finally:
            text.detach()

    def as_utf8(self, line: bytes) -> bytes:
        """One line of the iteration as UTF-8.

        Raises:
            BadRecordError: it is not in the encoding of the file.
        """
        if self.encoding_of_lines == "utf-8":
            return line
        try:
            # UTF-7 can spell half characters; they are refused with their record.
            return line.decode(self.encoding_of_lines).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise not_in(error, self.encoding_of_lines) from error


@contextmanager
def open_lines(name: str, encoding: str) -> Iterator[Lines]:
    """Open an input file (local path or URL) as lines."""
    with _unpacked(name) as stream:
        yield Lines(stream, name, encoding)


def read_whole(name: str, encoding: str) -> str:
    """The whole text of an input file.

    Raises:
        BadRecordError: it is not in its encoding.
        InputError: it cannot be unpacked.
    """
    with _unpacked(name) as stream:
        data = stream.read()
    found = _encoding_of(data, encoding, name)
    if found == "utf-8":
        return decoded(data)
    try:
        return data.decode(found)
    except UnicodeDecodeError as error:
        raise not_in(error, found) from error


def _encoding_of(head: bytes, encoding: str, name: str) -> str:
    """What a file is in, by its first bytes and what was named; one encoding for all its bytes.

    Raises:
        InputError: it is in UTF-16 or UTF-32 without a mark, and nothing was named.
    """
    for mark, found in _MARKS:
        if head.startswith(mark):
            return found
    if encoding in ("utf-16", "utf-32"):
        return f"{encoding}-{'be' if head[:1] == _NUL else 'le'}"
    if encoding != AUTO:
        return encoding
    # JSON begins with ASCII: only in these encodings is one of its first two bytes NUL.
    if head[:2].count(_NUL) == 1 or head[:4].count(_NUL) == 3:  # noqa: PLR2004
        wide = "utf-32" if head[:4].count(_NUL) == 3 else "utf-16"  # noqa: PLR2004
        raise InputError(
            f"looks like {wide} without a byte order mark",
            where=name,
            do=f"set corpus.encoding={wide}, or write the files in UTF-8",
        )
    return "utf-8"


def _not_in(error: UnicodeDecodeError, name: str, encoding: str, lines: int) -> InputError:
    found = error.object[error.start : error.end].hex(" ")
    return InputError(
        f"not {encoding} after line {lines}: found {found} ({error.reason})",
        where=name,
        do="mend the file, or set corpus.encoding to the encoding that it is in",
    )


@contextmanager
def _unpacked(name: str) -> Iterator[io.BufferedReader]:
    with ExitStack() as stack:
        raw = stack.enter_context(open_text(name))
        packed = io.BufferedReader(cast(Any, _Named(raw, name)), _BUFFER)
        unpack = _unpacker(packed.peek(8))
        if unpack is None:
            yield packed
            return
        unpacked = _Unpacked(stack.enter_context(unpack(packed)), name)
        yield io.BufferedReader(cast(Any, unpacked), _BUFFER)


def _unpacker(head: bytes) -> Any:
    """What unpacks a file that begins so; None when it is not packed."""
    if head.startswith(_GZIP):
        return lambda packed: gzip.GzipFile(fileobj=packed)
    if head.startswith(_BZIP2):
        return bz2.BZ2File
    if head.startswith(_XZ):
        return lzma.LZMAFile
    if head.startswith(_ZSTD):
        return _zstd
    return None


def _zstd(packed: IO[bytes]) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd")


class _Named(io.RawIOBase):
    """A stream of the storage whose faults are ours already: what is left is the packing's."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with faults(self._name):
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Unpacked(io.RawIOBase):
    """Unpacked bytes."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name = stream, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise InputError(
                f"its compressed data are cut off or damaged ({error})",
                where=self._name,
                do="copy the file again",
            ) from error
        buffer[: len(data)] = data
        return len(data)
