"""What may not be a negative of a query, because it may be an answer; each stop has a reason.

Checked for the few chunks that a source offers, not computed for the corpus: a topic may stand in
very many chunks, and there are many queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from codex_forge.config.pairs import NegativesConfig
from codex_forge.corpus import Corpus
from codex_forge.entities import EntityIndex
from codex_forge.pairs.positives import Judge
from codex_forge.pairs.query import Query, holds
from codex_forge.shingles import hashed_shingles, jaccard

_COMPARED = 8
"""A candidate is held against the words of so many answers of a query, its positives first, and
against the whole texts of all."""
_REMEMBERED = 4_096
_COMPARED_CHARACTERS = 10_000
"""Of each chunk; a longer one is told by its beginning."""

Reason = Callable[[int], str | None]


class Guard:
    """Knows, for one corpus, why a chunk may not be a negative of a query."""

    def __init__(
        self,
        corpus: Corpus,
        index: EntityIndex,
        judge: Judge,
        config: NegativesConfig,
        text_keys: NDArray[np.uint64],
    ) -> None:
        """`judge` knows the topics of all queries that will be asked about.

        `text_keys` are hashes that tell the texts of the chunks apart.
        """
        self._text_keys = text_keys
        self._chunks, self._index, self._judge = corpus.chunks, index, judge
        self._near = config.near_duplicate
        self.shingles = lru_cache(_REMEMBERED)(self._shingles)

    def of(self, query: Query) -> Reason:
        """A function from a position to the reason why it is stopped, or None."""
        topics = [self._judge.holders(topic) for topic in query.topics]
        telling = [self._judge.holders(topic) for topic in self.telling(query.topics)]
        least = self._least(query)
        files = self._files_of_named_entities(query.text)
        answers = query.answers
        compared = (*query.positives, *answers[:_COMPARED].tolist())[:_COMPARED]
        texts = self._text_keys[answers]

        def reason(position: int) -> str | None:
            if holds(answers, position):
                return "answers_the_query"
            if int(self._chunks.file_of[position]) in files:
                return "about_a_named_entity"
            if any(holds(held, position) for held in telling):
                return "names_an_expected_topic"
            if sum(holds(held, position) for held in topics) >= least:
                return "covers_the_topics"
            if (texts == self._text_keys[position]).any():
                return "same_text_as_an_answer"
            return self._like_an_answer(position, compared)

        return reason

    def telling(self, topics: Sequence[str]) -> list[str]:
        """The topics that few enough chunks name."""
        return [topic for topic in topics if not self._judge.is_generic(topic)]

    def _least(self, query: Query) -> float:
        """How many of its topics make a chunk an answer, of given ones as well: they may lack some.

        One topic that very many chunks name makes no answers where those are given.
        """
        count = len(query.topics)
        if query.answers_are_given and count == 1:
            return count + 1
        return max(1e-9, self._judge.minimum * count - 1e-9)

    def _files_of_named_entities(self, text: str) -> frozenset[int]:
        return frozenset(
            int(self._chunks.file_of[position])
            for name in self._index.matcher.find(text)
            for entity in self._index.named(name)
            for position in self._chunks.named(entity.filename)[:1]
        )

    def _like_an_answer(self, position: int, answers: Sequence[int]) -> str | None:
        mine = self.shingles(position)
        for answer in answers:
            similarity = jaccard(mine, self.shingles(answer))
            if similarity >= 1.0 - 1e-9:
                return "same_text_as_an_answer"
            if similarity >= self._near:
                return "near_duplicate_of_an_answer"
        return None

    def _shingles(self, position: int) -> frozenset[int]:
        return hashed_shingles(self._chunks.text(position)[:_COMPARED_CHARACTERS])
