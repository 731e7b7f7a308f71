"""The question bank: what answers each question, which part it is in, and what it may not touch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from codex_forge.artifact import Draft
from codex_forge.entities import normalise
from codex_forge.jsonl import write_jsonl
from codex_forge.pairs.domain import Domain
from codex_forge.pairs.held_out import Touched, Touching
from codex_forge.pairs.positives import Answers, Judge, qrels_of
from codex_forge.pairs.query import Query, positions_of
from codex_forge.pairs.ready import Ready
from codex_forge.pairs.rejects import Rejects
from codex_forge.pairs.splits import divide
from codex_forge.records import HELD_OUT, PARTS, Question
from codex_forge.trec import write_qrels


class QuestionBank:
    """The questions that some chunk answers, divided."""

    def __init__(
        self,
        domain: Domain,
        judge: Judge,
        seed: int,
        rejects: Rejects,
        ready: Ready,
    ) -> None:
        """Judge all questions, and divide those that have an answer and are not divided yet."""
        self._domain, self._config = domain, domain.config
        chunks = domain.corpus.chunks
        self.answers: dict[str, Answers] = {}
        self._judge, self._rejects = judge, rejects
        answerable = self._answerable(domain.corpus.questions)
        self.touching = Touching(
            self._config.split.by, domain.index, lambda p: chunks.files[chunks.file_of[p]]
        )
        positions = {query: found.positions.tolist() for query, found in self.answers.items()}
        touched = {q.query_id: self.touching.of(q, positions[q.query_id]) for q in answerable}
        how = self._config.split
        if ready.alone and not answerable:  # ready-made data is divided already, in folds too
            how = how.model_copy(update={"folds": 0, "fold": 0})
        self.split = divide(answerable, how, seed, positions, touched)
        given, groups = ready.bank()
        self._given = ready.negatives() if ready.alone else {}
        self._is_given = frozenset(groups)
        self._beside = [
            (query.query_id, query.text) for part in HELD_OUT for query in ready.queries[part]
        ]
        self.group_of = {**self.split.group_of, **groups}
        self.parts = {
            part: [*self.split.parts[part], *self._answerable(given[part])] for part in PARTS
        }

    def _answerable(self, questions: Iterable[Question]) -> list[Question]:
        """Those that some chunk answers; the others are set aside."""
        found = []
        for question in questions:
            answers = self._judge.answers(question)
            if len(answers.positions):
                self.answers[question.query_id] = answers
                found.append(question)
            else:
                reason = "no chunk answers it"
                self._rejects.add("question", reason, question.query_id, question.text)
        return found

    @property
    def held_out(self) -> Touched:
        """Entities and files that training may not touch."""
        return self.split.held_out

    def protected(self) -> list[tuple[str, str]]:
        """(query_id, text) of the questions that training may not paraphrase."""
        bank = [(q.query_id, q.text) for part in HELD_OUT for q in self.parts[part]]
        return bank + self._beside

    def queries(self, part: str) -> list[Query]:
        """The questions of a part, with their positives."""
        return [self._query_of(question) for question in self.parts[part]]

    def _query_of(self, question: Question) -> Query:
        found = self.answers[question.query_id]
        given = question.query_id in self._is_given
        best = found.best(len(found.positions) if given else self._config.positives_per_query)
        return Query(
            query_id=question.query_id,
            text=question.text,
            topics=question.expected_topics,
            positives=(*best, *self._of_other_types(question, best)),
            answers=positions_of(found.positions),
            source="ready" if given else "question",
            negatives=self._given.get(normalise(question.text), ()),
            phase=question.difficulty,
            temporal_limit=question.temporal_limit,
            answers_are_given=bool(question.relevant),
            category=question.category,
            domain=str(question.fields.get("domain", "")),
        )

    def _of_other_types(self, question: Question, best: tuple[int, ...]) -> tuple[int, ...]:
        """Answers of another type than the best one's, so that the type is no shortcut.

        They cover as much as it does: half an answer is not trained on, and generic topics alone
        make no answer at all.
        """
        found = self.answers[question.query_id]
        positions = found.positions
        if not question.relevant:
            if all(map(self._judge.is_generic, question.expected_topics)):
                return ()
            positions = positions[found.coverage == found.coverage[:1]]
        new = self._domain.of_other_types(positions, best)
        return tuple(new[: self._config.cross_category].tolist())

    def write(self, draft: Draft, trained: frozenset[int]) -> dict[str, int]:
        """Write questions and qrels of each part; returns the counts.

        Args:
            draft: where to.
            trained: positions of the chunks that a train pair leads to.
        """
        counts = {}
        for part in PARTS:
            records = self._records(part, trained)
            counts[f"questions_{part}"] = write_jsonl(
                draft.path(f"questions-{part}.jsonl"), records
            )
            judged = {q.query_id: self.answers[q.query_id] for q in self.parts[part]}
            qrels = qrels_of(judged, self._domain.corpus)
            write_qrels(draft.path(f"qrels-{part}.tsv"), qrels)
        return counts

    def _records(self, part: str, trained: frozenset[int]) -> Iterator[dict[str, Any]]:
        """Questions with what slices need.

        `group` is the first of the questions that are not independent of it; `exposure` is
        `trained_chunk` when a train pair leads to one of its answers; `name_in_index` tells
        whether the question uses a name that an index gives to one of its answers.
        """
        chunks, index = self._domain.corpus.chunks, self._domain.index
        for question in self.parts[part]:
            positions = self.answers[question.query_id].positions
            files = {chunks.files[number] for number in np.unique(chunks.file_of[positions])}
            names = index.matcher.find(question.text)
            bearers = (entity for name in names for entity in index.named(name))
            seen = not trained.isdisjoint(positions.tolist())
            yield {
                **question.fields,
                "query_id": question.query_id,
                "question": question.text,
                "category": question.category,
                "difficulty": question.difficulty,
                "expected_topics": list(question.expected_topics),
                "temporal_limit": question.temporal_limit,
                "relevant": list(question.relevant),
                "group": self.group_of[question.query_id],
                "exposure": "trained_chunk" if seen else "unseen_chunk",
                "name_in_index": any(entity.filename in files for entity in bearers),
            }
