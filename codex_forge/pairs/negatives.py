"""Hard negatives as a mix of sources, behind a guard against false negatives.

Sources: chunks about an entity that the positive also names (`related_entity`), chunks that share
a mention with it (`overlapping_mentions`), chunks of its type about something else (`same_type`),
and chunks that BM25 ranks high for the query (`bm25`). The guard stops what may be an answer; each
stop is counted with its reason.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from codex_forge.config.sections import NegativesConfig
from codex_forge.corpus import Corpus
from codex_forge.entities import EntityIndex, NameMatcher, named_text, normalise
from codex_forge.pairs.positives import Judge, in_time
from codex_forge.pairs.synthesis import Query
from codex_forge.records import Chunk
from codex_forge.seeded import generator

_TRIES = 64
_NEVER_GENERIC = 3
"""A topic that so few chunks name is not generic, however small the corpus."""


class NegativeMiner:
    """Finds negatives for queries over one corpus."""

    def __init__(
        self,
        corpus: Corpus,
        index: EntityIndex,
        judge: Judge,
        config: NegativesConfig,
        minimum_coverage: float,
    ) -> None:
        """`judge` knows the topics of all queries that will be asked."""
        self.stopped: Counter[str] = Counter()
        self._chunks, self._index, self._judge = corpus.chunks, index, judge
        self._config, self._minimum = config, minimum_coverage
        self._generic = max(_NEVER_GENERIC, config.generic_topic_share * len(corpus.chunks))
        self._by_name = corpus.chunks_by_name()
        self._names = NameMatcher(index.names)
        self._by_mention = _positions(corpus.chunks, lambda c: map(normalise, c.mentions))
        self._by_type = _positions(corpus.chunks, lambda c: (c.chunk_type,) if c.chunk_type else ())
        self._same_text: dict[str, list[int]] = _positions(
            corpus.chunks, lambda c: (normalise(c.text),)
        )

    def mine(
        self, query: Query, positive: int, ranked: Sequence[int], seed: int
    ) -> list[tuple[int, str]]:
        """(position, source) of at most `negatives.num` negatives of one pair.

        Args:
            query: the query with all chunks known to answer it.
            positive: position of the chunk it is paired with.
            ranked: positions of chunks by BM25 for the query, best first.
            seed: of the run.
        """
        rng = generator(seed, "negatives", query.query_id, positive)
        guard = self._guard(query)
        sources = {
            name: self._in_time(found, query.temporal_limit)
            for name, found in self._sources(positive, ranked, rng).items()
        }
        weights = {name: getattr(self._config, name) for name in sources}
        chosen: dict[int, str] = {}
        while sources and len(chosen) < self._config.num and any(weights.values()):
            name = rng.choices(list(sources), [weights[n] for n in sources])[0]
            position = self._next(sources[name], guard, chosen)
            if position is None:
                del sources[name], weights[name]
            else:
                chosen[position] = name
        return list(chosen.items())

    def _in_time(self, source: Iterable[int], limit: float | None) -> Iterator[int]:
        """A later chunk may answer the query although it is none of its answers."""
        return (p for p in source if in_time(self._chunks[p], limit))

    def _next(
        self, source: Iterator[int], guard: dict[int, str], chosen: dict[int, str]
    ) -> int | None:
        """The source's next chunk that the guard lets through."""
        for position in source:
            reason = guard.get(position)
            if reason is not None:
                self.stopped[reason] += 1
            elif position not in chosen:
                return position
        return None

    def _guard(self, query: Query) -> dict[int, str]:
        """Position -> why the chunk may not be a negative of the query."""
        guard: dict[int, str] = {}
        for topic in query.topics:
            holders = self._judge.holders(topic)
            if len(holders) <= self._generic:
                guard.update(dict.fromkeys(holders, "names_an_expected_topic"))
        # Given answers need not cover their topics, but a chunk with all of them may be one more.
        all_of_several = len(query.topics) if len(query.topics) > 1 else len(query.topics) + 1
        share = self._minimum * len(query.topics) - 1e-9
        least = all_of_several if query.answers_are_given else share
        covered = self._judge.coverage(query.topics)
        guard.update((p, "covers_the_topics") for p, count in covered.items() if count >= least)
        for name in self._names.find(query.text):
            for entity in self._index.named(name):
                for position in self._by_name.get(entity.filename, ()):
                    guard[position] = "about_a_named_entity"
        for position in query.answers:
            for twin in self._same_text[normalise(self._chunks[position].text)]:
                guard[twin] = "same_text_as_an_answer"
        guard.update(dict.fromkeys(query.answers, "answers_the_query"))
        return guard

    def _sources(
        self, positive: int, ranked: Sequence[int], rng: random.Random
    ) -> dict[str, Iterable[int]]:
        chunk = self._chunks[positive]
        return {
            "related_entity": self._related(chunk, rng),
            "overlapping_mentions": self._overlapping(chunk, rng),
            "same_type": self._sampled(self._by_type.get(chunk.chunk_type, []), rng),
            "bm25": ranked[: self._config.bm25_depth],
        }

    def _related(self, chunk: Chunk, rng: random.Random) -> list[int]:
        """Chunks of the entities that the chunk names, its own left out."""
        found = {
            position
            for name in sorted(self._names.find(named_text(chunk)))
            for entity in self._index.named(name)
            if entity.filename != chunk.filename
            for position in self._by_name.get(entity.filename, ())
        }
        return _shuffled(sorted(found), rng)

    def _overlapping(self, chunk: Chunk, rng: random.Random) -> list[int]:
        """Chunks that share a mention, those that share the rarest one first."""
        found: dict[int, None] = {}
        shared = sorted(map(normalise, chunk.mentions), key=lambda m: len(self._by_mention[m]))
        for mention in shared:
            sample = self._by_mention[mention]
            if len(sample) > _TRIES:
                sample = rng.sample(sample, _TRIES)
            for position in _shuffled(sample, rng):
                found.setdefault(position)
        return [p for p in found if self._chunks[p].filename != chunk.filename]

    def _sampled(self, positions: Sequence[int], rng: random.Random) -> Iterator[int]:
        """A bounded number of random draws from the chunks of a type."""
        for _ in range(min(_TRIES, len(positions))):
            yield positions[rng.randrange(len(positions))]


def _shuffled(positions: Sequence[int], rng: random.Random) -> list[int]:
    mixed = list(positions)
    rng.shuffle(mixed)
    return mixed


def _positions(
    chunks: Sequence[Chunk], keys: Callable[[Chunk], Iterable[str]]
) -> dict[str, list[int]]:
    """Positions of the chunks by each of their keys."""
    found: dict[str, list[int]] = {}
    for position, chunk in enumerate(chunks):
        for key in dict.fromkeys(keys(chunk)):
            found.setdefault(key, []).append(position)
    return found
