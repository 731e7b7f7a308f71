"""Names in text: an automaton over all names and aliases, and the topics that a text covers.

Matching is on normalised text (compatibility forms, accents and case folded, apostrophes, hyphens
and white space made one) and on whole words, so `Rand` is found in "Rand's sword" and "Rand-like"
and not in "random". Between letters of scripts that are written without spaces (Han, kana, Thai,
Lao, Khmer, Burmese), and between them and others, every place is a border of words.

No language is known here: endings of cases and plurals ("Rands Schwert", "서울에") are other words,
a hyphen is not a space, and a name with a leading article ("the Dragon Reborn") is found with its
article only: what is left without is too often a common word ("the Eye"). Such forms are aliases
that the index of entities may list.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

from ahocorasick_rs import AhoCorasick

from codex_forge.records import Chunk, Entity

_OTHER = re.compile(r"[^\x00-\x7f]+")
_BORDER = " \0 "

_APOSTROPHES = "\u00b4\u02b9\u02bb\u02bc\u05f3\u2018\u2019\u201b\u2032\ua78b\ua78c"
_HYPHENS = "\u05be\u2010\u2011\u2012\u2013\u2212"
_UNSEEN = "\u00ad\u0640\u200c\u200d\u2060\ufeff"
"""Soft hyphen, Arabic lengthening, joiners and byte order mark."""
_SIGNS = str.maketrans(
    {
        **dict.fromkeys(_APOSTROPHES, "'"),
        **dict.fromkeys(_HYPHENS, "-"),
        **dict.fromkeys(_UNSEEN, None),
        "\u0131": "i",  # Turkish: without it "ILGIN" and "Ilgın" are two names
    }
)

_POINTS = range(10, 37)
_ATTACHED = 200
"""Canonical combining classes: Hebrew, Arabic and Syriac points; from 200 on, accents anywhere."""

_SPACELESS = (
    (0x0E01, 0x0EDF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17D3),  # Khmer
    (0x3005, 0x3007),
    (0x3041, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0x20000, 0x323AF),
)
_KATAKANA_SIGNS = ((0x30A1, 0x30FA), (0x31F0, 0x31FF))
_LENGTHENED = "\u30fc"
"""The kana sign of a long vowel, which belongs to the kana before it."""

_NONE, _LETTER, _FREE, _KATAKANA, _MARK = range(5)
"""Kinds of signs: no part of words, of words between borders, of words without, of letters."""


def normalise(text: str) -> str:
    """Text as names are compared: NFKD, accents dropped, case folded, single spaces.

    Marks that make another letter, not an accented one, stay: voiced kana, Indic and Thai vowels.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(_OTHER.sub(_folded, text).casefold().split())


def _folded(match: re.Match[str]) -> str:
    return _fold(match[0])


@lru_cache(maxsize=16384)
def _fold(run: str) -> str:
    """A run of signs outside ASCII, decomposed, without accents."""
    plain = unicodedata.normalize("NFKD", run.translate(_SIGNS)).translate(_SIGNS)
    plain = "".join(sign for sign in plain if not _is_accent(unicodedata.combining(sign)))
    return unicodedata.normalize("NFD", plain)


def _is_accent(combining: int) -> bool:
    """Whether a class of marks is of accents or of Hebrew and Arabic points."""
    return combining == 1 or combining in _POINTS or combining >= _ATTACHED


class _Kinds(dict[str, int]):
    """The kind of each sign, found once."""

    def __missing__(self, sign: str) -> int:
        kind = self[sign] = _kind(sign)
        return kind


def _kind(sign: str) -> int:
    if unicodedata.category(sign).startswith("M") or sign == _LENGTHENED:
        return _MARK
    if not (sign.isalnum() or sign == "_"):
        return _NONE
    if any(low <= ord(sign) <= high for low, high in _KATAKANA_SIGNS):
        return _KATAKANA
    return _FREE if any(low <= ord(sign) <= high for low, high in _SPACELESS) else _LETTER


_kinds = _Kinds()


def _joined(left: int, right: int) -> bool:
    """Whether a sign continues the word of the sign on its left, by their kinds."""
    if _NONE in (left, right):
        return False
    if _KATAKANA in (left, right):  # foreign names, which other scripts part from each other
        return right == _MARK or {left, right} <= {_KATAKANA, _MARK}
    return right == _MARK or _FREE not in (left, right)


_JOINED = tuple(tuple(_joined(left, right) for right in range(5)) for left in range(5))


class NameMatcher:
    """Finds which of many names occur in a text, in one pass over the text (Aho-Corasick)."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are normalised here; equal ones are one."""
        self.names = sorted({name for name in map(normalise, names) if name})
        self._automaton = AhoCorasick(self.names)
        # Which kinds of neighbours make a name a part of a longer word.
        self._before = [tuple(row[_kinds[name[0]]] for row in _JOINED) for name in self.names]
        self._after = [_JOINED[_kinds[name[-1]]] for name in self.names]

    def find(self, text: str) -> set[str]:
        """The normalised names that stand in `text` as whole words (nested ones too)."""
        return self.find_normalised(normalise(text))

    def find_normalised(self, text: str) -> set[str]:
        """Like `find`, in a text that is normalised already."""
        return {self.names[which] for which, _, _ in self._places(text)}

    def find_outermost(self, text: str) -> set[str]:
        """Like `find`, without names that stand only inside longer ones (lung *cancer*)."""
        found, end_so_far = set(), 0
        places = self._places(normalise(text))
        for which, _, end in sorted(places, key=lambda place: (place[1], -place[2])):
            if end > end_so_far:
                found.add(self.names[which])
                end_so_far = end
        return found

    def _places(self, text: str) -> Iterator[tuple[int, int, int]]:
        """(number of a name, start, end) wherever one stands in a normalised text."""
        padded, kinds = f" {text} ", _kinds
        before, after = self._before, self._after
        return (
            (which, start, end)
            for which, start, end in self._automaton.find_matches_as_indexes(text, overlapping=True)
            if not after[which][kinds[padded[end + 1]]] and not before[which][kinds[padded[start]]]
        )


class EntityIndex:
    """Entities by any of their names."""

    def __init__(self, entities: Sequence[Entity]) -> None:
        """Names are compared normalised; one entity may stand in several index files."""
        self.entities = list(entities)
        self._by_name: dict[str, list[int]] = {}
        self.unusable: list[tuple[str, str]] = []
        """(entity_id, name) of names that are mere punctuation: they would be found everywhere."""
        for position, entity in enumerate(entities):
            for key, name in {normalise(name): name for name in entity.names}.items():
                if _says_something(key):
                    self._by_name.setdefault(key, []).append(position)
                else:
                    self.unusable.append((entity.entity_id, name))
        self._shared = {
            name
            for name, bearers in self._by_name.items()
            if len(bearers) > 1 and len({normalise(entities[i].primary_name) for i in bearers}) > 1
        }
        """Names of several different things."""

    def named(self, name: str) -> list[Entity]:
        """All entities that bear the name."""
        return [self.entities[i] for i in self._by_name.get(normalise(name), [])]

    def __contains__(self, name: str) -> bool:
        """Whether some entity bears the name."""
        return normalise(name) in self._by_name

    @cached_property
    def matcher(self) -> NameMatcher:
        """Finds the names in texts; made once, for it takes time and memory with many names."""
        return NameMatcher(self._by_name)

    @cached_property
    def ambiguous(self) -> set[str]:
        """Normalised names that lead to more than one file."""
        return {
            name
            for name, bearers in self._by_name.items()
            if len({self.entities[i].filename for i in bearers}) > 1
        }

    def ambiguous_names(self) -> dict[str, list[Entity]]:
        """Each ambiguous name with the entities that bear it, sorted by name."""
        return {name: self.named(name) for name in sorted(self.ambiguous)}

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
            mine = map(normalise, entity.names)
            forms.update(n for n in mine if n in self._by_name and n not in self._shared)
        return forms


def _says_something(name: str) -> bool:
    """Whether a name holds a letter, a digit or a symbol (emoji are symbols)."""
    return any(sign.isalnum() or unicodedata.category(sign)[0] == "S" for sign in name)


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
        return self.covered_normalised(normalise(named_text(chunk)))

    def covered_normalised(self, text: str) -> dict[str, str]:
        """Like `covered`, of a chunk's `named_text` that is normalised already."""
        found: dict[str, str] = {}
        for form in sorted(self._matcher.find_normalised(text)):
            for topic in self._topics_of[form]:
                found.setdefault(topic, form)
        return dict(sorted(found.items()))
