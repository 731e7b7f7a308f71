"""Which column of a file holds which of our fields, and what kind of record its rows are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from codex_forge.config.pairs import COLUMNS, ReadyData
from codex_forge.errors import nearest

_NEGATIVE = re.compile(r"negative_(\d+)")
_MOST_KNOWN = 1_000
_PAIR = ("query", "positive")
_SCORED = ("text_a", "text_b")
_JUDGED = ("score", "label")


@dataclass(frozen=True)
class Columns:
    """Our names and theirs."""

    scored: bool
    """Two texts with a score or a label, else a query with a positive."""
    names: dict[str, str]
    """What each of our fields is called there, whether it is there or not."""
    low: float = 0.0
    high: float = 1.0
    known: dict[tuple[str, ...], list[tuple[str, str]]] = field(default_factory=dict, repr=False)
    """The negatives of records met before, by their columns."""

    def negatives(self, there: Collection[str]) -> list[tuple[str, str]]:
        """The (field, column) of negatives among the columns that are there, in their order."""
        key = tuple(there)
        if key not in self.known:
            if len(self.known) >= _MOST_KNOWN:  # records with keys of their own
                self.known.clear()
            self.known[key] = self._negatives(there)
        return self.known[key]

    def _negatives(self, there: Collection[str]) -> list[tuple[str, str]]:
        ours = ["negative", *_numbered([*self.names, *there]), "negatives"]
        found = [(name, self.names.get(name, name)) for name in dict.fromkeys(ours)]
        return [(name, column) for name, column in found if column in there]

    def used(self, there: Collection[str]) -> list[str]:
        """The columns of a table that are read."""
        mine = {column for _, column in self.negatives(there)} | set(self.names.values())
        return [column for column in there if column in mine]


def match_columns(data: ReadyData, there: Sequence[str], *, is_table: bool) -> Columns | str:
    """The columns of one file, or what is wrong with them, in words."""
    names = {name: data.columns.get(name, name) for name in (*COLUMNS, *data.columns)}
    pair, scored = (all(names[n] in there for n in needed) for needed in (_PAIR, _SCORED))
    scored = scored and any(names[name] in there for name in _JUDGED)
    # Only a table is known to lack a column: a field of JSON may come in a later record.
    asked = data.columns if is_table or not (pair or scored) else ()
    missing = [names[name] for name in asked if names[name] not in there]
    if missing and (is_table or any(n in data.columns for n in (*_PAIR, *_SCORED, *_JUDGED))):
        return " ".join([*_absent(data, missing, there), _listed(there)])
    if pair and scored:
        return f"holds both {' and '.join(_PAIR)}, and {' and '.join(_SCORED)}; {_listed(there)}"
    if not pair and not scored:
        near = [n for n in (*_PAIR, *_SCORED, *_JUDGED) if names[n] not in there]
        return " ".join(
            [
                "has neither query and positive, nor text_a, text_b and score or label.",
                *_guesses(near, there),
                _listed(there),
            ]
        )
    return Columns(scored, names, *data.score_range)


def never_met(data: ReadyData, met: Collection[str]) -> list[str]:
    """Columns that the config names and no record had."""
    return sorted({column for column in data.columns.values() if column not in met})


def said_of(column: str, there: Sequence[str]) -> str:
    """That a column is not there, what it may be a slip of, and what is there."""
    return " ".join([f"no record has it.{_guess(column, there)}", _listed(there)])


def _numbered(names: Collection[str]) -> list[str]:
    found = {name: match for name in names if (match := _NEGATIVE.fullmatch(name))}
    return sorted(found, key=lambda name: (int(found[name][1]), name))


def _absent(data: ReadyData, missing: Sequence[str], there: Sequence[str]) -> Iterator[str]:
    for name, column in data.columns.items():
        if column in missing:
            yield f"has no column {column!r} for {name}.{_guess(column, there)}"


def _guesses(names: Sequence[str], there: Sequence[str]) -> Iterator[str]:
    for name in names:
        if near := nearest(name, there):
            yield f"Is {near!r} the {name}?"


def _guess(column: str, there: Sequence[str]) -> str:
    near = nearest(column, there)
    return f" Did you mean {near!r}?" if near else ""


def _listed(there: Sequence[str]) -> str:
    return f"Its columns are: {', '.join(there) or 'none'}"
