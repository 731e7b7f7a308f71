"""Strict JSON: what is accepted means the same to every reader.

Refused beside what is no JSON: a key given twice (most parsers drop the first value in silence),
`NaN` and `Infinity`, numbers beyond double precision's range, half of a surrogate pair, NUL
characters (which C libraries and databases take for the end of a text), and nesting deeper than
100 levels. Most records are read by the `orjson` library, and its answer is taken only where it
must be the same as that of the strict parser; the rest, errors among them, is read by `json`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

import orjson

from codex_forge.corpus.bad import BadRecordError

DEEPEST = 100
"""Levels of lists and objects within each other."""

_BEYOND_INT64 = 2.0**63
"""orjson reads a whole number beyond 64 bits as a float, which is then as large as this."""

_AFTER_KEY = re.compile(rb'"[ \t\r\n]*:')
"""Matches after every key, and sometimes in a text: never less often than there are keys."""


class NotJsonError(BadRecordError):
    """Text that no JSON parser takes; knows its line."""

    def __init__(self, error: json.JSONDecodeError) -> None:
        """As Python's parser found it."""
        super().__init__("", f"not JSON ({error.msg.removesuffix(' at')} at column {error.colno})")
        self.line = error.lineno


class _TooDeepError(Exception):
    """More than `DEEPEST` levels."""


def parse_line(line: bytes) -> tuple[Any, bool]:
    """The value that a line of UTF-8 holds, and whether it is plain (see `dump`).

    Raises:
        BadRecordError: it is not strict JSON.
    """
    try:
        value = orjson.loads(line)
        plain = _is_plain(value, line)
    except (orjson.JSONDecodeError, _TooDeepError):
        plain = False
    if not plain:
        value = parse(decoded(line))
        refuse_half_characters(value)
    if b"\\u0000" in line:
        refuse_nul(value)
    return value, plain


def decoded(line: bytes) -> str:
    """Text of UTF-8 with or without a byte order mark.

    Raises:
        BadRecordError: it is not UTF-8; names the byte.
    """
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_in(error, "UTF-8") from error


def not_in(error: UnicodeDecodeError, encoding: str) -> BadRecordError:
    """What to say of bytes that are no text in an encoding."""
    byte = error.object[error.start]
    return BadRecordError(
        "",
        f"not {encoding} (byte {error.start}): found 0x{byte:02x}; if the file is in another "
        "encoding, set corpus.encoding to its name, such as cp1252 or utf-16",
    )


def parse(text: str) -> Any:
    """The value that a text holds, by the strict parser; half characters and NUL may be in it.

    Raises:
        BadRecordError: it is not strict JSON.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_reject_constant,
            parse_float=_finite,
            object_pairs_hook=_distinct_keys,
        )
        _count_keys(value, DEEPEST)
    except json.JSONDecodeError as error:
        raise NotJsonError(error) from error
    except ValueError as error:  # Python takes whole numbers of up to 4300 digits
        raise BadRecordError("", "holds a number of too many digits") from error
    except (RecursionError, _TooDeepError) as error:
        raise BadRecordError("", f"is nested too deep (more than {DEEPEST} levels)") from error
    return value


def dump(value: Any, plain: bool) -> bytes:
    """JSON for `load`; `plain` values are those that orjson reads back as they were."""
    if plain:
        return orjson.dumps(value)
    return b" " + json.dumps(value, ensure_ascii=False).encode()


def load(data: bytes) -> Any:
    """What `dump` was given."""
    return json.loads(data) if data[:1] == b" " else orjson.loads(data)


def refuse_half_characters(value: Any) -> None:
    """Refuse half of a surrogate pair: JSON can spell it, no file can hold it.

    Raises:
        BadRecordError: it is there.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRecordError("", "holds half of a surrogate pair, which is no text") from error


def refuse_nul(value: Any) -> None:
    """Refuse a NUL character in any text of a record; names the field.

    Raises:
        BadRecordError: it is there.
    """
    fields = value.items() if isinstance(value, dict) else (("", value),)
    for key, field in fields:
        if "\0" in key or _has_nul(field):
            raise BadRecordError(key, "holds a NUL character, at which databases cut texts off")


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    if isinstance(value, str) and not value.strip():
        return "an empty text"
    return names.get(type(value), type(value).__name__)


def _is_plain(value: Any, line: bytes) -> bool:
    """Whether the strict parser would have read the same."""
    keys = _count_keys(value, DEEPEST)
    # Each key that was read stands in the line. If there is no other, none was given twice.
    return keys >= 0 and keys == len(_AFTER_KEY.findall(line))


def _count_keys(value: Any, levels: int) -> int:
    """Keys of all objects in a value; hugely negative when a number may have been rounded.

    Raises:
        _TooDeepError: there are more levels than `levels`.
    """
    if type(value) is float:
        return -(1 << 60) if abs(value) >= _BEYOND_INT64 else 0
    if type(value) is not dict and type(value) is not list:
        return 0
    if not levels:
        raise _TooDeepError
    keys, held = (len(value), value.values()) if type(value) is dict else (0, value)
    for item in held:
        if type(item) is not str:
            keys += _count_keys(item, levels - 1)
    return keys


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key given twice would silently lose the first value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise BadRecordError(twice, "is given twice in one object")
    return found


def _reject_constant(name: str) -> NoReturn:
    raise BadRecordError("", f"{name} is not JSON; write null, or leave the field out")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadRecordError("", f"the number {text} is too large")
    return number
