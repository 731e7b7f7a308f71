"""Counts of what was found, with a few examples of each kind; its memory is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from codex_forge.audit.lengths import AllLengths
from codex_forge.defects import KINDS, Defect

_EXAMPLES = 5


class Tally:
    """Counts defects by kind and rows by gravity."""

    def __init__(self, lengths: AllLengths) -> None:
        """`lengths` tells which positives are cut."""
        self.counts: Counter[str] = Counter()
        self.rows = self.rows_with_errors = self.rows_with_leaks = 0
        self._lengths = lengths
        self._with_topics = self._cut = 0
        self._severity: dict[str, str] = {}
        self._examples: dict[str, list[dict[str, Any]]] = {}
        self.of_all_errors: list[str] = []

    def add(self, row: dict[str, Any], found: Sequence[Defect]) -> None:
        """Take in one row and what is wrong with it."""
        self.rows += 1
        errors = [each for each in found if each.severity == "error"]
        self.rows_with_leaks += any(KINDS[each.kind].leak for each in errors)
        self.rows_with_errors += any(not KINDS[each.kind].leak for each in errors)
        positive = row.get("positive")
        if isinstance(positive, str):
            self._with_topics += bool(row.get("topics"))
            self._cut += self._lengths.is_cut("positive", positive)
        for each in found:
            self._count(each, str(row.get("query_id", row.get("pair_id", ""))))

    def add_of_all(self, each: Defect) -> None:
        """Take in what is wrong with the rows as a whole."""
        self._count(each, "")
        self.of_all_errors.append(each.detail)

    def by_kind(self, *, notes: bool = False) -> dict[str, int]:
        """Kind -> how often, in the order of `KINDS`: of errors and warnings, or of notes."""
        return {
            kind: self.counts[kind]
            for kind in KINDS
            if self.counts[kind] and (self._severity[kind] == "note") == notes
        }

    def described(self) -> list[dict[str, Any]]:
        """Every kind that was found, errors first: severity, cure, count and examples."""
        order = {"error": 0, "warning": 1, "note": 2}
        found = [
            {
                "kind": kind,
                "severity": self._severity[kind],
                "leak": KINDS[kind].leak,
                "cure": KINDS[kind].cure,
                "count": count,
                "share": count / self.rows if self.rows else 0.0,
                "examples": self._examples[kind],
            }
            for kind, count in (self.by_kind() | self.by_kind(notes=True)).items()
        ]
        return sorted(found, key=lambda each: (order[each["severity"]], -each["count"]))

    def evidence(self) -> dict[str, Any]:
        """How many pairs' expected topics stand only where the model does not read."""
        lost = self.counts["evidence_past_cut"]
        return {
            "pairs": self.rows,
            "pairs_with_topics": self._with_topics,
            "pairs_with_cut_positive": self._cut,
            "lost": lost,
            "share": lost / self.rows if self.rows else 0.0,
            "examples": self._examples.get("evidence_past_cut", []),
        }

    def _count(self, each: Defect, query_id: str) -> None:
        self.counts[each.kind] += 1
        self._severity.setdefault(each.kind, each.severity)
        examples = self._examples.setdefault(each.kind, [])
        if len(examples) < _EXAMPLES:
            examples.append({"query_id": query_id, "detail": each.detail})
