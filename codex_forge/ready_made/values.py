"""From a row to a record: every value is checked, and what is wrong is said with its column."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from codex_forge.corpus.bad import BadRecordError
from codex_forge.corpus.strict_json import kind_of, refuse_nul
from codex_forge.ready_made.columns import Columns
from codex_forge.ready_made.row import is_whole
from codex_forge.records import PHASES, ReadyPair, ScoredPair

_PHASES = {phase: phase for phase in PHASES}
_PARTS = {"train": "train", "dev": "dev", "test": "test", "validation": "dev", "valid": "dev"}
_LABELS = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0}

Values = Mapping[str, Any]


def record_of(values: Values, columns: Columns) -> ReadyPair | ScoredPair:
    """The record that a row holds.

    Raises:
        BadRecordError: one of its values is not what the column is for.
    """
    return _scored(values, columns) if columns.scored else _pair(values, columns)


def given_id(values: Values, columns: Columns) -> str:
    """The id that the data gives; empty when it gives none.

    Raises:
        BadRecordError: it is no id that every file can carry.
    """
    column = columns.names["id"]
    found = _word(values, column)
    if not found.isprintable() or any(sign.isspace() for sign in found):
        raise BadRecordError(column, f"{found!a} holds a space or a sign that cannot be printed")
    return found


def _pair(values: Values, columns: Columns) -> ReadyPair:
    query = _text(values, columns.names["query"])
    positive = _text(values, columns.names["positive"])
    negatives = tuple(dict.fromkeys(_negatives(values, columns)))
    return ReadyPair(
        given_id(values, columns) or _derived("pair", query, positive, *negatives),
        query,
        positive,
        negatives,
        *_facts(values, columns),
    )


def _scored(values: Values, columns: Columns) -> ScoredPair:
    texts = _text(values, columns.names["text_a"]), _text(values, columns.names["text_b"])
    score, label = _score(values, columns), _label(values, columns.names["label"])
    if score is None and label is None:
        raise BadRecordError(columns.names["score"], "is missing, and there is no label either")
    return ScoredPair(
        given_id(values, columns) or _derived("scored", *texts, str(score), str(label)),
        *texts,
        score,
        label,
        *_facts(values, columns),
    )


def _facts(values: Values, columns: Columns) -> tuple[str, str, str, str]:
    """Domain, category, phase and part; empty where not given."""
    return (
        _word(values, columns.names["domain"]),
        _word(values, columns.names["category"]),
        _one_of(values, columns.names["phase"], _PHASES),
        _one_of(values, columns.names["part"], _PARTS),
    )


def _derived(*parts: str) -> str:
    data = json.dumps(parts, ensure_ascii=False).encode()
    return "r" + hashlib.blake2b(data, digest_size=8).hexdigest()


def _is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip())


def _text(values: Values, column: str) -> str:
    if values.get(column) is None:
        raise BadRecordError(column, "is missing")
    return _checked(values[column], column, "text")


def _checked(value: Any, column: str, expected: str) -> str:
    if not isinstance(value, str):
        raise BadRecordError(column, f"expected {expected}, got {kind_of(value)}")
    if not value.strip():
        raise BadRecordError(column, "is empty" if expected == "text" else f"{expected}; one is")
    if not is_whole(value):
        raise BadRecordError(
            column,
            "holds what is no text; if its file is not UTF-8, set corpus.encoding, such as cp1252",
        )
    refuse_nul({column: value})
    return value


def _word(values: Values, column: str) -> str:
    """A text, or a whole number as text; empty when there is none."""
    value = values.get(column)
    if not _is_there(value):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _checked(value, column, "text").strip()


def _one_of(values: Values, column: str, known: Mapping[str, str]) -> str:
    value = _word(values, column)
    if value and value.casefold() not in known:
        wanted = ", ".join(dict.fromkeys(known.values()))
        raise BadRecordError(column, f"expected one of {wanted}; got {value[:40]!a}")
    return known[value.casefold()] if value else ""


def _score(values: Values, columns: Columns) -> float | None:
    column = columns.names["score"]
    value = values.get(column)
    if not _is_there(value):
        return None
    number = _number(value)
    if number is None:
        raise BadRecordError(column, f"expected a number, got {_shown(value)}")
    if not columns.low <= number <= columns.high:
        wanted = f"a score from {columns.low:g} to {columns.high:g} (score_range)"
        raise BadRecordError(column, f"expected {wanted}, got {number:g}")
    return (number - columns.low) / (columns.high - columns.low)


def _number(value: Any) -> float | None:
    """A finite number, or a text that is one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and "_" not in str(value) else None


def _label(values: Values, column: str) -> int | None:
    value = values.get(column)
    if not _is_there(value):
        return None
    if isinstance(value, int | float) and value in (0, 1):
        return int(value)
    word = value.strip().casefold() if isinstance(value, str) else ""
    if word not in _LABELS:
        raise BadRecordError(column, f"expected 0 or 1, true or false, yes or no; {_got(value)}")
    return _LABELS[word]


def _negatives(values: Values, columns: Columns) -> list[str]:
    found: list[str] = []
    for name, column in columns.negatives(values):
        value = values[column]
        if not _is_there(value):
            continue
        if name == "negatives":
            found += [_checked(item, column, "a list of texts") for item in _list(value, column)]
        else:
            found.append(_checked(value, column, "text"))
    return found


def _list(value: Any, column: str) -> list[Any]:
    """A list, or in files that know only text the JSON of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            reason = 'expected a list of texts, such as ["one", "two"]; got a text'
            raise BadRecordError(column, reason) from error
    if not isinstance(value, list):
        raise BadRecordError(column, f"expected a list of texts, got {kind_of(value)}")
    return value


def _got(value: Any) -> str:
    return f"got {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return ascii(value)[:40]
    return kind_of(value)
