"""Divide questions into train, dev and test so that no part holds a paraphrase of another's.

Questions with the same answer (the same chunks answer them, or they expect the same topics), with
the same wording, or equal in a field of `split.group_by`, stay together. Groups are dealt out
within each category, so that every part has every category in its share.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

from codex_forge.config.sections import SplitConfig
from codex_forge.entities import normalise
from codex_forge.records import Question
from codex_forge.seeded import draw

Answers = Mapping[str, frozenset[int]]
"""query_id -> the chunks that answer it."""

PARTS = ("train", "dev", "test")


def split_questions(
    questions: Sequence[Question], config: SplitConfig, seed: int, answers: Answers
) -> dict[str, list[Question]]:
    """Questions by part, in their original order; the same seed gives the same split."""
    part_of: dict[str, str] = {}
    strata: dict[str, list[list[Question]]] = {}
    for group in group_questions(questions, config.group_by, answers):
        strata.setdefault(group[0].category, []).append(group)
    for category in sorted(strata):
        groups = sorted(strata[category], key=lambda g: draw(seed, "split", g[0].query_id))
        for part, group in _deal(groups, config):
            part_of.update((question.query_id, part) for question in group)
    return {part: [q for q in questions if part_of[q.query_id] == part] for part in PARTS}


def group_questions(
    questions: Sequence[Question], group_by: Sequence[str], answers: Answers
) -> list[list[Question]]:
    """Questions that must stay together, as connected components of their shared keys."""
    parent = list(range(len(questions)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, question in enumerate(questions):
        for key in _keys(question, group_by, answers):
            parent[root(i)] = root(first.setdefault(key, i))
    groups: dict[int, list[Question]] = {}
    for i, question in enumerate(questions):
        groups.setdefault(root(i), []).append(question)
    return list(groups.values())


def _keys(question: Question, group_by: Sequence[str], answers: Answers) -> Iterator[Hashable]:
    yield "text", normalise(question.text)
    if found := answers.get(question.query_id):
        yield "answers", found
    yield "topics", frozenset(map(normalise, question.expected_topics))
    for name in group_by:
        if (value := question.fields.get(name)) is not None:
            yield name, normalise(str(value))


def _deal(
    groups: Sequence[list[Question]], config: SplitConfig
) -> Iterator[tuple[str, list[Question]]]:
    """Give each group to the part that is furthest below its share of the questions so far."""
    shares = {"train": config.train, "dev": config.dev, "test": config.test}
    dealt = dict.fromkeys(PARTS, 0)
    total = 0
    for group in groups:
        total += len(group)
        part = max(PARTS, key=lambda p: shares[p] * total - dealt[p] if shares[p] else -1e9)
        dealt[part] += len(group)
        yield part, group
