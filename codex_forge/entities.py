"""Names in text: an automaton over all names and aliases, and the topics that a text covers.

Matching is on normalised text (compatibility forms, accents and case folded, white space
collapsed) and on whole words, so `Rand` is found in "Rand's sword" and not in "random".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from ahocorasick_rs import AhoCorasick

from codex_forge.records import Chunk, Entity

_SPACES = re.compile(r"\s+")
_BORDER = " \0 "


def normalise(text: str) -> str:
    """Text as names are compared: NFKD, accents dropped, case folded, single spaces."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKD", text)
        text = "".join(sign for sign in folded if not unicodedata.combining(sign))
        text = text.replace("\u2019", "'").replace("\u2018", "'")
    return _SPACES.sub(" ", text.casefold()).strip()


class NameMatcher:
    """Finds which of many names occur in a text, in one pass over the text (Aho-Corasick)."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are normalised here; equal ones are one."""
        self.names = sorted({name for name in map(normalise, names) if name})
        self._automaton = AhoCorasick(self.names)

    def find(self, text: str) -> set[str]:
        """The normalised names that stand in `text` as whole words (nested ones too)."""
        text = normalise(text)
        found = set()
        for which, start, end in self._automaton.find_matches_as_indexes(text, overlapping=True):
            if _is_word(text, start, end):
                found.add(self.names[which])
        return found


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether no letter or digit continues a word across either edge of the match."""
    before = start > 0 and _part(text[start - 1]) and _part(text[start])
    after = end < len(text) and _part(text[end]) and _part(text[end - 1])
    return not (before or after)


def _part(sign: str) -> bool:
    """Letters, digits, `_`, and the vowel signs of Indic scripts, which are marks."""
    return sign.isalnum() or sign == "_" or unicodedata.category(sign).startswith("M")


class EntityIndex:
    """Entities by any of their names."""

    def __init__(self, entities: Sequence[Entity]) -> None:
        """Names are compared normalised; one entity may stand in several index files."""
        self.entities = list(entities)
        self._by_name: dict[str, list[int]] = {}
        for position, entity in enumerate(entities):
            for name in {normalise(name) for name in entity.names}:
                self._by_name.setdefault(name, []).append(position)

    def named(self, name: str) -> list[Entity]:
        """All entities that bear the name."""
        return [self.entities[i] for i in self._by_name.get(normalise(name), [])]

    @property
    def ambiguous(self) -> set[str]:
        """Normalised names that lead to more than one file."""
        return {
            name
            for name, bearers in self._by_name.items()
            if len({self.entities[i].filename for i in bearers}) > 1
        }

    @property
    def names(self) -> list[str]:
        """All normalised names, sorted."""
        return sorted(self._by_name)

    def forms(self, topic: str) -> set[str]:
        """The topic and every name of the entities that it names, normalised.

        An alias that several entities bear stands for the topic only when it is the topic.
        """
        forms = {normalise(topic)}
        for entity in self.named(topic):
            forms.update(n for n in map(normalise, entity.names) if self._bearers(n) == 1)
        return forms

    def _bearers(self, name: str) -> int:
        """How many different things bear a normalised name."""
        return len({normalise(self.entities[i].primary_name) for i in self._by_name[name]})


def named_text(chunk: Chunk) -> str:
    """Text and mentions of a chunk as one text, in which no name runs from one into the next."""
    return _BORDER.join((chunk.text, *chunk.mentions))


class TopicMatcher:
    """Which expected topics a chunk covers, in its text or its mentions, under any alias."""

    def __init__(self, topics: Iterable[str], index: EntityIndex) -> None:
        """`topics` are all topics that will be asked for."""
        self._topics_of: dict[str, set[str]] = {}
        for topic in set(topics):
            for form in index.forms(topic):
                self._topics_of.setdefault(form, set()).add(topic)
        self._matcher = NameMatcher(self._topics_of)

    def covered(self, chunk: Chunk) -> dict[str, str]:
        """Topic -> the (normalised) name under which the chunk covers it, sorted by topic."""
        found: dict[str, str] = {}
        for form in sorted(self._matcher.find(named_text(chunk))):
            for topic in self._topics_of[form]:
                found.setdefault(topic, form)
        return dict(sorted(found.items()))
