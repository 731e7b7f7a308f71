"""Leaks: what train rows show of held-out questions, pairs and chunks.

A query leaks when it is a held-out question: letter for letter, but for case and signs, under
another name of the same thing, or nearly (see `near_duplicates`). A text leaks when it quotes one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from codex_forge.defects.aliases import Aliases
from codex_forge.defects.kinds import Defect, defect
from codex_forge.defects.texts import bare, either_way, plain, quoted
from codex_forge.entities import NameMatcher
from codex_forge.near_duplicates import NearDuplicates

_QUOTED_WORDS = 4
_QUOTED_SIGNS = 12
_LONGER = 4
"""A text this many times as long as the longest question cannot be nearly one."""


class Leaks:
    """What is held out, and a search for it in train rows."""

    def __init__(
        self,
        questions: Iterable[tuple[str, str]],
        near_duplicate: float,
        aliases: Aliases | None = None,
        pairs: Iterable[tuple[str, str]] = (),
        chunks: Collection[str] = (),
    ) -> None:
        """What is held out.

        Args:
            questions: (id, text) of held-out questions.
            near_duplicate: similarity in (0, 1] from which a query is nearly a question.
            aliases: names of things, to recognise a question under another name.
            pairs: held-out pairs of texts, in either order.
            chunks: ids of chunks that are held out whole.
        """
        held = list(questions)
        self._near = NearDuplicates(held, near_duplicate)
        self._exact = {text: key for key, text in reversed(held)}
        self._bare = {bare(plain(text)): key for key, text in reversed(held)}
        self._bare.pop("", None)
        self._longest = max((len(text) for _, text in held), default=0)
        self._aliases = aliases
        self._masked = {
            mask: key
            for key, text in reversed(held)
            if aliases and (mask := aliases.masked(text)) is not None
        }
        self._quotable = {plain(text): key for key, text in held if self._is_quotable(text)}
        self._matcher = NameMatcher(self._quotable)
        self._pairs = {either_way(a, b) for a, b in pairs}
        self._chunks = frozenset(chunks)

    def of_query(self, text: str) -> Iterator[Defect]:
        """How a text is a held-out question; at most one defect, the plainest."""
        if len(text) > _LONGER * self._longest:
            return
        if (key := self._exact.get(text)) is not None:
            yield defect("leak_exact", f"{quoted(text)} is question {key}")
        elif (key := self._bare.get(bare(plain(text)))) is not None:
            yield defect("leak_normalised", f"{quoted(text)} is question {key}")
        elif match := self._near.find(text):
            found = f"{quoted(text)} is nearly {quoted(match.text)}"
            yield defect(
                "leak_near_duplicate", f"{found} ({match.similarity:.2f}), question {match.key}"
            )
        elif self._masked and self._aliases:
            mask = self._aliases.masked(text)
            if mask is not None and (key := self._masked.get(mask)) is not None:
                yield defect(
                    "leak_by_alias", f"{quoted(text)} is question {key} under another name"
                )

    def within(self, text: str) -> str | None:
        """The id of a held-out question that a text quotes whole."""
        found = self._matcher.find(text) if self._quotable and text else ()
        return self._quotable[min(found)] if found else None

    def of_pair(self, one: str, other: str) -> Iterator[Defect]:
        """Whether two texts are a held-out pair, in either order."""
        if self._pairs and either_way(one, other) in self._pairs:
            yield defect("leak_pair", f"{quoted(one)} and {quoted(other)} are held out")

    def of_chunk(self, chunk_id: object) -> Iterator[Defect]:
        """Whether a chunk is held out whole."""
        if chunk_id in self._chunks:
            yield defect("leak_chunk", f"chunk {chunk_id} is held out")

    def _is_quotable(self, text: str) -> bool:
        """Whether it cannot stand in a text by chance, as a keyword or a name does."""
        if self._aliases and self._aliases.is_name(text):
            return False
        long = len(text) >= _QUOTED_SIGNS
        return long and (not text.isascii() or len(text.split()) >= _QUOTED_WORDS)
