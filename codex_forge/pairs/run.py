"""The mode `pairs`: corpus and ready-made data in, `pairs/<name>/` out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from codex_forge.artifact import Draft
from codex_forge.corpus import Corpus
from codex_forge.defects import DefectFinder
from codex_forge.errors import InputError
from codex_forge.job import Job
from codex_forge.jsonl import write_json
from codex_forge.pair_files import shard_file
from codex_forge.pairs.bank import QuestionBank
from codex_forge.pairs.collecting import Collector, rewarded_elsewhere
from codex_forge.pairs.cross_encoder import CrossEncoderGuard
from codex_forge.pairs.domain import Domain
from codex_forge.pairs.mining import PairWriter, Tools
from codex_forge.pairs.nearest import NearestByModel
from codex_forge.pairs.positives import Judge
from codex_forge.pairs.query import Query
from codex_forge.pairs.ready import Ready
from codex_forge.pairs.rejects import Rejects
from codex_forge.pairs.scored import write_scored
from codex_forge.pairs.sentences import sentence_queries
from codex_forge.pairs.sources import Sources
from codex_forge.pairs.stages import stage
from codex_forge.pairs.synthesis import entity_queries, mention_queries
from codex_forge.pairs.titles import title_queries

log = logging.getLogger("codex_forge")

_OPERATION = {"synthesis": {"generator": {"url", "concurrency", "timeout", "api_key_variable"}}}
"""Keys that change how the endpoint is reached, not what comes out."""


def run(job: Job) -> None:
    """Make the pairs artifact of the run, unless it is there."""
    job.config.use.refuse_to_make("pairs")
    sources = Sources(job)
    settings = {
        "seed": job.config.seed,
        "corpus": {"on_bad_record": job.config.corpus.on_bad_record},
        "pairs": job.config.pairs.model_dump(mode="json", exclude=_OPERATION),
        **sources.settings,
    }
    draft = job.begin(job.recipe(job.config.run_name, settings, sources.inputs))
    if isinstance(draft, Draft):
        PairsMaker(job, draft, sources).write()
        log.info("wrote %s", draft.url)


class PairsMaker:
    """Turns a corpus and ready-made data into the files of one shard of a pairs artifact."""

    def __init__(self, job: Job, draft: Draft, sources: Sources) -> None:
        """Read everything that is not the corpus's own."""
        self._job, self._draft, self._sources = job, draft, sources
        self._config, self._seed = job.config.pairs, job.config.seed
        rejected = draft.path(shard_file("rejected", job.shard, job.shards))
        self._rejects = Rejects(rejected, of_whole=self._is_first)
        self._ready = Ready(sources.ready(), self._config, self._seed, alone=not sources.has_corpus)
        self._protected: list[tuple[str, str]] = []
        """(query_id, text) of held-out questions."""

    def write(self) -> None:
        """Write and commit everything.

        Raises:
            InputError: nothing is left to train on.
        """
        counts: dict[str, int] = {}
        report: dict[str, Any] = {}
        bad = [self._ready.made.bad] if self._ready.made else []
        if self._sources.has_corpus or self._ready.has_pairs:
            with stage("corpus read"):
                corpus = self._sources.corpus(self._ready, self._job, self._draft)
            self._log_corpus(corpus)
            found, said = self._pairs(corpus)
            counts |= found
            report |= said
            bad.append(corpus.bad)
        if self._ready.has_scored and self._is_first:
            scored = write_scored(
                self._ready, self._config, self._seed, self._draft, self._rejects, self._protected
            )
            counts |= scored
            report["scored"] = scored
        counts["rejected"] = self._rejects.write(chain.from_iterable(bad))
        self._publish(counts, report)

    @property
    def _is_first(self) -> bool:
        """Whether this shard writes what belongs to the whole."""
        return self._job.shard == 0

    def _publish(self, counts: dict[str, int], report: dict[str, Any]) -> None:
        report = {
            "counts": counts,
            **report,
            "rejected": dict(sorted(self._rejects.counts.items())),
        }
        name = shard_file("report", self._job.shard, self._job.shards).removesuffix("l")
        write_json(self._draft.path(name), report)
        self._draft.commit(counts)
        for key, value in counts.items():
            log.info("  %s: %d", key, value)
        for reason, value in report["rejected"].items():
            log.info("  rejected, %s: %d", reason, value)

    def _pairs(self, corpus: Corpus) -> tuple[dict[str, int], dict[str, Any]]:
        """Write pairs, questions and qrels; counts, and what the report says of them."""
        domain = Domain(corpus, self._config, self._job.scratch)
        with stage("queries made"):
            made = list(self._made(domain))
        topics = {topic for q in corpus.questions for topic in q.expected_topics}
        topics |= {topic for query in made for topic in query.topics}
        judge = domain.judge(topics, self._draft.work)
        with stage("questions divided"):
            bank = QuestionBank(domain, judge, self._seed, self._rejects, self._ready)
        self._protected = bank.protected()
        collector = Collector(domain, judge, bank, self._seed, self._rejects)
        with stage("queries checked"):
            train = collector.train([*made, *self._ready.queries["train"]])
        parts = {
            "train": train,
            "dev": [*bank.queries("dev"), *self._ready.queries["dev"]],
            "test": self._ready.queries["test"],
        }
        if not train:
            raise InputError(
                "no training query could be made",
                do="give indexes with aliases, chunks with mentions, questions, or pairs.data; or "
                "turn on pairs.synthesis.from_titles or sentences_per_chunk",
            )
        tools = self._tools(domain, judge, bank)
        for row in rewarded_elsewhere(train, corpus.chunks):
            tools.defects.observe(row)
        writer = PairWriter(tools, self._draft, self._seed, self._rejects)
        with stage("negatives mined"):
            counts = self._mine(writer, parts)
        if self._is_first:
            trained = frozenset(position for query in train for position in query.positives)
            counts |= bank.write(self._draft, trained)
        return counts, {
            "split": bank.split.report,
            "train_queries_by_source": _counted(query.source for query in self._share_of(train)),
            "phases": dict(sorted(writer.phases.items())),
            "negatives_by_source": dict(sorted(writer.sources.items())),
            "negatives_stopped_by_guard": dict(sorted(writer.stopped.items())),
            **self._sources.report,
        }

    def _mine(self, writer: PairWriter, parts: dict[str, list[Query]]) -> dict[str, int]:
        """Write this shard's rows of each part."""
        shard, shards = self._job.shard, self._job.shards
        counts = {}
        for part, queries in parts.items():
            if part == "test" and not queries:
                continue  # held-out questions are no pairs
            name = shard_file(f"pairs-{part}", shard, shards)
            counts[f"pairs_{part}"] = writer.write(name, part, self._share_of(queries))
        return counts

    def _share_of(self, queries: list[Query]) -> list[Query]:
        """This shard's queries."""
        return queries[self._job.shard :: self._job.shards]

    def _made(self, domain: Domain) -> Iterator[Query]:
        """Queries made from what the domain says."""
        corpus, index, config = domain.corpus, domain.index, self._config.synthesis
        for name, entities in domain.index.ambiguous_names().items():
            bearers = ", ".join(entity.entity_id for entity in entities)
            self._rejects.add("name", "several entities bear it", bearers, name)
        for entity_id, name in domain.index.unusable:
            self._rejects.add("name", "is mere punctuation", entity_id, name)
        yield from entity_queries(corpus, index, config, self._seed)
        widest = self._config.positives_per_query
        yield from mention_queries(corpus, index, config, self._seed, widest)
        yield from title_queries(corpus.chunks, index, config, self._seed, widest)
        yield from sentence_queries(corpus.chunks, config, self._seed)
        yield from self._sources.generated(corpus, self._job, self._draft)

    def _tools(self, domain: Domain, judge: Judge, bank: QuestionBank) -> Tools:
        """What rows are made with; models only where the config asks for them."""
        job, sources = self._job, self._sources
        nearest = encoder = None
        if sources.embedded is not None and sources.base is not None:
            nearest = NearestByModel(
                domain.corpus.chunks, sources.embedded, job.config, sources.base, job.scratch
            )
        if sources.cross_encoder is not None:
            encoder = CrossEncoderGuard(job.config, sources.cross_encoder)
        config = self._config
        defects = DefectFinder(
            self._protected,
            config.near_duplicate,
            names=domain.index,
            negative_near_duplicate=config.negatives.near_duplicate,
            min_characters=config.validation.min_characters,
            drop_inverted=config.validation.drop_inverted,
        )
        return Tools(domain, domain.miner(judge), defects, nearest, encoder)

    @staticmethod
    def _log_corpus(corpus: Corpus) -> None:
        log.info(
            "%d chunks, %d entities, %d questions, %d records set aside",
            len(corpus.chunks),
            len(corpus.entities),
            len(corpus.questions),
            len(corpus.bad),
        )


def _counted(words: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))
