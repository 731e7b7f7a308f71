"""Read the dev set of a training from its pairs artifact alone, without the corpus.

What is drawn depends on the seed and on the ids, not on the order of the files. Memory holds what
is drawn, not what is read.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from codex_forge import pair_files
from codex_forge.artifact import Artifact
from codex_forge.config.train import ValidationConfig
from codex_forge.hashes import text_hash
from codex_forge.metrics import slice_value
from codex_forge.progress import progress
from codex_forge.records import Qrels
from codex_forge.train.dev.dev_set import DevPair, DevQuestion, DevScored, DevSet
from codex_forge.trec import read_qrels

T = TypeVar("T")

_QRELS = "qrels-dev.tsv"


def read_dev_set(pairs: Artifact, validation: ValidationConfig, seed: int) -> DevSet:
    """The dev set of a pairs artifact; empty when the artifact has no dev data.

    Chunks come into the pool in this order: what answers the drawn questions (each question's best
    answer first), the mined negatives of their pairs, other chunks of the train pairs drawn by
    seed. A question without an answer in the pool is left out. The texts of chunks say nothing of
    their time: a question's `temporal_limit` is not applied to what it is asked of.
    """
    judged = read_qrels(pairs.path(_QRELS)) if _QRELS in pairs.files else {}
    asked, left_out = _questions(pairs, judged, validation.max_questions, seed)
    drawn: _Sample[DevPair] = _Sample(validation.max_questions, seed, "dev pair")
    pool = _Pool(asked, validation.max_chunks)
    for row in pair_files.rows(pairs, "pairs-dev"):
        pair = DevPair(row["query_id"], row["query"], row["positive_id"], row["positive"])
        drawn.offer(f"{pair.query_id}\0{pair.positive_id}", pair)
        pool.offer(row)
    chunks = pool.chunks()
    if chunks and len(chunks) < validation.max_chunks:
        chunks.update(_others(pairs, chunks, validation.max_chunks - len(chunks), seed))
    questions = tuple(q for q in asked.values() if _answered(judged[q.query_id], chunks))
    if missed := len(asked) - len(questions):
        left_out["no answer among the chunks"] = missed
    dev_pairs = tuple(drawn.items())
    return DevSet(
        questions=questions,
        chunks=chunks if questions else {},
        qrels={q.query_id: _within(judged[q.query_id], chunks) for q in questions},
        pairs=dev_pairs,
        answers=_answers(dev_pairs, judged),
        scored=_scored(pairs, validation.max_questions, seed),
        left_out=left_out,
    )


class _Sample(Generic[T]):
    """The `size` keys of a stream with the smallest hashes: what is kept depends on seed and keys,
    not on their order, and not on how often a key comes.
    """

    def __init__(self, size: int, seed: int, what: str) -> None:
        self._size, self._seed, self._what = size, str(seed), what
        self._heap: list[tuple[int, str]] = []
        self._kept: dict[str, T] = {}

    def offer(self, key: str, item: T) -> None:
        if key in self._kept:
            return
        entry = (-text_hash(self._seed, self._what, key), key)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            del self._kept[heapq.heapreplace(self._heap, entry)[1]]
        else:
            return
        self._kept[key] = item

    def items(self) -> list[T]:
        """What is kept, in the order of the hashes."""
        return [self._kept[key] for _, key in sorted(self._heap, reverse=True)]


class _Pool:
    """The chunks that dev pairs name: first what answers, then what was mined."""

    def __init__(self, asked: Mapping[str, DevQuestion], size: int) -> None:
        self._size = size
        self._answers: dict[str, list[tuple[str, str]]] = {query: [] for query in asked}
        self._mined: dict[str, list[tuple[str, str]]] = {query: [] for query in asked}

    def offer(self, row: Mapping[str, Any]) -> None:
        if (query := row["query_id"]) in self._answers:
            self._answers[query].append((row["positive_id"], row["positive"]))
            self._mined[query].extend(zip(row["negative_ids"], row["negatives"], strict=True))

    def chunks(self) -> dict[str, str]:
        """Text by id, at most `size`: every question's first answer before any one's second."""
        found: dict[str, str] = {}
        for kind in (self._answers, self._mined):
            for chunk_id, text in _in_turn(list(kind.values())):
                if len(found) == self._size:
                    return found
                found.setdefault(chunk_id, text)
        return found


def _in_turn(lists: Sequence[Sequence[T]]) -> Iterator[T]:
    """The first of each, then the second of each, and so on."""
    for column in zip_longest(*lists):
        yield from (item for item in column if item is not None)


def _questions(
    pairs: Artifact, judged: Qrels, most: int, seed: int
) -> tuple[dict[str, DevQuestion], dict[str, int]]:
    drawn: _Sample[DevQuestion] = _Sample(most, seed, "dev question")
    left_out: Counter[str] = Counter()
    count = 0
    for record in pair_files.rows(pairs, "questions-dev"):
        if record["query_id"] not in judged:
            left_out["not judged"] += 1
            continue
        count += 1
        question = DevQuestion(record["query_id"], record["question"], _domain(record))
        drawn.offer(question.query_id, question)
    found = {question.query_id: question for question in drawn.items()}
    if count > len(found):
        left_out["not drawn (validation.max_questions)"] = count - len(found)
    return found, dict(left_out)


def _others(pairs: Artifact, have: Mapping[str, str], size: int, seed: int) -> dict[str, str]:
    """At most `size` other chunks of the train pairs."""
    drawn: _Sample[tuple[str, str]] = _Sample(size, seed, "dev chunk")
    rows = pair_files.rows(pairs, "pairs-train")
    for row in progress(rows, "train pairs read for chunks", pairs.counts.get("pairs_train")):
        ids = (row["positive_id"], *row["negative_ids"])
        for chunk_id, text in zip(ids, (row["positive"], *row["negatives"]), strict=True):
            if chunk_id not in have:
                drawn.offer(chunk_id, (chunk_id, text))
    return dict(drawn.items())


def _scored(pairs: Artifact, most: int, seed: int) -> tuple[DevScored, ...]:
    drawn: _Sample[DevScored] = _Sample(most, seed, "dev scored")
    for row in pair_files.rows(pairs, "scored-dev"):
        score, label = row.get("score"), row.get("label")
        scored = DevScored(row["text_a"], row["text_b"], score, label, _domain(row))
        drawn.offer(row["pair_id"], scored)
    return tuple(drawn.items())


def _domain(record: Mapping[str, Any]) -> str:
    for name in ("domain", "category"):
        if record.get(name) not in (None, ""):
            return slice_value(record[name])
    return ""


def _answered(grades: Mapping[str, int], chunks: Mapping[str, str]) -> bool:
    return any(grade > 0 and chunk in chunks for chunk, grade in grades.items())


def _within(grades: Mapping[str, int], chunks: Mapping[str, str]) -> dict[str, int]:
    return {chunk: grade for chunk, grade in grades.items() if chunk in chunks}


def _answers(pairs: Iterable[DevPair], judged: Qrels) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in pairs:
        found.setdefault(pair.query_id, set()).add(pair.positive_id)
    for query, own in found.items():
        own.update(chunk for chunk, grade in judged.get(query, {}).items() if grade > 0)
    return {query: frozenset(own) for query, own in found.items()}
