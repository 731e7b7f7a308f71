"""The mode `embed`: the whole corpus as vectors, in Parquet shards and a ChromaDB collection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codex_forge import chroma, embeddings
from codex_forge.artifact import Artifact, Draft, Input, is_whole
from codex_forge.config import RunConfig
from codex_forge.corpus import Chunks, read_corpus
from codex_forge.job import Job
from codex_forge.model import locate
from codex_forge.progress import progress
from codex_forge.records import Chunk
from codex_forge.tokens import audit_lengths, load_tokenizer

if TYPE_CHECKING:
    from codex_forge.model.encoder import Encoder

log = logging.getLogger("codex_forge")


class ModelInUse(NamedTuple):
    """The model that a config embeds with: its folder and its identity."""

    folder: Path
    identity: Input
    trained: bool


def run(job: Job) -> None:
    """Embed this job's shard of the corpus, and mirror the whole artifact in ChromaDB."""
    config = job.config
    files = job.corpus_files()
    model = find_model(job)
    settings = {"on_bad_record": config.corpus.on_bad_record, **_model_settings(config, model)}
    inputs = {"model": model.identity, **files.inputs(("chunks",))}
    recipe = job.recipe(config.embed_name, settings, inputs)
    draft = job.begin(recipe)
    if isinstance(draft, Draft):
        corpus = read_corpus(files, config.corpus.on_bad_record, job.scratch)
        _embed(config, model, corpus.chunks[job.shard :: job.shards], draft)
        log.info("wrote %s", draft.url)
    if config.embed.chroma.path and is_whole(job.store, recipe):
        mirror(config, job.open("embed", config.embed_name))


def find_model(job: Job) -> ModelInUse:
    """The base model of the run, or the one that `train` made of it, as `embed.model` says."""
    if job.config.embed.model == "base":
        base = locate.locate(job.config.model)
        return ModelInUse(base.folder, base.identity, trained=False)
    artifact = job.open("train", job.config.run_name)
    return ModelInUse(artifact.path_of_folder("model"), artifact.as_input(), trained=True)


def _model_settings(config: RunConfig, model: ModelInUse) -> dict[str, Any]:
    """A base model is used as the config says; a trained one carries its own prompts and length."""
    if model.trained:
        return {}
    keys = ("max_seq_length", "query_prompt", "document_prompt")
    return {f"model.{key}": getattr(config.model, key) for key in keys}


def _embed(config: RunConfig, model: ModelInUse, chunks: Chunks, draft: Draft) -> None:
    """Embed in blocks, each committed as it is done; the blocks are the files of the artifact."""
    truncated = _check_lengths(config, model, chunks)
    encoder = _Lazy(config, model)
    bar = iter(progress(chunks, f"chunks embedded with the {config.embed.model} model"))

    def make(path: Path, part: Sequence[Chunk]) -> None:
        block = list(part)  # read once from disk
        vectors = encoder.load().encode_document([chunk.text for chunk in block])
        with embeddings.EmbeddingsWriter(path, vectors.shape[1]) as writer:
            writer.write(block, vectors)

    rows = config.embed.rows_per_block
    dimension = 0
    with closing(draft.work.in_blocks("rows", chunks, rows, make, ".parquet")) as blocks:
        for number, block in enumerate(blocks):
            dimension = dimension or embeddings.dimension_of(block.local)
            name = f"part-{draft.shard:05d}-of-{draft.shards:05d}-block-{number:06d}.parquet"
            draft.keep(name, block.entry)
            for _ in islice(bar, rows):
                continue
    draft.commit(
        {"chunks": len(chunks), "truncated": truncated},
        {"model": config.embed.model, "dimension": dimension},
    )


class _Lazy:
    """The encoder, loaded when the first block needs it: all blocks may be there."""

    def __init__(self, config: RunConfig, model: ModelInUse) -> None:
        self._config, self._model = config, model
        self._encoder: Encoder | None = None

    def load(self) -> Encoder:
        """The encoder."""
        if self._encoder is None:
            from codex_forge.model.encoder import Encoder, load_base, load_trained

            load = load_trained if self._model.trained else load_base
            model = load(self._model.folder, self._config.model)
            self._encoder = Encoder(model)
        return self._encoder


def _check_lengths(config: RunConfig, model: ModelInUse, chunks: Chunks) -> int:
    """Measure what the model will cut off before anything is spent; returns the chunks cut."""
    own = None if model.trained else config.model.max_seq_length
    limit = own or locate.max_seq_length(model.folder)
    if limit is None:
        return 0
    prompt = locate.prompts(model.folder).get("document", "")
    if not model.trained:
        prompt = config.model.document_prompt or prompt
    texts = chunks.texts()
    found = audit_lengths(texts, load_tokenizer(model.folder), limit, prompt=prompt, what="chunks")
    log.info(
        "  %d chunks, %d of them cut at %d tokens (longest %d)",
        found.texts,
        found.truncated,
        limit,
        found.maximum,
    )
    return found.truncated


def mirror(config: RunConfig, artifact: Artifact) -> None:
    """Make the Chroma collection of the run's name hold what the artifact holds."""
    path = config.embed.chroma.path
    if path is None:
        return
    wanted = chroma.Mirror(
        collection=artifact.manifest.name,
        embeddings=artifact.digest,
        model=artifact.manifest.inputs["model"].digest,
        rows=artifact.counts["chunks"],
    )
    rows = progress(embeddings.batches(artifact), "batches written to Chroma")
    if chroma.sync(path, wanted, rows, config.embed.chroma.batch_size):
        log.info("  Chroma collection %s in %s: %d rows", wanted.collection, path, wanted.rows)
    else:
        log.info("  Chroma collection %s in %s is up to date", wanted.collection, path)
