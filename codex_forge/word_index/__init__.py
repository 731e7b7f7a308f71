"""An inverted index over the words of many texts: BM25 and TF-IDF cosine, exact and fast."""

from codex_forge.word_index.index import WordIndex

__all__ = ["WordIndex"]
