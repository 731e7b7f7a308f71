"""The mode `pairs`: corpus in, `pairs/<name>/` out."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from codex_forge.artifact import Draft
from codex_forge.config.sections import PairsConfig
from codex_forge.corpus import Corpus, find_files, read_corpus
from codex_forge.entities import EntityIndex, NameMatcher, normalise
from codex_forge.errors import InputError
from codex_forge.job import Job
from codex_forge.jsonl import write_json, write_jsonl
from codex_forge.near_duplicates import NearDuplicates
from codex_forge.pairs.negatives import NegativeMiner
from codex_forge.pairs.positives import Judge, Judged, in_time, qrels_of
from codex_forge.pairs.splits import group_questions, split_questions
from codex_forge.pairs.synthesis import Query, Rewriter, entity_queries, mention_queries
from codex_forge.progress import progress
from codex_forge.records import Question
from codex_forge.search import Bm25
from codex_forge.stopping import stop
from codex_forge.trec import write_qrels

log = logging.getLogger("codex_forge")

Rejected = dict[str, Any]

_NEAR = 10
_BLOCK = 2_000
"""Queries mined before what was found is committed."""
_STOPPED = "negatives_stopped_by_guard"
_STOPPED_LINE = f'{{"{_STOPPED}": '.encode()


def run(job: Job) -> None:
    """Make the pairs artifact of the run, unless it is there."""
    files = find_files(job.config.corpus)
    settings = {
        "seed": job.config.seed,
        "corpus": {"on_bad_record": job.config.corpus.on_bad_record},
        "pairs": job.config.pairs.model_dump(mode="json"),
    }
    draft = job.begin(job.recipe(job.config.name, settings, files.inputs()))
    if isinstance(draft, Draft):
        corpus = read_corpus(files, job.config.corpus.on_bad_record)
        log.info(
            "%d chunks, %d entities, %d questions, %d records set aside",
            len(corpus.chunks),
            len(corpus.entities),
            len(corpus.questions),
            len(corpus.bad),
        )
        PairsMaker(corpus, job.config.pairs, job.config.seed, draft).write()
        log.info("wrote %s", draft.url)


class PairsMaker:
    """Turns one corpus into the files of a pairs artifact."""

    def __init__(self, corpus: Corpus, config: PairsConfig, seed: int, draft: Draft) -> None:
        """Match the corpus against all topics and judge all questions."""
        self._corpus, self._config, self._seed, self._draft = corpus, config, seed, draft
        self._index = EntityIndex(corpus.entities)
        self._names = NameMatcher(self._index.names)
        self._rejected: list[Rejected] = [
            {"kind": "record", "reason": str(bad), "record": bad.record} for bad in corpus.bad
        ]
        self._synthetic = [*self._entity_queries(), *self._mention_queries()]
        topics = {t for question in corpus.questions for t in question.expected_topics}
        topics |= {topic for query in self._synthetic for topic in query.topics}
        self._judge = Judge(corpus, self._index, topics, config.min_topic_coverage, draft.work)
        self._group_of: dict[str, str] = {}
        self._stopped: Counter[str] = Counter()
        self._parts, self._judged = self._split()
        self._bm25 = Bm25([c.chunk_id for c in corpus.chunks], [c.text for c in corpus.chunks])
        self._miner = NegativeMiner(
            corpus, self._index, self._judge, config.negatives, config.min_topic_coverage
        )

    def write(self) -> None:
        """Write and commit everything.

        Raises:
            InputError: nothing is left to train on.
        """
        draft = self._draft
        train = self._train_queries()
        if not train:
            raise InputError(
                "no training query could be made",
                do="give indexes with aliases, chunks with mentions, or more questions",
            )
        dev = self._question_queries("dev")
        trained = {position for query in train for position in query.positives}
        counts = {
            "pairs_train": self._write_pairs("train", train),
            "pairs_dev": self._write_pairs("dev", dev),
        }
        for part, questions in self._parts.items():
            records = (self._question_record(q, trained) for q in questions)
            counts[f"questions_{part}"] = write_jsonl(
                draft.path(f"questions-{part}.jsonl"), records
            )
        for part in ("dev", "test"):
            judged = {q.query_id: self._judged[q.query_id] for q in self._parts[part]}
            write_qrels(draft.path(f"qrels-{part}.tsv"), qrels_of(judged, self._corpus.chunks))
        counts["rejected"] = write_jsonl(draft.path("rejected.jsonl"), self._rejected)
        report = self._report(train, counts)
        write_json(draft.path("report.json"), report)
        draft.commit(counts)
        for key, value in counts.items():
            log.info("  %s: %d", key, value)
        for reason, value in report["rejected"].items():
            log.info("  rejected, %s: %d", reason, value)

    def _split(self) -> tuple[dict[str, list[Question]], dict[str, list[Judged]]]:
        """Questions that some chunk answers, by part; and the answers of each."""
        judged = {q.query_id: self._judge.answers(q) for q in self._corpus.questions}
        answerable = []
        for question in self._corpus.questions:
            if judged[question.query_id]:
                answerable.append(question)
            else:
                self._reject("question", "no chunk answers it", question.query_id, question.text)
        answers = {query: frozenset(j.position for j in found) for query, found in judged.items()}
        for group in group_questions(answerable, self._config.split.group_by, answers):
            self._group_of.update((question.query_id, group[0].query_id) for question in group)
        return split_questions(answerable, self._config.split, self._seed, answers), judged

    def _entity_queries(self) -> Iterator[Query]:
        for name in sorted(self._index.ambiguous):
            bearers = [entity.entity_id for entity in self._index.named(name)]
            self._reject("name", "several entities bear it", ", ".join(bearers), name)
        yield from entity_queries(self._corpus, self._index, self._config.synthesis, self._seed)

    def _mention_queries(self) -> Iterator[Query]:
        yield from mention_queries(
            self._corpus,
            self._index,
            self._config.synthesis,
            self._seed,
            self._config.positives_per_query,
        )

    def _question_queries(self, part: str) -> list[Query]:
        return [self._query_of(question) for question in self._parts[part]]

    def _query_of(self, question: Question) -> Query:
        judged = self._judged[question.query_id]
        given = question.difficulty if question.difficulty in ("easy", "medium", "hard") else ""
        return Query(
            query_id=question.query_id,
            text=question.text,
            topics=question.expected_topics,
            positives=best_answers(judged, self._config.positives_per_query),
            answers=frozenset(j.position for j in judged),
            source="question",
            phase=given,
            temporal_limit=question.temporal_limit,
            answers_are_given=bool(question.relevant),
        )

    def _train_queries(self) -> list[Query]:
        """Train questions, their rewordings and synthetic queries, without leaks or repeats."""
        rewriter = Rewriter(self._index)
        most = self._config.synthesis.synthetic_expansion - 1
        candidates: list[Query] = []
        for question in self._parts["train"]:
            query = self._query_of(question)
            candidates.append(query)
            for number, text in enumerate(rewriter.rewrites(question, most, self._seed)):
                candidates.append(
                    replace(
                        query,
                        query_id=f"{question.query_id}:alias:{number}",
                        text=text,
                        source="alias_rewrite",
                    )
                )
        return self._share_answers(self._without_leaks([*candidates, *self._synthetic]))

    def _without_leaks(self, candidates: Iterable[Query]) -> list[Query]:
        protected = [(q.query_id, q.text) for p in ("test", "dev") for q in self._parts[p]]
        bank = NearDuplicates(protected, self._config.near_duplicate)
        kept: list[Query] = []
        seen: set[tuple[str, tuple[int, ...]]] = set()
        for query in progress(list(candidates), "queries checked for leaks"):
            key = (normalise(query.text), query.positives)
            if match := bank.find(query.text):
                reason = "near-duplicate of a held-out question"
                self._reject("query", reason, match.key, query.text)
            elif key in seen:
                self._reject("query", "the same query and positive", query.query_id, query.text)
            else:
                seen.add(key)
                kept.append(query)
        return kept

    def _share_answers(self, queries: Sequence[Query]) -> list[Query]:
        """What answers a text in one pair is a negative of the same text in no other."""
        answers: dict[str, set[int]] = {}
        for query in queries:
            answers.setdefault(normalise(query.text), set()).update(query.answers)
        return [replace(q, answers=frozenset(answers[normalise(q.text)])) for q in queries]

    def _write_pairs(self, part: str, queries: Sequence[Query]) -> int:
        """Mine in blocks, and join them to one file; returns the number of pairs."""
        bar = iter(progress(queries, "queries mined for negatives"))
        stopped: Counter[str] = Counter()
        count = 0

        def make(path: Path, block: Sequence[Query]) -> None:
            before = Counter(self._miner.stopped)
            pairs = self._pairs(block)
            guard = ({_STOPPED: self._miner.stopped - before} for _ in range(1))
            write_jsonl(path, chain(pairs, guard))

        with (
            closing(self._draft.work.in_blocks(part, queries, _BLOCK, make, ".jsonl")) as blocks,
            self._draft.path(f"pairs-{part}.jsonl").open("wb") as whole,
        ):
            for block in blocks:
                with block.local.open("rb") as lines:
                    for line in lines:
                        if line.startswith(_STOPPED_LINE):
                            stopped.update(json.loads(line)[_STOPPED])
                        else:
                            whole.write(line)
                            count += 1
                for _ in islice(bar, _BLOCK):
                    continue
        self._stopped += stopped
        return count

    def _pairs(self, queries: Sequence[Query]) -> Iterator[dict[str, Any]]:
        chunks = self._corpus.chunks
        for query in queries:
            stop.check()
            ranked = self._ranked(query)
            for positive in query.positives:
                found = self._miner.mine(query, positive, ranked, self._seed)
                yield {
                    "query": query.text,
                    "positive": chunks[positive].text,
                    "negatives": [chunks[position].text for position, _ in found],
                    "query_id": query.query_id,
                    "positive_id": chunks[positive].chunk_id,
                    "negative_ids": [chunks[position].chunk_id for position, _ in found],
                    "negative_sources": [source for _, source in found],
                    "phase": query.phase or _phase(positive, ranked),
                    "source": query.source,
                }

    def _ranked(self, query: Query) -> list[int]:
        """Positions of chunks by BM25, best first, that the query's time limit allows."""
        found = self._bm25.positions(query.text, self._config.negatives.bm25_depth)
        return [p for p in found if in_time(self._corpus.chunks[p], query.temporal_limit)]

    def _question_record(self, question: Question, trained: set[int]) -> dict[str, Any]:
        """A question with what slices need: is its chunk trained on, does an index tell its name.

        `group` is the first of the questions with the same answer, which are not independent;
        `exposure` is `trained_chunk` when a train pair leads to one of its answers; `name_in_index`
        tells whether the question uses a name that an index gives to one of its answers.
        """
        answers = [j.position for j in self._judged[question.query_id]]
        files = {self._corpus.chunks[position].filename for position in answers}
        bearers = (e for n in self._names.find(question.text) for e in self._index.named(n))
        told = any(entity.filename in files for entity in bearers)
        return {
            **question.fields,
            "query_id": question.query_id,
            "question": question.text,
            "category": question.category,
            "difficulty": question.difficulty,
            "expected_topics": list(question.expected_topics),
            "temporal_limit": question.temporal_limit,
            "relevant": list(question.relevant),
            "group": self._group_of[question.query_id],
            "exposure": "trained_chunk" if trained.intersection(answers) else "unseen_chunk",
            "name_in_index": told,
        }

    def _report(self, train: Sequence[Query], counts: dict[str, int]) -> dict[str, Any]:
        return {
            "counts": counts,
            "train_queries_by_source": dict(sorted(Counter(q.source for q in train).items())),
            "rejected": dict(
                sorted(
                    Counter(
                        "bad record" if r["kind"] == "record" else f"{r['kind']}: {r['reason']}"
                        for r in self._rejected
                    ).items()
                )
            ),
            "negatives_stopped_by_guard": dict(sorted(self._stopped.items())),
        }

    def _reject(self, kind: str, reason: str, about: str, text: str) -> None:
        self._rejected.append({"kind": kind, "reason": reason, "about": about, "text": text})


def best_answers(judged: Sequence[Judged], most: int) -> tuple[int, ...]:
    """Positions of the answers that cover the most topics: a half answer is not trained on."""
    return tuple(j.position for j in judged[:most] if j.coverage == judged[0].coverage)


def _phase(positive: int, ranked: Sequence[int]) -> str:
    """How far words alone lead: `easy` = BM25's first, `medium` = in its ten, else `hard`."""
    rank = ranked.index(positive) if positive in ranked else len(ranked) + _NEAR
    return "easy" if rank == 0 else "medium" if rank < _NEAR else "hard"
