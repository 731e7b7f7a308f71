"""The retriever that a config asks for, made ready to search."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from codex_forge.artifact import Artifact
from codex_forge.config import RunConfig
from codex_forge.corpus import ChunkTable
from codex_forge.errors import InputError
from codex_forge.evaluate.bank import Bank
from codex_forge.evaluate.bm25 import Bm25Retriever
from codex_forge.evaluate.dense import DenseRetriever, QueryEncoder, Vectors
from codex_forge.evaluate.hybrid import (
    HybridRetriever,
    Weighing,
    both,
    facts,
    reciprocal_ranks,
    weigh,
    weighted,
)
from codex_forge.evaluate.retrieve import Ranking, Retriever, asked_of
from codex_forge.evaluate.times import Times
from codex_forge.records import Question

log = logging.getLogger("codex_forge")

_RECALL = 10


class Made(NamedTuple):
    """A retriever, and what the report says of how it was made."""

    retriever: Retriever
    hybrid: dict[str, Any] | None = None


class Maker:
    """Makes retrievers over one corpus and, but for BM25, one embed artifact."""

    def __init__(self, config: RunConfig, chunks: ChunkTable, scratch: Path) -> None:
        """`scratch` is a folder for what does not fit into memory."""
        self._config, self._chunks, self._scratch = config, chunks, scratch
        self._times = Times(chunks)

    def words(self) -> Bm25Retriever:
        """BM25."""
        return Bm25Retriever(self._chunks, self._scratch)

    def dense(self, encoder: QueryEncoder, embedded: Artifact) -> DenseRetriever:
        """Exact search over the vectors."""
        return DenseRetriever(encoder, Vectors(embedded), self._times)

    def chroma(self, encoder: QueryEncoder, embedded: Artifact) -> Retriever:
        """Search in the collection of the embed artifact.

        Raises:
            InputError: there is none, or it holds other vectors.
        """
        from codex_forge.chroma import facts_of, open_collection
        from codex_forge.chroma.place import Place
        from codex_forge.evaluate.collection import ChromaRetriever

        place = str(self._config.embed.chroma.place)
        manifest = embedded.manifest
        collection = open_collection(place, manifest.name, model=manifest.inputs["model"].digest)
        told = facts_of(collection)
        if told is None or told.unfinished or told.embeddings != embedded.digest:
            raise InputError(
                "the collection does not hold the vectors of the embed artifact",
                where=f"{place} ({manifest.name})",
                do="run python -m jobs.embed again",
            )
        ask = Place(place, do="run the same command again when it answers").ask
        return ChromaRetriever(encoder, collection, self._times, embedded.counts["chunks"], ask)

    def hybrid(self, encoder: QueryEncoder, embedded: Artifact, pairs: Artifact) -> Made:
        """Dense and BM25; their weight is chosen on the dev questions when none is given."""
        config = self._config.evaluate.hybrid
        dense, words = self.dense(encoder, embedded), self.words()
        weighing = None
        if config.fusion == "rrf":
            fuse = reciprocal_ranks(config.rrf_k)
        elif config.weight is not None:
            fuse = weighted(config.weight)
        else:
            weighing = self._weighing(dense, words, Bank(pairs, "dev"))
            fuse = weighted(weighing.weight)
        return Made(HybridRetriever(dense, words, fuse), facts(config, weighing))

    def exact(
        self, encoder: QueryEncoder, embedded: Artifact, questions: list[Question]
    ) -> list[Ranking]:
        """The nearest chunks of each question, without any index."""
        return self.dense(encoder, embedded).search(asked_of(questions), _RECALL)

    def _weighing(self, dense: Retriever, words: Retriever, dev: Bank) -> Weighing:
        lists = both(dense, words, asked_of(dev.questions), self._config.evaluate.depth)
        found = weigh(lists, [question.query_id for question in dev.questions], dev.qrels)
        log.info(
            "  weight %.2f of dense, chosen on %d dev questions", found.weight, len(dev.questions)
        )
        if self._config.evaluate.part in ("dev", "all"):
            log.warning(
                "  the weight was chosen on dev questions that are scored here: their number is "
                "better than on new questions"
            )
        return found
