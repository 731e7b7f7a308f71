"""Finds what is wrong with train rows, one at a time, after a first pass over all of them.

    finder = DefectFinder(held_out, 0.7, names=index)
    for row in rows():
        finder.observe(row)
    for row in rows():
        found = finder.check(row)

Memory holds hashes of distinct texts and what is held out, never the rows. Fields that a row does
not have are not missed, but for its texts and its id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from codex_forge.defects.across import Across, texts_of
from codex_forge.defects.aliases import Aliases
from codex_forge.defects.kinds import Defect, defect
from codex_forge.defects.leaks import Leaks
from codex_forge.defects.pairs import PairChecks
from codex_forge.defects.scored import ScoredChecks, value_of
from codex_forge.entities import EntityIndex

Row = dict[str, Any]
Cut = Callable[[str], int | None]
"""The character of a text where the model stops reading; None when it reads it all."""


class DefectFinder:
    """Checks rows of pairs and of scored or labelled pairs."""

    def __init__(
        self,
        held_out: Iterable[tuple[str, str]] = (),
        near_duplicate: float = 0.7,
        names: EntityIndex | None = None,
        *,
        held_out_pairs: Iterable[tuple[str, str]] = (),
        held_out_chunks: Collection[str] = (),
        negative_near_duplicate: float = 0.8,
        min_characters: int = 2,
        drop_inverted: bool = False,
        query_cut: Cut | None = None,
        document_cut: Cut | None = None,
    ) -> None:
        """What rows are held against.

        Args:
            held_out: (id, text) of the questions that training must not see.
            near_duplicate: a query this similar to one of them leaks it, in (0, 1].
            names: tells which names mean the same thing.
            held_out_pairs: pairs of texts, in either order, that training must not see.
            held_out_chunks: ids of chunks that training must not see.
            negative_near_duplicate: a negative this similar to the positive is none.
            min_characters: a text with fewer letters and digits is near-empty.
            drop_inverted: a positive less similar than a negative is an error, not a note.
            query_cut: where the model stops reading a query, for `truncated_query`.
            document_cut: where it stops reading a chunk, for `evidence_past_cut`.
        """
        aliases = Aliases(names) if names is not None else None
        self._across = Across()
        leaks = Leaks(held_out, near_duplicate, aliases, held_out_pairs, held_out_chunks)
        self._pairs = PairChecks(
            leaks,
            self._across,
            aliases=aliases,
            near=negative_near_duplicate,
            least=min_characters,
            inverted="error" if drop_inverted else "note",
            query_cut=query_cut,
            document_cut=document_cut,
        )
        self._scored = ScoredChecks(leaks, self._across, min_characters)

    def observe(self, row: Row) -> None:
        """Take in one row of the first pass.

        Raises:
            ValueError: a row was checked already.
        """
        if "text_a" in row or "text_b" in row:
            self._observe_scored(row)
        else:
            self._observe_pair(row)

    def check(self, row: Row) -> list[Defect]:
        """Everything wrong with one row; ask in the order in which rows are kept.

        Of equal rows the first without an error is kept; the others are repeats.
        """
        self._across.freeze()
        checks = self._scored if "text_a" in row or "text_b" in row else self._pairs
        return list(checks.of(row))

    def of_all(self) -> Iterator[Defect]:
        """What is wrong with the rows as a whole."""
        for kind, detail in self._across.of_all():
            yield defect(kind, detail)

    def _observe_pair(self, row: Row) -> None:
        query, positive = row.get("query"), row.get("positive")
        if isinstance(query, str) and isinstance(positive, str):
            self._across.observe_pair(query, positive, texts_of(row, "negatives"))
            self._across.observe_id("query", row.get("query_id"), query)
            self._across.observe_id("chunk", row.get("positive_id"), positive)

    def _observe_scored(self, row: Row) -> None:
        one, other = row.get("text_a"), row.get("text_b")
        value, is_label = value_of(row)
        if isinstance(one, str) and isinstance(other, str) and value is not None:
            self._across.observe_scored(one, other, value, is_label=is_label)
