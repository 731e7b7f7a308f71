"""Hard negatives as a mix of sources, behind a guard against false negatives.

Sources: chunks about an entity that the positive also names (`related_entity`), chunks that share
a mention with it (`overlapping_mentions`), chunks of its type about something else (`same_type`),
chunks that BM25 ranks high for the query (`bm25`), chunks whose TF-IDF cosine with the positive
lies in a band (`tfidf_band`), and chunks that the base model finds near the query (`nearest`).
What the guard stops is counted with its reason.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from codex_forge.config.pairs import NegativesConfig
from codex_forge.corpus import Corpus
from codex_forge.entities import EntityIndex, named_text
from codex_forge.pairs.guard import Guard, Reason
from codex_forge.pairs.positives import in_time
from codex_forge.pairs.query import Positions, Query
from codex_forge.seeded import generator
from codex_forge.word_index import WordIndex

SOURCES = (
    "related_entity", "overlapping_mentions", "same_type", "bm25", "tfidf_band", "nearest"
)  # fmt: skip
_TRIES = 64
"""A source offers at most so many chunks before it is exhausted."""
_BAND_DEPTH = 200


class Candidates(NamedTuple):
    """What searches found for one query, best first."""

    by_words: Sequence[int]
    by_model: Sequence[int] = ()


class NegativeMiner:
    """Finds negatives for queries over one corpus."""

    def __init__(
        self,
        corpus: Corpus,
        index: EntityIndex,
        guard: Guard,
        words: WordIndex,
        config: NegativesConfig,
    ) -> None:
        """Sort the chunks by mention and by type once."""
        self.stopped: Counter[str] = Counter()
        self.guard = guard
        self._chunks, self._index = corpus.chunks, index
        self._words, self._config = words, config
        chunks, everyone = corpus.chunks, np.arange(len(corpus.chunks), dtype=np.int32)
        carriers = np.repeat(everyone, np.diff(chunks.mention_ptr))
        self._by_mention = _Holders(chunks.mention_of, carriers, len(chunks.mentions))
        self._by_type = _Holders(chunks.type_of, everyone, len(chunks.types))

    def mine(
        self, query: Query, positive: int, candidates: Candidates, seed: int, most: int
    ) -> list[tuple[int, str]]:
        """(position, source) of at most `most` negatives of one pair.

        Args:
            query: the query with all chunks known to answer it.
            positive: position of the chunk it is paired with.
            candidates: what searches found for the query.
            seed: of the run.
            most: negatives wanted.
        """
        rng = generator(seed, "negatives", query.query_id, positive)
        reason = self.guard.of(query)
        weights = _weights(self._config)
        sources = {
            name: self._in_time(found, query.temporal_limit)
            for name, found in self._sources(positive, candidates, rng).items()
            if weights[name] > 0
        }
        chosen: dict[int, str] = {}
        while sources and len(chosen) < most:
            name = rng.choices(list(sources), [weights[n] for n in sources])[0]
            position = self._next(sources[name], reason, chosen)
            if position is None:
                del sources[name]
            else:
                chosen[position] = name
        return list(chosen.items())

    def _in_time(self, source: Iterable[int], limit: float | None) -> Iterator[int]:
        """A later chunk may answer the query although it is none of its answers."""
        if limit is None:
            return iter(source)
        times = self._chunks.times
        return (p for p in source if bool(in_time(times[p : p + 1], limit)[0]))

    def _next(self, source: Iterator[int], reason: Reason, chosen: Mapping[int, str]) -> int | None:
        """The source's next chunk that the guard lets through."""
        for position in source:
            if position in chosen:
                continue
            stopped = reason(position)
            if stopped is None:
                return position
            self.stopped[stopped] += 1
        return None

    def _sources(
        self, positive: int, candidates: Candidates, rng: random.Random
    ) -> dict[str, Iterable[int]]:
        """Each computes nothing before it is asked for its first chunk."""
        kind = int(self._chunks.type_of[positive])
        of_type = self._by_type.of(kind) if self._chunks.types[kind] else _NOTHING
        return {
            "related_entity": self._related(positive, rng),
            "overlapping_mentions": self._overlapping(positive, rng),
            "same_type": _sampled(of_type, rng, _TRIES),
            "bm25": candidates.by_words[: self._config.bm25_depth],
            "tfidf_band": self._in_band(positive),
            "nearest": candidates.by_model,
        }

    def _related(self, positive: int, rng: random.Random) -> Iterator[int]:
        """Chunks of the entities that the chunk names, its own left out."""
        chunk = self._chunks[positive]
        names = sorted(self._index.matcher.find(named_text(chunk)))
        files = {e.filename for name in names for e in self._index.named(name)}
        others = sorted(files - {chunk.filename})
        rng.shuffle(others)
        each = max(1, _TRIES // max(1, len(others)))
        for filename in others:
            yield from _sampled(self._chunks.named(filename), rng, each)

    def _overlapping(self, positive: int, rng: random.Random) -> Iterator[int]:
        """Chunks that share a mention, those that share the rarest one first."""
        start, end = self._chunks.mention_ptr[positive : positive + 2]
        holders = [self._by_mention.of(m) for m in self._chunks.mention_of[start:end].tolist()]
        own = int(self._chunks.file_of[positive])
        for held in sorted(holders, key=len):
            for position in _sampled(held, rng, _TRIES):
                if int(self._chunks.file_of[position]) != own:
                    yield position

    def _in_band(self, positive: int) -> Iterator[int]:
        """Chunks of other files that are neither near to the positive nor far from it."""
        low, high = self._config.band
        own = self._chunks.file_of[positive]
        text = self._chunks.text(positive)
        found = [position for position, _ in self._words.similar(text, _BAND_DEPTH)]
        for position, cosine in zip(found, self._words.cosine(text, found), strict=True):
            if low <= cosine <= high and self._chunks.file_of[position] != own:
                yield position


def _weights(config: NegativesConfig) -> dict[str, float]:
    """Weights of the sources, the largest 1, so that their sum is finite whatever was given."""
    given: dict[str, float] = {name: getattr(config, name) for name in SOURCES}
    largest = max(given.values()) or 1.0
    return {name: weight / largest for name, weight in given.items()}


_NOTHING: Positions = np.zeros(0, dtype=np.int32)


def _sampled(positions: Positions, rng: random.Random, most: int) -> Iterator[int]:
    """At most so many random draws, each chunk once; all of them when they are few."""
    if len(positions) <= most:
        mixed = positions.tolist()
        rng.shuffle(mixed)
        yield from mixed
        return
    for place in rng.sample(range(len(positions)), most):
        yield int(positions[place])


class _Holders:
    """Positions of the chunks that hold each key 0 ... count - 1, in order."""

    def __init__(self, keys: Positions, owners: Positions, count: int) -> None:
        """`keys` and `owners` are parallel."""
        self._owners = owners[np.argsort(keys, kind="stable")]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])

    def of(self, key: int) -> Positions:
        """The chunks that hold the key."""
        return self._owners[self._starts[key] : self._starts[key + 1]]
