"""JSON files as rows: one list, or an object that holds one, parsed element by element.

A list is never in memory whole. After a mistake of spelling in a list nobody knows where its next
element starts: that file ends there, with the line of the mistake.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from codex_forge.corpus.strict_json import kind_of
from codex_forge.ready_made.row import Row, bad_row

_PIECE = 1 << 16
_SPACE = re.compile(r"[ \t\n\r]*")
_LONGEST_WORD = 16
"""A value that is cut off may be found wrong so many characters before the end: `fals`, `-1`."""


class _RepeatedKey(dict[str, Any]):
    """An object of which one key was given twice, so that a value is lost."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _RepeatedKey(found)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def json_rows(handle: TextIO) -> Iterator[Row]:
    """The elements of a list, or of the one list in an object."""
    text = _Text(handle)
    try:
        first = text.sign()
        if first == "[":
            yield from _elements(text, "")
        elif first == "{":
            yield from _members(text)
        else:
            yield bad_row(str(text.line), "expected a list, or an object that holds one")
            return
        if text.sign():
            yield bad_row(
                str(text.line),
                "more follows after its end; a file of a record a line is called .jsonl",
            )
    except (ValueError, RecursionError) as error:
        yield bad_row(str(text.line_of(error)), _reason(error))


def _row(value: Any, place: str) -> Row:
    if isinstance(value, _RepeatedKey):
        return bad_row(place, "a key is given twice in one object", json.dumps(value))
    if not isinstance(value, dict):
        return bad_row(place, f"expected an object, got {kind_of(value)}", json.dumps(value))
    return Row(place, value)


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg})"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    return "holds a number of too many digits"  # Python takes 4,300


def _elements(text: _Text, key: str) -> Iterator[Row]:
    text.take("[")
    number = 0
    while text.sign() != "]":
        if number:
            text.take(",")
        yield _row(text.value(), f"{key}[{number}]")
        number += 1
    text.take("]")


def _members(text: _Text) -> Iterator[Row]:
    """The elements of the list in an object; what else the object says is passed over."""
    text.take("{")
    found = ""
    count = 0
    while text.sign() != "}":
        if count:
            text.take(",")
        key = text.value()
        text.take(":")
        if text.sign() != "[":
            text.value()
        elif found:
            yield bad_row(str(text.line), f"holds two lists, {found} and {key}; expected one")
            text.value()
        else:
            found = str(key)
            yield from _elements(text, found)
        count += 1
    text.take("}")
    if not found:
        yield bad_row("1", "expected a list, or an object that holds one")


class _Text:
    """A text of which only the piece that is being parsed is in memory."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle
        self._piece, self._at, self._lines = "", 0, 1

    @property
    def line(self) -> int:
        """Line of what comes next."""
        return self._lines + self._piece.count("\n", 0, self._at)

    def line_of(self, error: Exception) -> int:
        """Line of a mistake."""
        if isinstance(error, json.JSONDecodeError) and error.doc == self._piece:
            return self._lines + self._piece.count("\n", 0, error.pos)
        return self.line

    def sign(self) -> str:
        """The next sign that is no space; empty at the end."""
        while True:
            space = _SPACE.match(self._piece, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._piece):
                return self._piece[self._at]
            if not self._fill():
                return ""

    def take(self, sign: str) -> None:
        """Go past a sign that must be there."""
        if self.sign() != sign:
            raise json.JSONDecodeError(f"Expecting {sign!r}", self._piece, self._at)
        self._at += 1

    def value(self) -> Any:
        """The next value, whole."""
        self.sign()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._piece, self._at)
                # A number at the end of the piece may go on in the next.
                if end < len(self._piece) or not self._fill():
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if not self._is_cut_off(error) or not self._fill():
                    raise

    def _is_cut_off(self, error: json.JSONDecodeError) -> bool:
        near = error.pos >= len(self._piece) - _LONGEST_WORD
        return near or error.msg.startswith("Unterminated")

    def _fill(self) -> bool:
        """Read on, in growing steps: a long value is not parsed from its start too often."""
        more = self._handle.read(max(_PIECE, len(self._piece) - self._at))
        if more:
            self._lines += self._piece.count("\n", 0, self._at)
            self._piece, self._at = self._piece[self._at :] + more, 0
        return bool(more)
