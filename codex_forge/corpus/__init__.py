"""The corpus: chunks, entities and questions, read from files or URLs and checked.

Memory is bounded by the number of chunks, not by their length: texts lie on disk (`ChunkTable`).
"""

from codex_forge.corpus.bad import BadRecord, BadRecords, refuse
from codex_forge.corpus.building import table_of
from codex_forge.corpus.reading import (
    Corpus,
    CorpusFiles,
    check_same_files,
    find_files,
    read_corpus,
)
from codex_forge.corpus.records import chunk_id_of
from codex_forge.corpus.table import Chunks, ChunkTable

__all__ = [
    "BadRecord",
    "BadRecords",
    "ChunkTable",
    "Chunks",
    "Corpus",
    "CorpusFiles",
    "check_same_files",
    "chunk_id_of",
    "find_files",
    "read_corpus",
    "refuse",
    "table_of",
]
