"""Embed the whole corpus into Parquet, and into a ChromaDB collection.

    python -m jobs.embed configs/quickstart.yaml                     with the trained model
    python -m jobs.embed configs/quickstart.yaml embed.model=base    with the base model
    python -m jobs.embed configs/quickstart.yaml --force             after the corpus has changed

reads   the chunks of `corpus`; <store>/train/<name>/model/, `model.base`, or the server
        `embed.served`
writes  <store>/embed/<name>/ (<name>-base for the base model, <name>-<embed.served.name>)
          part-00000-of-00001-block-000000.parquet ...   chunk_id, filename, text, metadata, vector
        the collection <name> in the ChromaDB folder `embed.chroma.path` or on the server
        `embed.chroma.url`, when one is set

With --force only chunks whose text is new or has changed are encoded; see docs/embedding.md.
With --shards N each task writes one part; the artifact is whole when all N are there. Blocks of
`embed.rows_per_block` chunks are committed one by one: a job that is killed goes on after the last.
"""

import sys

from codex_forge.job import Door

DOOR = Door(
    "embed", __doc__, "codex_forge.embed.run:run", ("corpus", "model", "embed"), sharded=True
)

if __name__ == "__main__":
    sys.exit(DOOR.main())
