"""Ready-made pairs as a corpus and a question bank: a run with nothing else can be evaluated.

Every distinct positive and negative is a chunk; held-out queries are questions, whose answers are
their positives. The id of a chunk follows from its text alone, so that one side needs not know the
other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from codex_forge.corpus import chunk_id_of
from codex_forge.entities import normalise
from codex_forge.hashes import text_hash
from codex_forge.records import Question, ReadyPair, ScoredPair


def chunk_of_text(text: str) -> tuple[str, str]:
    """The (chunk_id, filename) of a positive or negative; equal texts are one chunk."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    filename = f"ready/{digest}.txt"
    return chunk_id_of(filename, text), filename


def chunk_records(records: Iterable[ReadyPair | ScoredPair]) -> Iterator[dict[str, Any]]:
    """Each distinct positive and negative once, as a record of `chunks.jsonl`.

    Those first met as a positive carry the pair's `domain` and `category`; a negative may come from
    another. Scored pairs hold no answers, and give none. Memory: a hash of each text.
    """
    seen: set[int] = set()
    for record in records:
        if isinstance(record, ScoredPair):
            continue
        for place, text in enumerate((record.positive, *record.negatives)):
            if (key := text_hash(text)) in seen:
                continue
            seen.add(key)
            chunk_id, filename = chunk_of_text(text)
            known = {"domain": record.domain, "category": record.category} if place == 0 else {}
            facts = {name: value for name, value in known.items() if value}
            yield {"chunk_id": chunk_id, "text": text, "filename": filename, **facts}


def questions_of(records: Iterable[ReadyPair | ScoredPair]) -> list[Question]:
    """One question a distinct query, with all its positives as answers, in order of meeting.

    `category` is the pair's, or its domain; the domain is a field as well. There are no expected
    topics: what answers is given. The difficulty is the pair's phase.
    """
    first: dict[str, ReadyPair] = {}
    answers: dict[str, dict[str, None]] = {}
    for record in records:
        if isinstance(record, ReadyPair):
            key = normalise(record.query)
            first.setdefault(key, record)
            answers.setdefault(key, {})[chunk_of_text(record.positive)[0]] = None
    return [_question(pair, tuple(answers[key])) for key, pair in first.items()]


def _question(pair: ReadyPair, relevant: tuple[str, ...]) -> Question:
    return Question(
        query_id=pair.pair_id,
        text=pair.query,
        category=pair.category or pair.domain or "all",
        expected_topics=(),
        difficulty=pair.phase,
        relevant=relevant,
        fields={"domain": pair.domain} if pair.domain else {},
    )
