"""Exact search against what else would do it, and a corpus that does not fit into memory.

    python -m benchmarks.search                    200,000 vectors, side by side
    python -m benchmarks.search --whole 5000000    time and memory over 5 million, 8 GB on disk

Many queries at once: `search.nearest`, in blocks and with trec_eval's tie order, against the
library's `semantic_search`, one numpy product over all, and faiss where it is installed. One query
at a time: against one numpy product. Words: `WordIndex` against the bm25s library.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.side_by_side import machine, side_by_side
from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.config import load_config
from codex_forge.corpus import find_files, read_corpus
from codex_forge.embeddings import EmbeddingsWriter
from codex_forge.evaluate.dense import Vectors
from codex_forge.records import Chunk
from codex_forge.search import Floats, nearest, words
from codex_forge.storage import Store
from codex_forge.word_index import WordIndex

DIMENSION, DEPTH = 384, 100
_ROWS = 8192
_NAME = "bench"


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--whole", type=int, default=0, metavar="VECTORS")
    parser.add_argument("--folder", help="where --whole keeps its vectors, for the next time")
    parser.add_argument("--search-in", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search_in:
        print(json.dumps(searched(arguments.search_in, arguments.queries)))
        return
    print(machine())
    if arguments.whole:
        whole(arguments.whole, arguments.queries, arguments.folder)
        return
    dense(arguments.vectors, arguments.queries)
    by_words()


def dense(count: int, queries: int) -> None:
    """Top 100 of random unit vectors."""
    corpus, asked = unit_vectors(count, 1), unit_vectors(queries, 2)
    blocks = [(np.arange(count, dtype=np.uint64), corpus)]
    title = f"{queries} queries in {count:,} vectors"

    def ours() -> object:
        return nearest(blocks, asked, DEPTH)

    side_by_side(f"{title}, semantic_search", ours, lambda: library(asked, corpus))
    side_by_side(f"{title}, one numpy product", ours, lambda: product(asked, corpus))
    if find_spec("faiss"):
        faiss = import_module("faiss")
        index = faiss.IndexFlatIP(DIMENSION)
        index.add(corpus)
        side_by_side(f"{title}, faiss flat", ours, lambda: index.search(asked, DEPTH))
    side_by_side(
        f"one at a time, {title}, one numpy product each",
        lambda: [nearest(blocks, one[None], DEPTH) for one in asked],
        lambda: [product(one[None], corpus) for one in asked],
    )


def library(asked: Floats, corpus: Floats) -> object:
    """The library's own search."""
    from sentence_transformers.util import semantic_search

    return semantic_search(asked, corpus, top_k=DEPTH)


def product(asked: Floats, corpus: Floats) -> list[np.ndarray]:
    """All scores at once, then the best of each query."""
    scores = asked @ corpus.T
    best = np.argpartition(scores, -DEPTH, axis=1)[:, -DEPTH:]
    return [row[np.argsort(-mine[row])] for row, mine in zip(best, scores, strict=True)]


def by_words() -> None:
    """BM25 over the sample, ten times over."""
    import bm25s

    config = load_config("configs/quickstart.yaml")
    corpus = read_corpus(find_files(config.corpus), "reject")
    texts = [text for _ in range(10) for text in corpus.chunks.texts()]
    asked = [question.text for question in corpus.questions[:200]]
    terms = [words(text) for text in texts]
    theirs = bm25s.BM25()
    side_by_side(
        f"index {len(texts):,} texts, bm25s",
        lambda: WordIndex(texts),
        lambda: theirs.index([words(text) for text in texts], show_progress=False),
        repeats=1,
    )
    index = WordIndex(texts)
    theirs.index(terms, show_progress=False)
    queries = [[word for word in words(text) if word in theirs.vocab_dict] for text in asked]
    side_by_side(
        f"{len(asked)} queries of words, bm25s",
        lambda: [index.search(text, DEPTH) for text in asked],
        lambda: theirs.retrieve(queries, k=DEPTH, show_progress=False),
    )


def whole(count: int, queries: int, folder: str | None) -> None:
    """Vectors on disk, searched in a process of its own, whose memory is measured."""
    with tempfile.TemporaryDirectory(prefix="codex-forge-bench-") as scratch:
        place = folder or scratch
        start = time.perf_counter()
        stored = written(Path(place), count)
        print(f"{count:,} vectors on disk: {time.perf_counter() - start:.0f} s to write")
        command = [sys.executable, "-m", "benchmarks.search", "--search-in", place]
        told = subprocess.run(
            [*command, "--queries", str(queries)], check=True, capture_output=True, text=True
        )
        found = json.loads(told.stdout.splitlines()[-1])
        print(
            f"{queries} queries in {stored:,} vectors on disk: {found['seconds']:.0f} s, "
            f"at most {found['peak_mib']:,.0f} MiB of memory, "
            f"{found['vectors_mib']:,.0f} MiB of vectors"
        )


def searched(place: str, queries: int) -> dict[str, float]:
    """Search in what `written` wrote; time and the process's peak memory."""
    vectors = Vectors(_open(Path(place)), fits=0)
    asked = unit_vectors(queries, 2)
    start = time.perf_counter()
    found = nearest(vectors.blocks(), asked, DEPTH)
    seconds = time.perf_counter() - start
    assert all(len(ranking) == DEPTH for ranking in found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = _open(Path(place)).counts["chunks"] * DIMENSION * 4 / 2**20
    return {"seconds": seconds, "peak_mib": peak, "vectors_mib": size}


def written(folder: Path, count: int) -> int:
    """An embed artifact of random vectors; what is there already is not written again."""
    store, cache = Store(str(folder / "store")), folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    recipe = Recipe("embed", _NAME, {"count": count}, {})
    draft = begin(store, recipe, cache, force=False)
    if not isinstance(draft, Draft):
        return count

    def make(path: Path, numbers: Sequence[int]) -> None:
        vectors = unit_vectors(len(numbers), numbers[0] + 3)
        with EmbeddingsWriter(path, DIMENSION) as writer:
            writer.write([Chunk(f"{n:016x}", "", "x.md") for n in numbers], vectors)

    for number, block in enumerate(
        draft.work.in_blocks("rows", range(count), _ROWS, make, ".parquet")
    ):
        draft.keep(f"block-{number:06d}.parquet", block.entry)
    draft.commit({"chunks": count})
    return count


def _open(folder: Path) -> Artifact:
    return open_artifact(Store(str(folder / "store")), "embed", _NAME, folder / "cache")


def unit_vectors(count: int, seed: int) -> Floats:
    """Random vectors of length 1, shape (count, dimension)."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    unit: Floats = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


if __name__ == "__main__":
    main()
