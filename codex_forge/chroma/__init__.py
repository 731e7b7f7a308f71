"""ChromaDB collections as mirrors of embed artifacts: made again from them, never the truth.

A collection's metadata holds the digest of the embeddings, and the digest, name and prompts of the
model that made them, so that one model's queries are not asked of another model's vectors. Changes
of the corpus are written in place, row by row; another model's vectors are filled beside the old
ones and take their place at the end. Nothing here needs a loaded model but `ForgeEmbeddingFunction`
and `ForgeEmbeddings`, which load it when they are first asked.
"""

from codex_forge.chroma.answers import TOKEN_VARIABLE
from codex_forge.chroma.facts import Facts, facts_of
from codex_forge.chroma.function import ForgeEmbeddingFunction, ForgeEmbeddings
from codex_forge.chroma.mirror import keep_collection, write_shard
from codex_forge.chroma.opening import open_collection

__all__ = [
    "TOKEN_VARIABLE",
    "Facts",
    "ForgeEmbeddingFunction",
    "ForgeEmbeddings",
    "facts_of",
    "keep_collection",
    "open_collection",
    "write_shard",
]
