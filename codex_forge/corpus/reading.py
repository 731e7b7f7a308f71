"""The corpus as records: chunks, entities and questions, read from files or URLs and checked.

Every record that cannot be used is kept with its file, place, field and reason. With
`on_bad_record: fail` they are counted and the first ten shown before anything is written.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codex_forge.artifact import Artifact, Input, hash_json
from codex_forge.config.sections import CorpusConfig
from codex_forge.corpus.bad import BadRecord, BadRecordError, BadRecords, refuse
from codex_forge.corpus.building import TableBuilder
from codex_forge.corpus.encodings import AUTO, Lines, encoding_named, open_lines, read_whole
from codex_forge.corpus.records import Known, chunk_of, entity_of, question_of
from codex_forge.corpus.strict_json import kind_of, parse, parse_line, refuse_half_characters
from codex_forge.corpus.table import ChunkTable
from codex_forge.errors import InputError
from codex_forge.progress import progress
from codex_forge.records import Entity, Question
from codex_forge.storage import expand, hash_of

_KEPT = 2_000
"""Characters of a line that is no record."""

_WHOLE = re.compile(r'\[|\{\s*\n|\{\s*"chunks"\s*:\s*\[')
"""How one JSON document begins that holds all chunks, or a chunk over several lines."""


@dataclass(frozen=True)
class CorpusFiles:
    """The files that a corpus consists of, by role (`chunks`, `indexes`, `questions`)."""

    files: dict[str, tuple[str, ...]]
    encoding: str = AUTO

    def inputs(
        self, roles: tuple[str, ...] = ("chunks", "indexes", "questions")
    ) -> dict[str, Input]:
        """What an artifact records: a digest over the content of the files of each role.

        The same bytes are another input in another encoding.
        """
        found = {}
        read_as = [] if self.encoding == AUTO else [f"encoding {self.encoding}"]
        for role in roles:
            digest = hash_json([hash_of(name) for name in self.files[role]] + read_as)
            found[role] = Input("file", ", ".join(self.files[role]), digest, digest)
        return found


@dataclass
class Corpus:
    """A whole corpus, with what was set aside; the chunks, and what is bad, lie on disk."""

    chunks: ChunkTable
    entities: list[Entity]
    questions: list[Question]
    bad: BadRecords = field(default_factory=BadRecords)


def find_files(config: CorpusConfig) -> CorpusFiles:
    """Resolve the paths, globs and URLs of the config.

    Raises:
        InputError: one of them names no file.
        ConfigError: `corpus.encoding` names no encoding.
    """
    roles = {"chunks": config.chunks, "indexes": config.indexes, "questions": config.questions}
    return CorpusFiles(
        {role: tuple(n for p in patterns for n in expand(p)) for role, patterns in roles.items()},
        encoding_named(config.encoding),
    )


def check_same_files(artifact: Artifact, inputs: Mapping[str, Input], roles: Sequence[str]) -> None:
    """Refuse an artifact that was made from other corpus files than the config names now.

    One that was made of ready-made data alone had none.
    """
    for role in roles:
        made_from = artifact.manifest.inputs.get(role)
        if made_from is not None and made_from.digest != inputs[role].digest:
            raise InputError(
                f"was made from other {role} than corpus.{role} names now",
                where=artifact.url,
                do=f"run python -m jobs.{artifact.manifest.kind} --force, or give the old files",
            )


def read_corpus(files: CorpusFiles, on_bad_record: str, scratch: Path | None = None) -> Corpus:
    """Read and check everything.

    Args:
        files: what to read.
        on_bad_record: `fail` or `reject`, as in the config.
        scratch: folder for the texts of the chunks, which take as much disk as the corpus; the
            system's temporary folder when not given. Nothing is left there.

    Raises:
        InputError: bad records and `on_bad_record` is `fail`; or no usable chunk is left.
    """
    if not files.files["chunks"]:
        raise InputError("no chunks are given", where="corpus.chunks", do="name their files there")
    bad = BadRecords(scratch)
    chunks = _Chunks(bad, scratch).read(files)
    if not chunks and not bad:
        raise InputError(
            "the corpus is empty", where=", ".join(files.files["chunks"]), do="give some chunks"
        )
    entities = list(_entities(files, chunks.knows, bad))
    questions = list(_distinct_questions(files, chunks.knows, bad))
    if bad and on_bad_record == "fail":
        refuse(bad)
    if not chunks:
        raise InputError("no usable chunk is left", do=f"the first problem was {bad[0]}")
    return Corpus(chunks, entities, questions, bad)


class _Chunks:
    """Reads the files of chunks, a line at a time."""

    def __init__(self, bad: BadRecords, scratch: Path | None) -> None:
        self._bad = bad
        self._builder = TableBuilder(scratch)
        self._names: list[str] = []
        self._file_of, self._line_of = array("i"), array("q")

    def read(self, files: CorpusFiles) -> ChunkTable:
        """The usable chunks of all files, each once."""
        for name in files.files["chunks"]:
            self._names.append(name)
            with open_lines(name, files.encoding) as lines:
                _check_is_lines(name, lines)
                for number, line in enumerate(progress(lines, "lines of chunks read"), start=1):
                    if not line.isspace():
                        self._add(lines, number, line)
        return self._builder.table()

    def _add(self, lines: Lines, number: int, line: bytes) -> None:
        try:
            record, plain = parse_line(lines.as_utf8(line))
            chunk = chunk_of(record)
            row = self._builder.row(chunk.chunk_id)
            if row is not None:
                first = f"{self._names[self._file_of[row]]}:{self._line_of[row]}"
                raise BadRecordError("text", f"the same chunk as {first}")
        except BadRecordError as problem:
            kept = line.decode(lines.encoding_of_lines, "replace").strip()[:_KEPT]
            self._bad.append(
                BadRecord(self._names[-1], str(number), problem.field, problem.reason, kept)
            )
            return
        self._builder.add(chunk, plain)
        self._file_of.append(len(self._names) - 1)
        self._line_of.append(number)


def _check_is_lines(name: str, lines: Lines) -> None:
    """Refuse a file that is one JSON document, which would give a bad record a line."""
    if _WHOLE.match(lines.begins()):
        raise InputError(
            "holds one JSON document, not a chunk a line",
            where=name,
            do="write an object a line, as jq does: jq -c '.[]' chunks.json > chunks.jsonl "
            "('.chunks[]' for {\"chunks\": [...]}, '.' for objects over several lines)",
        )


def _printable_record(record: Any) -> Any:
    """The record itself where a file can hold it, else its JSON in ASCII."""
    try:
        refuse_half_characters(record)
    except BadRecordError:
        return json.dumps(record)
    return record


def _whole_json(name: str, encoding: str, bad: BadRecords) -> Any:
    """The content of a JSON file, or None with the reason added to `bad`."""
    try:
        return parse(read_whole(name, encoding))
    except BadRecordError as problem:
        line = getattr(problem, "line", 1)
        bad.append(BadRecord(name, str(line), problem.field, problem.reason, None))
    return None


def _entities(files: CorpusFiles, known: Known, bad: BadRecords) -> Iterator[Entity]:
    for name in files.files["indexes"]:
        tree = _whole_json(name, files.encoding, bad)
        if not isinstance(tree, dict):
            if tree is not None:
                reason = f"expected an object of entities, got {kind_of(tree)}"
                bad.append(BadRecord(name, "1", "", reason, None))
            continue
        for key, record in tree.items():
            try:
                yield entity_of(key, record, known)
            except BadRecordError as problem:
                kept = _printable_record(record)
                bad.append(BadRecord(name, ascii(key), problem.field, problem.reason, kept))


def _distinct_questions(files: CorpusFiles, known: Known, bad: BadRecords) -> Iterator[Question]:
    seen: dict[str, str] = {}
    for name in files.files["questions"]:
        tree = _whole_json(name, files.encoding, bad)
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
                question = question_of(record, known)
                if question.query_id in seen:
                    raise BadRecordError("question_id", f"the same as {seen[question.query_id]}")
            except BadRecordError as problem:
                kept = _printable_record(record)
                bad.append(BadRecord(name, place, problem.field, problem.reason, kept))
                continue
            seen[question.query_id] = f"{name}:{place}"
            yield question
