"""What a question touches: the entities it is about and the files that answer it.

With `split.by: entity` or `file` all of that stays on one side of the split, so that a test score
says how well a model does on things that training never met in any wording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from codex_forge.entities import EntityIndex
from codex_forge.records import Question


class Touched(NamedTuple):
    """Entity ids and filenames."""

    entities: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()


class Touching:
    """Knows for one corpus what a question, or any text, touches."""

    def __init__(self, by: str, index: EntityIndex, file_of: Callable[[int], str]) -> None:
        """`by` is `split.by`; `file_of` gives the filename of a chunk's position."""
        self._by, self._index, self._file_of = by, index, file_of
        self._entities_of: dict[str, set[str]] = {}
        for entity in index.entities:
            self._entities_of.setdefault(entity.filename, set()).add(entity.entity_id)

    def of(self, question: Question, answers: Iterable[int]) -> Touched:
        """What may not stand on two sides of the split; nothing when questions are held out.

        By file: the files of the answers, and the entities that those are about. By entity also
        those named in the question or by its topics, and their files.
        """
        if self._by == "question":
            return Touched()
        files = {self._file_of(int(position)) for position in answers}
        if self._by == "file":
            return Touched(self._of_files(files), frozenset(files))
        named = [e for name in self._names_in(question.text) for e in self._index.named(name)]
        named += [e for topic in question.expected_topics for e in self._index.named(topic)]
        files |= {entity.filename for entity in named}
        return Touched(
            self._of_files(files) | {entity.entity_id for entity in named}, frozenset(files)
        )

    def named_in(self, text: str) -> frozenset[str]:
        """Ids of the entities that a text names; a name that two bear names both."""
        return frozenset(
            entity.entity_id for name in self._names_in(text) for entity in self._index.named(name)
        )

    def _of_files(self, files: Iterable[str]) -> frozenset[str]:
        return frozenset(e for name in files for e in self._entities_of.get(name, ()))

    def _names_in(self, text: str) -> list[str]:
        """The names in a text; one that stands only inside a longer one is none (lung *cancer*)."""
        return sorted(self._index.matcher.find_outermost(text))
