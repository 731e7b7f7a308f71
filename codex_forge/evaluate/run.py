"""The mode `evaluate`: questions and embeddings in, `evaluate/<name>/` out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from codex_forge import embeddings
from codex_forge.artifact import Artifact, Draft
from codex_forge.corpus import Corpus, CorpusFiles, check_same_files, read_corpus
from codex_forge.entities import EntityIndex, TopicMatcher
from codex_forge.errors import InputError
from codex_forge.evaluate.bank import Bank
from codex_forge.job import Job
from codex_forge.jsonl import read_json, write_json, write_jsonl
from codex_forge.metrics import ir_measures, mean, rubric, slice_value
from codex_forge.model import locate
from codex_forge.records import Chunk, Question, Run
from codex_forge.trec import write_run

log = logging.getLogger("codex_forge")

_SNIPPET = 400


def run(job: Job) -> None:
    """Evaluate one retriever on a part of the question bank, unless that is done."""
    config = job.config
    files = job.corpus_files()
    pairs = job.open("pairs", config.run_name)
    inputs = {"pairs": pairs.as_input(), **files.inputs(("chunks", "indexes"))}
    check_same_files(pairs, inputs, ("chunks", "indexes"))
    embedded = None
    if config.evaluate.retriever == "dense":
        embedded = _open_vectors(job)
        check_same_files(embedded, inputs, ("chunks",))
        inputs["embed"] = embedded.as_input()
        _same_split(job, embedded, pairs)
    settings = {"evaluate": config.evaluate.model_dump(mode="json", exclude={"latency_queries"})}
    recipe = job.recipe(config.evaluate_name, settings, inputs)
    draft = job.begin(recipe)
    if isinstance(draft, Draft):
        report = Evaluation(job, files, pairs, embedded).write(draft)
        log.info("wrote %s", draft.url)
    else:
        report = read_json(job.open("evaluate", recipe.name).path("report.json"))
    _log_report(report)


def _open_vectors(job: Job) -> Artifact:
    """The embed artifact; when it is not there, the error says with which command to make it."""
    try:
        return job.open("embed", job.config.embed_name)
    except InputError as error:
        if job.config.embed.model == "trained":
            raise
        do = "run python -m jobs.embed embed.model=base"
        raise InputError(error.what, where=error.where, do=do) from error


def _same_split(job: Job, embedded: Artifact, pairs: Artifact) -> None:
    """A model trained on another split may have seen these questions."""
    model = embedded.manifest.inputs["model"]
    if model.kind != "train":
        return
    trained = job.open("train", model.name)
    if trained.manifest.inputs["pairs"].digest != pairs.digest:
        raise InputError(
            "the model was trained on other pairs than these questions belong to",
            where=trained.url,
            do="run python -m jobs.train --force, embed --force, and evaluate again",
        )


class Evaluation:
    """One retriever on one part of the question bank."""

    def __init__(
        self, job: Job, files: CorpusFiles, pairs: Artifact, embedded: Artifact | None
    ) -> None:
        """Read questions, qrels and corpus; load the model if the retriever needs one."""
        self._config = job.config.evaluate
        self._bank = Bank(pairs, self._config.part)
        self._corpus = read_corpus(files, "reject", job.scratch)
        self._job, self._embedded = job, embedded
        self._tag = job.config.evaluate_name

    def write(self, draft: Draft) -> dict[str, Any]:
        """Search, measure, write and commit; returns the report."""
        from codex_forge.evaluate.retrieve import latency, retrieve

        retriever = self._retriever()
        depth = self._config.depth
        run = retrieve(retriever, self._bank.questions, self._corpus.chunks, depth)
        rows = list(self._judge(run))
        timing = latency(retriever, self._bank.questions, depth, self._config.latency_queries)
        report: dict[str, Any] = {
            "name": self._tag,
            "retriever": self._config.retriever,
            "model": self._model_name(),
            "part": self._config.part,
            "questions": len(rows),
            "metrics": _means(rows),
            "slices": self._slices(rows),
            "latency_ms": timing,
        }
        write_run(draft.path("run.trec"), run, self._tag)
        write_jsonl(draft.path("per_question.jsonl"), rows)
        write_json(draft.path("report.json"), report)
        summary = {"retriever": self._config.retriever, "rubric": report["metrics"]["rubric"]}
        draft.commit({"questions": len(rows)}, summary, volatile=("report.json",))
        return report

    def _retriever(self) -> Any:
        from codex_forge.evaluate.retrieve import Bm25Retriever, DenseRetriever

        if self._embedded is None:
            return Bm25Retriever(self._corpus.chunks)
        from codex_forge.model.encoder import Encoder, load_base, load_trained

        model = self._embedded.manifest.inputs["model"]
        config = self._job.config
        if model.kind == "train":
            trained = self._job.open("train", model.name)
            _same_model(self._embedded, trained.digest)
            loaded = load_trained(trained.path_of_folder("model"), config.model)
        else:
            base = locate.locate(config.model)
            _same_model(self._embedded, base.identity.digest)
            loaded = load_base(base.folder, config.model)
        ids, vectors = embeddings.vectors(self._embedded)
        return DenseRetriever(Encoder(loaded), ids, vectors)

    def _model_name(self) -> str:
        return self._embedded.manifest.inputs["model"].name if self._embedded else ""

    def _judge(self, run: Run) -> Iterator[dict[str, Any]]:
        """One row a question: the record, its measures, and what was retrieved."""
        measures = ir_measures(self._bank.qrels, run, self._config.k)
        matcher = _Covered(self._corpus, self._bank.questions)
        chunks = self._corpus.chunks
        k = self._config.rubric_k
        for record, question in zip(self._bank.records, self._bank.questions, strict=True):
            best = run[question.query_id][:k]
            found = [chunks[chunks.position(chunk_id)] for chunk_id, _ in best]
            covers = [matcher.topics(chunk, question.expected_topics) for chunk in found]
            grades = self._bank.qrels.get(question.query_id, {})
            relevant = [grades.get(chunk.chunk_id, 0) > 0 for chunk in found]
            yield {
                **record,
                "measures": {
                    "rubric": rubric(question.expected_topics, covers, relevant),
                    **measures[question.query_id],
                },
                "retrieved": [
                    {
                        "rank": rank,
                        "chunk_id": chunk.chunk_id,
                        "filename": chunk.filename,
                        "score": round(score, 6),
                        "relevant": answers,
                        "covers": covered,
                        "text": chunk.text[:_SNIPPET],
                    }
                    for rank, (chunk, (_, score), covered, answers) in enumerate(
                        zip(found, best, covers, relevant, strict=True), start=1
                    )
                ],
            }

    def _slices(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Mean measures by the values of each sliced field."""
        found: dict[str, Any] = {}
        for name in dict.fromkeys((*self._config.slices, *self._bank.slices)):
            groups: dict[str, list[dict[str, Any]]] = {}
            for row in rows:
                if row.get(name) not in (None, ""):
                    groups.setdefault(slice_value(row[name]), []).append(row)
            if not groups:
                log.warning("  no question has the field %s (evaluate.slices)", name)
                continue
            found[name] = {
                value: {"questions": len(group), "metrics": _means(group)}
                for value, group in sorted(groups.items())
            }
        return found


class _Covered:
    """Which topics of a question a chunk covers; each chunk is matched once."""

    def __init__(self, corpus: Corpus, questions: Sequence[Question]) -> None:
        topics = {topic for question in questions for topic in question.expected_topics}
        self._matcher = TopicMatcher(topics, EntityIndex(corpus.entities))
        self._known: dict[str, dict[str, str]] = {}

    def topics(self, chunk: Chunk, expected: Sequence[str]) -> dict[str, str]:
        """Topic -> the name under which the chunk covers it."""
        if chunk.chunk_id not in self._known:
            self._known[chunk.chunk_id] = self._matcher.covered(chunk)
        covered = self._known[chunk.chunk_id]
        return {topic: covered[topic] for topic in expected if topic in covered}


def _same_model(embedded: Artifact, digest: str) -> None:
    if embedded.manifest.inputs["model"].digest != digest:
        raise InputError(
            "was made by another model than is there now",
            where=embedded.url,
            do="run python -m jobs.embed --force",
        )


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    names = rows[0]["measures"]
    return {name: round(mean([row["measures"][name] for row in rows]), 6) for name in names}


def _log_report(report: dict[str, Any]) -> None:
    metrics = report["metrics"]
    log.info(
        "  %s on %d %s questions: rubric %.2f/5, recall@5 %.3f, mrr@10 %.3f, ndcg@10 %.3f",
        report["name"],
        report["questions"],
        report["part"],
        metrics["rubric"],
        metrics.get("recall@5", float("nan")),
        metrics["mrr@10"],
        metrics["ndcg@10"],
    )
    held = report["slices"]["part"].get("test") if report["part"] == "all" else None
    if held:
        log.info(
            "  of these, %d held-out test questions: rubric %.2f/5 (the number to judge by)",
            held["questions"],
            held["metrics"]["rubric"],
        )
    latency = report["latency_ms"]
    log.info("  one query: p50 %.1f ms, p95 %.1f ms", latency["p50"], latency["p95"])
