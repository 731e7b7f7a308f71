"""Divide questions into train, dev and test so that no part holds a paraphrase of another's.

Questions with the same answer (the same chunks answer them, or they expect the same topics), with
the same wording, or equal in a field of `split.group_by`, stay together; with `split.by: entity` or
`file` also those that touch the same entity or file. Groups are dealt out within each category and
domain, so that every part has every one of them in its share. With `split.folds` every question is
in the test part of exactly one fold.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from codex_forge.config.pairs import SplitConfig
from codex_forge.entities import normalise
from codex_forge.errors import InputError
from codex_forge.pairs.dealing import Group, deal, shares_of
from codex_forge.pairs.held_out import Touched
from codex_forge.records import HELD_OUT, PARTS, Question

log = logging.getLogger("codex_forge")

Answers = Mapping[str, Collection[int]]
"""query_id -> positions of the chunks that answer it."""

Touches = Mapping[str, Touched]
"""query_id -> the entities and files that must not stand on two sides."""

_NOTHING: Touches = MappingProxyType({})
_TOLERANCE = 0.05
"""A part that misses its share by more of the bank is told in the log."""


@dataclass(frozen=True)
class Split:
    """The question bank, divided."""

    parts: dict[str, list[Question]]
    """Questions by part, in their original order."""
    group_of: dict[str, str]
    """query_id -> the first question of those that stay together with it."""
    held_out: Touched
    """What dev and test questions touch; training may not. Empty with `split.by: question`."""
    report: dict[str, Any]
    """The shares asked for and reached, and how the questions hang together."""


def divide(
    questions: Sequence[Question],
    config: SplitConfig,
    seed: int,
    answers: Answers,
    touched: Touches = _NOTHING,
) -> Split:
    """Divide the bank; the same seed gives the same split.

    Raises:
        InputError: with folds, or more held out than questions, a part that should have questions
            gets none, because too many stay together.
    """
    groups = group_questions(questions, config.group_by, answers, touched)
    parts = _parts(questions, groups, config, seed)
    if questions or config.folds:
        _check(parts, groups, config, touched)
    held = [touched[q.query_id] for p in HELD_OUT for q in parts[p] if q.query_id in touched]
    return Split(
        parts=parts,
        group_of={q.query_id: group[0].query_id for group in groups for q in group},
        held_out=Touched(
            frozenset(entity for t in held for entity in t.entities),
            frozenset(name for t in held for name in t.files),
        ),
        report=_report(parts, groups, config, touched),
    )


def group_questions(
    questions: Sequence[Question],
    group_by: Sequence[str],
    answers: Answers,
    touched: Touches = _NOTHING,
) -> list[Group]:
    """Questions that must stay together, as connected components of their shared keys."""
    parent = list(range(len(questions)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, question in enumerate(questions):
        for key in _keys(question, group_by, answers, touched):
            parent[root(i)] = root(first.setdefault(key, i))
    groups: dict[int, Group] = {}
    for i, question in enumerate(questions):
        groups.setdefault(root(i), []).append(question)
    return list(groups.values())


def _keys(
    question: Question, group_by: Sequence[str], answers: Answers, touched: Touches
) -> Iterator[Hashable]:
    yield "text", normalise(question.text)
    found = frozenset(map(int, answers.get(question.query_id, ())))
    if found:
        yield "answers", found
    yield "topics", frozenset(map(normalise, question.expected_topics))
    for name in group_by:
        if (value := question.fields.get(name)) is not None:
            yield name, normalise(str(value))
    yield from _touched_keys(question, touched)


def _touched_keys(question: Question, touched: Touches) -> Iterator[tuple[str, str]]:
    entities, files = touched.get(question.query_id, Touched())
    yield from ((" entity", entity) for entity in entities)
    yield from ((" file", name) for name in files)


def _parts(
    questions: Sequence[Question], groups: Sequence[Group], config: SplitConfig, seed: int
) -> dict[str, list[Question]]:
    part_of = {q.query_id: part for part, group in deal(groups, config, seed) for q in group}
    return {part: [q for q in questions if part_of[q.query_id] == part] for part in PARTS}


# Telling.


def _check(
    parts: Mapping[str, list[Question]],
    groups: Sequence[Group],
    config: SplitConfig,
    touched: Touches,
) -> None:
    """Say what the shares became; refuse a part that should have questions and has none."""
    if config.by == "question" and not config.folds:
        for part, share in shares_of(config).items():
            if share > 0 and not parts[part]:
                log.warning("  split: %s gets no question of %d groups", part, len(groups))
        return
    if len(groups) < config.folds:
        raise InputError(
            f"{config.folds} folds need as many groups of questions, and there are {len(groups)}"
            f"{_largest(groups, touched)}",
            where="pairs.split.folds",
            do="ask for fewer folds, hold out less (split.by), or write more questions",
        )
    total = sum(map(len, parts.values()))
    for part, share in shares_of(config).items():
        found = len(parts[part])
        if share > 0 and not found:
            raise InputError(
                f"no question is left for {part}: {total} questions form {len(groups)} groups "
                f"that must stay together{_largest(groups, touched)}",
                where="pairs.split",
                do="ask for fewer folds, for no such part (its share 0, the three still 1 in sum), "
                "hold out less (split.by), or write questions about other things",
            )
        if abs(found / total - share) > _TOLERANCE:
            log.warning(
                "  split: %s has %.0f %% of the questions, not %.0f %%: %d groups%s",
                part,
                100 * found / total,
                100 * share,
                len(groups),
                _largest(groups, touched),
            )


def _largest(groups: Sequence[Group], touched: Touches) -> str:
    """The largest group in words, and what ties it together most."""
    if not groups:
        return ""
    group = max(groups, key=len)
    ties = _ties(group, touched)
    by = f", {ties[0]['questions']} of them by the {ties[0]['tie']}" if ties else ""
    return f", the largest of {len(group)}{by}"


def _ties(group: Group, touched: Touches) -> list[dict[str, Any]]:
    """The entities and files that most questions of a group share."""
    keys = Counter(key for question in group for key in _touched_keys(question, touched))
    most = sorted(keys.items(), key=lambda item: (-item[1], item[0]))[:3]
    return [{"tie": f"{kind.strip()} {name}", "questions": count} for (kind, name), count in most]


def _report(
    parts: Mapping[str, list[Question]],
    groups: Sequence[Group],
    config: SplitConfig,
    touched: Touches,
) -> dict[str, Any]:
    total = max(1, sum(map(len, parts.values())))
    largest = max(groups, key=len, default=[])
    report: dict[str, Any] = {
        "by": config.by,
        "groups": len(groups),
        "largest_group": len(largest),
        "shares": {
            part: {
                "asked": round(share, 6),
                "reached": round(len(parts[part]) / total, 6),
                "questions": len(parts[part]),
            }
            for part, share in shares_of(config).items()
        },
    }
    if config.folds:
        report.update(folds=config.folds, fold=config.fold)
    if ties := _ties(largest, touched):
        report["largest_group_is_tied_by"] = ties
    return report
