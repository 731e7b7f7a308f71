"""One retriever on one part of the question bank: searched, judged, timed, and written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from codex_forge.artifact import Draft
from codex_forge.corpus import CorpusFiles, read_corpus
from codex_forge.evaluate import must_pass
from codex_forge.evaluate.bank import Bank
from codex_forge.evaluate.given import Given
from codex_forge.evaluate.judging import judge, means, slices
from codex_forge.evaluate.making import Made, Maker
from codex_forge.evaluate.model import Model
from codex_forge.evaluate.retrieve import Retriever, latency, retrieve
from codex_forge.evaluate.tables import write_questions
from codex_forge.job import Job
from codex_forge.jsonl import write_jsonl
from codex_forge.records import Run
from codex_forge.trec import write_qrels, write_run

log = logging.getLogger("codex_forge")


class Retrieval:
    """What an evaluation does where there are questions."""

    def __init__(self, job: Job, found: Given, files: CorpusFiles, model: Model) -> None:
        """Read bank and corpus, and see that the queries that must pass can.

        Raises:
            InputError: the part has no questions, or a scenario expects what is not there.
        """
        self._job, self._given, self._model = job, found, model
        self._config = job.config.evaluate
        self._bank = Bank(found.pairs, self._config.part)
        self._corpus = read_corpus(files, "reject", job.scratch)
        must_pass.check_names(self._config.must_pass, self._corpus.chunks)
        self._maker = Maker(job.config, self._corpus.chunks, job.scratch)

    def write(self, draft: Draft) -> dict[str, Any]:
        """Search and measure; writes the files and returns its part of the report."""
        config, bank = self._config, self._bank
        made = self._made()
        retriever = made.retriever
        found = retrieve(retriever, bank.questions, config.depth)
        rows = list(judge(bank, self._corpus, found.run, config))
        self._write(draft, found.run, rows)
        timed = latency(retriever, bank.questions, config.depth, config.latency_queries)
        on_disk = None if config.retriever not in ("dense", "hybrid") else not retriever.in_memory
        return {
            "questions": len(rows),
            "metrics": means(rows),
            "slices": slices(rows, (*config.slices, *bank.slices)),
            "latency_ms": timed,
            "queries_per_second": found.per_second,
            "index_bytes": retriever.index_bytes,
            "vectors": {None: None, True: "on disk", False: "in memory"}[on_disk],
            "dimension": retriever.dimension,
            "hybrid": made.hybrid,
            "chroma": self._missed(retriever, found.run),
            "must_pass": must_pass.judge(
                config.must_pass, retriever, self._corpus.chunks, config.depth
            ),
        }

    def _made(self) -> Made:
        embedded, kind = self._given.embedded, self._config.retriever
        if embedded is None:
            return Made(self._maker.words())
        encoder = self._model.encoder
        if kind == "hybrid":
            return self._maker.hybrid(encoder, embedded, self._given.pairs)
        if kind == "chroma":
            return Made(self._maker.chroma(encoder, embedded))
        return Made(self._maker.dense(encoder, embedded))

    def _missed(self, retriever: Retriever, run: Run) -> dict[str, float] | None:
        """What a collection's index finds of the exactly nearest chunks."""
        embedded = self._given.embedded
        if self._config.retriever != "chroma" or embedded is None:
            return None
        from codex_forge.evaluate.collection import recall_of_exact

        exact = self._maker.exact(self._model.encoder, embedded, self._bank.questions)
        mine = [run[question.query_id] for question in self._bank.questions]
        return {"recall@10 of exact": recall_of_exact(mine, exact, 10)}

    def _write(self, draft: Draft, run: Run, rows: Sequence[dict[str, Any]]) -> None:
        fields = (*self._config.slices, *self._bank.slices)
        write_run(draft.path("run.trec"), run, self._job.config.evaluate_name)
        write_qrels(draft.path("qrels.txt"), self._bank.qrels)
        write_jsonl(draft.path("per_question.jsonl"), rows)
        write_questions(draft.path("per_question.csv"), rows, fields)
