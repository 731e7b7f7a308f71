"""All queries to train on, without leaks, repeats, and what a held-out entity touches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from codex_forge.config.pairs import PairsConfig
from codex_forge.corpus import ChunkTable
from codex_forge.entities import normalise
from codex_forge.hashes import text_hash
from codex_forge.near_duplicates import NearDuplicates
from codex_forge.pairs.augmentation import augmented
from codex_forge.pairs.bank import QuestionBank
from codex_forge.pairs.domain import Domain, text_key
from codex_forge.pairs.positives import Judge
from codex_forge.pairs.query import Query, positions_of
from codex_forge.pairs.rejects import Rejects
from codex_forge.pairs.synthesis import Rewriter
from codex_forge.progress import progress


class Collector:
    """Collects the train queries of one bank; the same in every shard."""

    def __init__(
        self, domain: Domain, judge: Judge, bank: QuestionBank, seed: int, rejects: Rejects
    ) -> None:
        """What is set aside goes to `rejects`."""
        self._domain, self._judge, self._bank = domain, judge, bank
        self._seed, self._rejects = seed, rejects
        self._config: PairsConfig = domain.config

    def train(self, synthetic: Iterable[Query]) -> list[Query]:
        """Train questions, their rewordings, `synthetic` queries, and changed copies of all."""
        found = (*self._questions(), *map(self._with_other_types, synthetic))
        copies = self._with_copies(found)
        return share_answers(list(self._distinct(self._unprotected(copies))))

    def _questions(self) -> Iterator[Query]:
        rewriter = Rewriter(self._domain.index)
        most = self._config.synthesis.synthetic_expansion - 1
        by_id = {question.query_id: question for question in self._bank.parts["train"]}
        for query in self._bank.queries("train"):
            yield query
            for number, text in enumerate(
                rewriter.rewrites(by_id[query.query_id], most, self._seed)
            ):
                name = f"{query.query_id}:alias:{number}"
                yield replace(query, query_id=name, text=text, source="alias_rewrite")

    def _with_other_types(self, query: Query) -> Query:
        """Chunks of other types that name all topics of a made query become positives too."""
        most = self._config.cross_category
        if not (most and query.topics and query.positives) or query.source != "entity":
            return query
        if any(map(self._judge.is_generic, query.topics)):
            return query
        positions, counts = self._judge.covering(query.topics)
        whole = positions[counts == len(query.topics)]
        new = self._domain.of_other_types(whole, query.positives)[:most]
        answers = positions_of(np.concatenate([query.answers, new]))
        return replace(query, positives=(*query.positives, *new.tolist()), answers=answers)

    def _with_copies(self, queries: Sequence[Query]) -> Iterator[Query]:
        """Each query, and its copies with some words changed."""
        config = self._config.augmentation
        for query in queries:
            yield query
            if not config.copies:
                continue
            names = {form for topic in query.topics for form in self._domain.index.forms(topic)}
            for number, text in enumerate(
                augmented(query.text, config.copies, config, self._seed, query.query_id, names)
            ):
                yield replace(query, query_id=f"{query.query_id}:eda:{number}", text=text)

    def _unprotected(self, queries: Iterable[Query]) -> Iterator[Query]:
        """Queries that neither repeat a held-out question nor touch what is held out."""
        bank = NearDuplicates(self._bank.protected(), self._config.near_duplicate)
        for query in progress(queries, "queries checked for leaks"):
            if match := bank.find(query.text):
                reason = "near-duplicate of a held-out question"
                self._rejects.add("query", reason, match.key, query.text)
            elif about := self._touches(query):
                self._rejects.add("query", "touches what is held out", about, query.text)
            else:
                yield query

    def _touches(self, query: Query) -> str:
        """The held-out file or entity that a query touches, if any."""
        held = self._bank.held_out
        chunks = self._domain.corpus.chunks
        for position in query.positives if held.files else ():
            name = chunks.files[int(chunks.file_of[position])]
            if name in held.files:
                return name
        if not held.entities:
            return ""
        named: frozenset[str] = self._bank.touching.named_in(query.text)
        return min(named & held.entities, default="")

    def _distinct(self, queries: Iterable[Query]) -> Iterator[Query]:
        """Each query and positive once, and none that says next to nothing."""
        least = self._config.validation.min_characters
        seen: set[int] = set()
        for query in queries:
            text = normalise(query.text)
            if sum(map(str.isalnum, text)) < least:
                self._rejects.add("query", "near-empty", query.query_id, query.text)
                continue
            if query.positive_text is None:
                keys = [text_hash(text, str(self._domain.text_keys[p])) for p in query.positives]
            else:
                keys = [text_hash(text, str(text_key(query.positive_text)))]
            new = [n for n, key in enumerate(keys) if key not in seen and key not in keys[:n]]
            if not new:
                reason = "the same query and positive"
                self._rejects.add("query", reason, query.query_id, query.text)
                continue
            seen.update(keys)
            if query.positives and len(new) < len(keys):
                query = replace(query, positives=tuple(query.positives[n] for n in new))
            yield query


def rewarded_elsewhere(queries: Sequence[Query], chunks: ChunkTable) -> Iterator[dict[str, str]]:
    """Query and positive of the queries whose text a pair of ready-made data has as well.

    The guard knows chunks; what other pairs of the same query have as a text alone it does not.
    """
    texts = {normalise(query.text) for query in queries if not query.positives}
    for query in queries if texts else ():
        if normalise(query.text) in texts:
            positives = [chunks.text(position) for position in query.positives]
            for text in positives or [query.positive_text or ""]:
                yield {"query": query.text, "positive": text}


def share_answers(queries: Sequence[Query]) -> list[Query]:
    """What answers a text in one pair is a negative of the same text in no other."""
    first: dict[str, int] = {}
    more: dict[str, list[int]] = {}
    for number, query in enumerate(queries):
        text = normalise(query.text)
        if first.setdefault(text, number) != number:
            more.setdefault(text, [first[text]]).append(number)
    shared = list(queries)
    for numbers in more.values():
        answers = positions_of(np.concatenate([queries[n].answers for n in numbers]))
        for number in numbers:
            shared[number] = replace(queries[number], answers=answers)
    return shared
