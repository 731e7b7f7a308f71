"""Topics under any of their names: which ones a text covers, and a text with its names masked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from codex_forge.defects.texts import plain
from codex_forge.entities import EntityIndex, NameMatcher

_REMEMBERED = 50_000
_HOLE = 0xF0000
"""The first sign for private use: no letter, and in no text of words."""
_WORDING = 4
"""Letters beside the names that make a wording."""


class Aliases:
    """What the names index says about topics and texts."""

    def __init__(self, index: EntityIndex) -> None:
        """Names that several things bear stand for none of them."""
        self._index = index
        self._forms: dict[str, set[str]] = {}
        self._bearer = {
            name: bearers.pop()
            for name in index.names
            if len(bearers := {plain(e.primary_name) for e in index.named(name)}) == 1
        }
        self._matcher = NameMatcher(self._bearer)

    def forms(self, topic: str) -> set[str]:
        """The topic and all its names, normalised."""
        if topic not in self._forms:
            if len(self._forms) >= _REMEMBERED:
                self._forms.clear()
            self._forms[topic] = self._index.forms(topic)
        return self._forms[topic]

    def covered(self, topics: Iterable[str], text: str) -> set[str]:
        """The topics that a text names as whole words, under any name."""
        whole = plain(text)
        found = set()
        for topic in topics:
            likely = [form for form in self.forms(topic) if form and form in whole]
            if likely and NameMatcher(likely).find(whole):
                found.add(topic)
        return found

    def masked(self, text: str) -> str | None:
        """A text with every name replaced by what bears it; None when it names nothing.

        A text that is a name and no more has no wording to mask, and gives None too.
        """
        masked = plain(text)
        found = _whole(sorted(self._matcher.find(masked), key=lambda n: (-len(n), n)))
        for number, name in enumerate(found):
            masked = masked.replace(name, chr(_HOLE + number))
        if not found or sum(map(str.isalpha, masked)) < _WORDING:
            return None
        return masked.translate({_HOLE + i: f"<{self._bearer[n]}>" for i, n in enumerate(found)})

    def is_name(self, text: str) -> bool:
        """Whether a text is a name and no more."""
        return plain(text) in self._bearer


def _whole(names: Sequence[str]) -> list[str]:
    """Names that are no part of a longer one; the longest come first."""
    kept: list[str] = []
    for name in names:
        if not any(name in longer for longer in kept):
            kept.append(name)
    return kept
