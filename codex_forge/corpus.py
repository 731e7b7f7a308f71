"""The corpus as records: chunks, entities and questions, read from files or URLs and checked.

Every record that cannot be used is kept with its file, place, field and reason. With
`on_bad_record: fail` they are counted and the first ten shown before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from codex_forge.artifact import Artifact, Input, hash_json
from codex_forge.config.sections import CorpusConfig
from codex_forge.errors import InputError
from codex_forge.records import Chunk, Entity, Question
from codex_forge.storage import expand, open_text

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


class _BadRecordError(Exception):
    """A record is unusable."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason


class _NotJsonError(_BadRecordError):
    """Text that no JSON parser takes; knows its line."""

    def __init__(self, error: json.JSONDecodeError) -> None:
        super().__init__("", f"not JSON ({error.msg} at column {error.colno})")
        self.line = error.lineno


@dataclass(frozen=True)
class CorpusFiles:
    """The files that a corpus consists of, by role (`chunks`, `indexes`, `questions`)."""

    files: dict[str, tuple[str, ...]]

    def inputs(
        self, roles: tuple[str, ...] = ("chunks", "indexes", "questions")
    ) -> dict[str, Input]:
        """What an artifact records: a digest over the content of the files of each role."""
        found = {}
        for role in roles:
            digest = hash_json([_hash(name) for name in self.files[role]])
            found[role] = Input("file", ", ".join(self.files[role]), digest, digest)
        return found


@dataclass
class Corpus:
    """A whole corpus in memory, with what was set aside."""

    chunks: list[Chunk]
    entities: list[Entity]
    questions: list[Question]
    bad: list[BadRecord] = field(default_factory=list)

    def chunks_by_name(self) -> dict[str, list[int]]:
        """Positions of the chunks of each filename, and of each chunk id."""
        found: dict[str, list[int]] = {}
        for position, chunk in enumerate(self.chunks):
            found.setdefault(chunk.filename, []).append(position)
            found.setdefault(chunk.chunk_id, []).append(position)
        return found


def find_files(config: CorpusConfig) -> CorpusFiles:
    """Resolve the paths, globs and URLs of the config.

    Raises:
        InputError: one of them names no file.
    """
    roles = {"chunks": config.chunks, "indexes": config.indexes, "questions": config.questions}
    return CorpusFiles(
        {role: tuple(n for p in patterns for n in expand(p)) for role, patterns in roles.items()}
    )


def check_same_files(artifact: Artifact, inputs: Mapping[str, Input], roles: Sequence[str]) -> None:
    """Refuse an artifact that was made from other corpus files than the config names now."""
    for role in roles:
        if artifact.manifest.inputs[role].digest != inputs[role].digest:
            raise InputError(
                f"was made from other {role} than corpus.{role} names now",
                where=artifact.url,
                do=f"run python -m jobs.{artifact.manifest.kind} --force, or give the old files",
            )


def read_corpus(files: CorpusFiles, on_bad_record: str) -> Corpus:
    """Read and check everything.

    Raises:
        InputError: bad records and `on_bad_record` is `fail`; or no usable chunk is left.
    """
    bad: list[BadRecord] = []
    chunks = list(_distinct_chunks(files.files["chunks"], bad))
    if not chunks and not bad:
        raise InputError(
            "the corpus is empty", where=", ".join(files.files["chunks"]), do="give some chunks"
        )
    known = {chunk.filename for chunk in chunks} | {chunk.chunk_id for chunk in chunks}
    entities = [e for name in files.files["indexes"] for e in _entities(name, known, bad)]
    questions = list(_distinct_questions(files.files["questions"], known, bad))
    if bad and on_bad_record == "fail":
        _refuse(bad)
    if not chunks:
        raise InputError("no usable chunk is left", do=f"the first problem was {bad[0]}")
    return Corpus(chunks, entities, questions, bad)


def chunk_id_of(filename: str, text: str) -> str:
    """16 hex digits that depend on the file name and the text alone (BLAKE2b)."""
    data = f"{filename}\x00{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _refuse(bad: list[BadRecord]) -> NoReturn:
    shown = "\n  ".join(str(record) for record in bad[:_SHOWN])
    more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise InputError(
        f"{len(bad)} bad record{'s' * (len(bad) > 1)}, nothing was written:\n  {shown}{more}\n",
        do="mend them, or set corpus.on_bad_record=reject to go on without them",
    )


def _hash(name: str) -> str:
    with open_text(name) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()  # type: ignore[arg-type]


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key given twice would silently lose the first value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise _BadRecordError(twice, "is given twice in one object")
    return found


def _reject_constant(name: str) -> NoReturn:
    raise _BadRecordError("", f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _BadRecordError("", f"the number {text} is too large")
    return number


def _parse(text: str) -> Any:
    """Strict JSON, with what Python's parser cannot take named as well."""
    try:
        return json.loads(
            text,
            parse_constant=_reject_constant,
            parse_float=_finite,
            object_pairs_hook=_distinct_keys,
        )
    except json.JSONDecodeError as error:
        raise _NotJsonError(error) from error
    except ValueError as error:  # Python takes whole numbers of up to 4300 digits
        raise _BadRecordError("", "holds a number of too many digits") from error
    except RecursionError as error:
        raise _BadRecordError("", "is nested too deep") from error


def _whole_characters(record: Any) -> None:
    """Refuse half of a surrogate pair: JSON can spell it, no file can hold it."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _BadRecordError("", "holds half of a surrogate pair, which is no text") from error


def _distinct_chunks(names: tuple[str, ...], bad: list[BadRecord]) -> Iterator[Chunk]:
    seen: dict[str, str] = {}
    for name in names:
        with open_text(name) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                place = str(number)
                try:
                    chunk = _chunk(line)
                    if chunk.chunk_id in seen:
                        raise _BadRecordError("text", f"the same chunk as {seen[chunk.chunk_id]}")
                except _BadRecordError as problem:
                    bad.append(
                        BadRecord(name, place, problem.field, problem.reason, _printable(line))
                    )
                    continue
                seen[chunk.chunk_id] = f"{name}:{place}"
                yield chunk


def _printable(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()[:2000]


def _printable_record(record: Any) -> Any:
    """The record itself where a file can hold it, else its JSON in ASCII."""
    try:
        _whole_characters(record)
    except _BadRecordError:
        return json.dumps(record)
    return record


def _chunk(line: bytes) -> Chunk:
    try:
        record = _parse(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _BadRecordError("", f"not UTF-8 (byte {error.start})") from error
    if not isinstance(record, dict):
        raise _BadRecordError("", f"expected an object, got {_kind(record)}")
    if b"\\u" in line:
        _whole_characters(record)
    text, filename = _text(record, "text"), _text(record, "filename")
    mentions: dict[str, None] = {}
    rest = {}
    for key, value in record.items():
        if key.endswith("_mentions"):
            mentions.update(dict.fromkeys(_texts(record, key)))
        elif key not in ("text", "filename", "wiki_type", "temporal_order"):
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


def _whole_json(name: str, bad: list[BadRecord]) -> Any:
    """The content of a JSON file, or None with the reason added to `bad`."""
    with open_text(name) as handle:
        data = handle.read()
    try:
        return _parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        bad.append(BadRecord(name, "1", "", f"not UTF-8 (byte {error.start})", None))
    except _BadRecordError as problem:
        line = getattr(problem, "line", 1)
        bad.append(BadRecord(name, str(line), problem.field, problem.reason, None))
    return None


def _entities(name: str, known: set[str], bad: list[BadRecord]) -> Iterator[Entity]:
    tree = _whole_json(name, bad)
    if tree is None:
        return
    if not isinstance(tree, dict):
        reason = f"expected an object of entities, got {_kind(tree)}"
        bad.append(BadRecord(name, "1", "", reason, None))
        return
    for key, record in tree.items():
        try:
            yield _entity(key, record, known)
        except _BadRecordError as problem:
            kept = _printable_record(record)
            bad.append(BadRecord(name, ascii(key), problem.field, problem.reason, kept))


def _entity(key: str, record: Any, known: set[str]) -> Entity:
    _whole_characters([key, record])
    if not isinstance(record, dict):
        raise _BadRecordError("", f"expected an object, got {_kind(record)}")
    filename = _text(record, "filename")
    if filename not in known:
        raise _BadRecordError("filename", f"{filename!r} is the filename of no chunk")
    return Entity(
        entity_id=key,
        primary_name=_text(record, "primary_name"),
        filename=filename,
        aliases=tuple(_texts(record, "aliases")) if "aliases" in record else (),
        entity_type=_text(record, "wiki_type", required=False),
    )


def _distinct_questions(
    names: tuple[str, ...], known: set[str], bad: list[BadRecord]
) -> Iterator[Question]:
    seen: dict[str, str] = {}
    for name in names:
        tree = _whole_json(name, bad)
        if tree is None:
            continue
        records = tree.get("questions") if isinstance(tree, dict) else None
        if not isinstance(records, list):
            reason = "expected a list of questions under this key"
            bad.append(BadRecord(name, "1", "questions", reason, None))
            continue
        for number, record in enumerate(records):
            place = f"questions[{number}]"
            try:
                question = _question(record, known)
                if question.query_id in seen:
                    raise _BadRecordError("question_id", f"the same as {seen[question.query_id]}")
            except _BadRecordError as problem:
                kept = _printable_record(record)
                bad.append(BadRecord(name, place, problem.field, problem.reason, kept))
                continue
            seen[question.query_id] = f"{name}:{place}"
            yield question


_QUESTION_FIELDS = {
    "question",
    "category",
    "expected_topics",
    "question_id",
    "difficulty",
    "temporal_limit",
    "relevant",
}


def _question(record: Any, known: set[str]) -> Question:
    _whole_characters(record)
    if not isinstance(record, dict):
        raise _BadRecordError("", f"expected an object, got {_kind(record)}")
    text = _text(record, "question")
    topics = tuple(dict.fromkeys(_texts(record, "expected_topics")))
    if not topics:
        raise _BadRecordError(
            "expected_topics", "is empty; name at least one topic that an answer covers"
        )
    relevant = tuple(dict.fromkeys(_texts(record, "relevant"))) if "relevant" in record else ()
    if unknown := [name for name in relevant if name not in known]:
        raise _BadRecordError(
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
        raise _BadRecordError("question_id", f"expected a word or a number, got {_kind(given)}")
    if not str(given).isprintable():
        raise _BadRecordError("question_id", f"{given!a} holds a sign that cannot be printed")
    if any(sign.isspace() for sign in str(given)):
        raise _BadRecordError(
            "question_id", f"{given!r} holds a space, which TREC files cannot carry"
        )
    return str(given)


def _text(record: dict[str, Any], key: str, *, required: bool = True) -> str:
    value = record.get(key)
    if value is None and not required:
        return ""
    if key not in record:
        raise _BadRecordError(key, "is missing")
    if not isinstance(value, str):
        raise _BadRecordError(key, f"expected text, got {_kind(value)}")
    if required and not value.strip():
        raise _BadRecordError(key, "is empty")
    return value


def _texts(record: dict[str, Any], key: str) -> list[str]:
    value = record.get(key)
    if key not in record:
        raise _BadRecordError(key, "is missing")
    if not isinstance(value, list):
        raise _BadRecordError(key, f"expected a list of texts, got {_kind(value)}")
    for item in value:
        if not isinstance(item, str) or not item.strip():
            raise _BadRecordError(key, f"expected a list of texts, got {_kind(item)} in it")
    return value


def _number(record: dict[str, Any], key: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadRecordError(key, f"expected a number, got {_kind(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise _BadRecordError(key, "the number is too large") from error


def _kind(value: Any) -> str:
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
