"""One row of a file."""

from __future__ import annotations

from typing import Any, NamedTuple

from codex_forge.corpus.bad import BadRecordError


class Row(NamedTuple):
    """A row: its place in the file, and its values by column, or why there are none."""

    place: str
    values: dict[str, Any]
    problem: BadRecordError | None = None
    text: str = ""
    """What stands there, when it could not be read."""


def bad_row(place: str, reason: str, text: str = "", column: str = "") -> Row:
    """A row that cannot be read."""
    return Row(place, {}, BadRecordError(column, reason), text)


def is_whole(text: str) -> bool:
    """Whether a file can hold the text: half of a surrogate pair is none."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
