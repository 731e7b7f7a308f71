"""Embed the whole corpus into Parquet, and into a ChromaDB collection.

    python -m jobs.embed configs/quickstart.yaml                     with the trained model
    python -m jobs.embed configs/quickstart.yaml embed.model=base    with the base model

reads   the chunks of `corpus`; <store>/train/<name>/model/ or `model.base`
writes  <store>/embed/<name>/ (<name>-base for the base model)
          part-00000-of-00001.parquet   chunk_id, filename, text, vector (one file a shard)
        the collection <name> in the ChromaDB folder `embed.chroma.path`, when that is set

With --shards N each task writes one part; the artifact is whole when all N are there.
"""

import sys

from codex_forge.job import Door

DOOR = Door("embed", __doc__, "codex_forge.embed:run", ("corpus", "model", "embed"), sharded=True)

if __name__ == "__main__":
    sys.exit(DOOR.main())
