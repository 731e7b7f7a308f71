"""Postings of many texts in bounded memory: blocks in a file, each sorted by word and text."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import count
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge.progress import progress
from codex_forge.search import words

_BLOCK_WORDS = 1_000_000


class Block(NamedTuple):
    """The postings of some successive texts, sorted by word and text."""

    first: int
    """Position of the first of its texts."""
    texts_end: int
    words: NDArray[np.int32]
    holders: NDArray[np.int32]
    """How many of its texts hold each word."""
    texts: NDArray[np.int32]
    """Who they are, word by word."""
    counts: NDArray[Any]
    """How often each of them holds the word: unsigned, as narrow as possible."""


class _Place(NamedTuple):
    first: int
    texts_end: int
    words: int
    postings: int
    kind: np.dtype[Any]


class Blocks:
    """The words of texts, numbered and counted; the postings wait in a file."""

    def __init__(self, texts: Iterable[str], file: IO[bytes]) -> None:
        """Read `texts` once; `file` is empty, open for writing and reading, and stays open."""
        self._file = file
        self._places: list[_Place] = []
        self.numbers: dict[str, int] = {}
        self.lengths = array("q")
        """In words, of each text."""
        self.holders = np.zeros(0, dtype=np.int64)
        """How many texts hold each word."""
        self._read(texts)

    @property
    def widest(self) -> np.dtype[Any]:
        """A type that holds every count."""
        return max((place.kind for place in self._places), default=np.dtype(np.uint8))

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self._places)

    def __iter__(self) -> Iterator[Block]:
        """One block after another, from the file."""
        self._file.seek(0)
        for first, texts_end, count_words, postings, kind in self._places:
            held = self._take(np.dtype(np.int32), count_words)
            holders = self._take(np.dtype(np.int32), count_words)
            texts = self._take(np.dtype(np.int32), postings)
            yield Block(first, texts_end, held, holders, texts, self._take(kind, postings))

    def _read(self, texts: Iterable[str]) -> None:
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        number = numbers.__getitem__
        found = array("i")
        first = 0
        for text in progress(texts, "texts read into the index of words"):
            before = len(found)
            found.extend(map(number, words(text)))
            self.lengths.append(len(found) - before)
            if len(found) >= _BLOCK_WORDS:
                self._write(found, first, len(numbers))
                first, found = len(self.lengths), array("i")
        if found:
            self._write(found, first, len(numbers))
        numbers.default_factory = None
        self.numbers = numbers

    def _write(self, found: array[int], first: int, vocabulary: int) -> None:
        """Write one block: `found` are the words of the texts from `first` on."""
        end = len(self.lengths)
        keys = np.array(found, dtype=np.int64) << 32
        keys |= np.repeat(np.arange(first, end), self.lengths[first:])
        keys.sort()
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        counts = np.diff(starts, append=len(keys))
        keys = keys[starts]
        held = keys >> 32
        of_word = np.flatnonzero(np.concatenate(([True], held[1:] != held[:-1])))
        holders = np.diff(of_word, append=len(held))
        held = held[of_word]
        kind = np.min_scalar_type(int(counts.max()))
        for values in (held, holders, keys & 0xFFFFFFFF):
            self._file.write(values.astype(np.int32).tobytes())
        self._file.write(counts.astype(kind).tobytes())
        self._places.append(_Place(first, end, len(held), len(keys), kind))
        new = np.zeros(vocabulary - len(self.holders), dtype=np.int64)
        self.holders = np.concatenate((self.holders, new))
        self.holders[held] += holders

    def _take(self, kind: np.dtype[Any], length: int) -> NDArray[Any]:
        return np.frombuffer(self._file.read(length * kind.itemsize), dtype=kind)
