"""Titles of chunks as queries: a `title` field, or a short first line above the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from codex_forge.config.pairs import SynthesisConfig
from codex_forge.entities import EntityIndex, normalise
from codex_forge.hashes import text_hash
from codex_forge.pairs.query import Query, positions_of
from codex_forge.pairs.templates import Templates
from codex_forge.progress import progress
from codex_forge.records import Chunk
from codex_forge.search import words

_MOST_WORDS, _MOST_CHARACTERS = 10, 80
"""A first line with more is prose, whose lines are broken."""
_GOES_ON = (".", "!", "?", ",", ";", "\u2026", "\u3002", "\uff01", "\uff1f", "\uff0c", "\u3001",
    "\uff1b", "\u060c", "\u061f", "\u06d4", "\u0964")  # fmt: skip
"""A line that ends with one of these is no title."""
_ITEM = re.compile(r"[-*\u2022>|]|\d{1,3}[.)]\s")


def title_of(chunk: Chunk) -> str:
    """The chunk's `title` field, or its first line when that is a heading; empty when neither."""
    given = chunk.metadata.get("title")
    if isinstance(given, str) and given.strip():
        return " ".join(given.split())
    return _plain(chunk.text[: heading_end(chunk.text)])


def heading_end(text: str) -> int:
    """Length of the first line when it is a heading of the text below it, else 0.

    It is short, ends like no sentence, and the next line does not go on with a small letter.
    """
    start = len(text) - len(text.lstrip())
    end = text.find("\n", start)
    line, rest = _plain(text[start:end]), text[end + 1 :]
    if end < 0 or not line or not rest.strip() or _ITEM.match(text[start:end].strip()):
        return 0
    is_short = len(line) <= _MOST_CHARACTERS and 0 < len(words(line)) <= _MOST_WORDS
    return end if is_short and not line.endswith(_GOES_ON) and not rest[0].islower() else 0


def title_queries(
    chunks: Sequence[Chunk], index: EntityIndex, config: SynthesisConfig, seed: int, widest: int
) -> Iterator[Query]:
    """Queries of the titles of the corpus, in its order.

    All chunks that bear a title answer it, and at most `widest` of them, the first, are paired
    with it. A title that more chunks of several files bear ("Introduction") leads to none, and
    names in an index are asked for by `entity_queries`. Two passes over the chunks; memory is some
    16 bytes a chunk.
    """
    if not config.from_titles:
        return
    templates = Templates(config, seed)
    bearers = _Bearers(chunks)
    named = set(index.names)
    for position, chunk in enumerate(progress(chunks, "chunks made title queries of")):
        title = title_of(chunk)
        if not title or normalise(title) in named:
            continue
        number, positions = bearers.of(position)
        if number >= widest or (len(positions) > widest and bearers.in_several_files(positions)):
            continue
        wordings = templates.wordings([title], templates.of(chunks, position))
        yield Query(
            query_id=f"title:{chunk.chunk_id}",
            text=wordings[number % len(wordings)],
            topics=(title,),
            positives=(position,),
            answers=positions_of(positions),
            source="title",
        )


class _Bearers:
    """Which chunks bear the same title, by hashes of the normalised titles."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._titles: NDArray[np.uint64] = np.zeros(len(chunks), dtype=np.uint64)
        self._files: NDArray[np.uint64] = np.zeros(len(chunks), dtype=np.uint64)
        for position, chunk in enumerate(progress(chunks, "chunks searched for titles")):
            self._titles[position] = text_hash(normalise(title_of(chunk)))
            self._files[position] = text_hash(chunk.filename)
        self._order = np.argsort(self._titles, kind="stable")
        self._sorted = self._titles[self._order]

    def of(self, position: int) -> tuple[int, NDArray[np.int64]]:
        """All chunks with the title of the one at a position, in order, and its rank in them."""
        title = self._titles[position]
        start = np.searchsorted(self._sorted, title, "left")
        end = np.searchsorted(self._sorted, title, "right")
        found = self._order[start:end]
        return int(np.searchsorted(found, position)), found

    def in_several_files(self, positions: NDArray[np.int64]) -> bool:
        """Whether the chunks are of more than one file."""
        return bool((self._files[positions] != self._files[positions[0]]).any())


def _plain(line: str) -> str:
    """A heading without its markup."""
    return " ".join(" ".join(line.split()).lstrip("#= ").rstrip("#=: ").strip("*_").split())
