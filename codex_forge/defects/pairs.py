"""What can be wrong with a pair: a query, its positive and its negatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codex_forge.defects.across import Across, as_number, texts_of
from codex_forge.defects.aliases import Aliases
from codex_forge.defects.kinds import Defect, Severity, defect
from codex_forge.defects.leaks import Leaks
from codex_forge.defects.texts import amount, bare, damage, main_script, placeholder, plain, quoted
from codex_forge.records import PHASES
from codex_forge.shingles import chunk_similarity


@dataclass(frozen=True)
class _Pair:
    """A row whose texts are texts."""

    row: dict[str, Any]
    query: str
    positive: str
    negatives: Sequence[str]
    topics: Sequence[str]


class PairChecks:
    """Checks rows with `query`, `positive` and perhaps `negatives` and more."""

    def __init__(
        self,
        leaks: Leaks,
        across: Across,
        *,
        aliases: Aliases | None,
        near: float,
        least: int,
        inverted: Severity,
        query_cut: Callable[[str], int | None] | None,
        document_cut: Callable[[str], int | None] | None,
    ) -> None:
        """As `DefectFinder` has them; `inverted` is the severity of that kind."""
        self._leaks, self._across, self._aliases = leaks, across, aliases
        self._near, self._least, self._inverted_is = near, least, inverted
        self._query_cut, self._document_cut = query_cut, document_cut

    def of(self, row: dict[str, Any]) -> Iterator[Defect]:
        """Everything wrong with one row; marks it when nothing grave is."""
        query, positive = row.get("query"), row.get("positive")
        if not isinstance(query, str) or not isinstance(positive, str):
            yield defect("missing_text", "the query or the positive is no text")
            return
        pair = _Pair(
            row, query, positive, texts_of(row, "negatives"), list(texts_of(row, "topics"))
        )
        found = [
            *self._amounts(pair),
            *self._same(pair),
            *self._negatives(pair),
            *self._across_rows(pair),
            *self._leaked(pair),
        ]
        yield from found
        if not any(each.severity == "error" for each in found):
            self._across.mark_pair(query, positive)
        yield from self._facts(pair)
        yield from self._damaged(pair)
        yield from self._unread(pair)

    def _amounts(self, pair: _Pair) -> Iterator[Defect]:
        texts = [("query", pair.query), ("positive", pair.positive)]
        for role, text in [*texts, *(("negative", text) for text in pair.negatives)]:
            if not text.strip():
                yield defect(f"empty_{role}", f"the {role} has no text")
            elif amount(text, self._least) < self._least:
                yield defect(f"near_empty_{role}", quoted(text))
        if left := placeholder(pair.query):
            yield defect("unfilled_template", f"{left} in {quoted(pair.query)}")

    def _same(self, pair: _Pair) -> Iterator[Defect]:
        query, positive = plain(pair.query), plain(pair.positive)
        if not query or not positive:
            return
        if query == positive or _same_words(query, positive):
            yield defect("query_is_positive", quoted(pair.query))
        elif len(positive) < len(query) and f" {bare(positive)} " in f" {bare(query)} ":
            yield defect("positive_in_query", f"{quoted(pair.query)} holds its whole answer")
        if any(plain(text) == query for text in pair.negatives):
            yield defect("query_is_negative", quoted(pair.query))

    def _negatives(self, pair: _Pair) -> Iterator[Defect]:
        row, positive = pair.row, plain(pair.positive)
        others = [plain(text) for text in pair.negatives]
        for key in ("negative_ids", "negative_sources"):
            if key in row and len(row[key] or ()) != len(row.get("negatives") or ()):
                yield defect(
                    "uneven_negatives", f"{len(row[key] or ())} in {key}, not {len(others)}"
                )
        if len(set(others)) < len(others):
            yield defect("duplicate_negative", f"{len(others) - len(set(others))} of {len(others)}")
        for text, other in zip(pair.negatives, others, strict=True):
            if not other:
                continue
            if other == positive:
                yield defect("negative_is_positive", quoted(text))
            elif (likeness := chunk_similarity(pair.positive, text)) >= self._near:
                yield defect("negative_near_positive", f"{quoted(text)} ({likeness:.2f})")
            elif self._across.is_pair(pair.query, text):
                yield defect(
                    "negative_answers_elsewhere", f"{quoted(text)} of {quoted(pair.query)}"
                )
            elif self._covers(pair.topics, text):
                yield defect("negative_covers_topics", f"{quoted(text)} names {pair.topics}")

    def _covers(self, topics: Sequence[str], text: str) -> bool:
        """Whether a text names every expected topic, under any name."""
        if not topics or self._aliases is None:
            return False
        return self._aliases.covered(topics, text) == set(topics)

    def _across_rows(self, pair: _Pair) -> Iterator[Defect]:
        if self._across.met_pair(pair.query, pair.positive):
            yield defect("duplicate_pair", quoted(pair.query))
        for role, key in (("query", "query_id"), ("chunk", "positive_id")):
            given = pair.row.get(key)
            if given not in (None, "") and self._across.has_two_texts(role, given):
                yield defect("id_of_two_texts", f"{key} {given}")

    def _leaked(self, pair: _Pair) -> Iterator[Defect]:
        yield from self._leaks.of_query(pair.query)
        yield from self._leaks.of_pair(pair.query, pair.positive)
        yield from self._leaks.of_chunk(pair.row.get("positive_id"))
        if (key := self._leaks.within(pair.positive)) is not None:
            yield defect("leak_in_positive", f"{quoted(pair.positive)} quotes question {key}")
        for text in pair.negatives:
            if (key := self._leaks.within(text)) is not None:
                yield defect("leak_in_negative", f"{quoted(text)} quotes question {key}")

    def _facts(self, pair: _Pair) -> Iterator[Defect]:
        row = pair.row
        if row.get("phase") not in (*PHASES, None, ""):
            yield defect("unknown_phase", quoted(str(row["phase"])))
        if row.get("query_id") in (None, ""):
            yield defect("missing_id", "the row has no query_id")
        likeness = as_number(row.get("similarity"))
        others = [as_number(value) or 0.0 for value in row.get("negative_similarities") or ()]
        if likeness is not None and others and max(others) > likeness:
            said = f"positive {likeness:.2f}, a negative {max(others):.2f}"
            yield defect("inverted", f"{quoted(pair.query)}: {said}", self._inverted_is)
        texts = [("query", pair.query), ("positive", pair.positive)]
        for role, text in [*texts, *(("negative", text) for text in pair.negatives)]:
            if count := self._across.too_often(role, text):
                yield defect(f"frequent_{role}", f"{count} times: {quoted(text)}")

    def _damaged(self, pair: _Pair) -> Iterator[Defect]:
        met = set()
        for text in (pair.query, pair.positive, *pair.negatives):
            for kind, detail in damage(text):
                if kind not in met:
                    met.add(kind)
                    yield defect(kind, detail)
        asked, answered = main_script(pair.query), main_script(pair.positive)
        if asked and answered and asked != answered:
            yield defect("script_mismatch", f"{asked} query, {answered} positive")

    def _unread(self, pair: _Pair) -> Iterator[Defect]:
        """What the model does not read: the end of the query, or the answer itself."""
        if self._query_cut and (at := self._query_cut(pair.query)) is not None:
            yield defect("truncated_query", f"cut at character {at} of {len(pair.query)}")
        if self._document_cut and pair.topics and self._aliases:
            at = self._document_cut(pair.positive)
            if at is not None and (lost := self.past(pair.topics, pair.positive, at)):
                told = ", ".join(map(repr, sorted(lost)))
                yield defect(
                    "evidence_past_cut", f"{told} past character {at}: {quoted(pair.query)}"
                )

    def past(self, topics: Sequence[str], text: str, at: int) -> set[str]:
        """Topics that a text names, but not before character `at`."""
        if self._aliases is None:
            return set()
        named = self._aliases.covered(topics, text)
        return named - self._aliases.covered(named, text[:at])


def _same_words(one: str, other: str) -> bool:
    """Whether two normalised texts differ in signs alone."""
    near = abs(len(one) - len(other)) <= max(4, len(one) // 8)
    return near and (words := bare(one)) != "" and words == bare(other)
