"""What a pairs artifact is made from: files, ready-made data, and models where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_forge.artifact import Artifact, Draft, Input
from codex_forge.config.sections import ModelConfig
from codex_forge.corpus import Corpus, CorpusFiles, check_same_files, find_files, read_corpus
from codex_forge.errors import ConfigError, InputError
from codex_forge.job import Job
from codex_forge.jsonl import write_jsonl
from codex_forge.model.in_use import ModelInUse, model_of
from codex_forge.model.locate import locate
from codex_forge.pair_files import CHUNKS
from codex_forge.pairs.generator import QueryGenerator
from codex_forge.pairs.query import Query
from codex_forge.pairs.ready import Ready
from codex_forge.ready_made import ReadyMade, chunk_records, find_ready, read_ready

_EMBED = "run python -m jobs.embed embed.model=base"


class Sources:
    """Everything that goes in; looked for before anything is spent."""

    def __init__(self, job: Job) -> None:
        """Find files, artifacts and models.

        Raises:
            InputError, ConfigError: one of them is not there.
        """
        config = job.config
        self._config = config
        self._files = find_files(config.corpus)
        self._ready_files = find_ready(config.pairs.data)
        self.has_corpus = bool(self._files.files["chunks"])
        self.inputs: dict[str, Input] = {
            **(self._files.inputs() if self.has_corpus else {}),
            **self._ready_files.inputs(),
        }
        self.embedded: Artifact | None = None
        self.cross_encoder: Path | None = None
        self.base: ModelInUse | None = None
        """What made the vectors."""
        self.report: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        """What shapes the pairs beside the sections of the config that are theirs."""
        if config.pairs.negatives.nearest > 0:
            self._open_vectors(job)
        if (name := config.pairs.negatives.cross_encoder) is not None:
            trusted = config.model.trust_remote_code
            asked = ModelConfig(base=name, trust_remote_code=trusted)
            found = locate(asked, key="pairs.negatives.cross_encoder")
            self.cross_encoder = found.folder
            self.inputs["cross_encoder"] = found.identity

    def _open_vectors(self, job: Job) -> None:
        """The base model's vectors of this corpus, and what queries are encoded with."""
        config = self._config
        if not self.has_corpus:
            raise ConfigError(
                "ready-made data alone has no vectors before its pairs are made",
                where="pairs.negatives.nearest",
                do="set it to 0, or give corpus.chunks",
            )
        try:
            embedded = job.open("embed", config.base_vectors_name)
        except InputError as error:
            what = f"{error.what}, which pairs.negatives.nearest asks for"
            raise InputError(what, where=error.where, do=_EMBED) from error
        check_same_files(embedded, self.inputs, ("chunks",))
        self.base, self.embedded = model_of(embedded, config, job.open), embedded
        self.inputs["embed"] = embedded.as_input()
        # Those of documents are in the vectors.
        keys = ("query_prompt", "max_seq_length")
        self.settings["model"] = {key: getattr(config.model, key) for key in keys}

    def ready(self) -> ReadyMade | None:
        """The ready-made records, checked."""
        if not self._ready_files.files:
            return None
        corpus = self._config.corpus
        return read_ready(self._ready_files, corpus.encoding, corpus.on_bad_record)

    def corpus(self, ready: Ready, job: Job, draft: Draft) -> Corpus:
        """The corpus, or one made of the texts of ready-made pairs."""
        files, policy = self._files, job.config.corpus.on_bad_record
        if not self.has_corpus:
            path = draft.path(CHUNKS) if job.shard == 0 else job.scratch / CHUNKS
            write_jsonl(path, chunk_records(ready.made or ()))
            files = CorpusFiles({**files.files, "chunks": (str(path),)})
        return read_corpus(files, policy, job.scratch)

    def generated(self, corpus: Corpus, job: Job, draft: Draft) -> Iterator[Query]:
        """Queries that a language model wrote, when the config names one."""
        config = self._config.pairs.synthesis.generator
        if config is None:
            return
        generator = QueryGenerator(
            corpus.chunks, config, self._config.seed, job.store, draft.recipe.fingerprint
        )
        yield from generator.queries(job.shard)
        self.report["generator_skipped"] = dict(sorted(generator.skipped.items()))
