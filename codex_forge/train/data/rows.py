"""What one stage trains on: rows of numbers of texts, read from the pairs artifact.

The artifact is streamed; of a row its numbers stay in memory, four bytes a column, and what is
known to answer which query.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from codex_forge import pair_files
from codex_forge.artifact import Artifact
from codex_forge.config.train import Objective, StageConfig
from codex_forge.errors import InputError
from codex_forge.seeded import draw
from codex_forge.train.data.needs import NEEDS, Need, stem_of
from codex_forge.train.data.texts import DOCUMENT, QUERY, TextTable
from codex_forge.trec import read_qrels

log = logging.getLogger("codex_forge")


@dataclass(frozen=True)
class Known:
    """For each text that is a query, the texts known to answer it, as compressed rows."""

    starts: NDArray[np.int64]
    numbers: NDArray[np.int32]

    def of(self, anchor: int) -> NDArray[np.int32]:
        """The numbers of the texts that are known to answer the text `anchor`."""
        if anchor + 1 >= len(self.starts):
            return self.numbers[:0]
        return self.numbers[self.starts[anchor] : self.starts[anchor + 1]]


@dataclass(frozen=True)
class Rows:
    """What one stage trains on; `columns` are numbers of texts, shape (rows,) each."""

    objective: Objective
    columns: dict[str, NDArray[np.int32]]
    labels: NDArray[np.float32] | None
    known: Known
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_rows(pairs: Artifact, stage: StageConfig, table: TextTable, seed: int) -> Rows:
    """The rows of a stage; their texts go into the table.

    Pairs of other phases, sources or domains are left out, and so are pairs with too few negatives
    or without the score or label that the objective needs; of what is left at most `max_pairs` are
    drawn by seed. All of it is counted.

    Raises:
        InputError: nothing is left.
    """
    need = NEEDS[stage.objective]
    choice = _Choice(stage, need, seed)
    stem = stem_of(stage.objective, pairs)
    kept = choice.numbers(pair_files.rows(pairs, stem))
    reader = _reader(stage, need, table)
    for number, pair in enumerate(pair_files.rows(pairs, stem)):
        if kept[number]:
            reader.take(pair)
        reader.learn(pair)
    rows = reader.rows(pairs, dict(choice.left_out))
    _log(stage, rows)
    _refuse_too_few(stage, rows, f"{pairs.url}/{stem}")
    return rows


class _Choice:
    """Which pairs a stage trains on."""

    def __init__(self, stage: StageConfig, need: Need, seed: int) -> None:
        self._stage, self._need, self._seed = stage, need, seed
        self.left_out: Counter[str] = Counter()

    def numbers(self, pairs: Iterator[dict[str, Any]]) -> NDArray[np.bool_]:
        """For each pair, whether it is trained on."""
        drawn = np.array([self._drawn(i, pair) for i, pair in enumerate(pairs)], dtype=np.float64)
        kept = np.isfinite(drawn)
        most = self._stage.max_pairs
        if most is not None and int(kept.sum()) > most:
            self.left_out["not drawn (max_pairs)"] = int(kept.sum()) - most
            kept[:] = False
            kept[np.argsort(drawn, kind="stable")[:most]] = True
        return kept

    def _drawn(self, number: int, pair: dict[str, Any]) -> float:
        if (reason := self._refused(pair)) is not None:
            self.left_out[reason] += 1
            return np.inf
        if self._stage.max_pairs is None:
            return 0.0
        name = pair.get("query_id", pair.get("pair_id", ""))
        return draw(self._seed, "train", number, name)

    def _refused(self, pair: dict[str, Any]) -> str | None:
        stage, need = self._stage, self._need
        if pair["phase"] not in stage.phases:
            return "other phases"
        if stage.sources and pair.get("source") not in stage.sources:
            return "other sources"
        if stage.domains and (pair.get("domain") or pair.get("category")) not in stage.domains:
            return "other domains"
        if need.negatives and len(pair["negatives"]) < stage.num_negatives:
            return "too few negatives"
        if need.label is not None and pair.get(need.label) is None:
            return f"no {need.label}"
        return None


class _Reader:
    """Turns pairs into rows of numbers."""

    def __init__(self, stage: StageConfig, need: Need, table: TextTable) -> None:
        self._stage, self._need, self._table = stage, need, table
        self._rows: list[tuple[int, ...]] = []

    def take(self, pair: dict[str, Any]) -> None:
        """A pair that is trained on."""
        raise NotImplementedError

    def learn(self, pair: dict[str, Any]) -> None:
        """Any pair of the artifact."""

    def rows(self, pairs: Artifact, left_out: dict[str, int]) -> Rows:
        """What was taken."""
        names = self._names()
        matrix = np.array(self._rows, dtype=np.int32).reshape(len(self._rows), len(names))
        columns = {name: np.ascontiguousarray(matrix[:, i]) for i, name in enumerate(names)}
        known = self._known(pairs)
        return Rows(self._stage.objective, columns, self._labels(), known, left_out)

    def _names(self) -> list[str]:
        raise NotImplementedError

    def _labels(self) -> NDArray[np.float32] | None:
        return None

    def _known(self, pairs: Artifact) -> Known:
        return Known(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))


class _Pairs(_Reader):
    """Queries, what answers them, and mined negatives."""

    def __init__(self, stage: StageConfig, need: Need, table: TextTable) -> None:
        super().__init__(stage, need, table)
        self._chunks: dict[str, int] = {}
        self._questions: dict[str, int] = {}
        self._asked: set[tuple[int, int]] = set()
        self._answers: list[tuple[int, str]] = []

    def take(self, pair: dict[str, Any]) -> None:
        negatives = pair["negatives"][: self._stage.num_negatives]
        anchor = self._table.add(pair["query"], QUERY)
        positive = self._table.add(pair["positive"], DOCUMENT)
        self._rows.append(
            (anchor, positive, *(self._table.add(text, DOCUMENT) for text in negatives))
        )
        self._chunks[pair["positive_id"]] = positive
        for chunk_id, number in zip(pair["negative_ids"], self._rows[-1][2:], strict=False):
            self._chunks[chunk_id] = number
        self._asked.add((anchor, self._question(pair["query_id"])))

    def learn(self, pair: dict[str, Any]) -> None:
        self._answers.append((self._question(pair["query_id"]), pair["positive_id"]))

    def _question(self, query_id: str) -> int:
        return self._questions.setdefault(query_id, len(self._questions))

    def _names(self) -> list[str]:
        return ["anchor", "positive", *_negatives(self._stage.num_negatives)]

    def _known(self, pairs: Artifact) -> Known:
        """Of each query text, the answers of every question that it asks."""
        edges = [(q, self._chunks[c]) for q, c in self._answers if c in self._chunks]
        if "qrels-train.tsv" in pairs.files:
            edges.extend(self._judged(pairs))
        texts, questions = len(self._table), max(1, len(self._questions))
        asked = _matrix(list(self._asked), (texts, questions))
        answered = _matrix(edges, (questions, texts))
        found = csr_array(asked @ answered)
        found.sort_indices()
        return Known(found.indptr.astype(np.int64), found.indices.astype(np.int32))

    def _judged(self, pairs: Artifact) -> Iterator[tuple[int, int]]:
        for query_id, grades in read_qrels(pairs.path("qrels-train.tsv")).items():
            if (question := self._questions.get(query_id)) is not None:
                for chunk_id, grade in grades.items():
                    if grade > 0 and chunk_id in self._chunks:
                        yield question, self._chunks[chunk_id]


class _Scored(_Reader):
    """Two texts, and how alike they are; both in the role of a query."""

    def __init__(self, stage: StageConfig, need: Need, table: TextTable) -> None:
        super().__init__(stage, need, table)
        self._found: list[float] = []

    def take(self, pair: dict[str, Any]) -> None:
        self._rows.append(
            (self._table.add(pair["text_a"], QUERY), self._table.add(pair["text_b"], QUERY))
        )
        self._found.append(float(pair[self._need.label or "score"]))

    def _names(self) -> list[str]:
        return ["text_a", "text_b"]

    def _labels(self) -> NDArray[np.float32]:
        return np.array(self._found, dtype=np.float32)


class _Texts(_Reader):
    """Each text once; no label."""

    def __init__(self, stage: StageConfig, need: Need, table: TextTable) -> None:
        super().__init__(stage, need, table)
        self._seen: set[int] = set()

    def take(self, pair: dict[str, Any]) -> None:
        for text, role in self._texts(pair):
            number = self._table.add(text, role)
            if number not in self._seen:
                self._seen.add(number)
                self._rows.append((number,) * len(self._names()))

    def _texts(self, pair: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if "query" not in pair:
            yield from ((pair["text_a"], QUERY), (pair["text_b"], QUERY))
            return
        if self._stage.texts != "chunks":
            yield pair["query"], QUERY
        if self._stage.texts != "queries":
            yield from ((text, DOCUMENT) for text in (pair["positive"], *pair["negatives"]))

    def _names(self) -> list[str]:
        return ["anchor", "positive"] if self._need.apart else ["text"]


def _reader(stage: StageConfig, need: Need, table: TextTable) -> _Reader:
    kinds: dict[str, type[_Reader]] = {"pairs": _Pairs, "scored": _Scored, "texts": _Texts}
    return kinds[need.kind](stage, need, table)


def _negatives(count: int) -> list[str]:
    return [f"negative_{i}" for i in range(1, count + 1)]


def _matrix(edges: list[tuple[int, int]], shape: tuple[int, int]) -> csr_array:
    if not edges:
        return csr_array(shape, dtype=np.bool_)
    rows, columns = np.array(edges, dtype=np.int32).T
    return csr_array((np.ones(len(edges), dtype=np.bool_), (rows, columns)), shape=shape)


def _log(stage: StageConfig, rows: Rows) -> None:
    said = ", ".join(f"{count} {reason}" for reason, count in rows.left_out.items())
    log.info("  %s: %d rows%s", stage.title, len(rows), f"; left out: {said}" if said else "")


def _refuse_too_few(stage: StageConfig, rows: Rows, where: str) -> None:
    if not len(rows):
        raise InputError(
            f"no row is left to train on in stage {stage.title}",
            where=where,
            do="widen train.phases, sources or domains, or lower train.num_negatives",
        )
    alone = NEEDS[stage.objective].exclusive and len(rows.columns) == 2  # noqa: PLR2004
    if alone and min(len(rows), stage.batch_size) < 2:  # noqa: PLR2004
        raise InputError(
            "a single pair without negatives teaches nothing",
            where=where,
            do="raise train.batch_size, train.max_pairs or train.num_negatives",
        )
