"""Ready-made training data: pairs, triplets, n-tuples, scored and labelled pairs, as records.

Files are read one record at a time, whatever their size and format. What cannot be used is named by
file, place and column; the split leaves no text on two sides, unless the data itself says so.
"""

from codex_forge.ready_made.held_out import chunk_of_text, chunk_records, questions_of
from codex_forge.ready_made.read import ReadyFiles, ReadyMade, find_ready, read_ready
from codex_forge.ready_made.split import split_ready

__all__ = [
    "ReadyFiles",
    "ReadyMade",
    "chunk_of_text",
    "chunk_records",
    "find_ready",
    "questions_of",
    "read_ready",
    "split_ready",
]
