"""Queries made from what the domain says: names of entities, mentions, and reworded questions."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from codex_forge.config.pairs import SynthesisConfig
from codex_forge.corpus import ChunkTable, Corpus
from codex_forge.entities import EntityIndex, NameMatcher, normalise
from codex_forge.pairs.query import Positions, Query
from codex_forge.pairs.templates import Templates
from codex_forge.records import Question
from codex_forge.search import words
from codex_forge.seeded import draw

_TELLING = 4
"""Words of at least so many letters tell what a text is about."""


def entity_queries(
    corpus: Corpus, index: EntityIndex, config: SynthesisConfig, seed: int
) -> Iterator[Query]:
    """Queries about each entity by its names; each name once before any gets a second wording.

    Names that several entities bear are left out: no single chunk answers them.
    """
    templates = Templates(config, seed)
    ambiguous = index.ambiguous
    for entity in index.entities:
        names = [n for n in entity.names if n in index and normalise(n) not in ambiguous]
        answers = corpus.chunks.named(entity.filename)
        wordings: dict[tuple[str, ...], list[str]] = {}
        for number in range(config.per_entity):
            position = int(answers[number % len(answers)])
            suitable = templates.of(corpus.chunks, position)
            if suitable not in wordings:
                wordings[suitable] = templates.wordings(names, suitable)[::-1]
            if wordings[suitable]:
                yield Query(
                    query_id=f"entity:{entity.entity_id}:{number}",
                    text=wordings[suitable].pop(),
                    topics=(entity.primary_name,),
                    positives=(position,),
                    answers=answers,
                    source="entity",
                )


def mention_queries(
    corpus: Corpus, index: EntityIndex, config: SynthesisConfig, seed: int, widest: int
) -> Iterator[Query]:
    """Queries about mentions that at most `widest` chunks carry, and that no index names.

    A mention that is a part of a name in an index is left out: it may mean that entity.
    """
    if not config.from_mentions:
        return
    templates = Templates(config, seed)
    chunks = corpus.chunks
    named = set(index.names) | {part for name in index.names for part in _parts(name)}
    for mention, holders in _holders(chunks, widest):
        key, shown = chunks.mentions[mention], chunks.mention_shown[mention]
        if not key or key in named:
            continue
        for number, position in enumerate(holders.tolist()):
            wordings = templates.wordings([shown], templates.of(chunks, position))
            yield Query(
                query_id=f"mention:{key}:{number}",
                text=wordings[number % len(wordings)],
                topics=(shown,),
                positives=(position,),
                answers=holders,
                source="mention",
            )


def _holders(chunks: ChunkTable, widest: int) -> Iterator[tuple[int, Positions]]:
    """Each mention that at most `widest` chunks carry, with their positions in order."""
    rows = np.repeat(np.arange(len(chunks), dtype=np.int32), np.diff(chunks.mention_ptr))
    rows = rows[np.argsort(chunks.mention_of, kind="stable")]
    counts = np.bincount(chunks.mention_of, minlength=len(chunks.mentions))
    ends = np.cumsum(counts)
    for mention in np.flatnonzero((counts > 0) & (counts <= widest)).tolist():
        yield mention, rows[ends[mention] - counts[mention] : ends[mention]]


def _parts(name: str) -> Iterator[str]:
    """Every run of whole words in a name: `Rand` may mean "Rand al'Thor", or another Rand."""
    split = name.split(" ")
    for start in range(len(split)):
        for end in range(start + 1, len(split) + 1):
            yield " ".join(split[start:end])


class Rewriter:
    """Rewords questions by putting another name of the same entity in place of one."""

    def __init__(self, index: EntityIndex) -> None:
        """Names that several entities bear are neither replaced nor put in."""
        self._index = index
        self._ambiguous = index.ambiguous
        self._matcher = NameMatcher(n for n in index.names if n not in self._ambiguous)

    def rewrites(self, question: Question, most: int, seed: int) -> list[str]:
        """At most `most` rewordings, chosen by seed."""
        found: dict[str, None] = {}
        names = self._matcher.find(question.text)
        # `Rand` in "Rand al'Thor" is not replaced: half of the longer name would be left over.
        whole = [n for n in names if not any(n != other and n in other for other in names)]
        for name in sorted(whole):
            for entity in self._index.named(name):
                for other in entity.names:
                    key = normalise(other)
                    if key == name or key in self._ambiguous or key not in self._index:
                        continue
                    if not _stands_already(question.text, name, other):
                        found.setdefault(_replace(question.text, name, other))
        found.pop(question.text, None)
        return sorted(found, key=lambda text: draw(seed, "rewrite", text))[:most]


def _stands_already(text: str, name: str, other: str) -> bool:
    """Whether the rest of the text speaks of `other` already, as "Why is Bran called ...?" does."""
    rest = words(normalise(_replace(text, name, " ")))
    new = [word for word in words(normalise(other)) if len(word) >= _TELLING]
    return any(a.startswith(b) or b.startswith(a) for a in new for b in rest if len(b) >= _TELLING)


def _replace(text: str, name: str, other: str) -> str:
    """`text` with the whole word(s) `name` (normalised) replaced, whatever their case."""
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, name.split(" "))) + r"(?!\w)"
    return re.sub(pattern, lambda _: other, text, count=1, flags=re.IGNORECASE)
