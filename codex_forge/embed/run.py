"""The mode `embed`: the whole corpus as vectors, in Parquet shards and a ChromaDB collection."""

from __future__ import annotations

import logging
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from codex_forge import chroma, embeddings
from codex_forge.artifact import Draft, is_whole
from codex_forge.config import RunConfig
from codex_forge.corpus import Chunks, read_corpus
from codex_forge.embed.blocks import BlockMaker
from codex_forge.embed.reuse import Reused, replaced
from codex_forge.job import Job
from codex_forge.model import locate
from codex_forge.model.in_use import ModelInUse, find_model, prompts_of, settings_of
from codex_forge.progress import progress
from codex_forge.tokens import audit_lengths, load_tokenizer

log = logging.getLogger("codex_forge")


def run(job: Job) -> None:
    """Embed this job's shard of the corpus, and mirror the whole artifact in ChromaDB."""
    config = job.config
    if config.embed.model == "base":
        config.use.refuse_to_make("base")
    files = job.corpus_files()
    model = find_model(config, job.open)
    inputs = {"model": model.identity, **files.inputs(("chunks",))}
    recipe = job.recipe(config.embed_name, _settings(config, model), inputs)
    draft = job.begin(recipe)
    if isinstance(draft, Draft):
        corpus = read_corpus(files, config.corpus.on_bad_record, job.scratch)
        chunks = corpus.chunks[job.shard :: job.shards]
        truncated = _check_lengths(config, model, chunks)
        before = Reused(replaced(job, recipe))
        with closing(BlockMaker(config, model, chunks, before)) as maker:
            _embed(maker, chunks, draft, truncated)
        log.info("wrote %s", draft.url)
    if config.embed.chroma.place and is_whole(job.store, recipe):
        chroma.keep_collection(config.embed, job.open("embed", config.embed_name))


def _settings(config: RunConfig, model: ModelInUse) -> dict[str, Any]:
    return {
        "on_bad_record": config.corpus.on_bad_record,
        "embed.dtype": config.embed.dtype,
        **settings_of(config, model),
    }


def _embed(maker: BlockMaker, chunks: Chunks, draft: Draft, truncated: int) -> None:
    """Embed in blocks, each committed as it is done; the blocks are the files of the artifact."""
    config = maker.config
    bar = iter(progress(chunks, f"chunks embedded with the {config.embed.model} model"))
    size = config.embed.rows_per_block
    dimension = 0
    made = draft.work.in_blocks("rows", range(len(chunks)), size, maker.make, ".parquet")
    with closing(made) as blocks:
        for number, block in enumerate(blocks):
            dimension = dimension or embeddings.dimension_of(block.local)
            _show(config, draft, block.local)
            name = f"part-{draft.shard:05d}-of-{draft.shards:05d}-block-{number:06d}.parquet"
            draft.keep(name, block.entry)
            for _ in islice(bar, size):
                continue
    reused = maker.before.count(chunks.texts())
    counts = {"chunks": len(chunks), "truncated": truncated}
    counts |= {"encoded": len(chunks) - reused, "reused": reused}
    log.info("  %d chunks encoded, the vectors of %d reused", counts["encoded"], reused)
    prompts = prompts_of(config, maker.model)
    draft.commit(counts, {"model": config.embed.model, "dimension": dimension, **prompts})


def _show(config: RunConfig, draft: Draft, block: Path) -> None:
    """Write a block to the database already, where shards do that side by side."""
    if draft.shards > 1 and config.embed.chroma.url:
        recipe = draft.recipe
        model = recipe.inputs["model"].digest
        rows = embeddings.batches_of(block)
        chroma.write_shard(config.embed, recipe.name, recipe.fingerprint, model, rows)


def _check_lengths(config: RunConfig, model: ModelInUse, chunks: Chunks) -> int:
    """Measure what the model will cut off before anything is spent; returns the chunks cut."""
    if model.folder is None:
        return 0
    own = None if model.trained else config.model.max_seq_length
    limit = own or locate.max_seq_length(model.folder)
    if limit is None:
        return 0
    prompt = prompts_of(config, model)["document_prompt"]
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
