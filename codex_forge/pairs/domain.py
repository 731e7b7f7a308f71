"""All that the corpus says, ready to be asked: names, topics, words; made once a job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codex_forge.artifact import Work
from codex_forge.config.pairs import PairsConfig
from codex_forge.corpus import Corpus
from codex_forge.entities import EntityIndex, normalise
from codex_forge.hashes import text_hash
from codex_forge.pairs.guard import Guard
from codex_forge.pairs.negatives import NegativeMiner
from codex_forge.pairs.positives import Judge
from codex_forge.pairs.query import Positions
from codex_forge.pairs.stages import stage
from codex_forge.progress import progress
from codex_forge.word_index import WordIndex


def text_key(text: str) -> int:
    """A hash of a text as names are compared."""
    return text_hash(normalise(text))


class Domain:
    """One corpus with its indexes of names, topics and words."""

    def __init__(self, corpus: Corpus, config: PairsConfig, scratch: Path) -> None:
        """Index the names; topics and words are indexed when they are first asked for."""
        self.corpus, self.config = corpus, config
        self.index = EntityIndex(corpus.entities)
        self._scratch = scratch

    @cached_property
    def words(self) -> WordIndex:
        """BM25 and TF-IDF over the chunks."""
        with stage("words indexed"):
            return WordIndex(self.corpus.chunks.texts(), self._scratch)

    @cached_property
    def text_keys(self) -> NDArray[np.uint64]:
        """What tells the texts of chunks apart: several chunks may have one; shape (chunks,)."""
        chunks = self.corpus.chunks
        keys = map(text_key, progress(chunks.texts(), "texts told apart", len(chunks)))
        return np.fromiter(keys, dtype=np.uint64, count=len(chunks))

    def judge(self, topics: Iterable[str], work: Work) -> Judge:
        """Who names which of the topics; one pass over the corpus."""
        with stage("topics matched"):
            return Judge(self.corpus, self.index, topics, self.config, work)

    def of_other_types(self, found: Positions, than: Sequence[int]) -> Positions:
        """Of some chunks those of another known type than the first of `than`; none of `than`."""
        chunks = self.corpus.chunks
        known = np.array([bool(name) for name in chunks.types])
        kinds = chunks.type_of[found]
        fine = known[kinds] & (kinds != chunks.type_of[than[0]]) & ~np.isin(found, than)
        others: Positions = found[fine]
        return others

    def miner(self, judge: Judge) -> NegativeMiner:
        """Hard negatives, behind a guard that knows the judge's topics."""
        negatives = self.config.negatives
        guard = Guard(self.corpus, self.index, judge, negatives, self.text_keys)
        return NegativeMiner(self.corpus, self.index, guard, self.words, negatives)
