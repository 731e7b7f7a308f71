"""Exact search and encoding against what the library offers.

    python -m benchmarks.search

Search: `ExactDense`, a query at a time with trec_eval's tie order, against `semantic_search`.
Encoding: our `Encoder` against a plain `SentenceTransformer.encode` call; they should be equal.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.side_by_side import machine, side_by_side
from codex_forge.config import load_config
from codex_forge.corpus import find_files, read_corpus
from codex_forge.model.encoder import Encoder, load_base
from codex_forge.model.locate import locate
from codex_forge.search import ExactDense


def main() -> None:
    """Measure both pairs of ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--texts", type=int, default=500)
    arguments = parser.parse_args()
    print(machine())
    search(arguments.vectors, arguments.queries)
    encode(arguments.texts)


def search(count: int, queries: int) -> None:
    """Top 100 of random unit vectors of 384 numbers."""
    from sentence_transformers.util import semantic_search

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count + queries, 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked, corpus = vectors[:queries], vectors[queries:]
    index = ExactDense([f"{i:08d}" for i in range(count)], corpus)
    side_by_side(
        f"search {queries} queries in {count:,} vectors",
        lambda: [index.search(query, 100) for query in asked],
        lambda: semantic_search(asked, corpus, top_k=100),
    )


def encode(count: int) -> None:
    """Chunks of the sample, mixed lengths."""
    config = load_config("configs/quickstart.yaml")
    texts = [c.text for c in read_corpus(find_files(config.corpus), "reject").chunks[:count]]
    model = load_base(locate(config.model).folder, config.model)
    encoder = Encoder(model)
    side_by_side(
        f"encode {count} chunks",
        lambda: encoder.encode_document(texts),
        lambda: model.encode(texts),
    )


if __name__ == "__main__":
    main()
