"""What can be wrong with a scored or labelled pair of texts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from codex_forge.defects.across import Across, as_number
from codex_forge.defects.kinds import Defect, defect
from codex_forge.defects.leaks import Leaks
from codex_forge.defects.texts import amount, damage, plain, quoted

_ALIKE = 0.5
"""A text scores at least this beside itself."""


def value_of(row: dict[str, Any]) -> tuple[float | None, bool]:
    """(number, whether it is a label) of a row; the number is None when it has none."""
    if row.get("label") is not None:
        return as_number(row["label"]), True
    return as_number(row.get("score")), False


class ScoredChecks:
    """Checks rows with `text_a`, `text_b` and a `score` (0 to 1) or a `label` (0 or 1)."""

    def __init__(self, leaks: Leaks, across: Across, least: int) -> None:
        """`least` letters and digits make a text more than near-empty."""
        self._leaks, self._across, self._least = leaks, across, least

    def of(self, row: dict[str, Any]) -> Iterator[Defect]:
        """Everything wrong with one row; marks it when nothing grave is."""
        one, other = row.get("text_a"), row.get("text_b")
        if not isinstance(one, str) or not isinstance(other, str):
            yield defect("missing_text", "text_a or text_b is no text")
            return
        found = [*self._texts(one, other), *self._value(row), *self._together(one, other, row)]
        yield from found
        if not any(each.severity == "error" for each in found):
            self._across.mark_scored(one, other)
        if row.get("pair_id") in (None, ""):
            yield defect("missing_id", "the row has no pair_id")

    def _texts(self, one: str, other: str) -> Iterator[Defect]:
        for text in (one, other):
            if not text.strip():
                yield defect("empty_text", "a text of the pair is empty")
            elif amount(text, self._least) < self._least:
                yield defect("near_empty_text", quoted(text))
            yield from (defect(kind, detail) for kind, detail in damage(text))
            yield from self._leaks.of_query(text)

    def _value(self, row: dict[str, Any]) -> Iterator[Defect]:
        if row.get("label") is None and row.get("score") is None:
            yield defect("missing_score", "neither a score nor a label")
            return
        value, is_label = value_of(row)
        if value is None or not math.isfinite(value):
            given = row["label"] if is_label else row["score"]
            yield defect("score_not_a_number", quoted(str(given)))
        elif is_label and value not in (0, 1):
            yield defect("label_not_binary", f"label {value:g}")
        elif not is_label and not 0 <= value <= 1:
            yield defect("score_out_of_range", f"score {value:g}")

    def _together(self, one: str, other: str, row: dict[str, Any]) -> Iterator[Defect]:
        value, _ = value_of(row)
        same = plain(one) == plain(other)
        if value is not None and value < _ALIKE and same and one.strip():
            yield defect("same_text_low_score", f"{value:g} for {quoted(one)} beside itself")
        if self._across.is_torn(one, other):
            yield defect("contradicting_labels", f"{quoted(one)} and {quoted(other)}")
        elif self._across.met_scored(one, other):
            yield defect("duplicate_pair", f"{quoted(one)} and {quoted(other)}")
        yield from self._leaks.of_pair(one, other)
