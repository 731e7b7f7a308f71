"""The rows that a model trained on, found by words, answer or topic; the rows stay on disk.

Memory holds an inverted index of the queries and some numbers a row, however long the texts are.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from codex_forge.hashes import text_hash
from codex_forge.search import words
from codex_forge.word_index import WordIndex

Row = dict[str, Any]


class TrainRows:
    """Rows of JSONL files, by their position over all files."""

    def __init__(
        self, paths: Sequence[Path], used: Callable[[Row], bool], scratch: Path | None = None
    ) -> None:
        """Read the files once.

        Args:
            paths: files with a row a line: `query`, `positive_id`, `topics`.
            used: whether training used a row; the others are left out.
            scratch: a folder for a nameless file while the index is built.
        """
        self._paths, self._used = paths, used
        self._files, self._offsets = array("i"), array("q")
        self._answers = array("Q")
        self._topics, self._holders = array("Q"), array("q")
        self._words = WordIndex(self._queries(), scratch)
        self._answer_of = np.asarray(self._answers, dtype=np.uint64)
        self._topic_of = np.asarray(self._topics, dtype=np.uint64)
        self._holder_of = np.asarray(self._holders, dtype=np.int64)

    def __len__(self) -> int:
        """How many rows were used."""
        return len(self._offsets)

    def _queries(self) -> Iterator[str]:
        for number, path in enumerate(self._paths):
            offset = 0
            with path.open("rb") as handle:
                for line in handle:
                    row = orjson.loads(line)
                    if self._used(row):
                        self._note(row, number, offset)
                        yield row["query"]
                    offset += len(line)

    def _note(self, row: Row, number: int, offset: int) -> None:
        for topic in row.get("topics") or ():
            self._topics.append(_topic_hash(topic))
            self._holders.append(len(self._offsets))
        self._files.append(number)
        self._offsets.append(offset)
        self._answers.append(text_hash(row.get("positive_id") or ""))

    def row(self, position: int) -> Row:
        """One row, from its file."""
        with self._paths[self._files[position]].open("rb") as handle:
            handle.seek(self._offsets[position])
            found: Row = orjson.loads(handle.readline())
        return found

    def with_answer(self, chunk_ids: Collection[str]) -> list[int]:
        """Positions of rows whose positive is one of these chunks."""
        wanted = np.array([text_hash(each) for each in chunk_ids if each], dtype=np.uint64)
        return _listed(np.flatnonzero(np.isin(self._answer_of, wanted)))

    def with_topic(self, topics: Collection[str]) -> list[int]:
        """Positions of rows whose query is about one of these topics."""
        wanted = np.array([_topic_hash(topic) for topic in topics], dtype=np.uint64)
        return _listed(np.unique(self._holder_of[np.isin(self._topic_of, wanted)]))

    def near(self, text: str, most: int) -> list[int]:
        """Positions of rows whose query is nearest by words."""
        return [position for position, _ in self._words.similar(text, most)]

    def likeness(self, text: str, positions: Sequence[int]) -> list[float]:
        """TF-IDF cosine of a text with the queries at these positions."""
        return [float(cosine) for cosine in self._words.cosine(text, positions)]

    def telling(self, text: str) -> list[str]:
        """The words of a text that few queries hold, and some do: the rarest first.

        Few are the square root of all queries: templates' words are in more.
        """
        held = {word: self._words.holders(word) for word in dict.fromkeys(words(text))}
        few = math.sqrt(len(self))
        return sorted((word for word in held if 0 < held[word] <= few), key=lambda w: held[w])


def _listed(positions: NDArray[np.int64]) -> list[int]:
    found: list[int] = positions.tolist()
    return found


def _topic_hash(topic: str) -> int:
    return text_hash(topic.casefold())
