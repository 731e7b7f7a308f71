"""From JSON values to chunks, entities and questions; what is unusable says its field, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from codex_forge.corpus.bad import BadRecordError
from codex_forge.corpus.strict_json import kind_of, refuse_half_characters, refuse_nul
from codex_forge.records import Chunk, Entity, Question

_CHUNK_FIELDS = {"text", "filename", "wiki_type", "temporal_order"}

_QUESTION_FIELDS = {
    "question",
    "category",
    "expected_topics",
    "question_id",
    "difficulty",
    "temporal_limit",
    "relevant",
}

Known = Callable[[str], bool]
"""Whether a name is the filename or the id of a chunk."""


def chunk_id_of(filename: str, text: str) -> str:
    """16 hex digits that depend on the file name and the text alone (BLAKE2b)."""
    data = f"{filename}\x00{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def chunk_of(record: Any) -> Chunk:
    """A chunk; fields that have no meaning here are its metadata.

    Raises:
        BadRecordError: it is none.
    """
    if not isinstance(record, dict):
        raise BadRecordError("", f"expected an object, got {kind_of(record)}")
    text, filename = _text(record, "text"), _text(record, "filename")
    mentions: dict[str, None] = {}
    rest = {}
    for key, value in record.items():
        if key.endswith("_mentions"):
            mentions.update(dict.fromkeys(_texts(record, key)))
        elif key not in _CHUNK_FIELDS:
            rest[key] = value
    return Chunk(
        chunk_id=chunk_id_of(filename, text),
        text=text,
        filename=filename,
        mentions=tuple(mentions),
        chunk_type=_text(record, "wiki_type", required=False),
        temporal_order=_number(record, "temporal_order"),
        metadata=rest,
    )


def entity_of(key: str, record: Any, known: Known) -> Entity:
    """The entity of one key of an index.

    Raises:
        BadRecordError: it is none, or its file is the file of no chunk.
    """
    refuse_half_characters([key, record])
    refuse_nul({key: key})
    refuse_nul(record)
    if not isinstance(record, dict):
        raise BadRecordError("", f"expected an object, got {kind_of(record)}")
    filename = _text(record, "filename")
    if not known(filename):
        raise BadRecordError("filename", f"{filename!r} is the filename of no chunk")
    return Entity(
        entity_id=key,
        primary_name=_text(record, "primary_name"),
        filename=filename,
        aliases=tuple(_texts(record, "aliases")) if "aliases" in record else (),
        entity_type=_text(record, "wiki_type", required=False),
    )


def question_of(record: Any, known: Known) -> Question:
    """A question of the bank.

    Raises:
        BadRecordError: it is none, or names a chunk that is not there.
    """
    refuse_half_characters(record)
    refuse_nul(record)
    if not isinstance(record, dict):
        raise BadRecordError("", f"expected an object, got {kind_of(record)}")
    text = _text(record, "question")
    topics = tuple(dict.fromkeys(_texts(record, "expected_topics")))
    if not topics:
        raise BadRecordError(
            "expected_topics", "is empty; name at least one topic that an answer covers"
        )
    relevant = tuple(dict.fromkeys(_texts(record, "relevant"))) if "relevant" in record else ()
    if unknown := [name for name in relevant if not known(name)]:
        raise BadRecordError(
            "relevant", f"{unknown[0]!r} is neither the filename nor the id of a chunk"
        )
    return Question(
        query_id=_query_id(record, text),
        text=text,
        category=_text(record, "category"),
        expected_topics=topics,
        difficulty=_text(record, "difficulty", required=False),
        temporal_limit=_number(record, "temporal_limit"),
        relevant=relevant,
        fields={key: value for key, value in record.items() if key not in _QUESTION_FIELDS},
    )


def _query_id(record: dict[str, Any], text: str) -> str:
    given = record.get("question_id")
    if given is None:
        return "q" + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    if isinstance(given, bool) or not isinstance(given, int | str) or not str(given).strip():
        raise BadRecordError("question_id", f"expected a word or a number, got {kind_of(given)}")
    if not str(given).isprintable():
        raise BadRecordError("question_id", f"{given!a} holds a sign that cannot be printed")
    if any(sign.isspace() for sign in str(given)):
        raise BadRecordError(
            "question_id", f"{given!r} holds a space, which TREC files cannot carry"
        )
    return str(given)


def _text(record: dict[str, Any], key: str, *, required: bool = True) -> str:
    value = record.get(key)
    if value is None and not required:
        return ""
    if key not in record:
        raise BadRecordError(key, "is missing")
    if not isinstance(value, str):
        raise BadRecordError(key, f"expected text, got {kind_of(value)}")
    if required and (not value or value.isspace()):
        raise BadRecordError(key, "is empty")
    return value


def _texts(record: dict[str, Any], key: str) -> list[str]:
    value = record.get(key)
    if key not in record:
        raise BadRecordError(key, "is missing")
    if not isinstance(value, list):
        raise BadRecordError(key, f"expected a list of texts, got {kind_of(value)}")
    for item in value:
        if not isinstance(item, str) or not item.strip():
            raise BadRecordError(key, f"expected a list of texts, got {kind_of(item)} in it")
    return value


def _number(record: dict[str, Any], key: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecordError(key, f"expected a number, got {kind_of(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise BadRecordError(key, "the number is too large") from error
