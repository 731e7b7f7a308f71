"""Embed the whole corpus into Parquet, and into a ChromaDB collection.

    python -m jobs.embed configs/quickstart.yaml                     with the trained model
    python -m jobs.embed configs/quickstart.yaml embed.model=base    with the base model

reads   the chunks of `corpus`; <store>/train/<name>/model/ or `model.base`
writes  <store>/embed/<name>/ (<name>-base for the base model)
          part-00000-of-00001-block-000000.parquet ...   chunk_id, filename, text, metadata, vector
        the collection <name> in the ChromaDB folder `embed.chroma.path`, when that is set

With --shards N each task writes one part; the artifact is whole when all N are there. Blocks of
`embed.rows_per_block` chunks are committed one by one: a job that is killed goes on after the last.
"""

import sys

from codex_forge.job import Door

DOOR = Door("embed", __doc__, "codex_forge.embed:run", ("corpus", "model", "embed"), sharded=True)

if __name__ == "__main__":
    sys.exit(DOOR.main())
