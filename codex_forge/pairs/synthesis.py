"""Queries made from what the domain says: names of entities, mentions, and reworded questions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codex_forge.config.sections import SynthesisConfig
from codex_forge.corpus import Corpus
from codex_forge.entities import EntityIndex, NameMatcher, normalise
from codex_forge.records import Question
from codex_forge.search import words
from codex_forge.seeded import draw

_TELLING = 4
"""Words of at least so many letters tell what a text is about."""


@dataclass(frozen=True)
class Query:
    """A query to train on, before negatives are mined."""

    query_id: str
    text: str
    topics: tuple[str, ...]
    positives: tuple[int, ...]
    """Positions of the chunks that it is paired with."""
    answers: frozenset[int]
    """Positions of all chunks that answer it; none of them is a negative."""
    source: str
    phase: str = ""
    temporal_limit: float | None = None
    answers_are_given: bool = False
    """The question bank names its answers, so that coverage does not make more of them."""


def entity_queries(
    corpus: Corpus, index: EntityIndex, config: SynthesisConfig, seed: int
) -> Iterator[Query]:
    """Queries about each entity by its names; each name once before any gets a second wording.

    Names that several entities bear are left out: no single chunk answers them.
    """
    by_name = corpus.chunks_by_name()
    ambiguous = index.ambiguous
    for entity in index.entities:
        names = [name for name in entity.names if normalise(name) not in ambiguous]
        chunks = by_name.get(entity.filename, [])
        wordings = _wordings(names, config, seed)
        for number, text in enumerate(wordings[: config.per_entity]):
            yield Query(
                query_id=f"entity:{entity.entity_id}:{number}",
                text=text,
                topics=(entity.primary_name,),
                positives=(chunks[number % len(chunks)],),
                answers=frozenset(chunks),
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
    named = set(index.names) | {part for name in index.names for part in _parts(name)}
    holders: dict[str, list[int]] = {}
    shown: dict[str, str] = {}
    for position, chunk in enumerate(corpus.chunks):
        for mention in chunk.mentions:
            key = normalise(mention)
            if key and key not in named:
                holders.setdefault(key, []).append(position)
                shown.setdefault(key, mention)
    for key, found in holders.items():
        positions = list(dict.fromkeys(found))
        if len(positions) > widest:
            continue
        wordings = _wordings([shown[key]], config, seed)
        for number, position in enumerate(positions):
            yield Query(
                query_id=f"mention:{key}:{number}",
                text=wordings[number % len(wordings)],
                topics=(shown[key],),
                positives=(position,),
                answers=frozenset(positions),
                source="mention",
            )


def _parts(name: str) -> Iterator[str]:
    """Every run of whole words in a name: `Rand` may mean "Rand al'Thor", or another Rand."""
    split = name.split(" ")
    for start in range(len(split)):
        for end in range(start + 1, len(split) + 1):
            yield " ".join(split[start:end])


def _wordings(names: Sequence[str], config: SynthesisConfig, seed: int) -> list[str]:
    """Templates over names: a first wording of each name, then a second, up to `per_name`."""
    rounds: list[list[str]] = [[] for _ in range(config.per_name)]
    for name in names:
        order = sorted(config.templates, key=lambda t: draw(seed, "wording", name, t))
        for texts, template in zip(rounds, order, strict=False):
            texts.append(template.replace("{name}", name))
    return list(dict.fromkeys(text for texts in rounds for text in texts))


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
                    if key == name or key in self._ambiguous:
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
