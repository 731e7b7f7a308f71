"""From queries to rows of pairs: negatives mined in blocks, each row checked, each stop counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from codex_forge.artifact import Draft
from codex_forge.defects import Defect, DefectFinder
from codex_forge.entities import normalise
from codex_forge.jsonl import write_jsonl
from codex_forge.pairs.cross_encoder import CrossEncoderGuard
from codex_forge.pairs.domain import Domain
from codex_forge.pairs.nearest import Near, NearestByModel, below_margin
from codex_forge.pairs.negatives import Candidates, NegativeMiner
from codex_forge.pairs.phases import hardness_of, phase_of
from codex_forge.pairs.positives import in_time
from codex_forge.pairs.query import Query
from codex_forge.pairs.rejects import Rejects
from codex_forge.progress import progress
from codex_forge.ready_made import chunk_of_text
from codex_forge.stopping import stop

_BLOCK = 2_000
"""Queries mined before what was found is committed."""
_SAID = b'{"_'
"""How a line begins that is no row."""
_RANK = "_rank"
"""Of the positive in BM25 for the query, while a row is made."""

Row = dict[str, Any]


class Negative(NamedTuple):
    """A negative of a row."""

    text: str
    position: int
    """In the corpus, or -1."""
    source: str


class Tools(NamedTuple):
    """What rows are made with."""

    domain: Domain
    miner: NegativeMiner
    defects: DefectFinder
    nearest: NearestByModel | None = None
    cross_encoder: CrossEncoderGuard | None = None


class PairWriter:
    """Mines one shard's queries and writes their rows."""

    def __init__(self, tools: Tools, draft: Draft, seed: int, rejects: Rejects) -> None:
        """Rows with a defect that counts as an error go to `rejects`."""
        self._tools, self._draft, self._seed, self._rejects = tools, draft, seed, rejects
        self._config = tools.domain.config.negatives
        self.stopped: Counter[str] = Counter()
        self.phases: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()

    def write(self, name: str, stage: str, queries: Sequence[Query]) -> int:
        """Mine in blocks, and join them to the file `name`; returns the number of pairs.

        Rows with a defect are removed from the stage `train`: held-out pairs are not trained on.
        """
        make = partial(self._make, trained=stage == "train")
        bar = iter(progress(queries, "queries mined for negatives"))
        count = 0
        with (
            closing(self._draft.work.in_blocks(stage, queries, _BLOCK, make, ".jsonl")) as blocks,
            self._draft.path(name).open("wb") as whole,
        ):
            for block in blocks:
                with block.local.open("rb") as lines:
                    for line in lines:
                        if line.startswith(_SAID):
                            self._note(json.loads(line))
                        else:
                            whole.write(line)
                            count += 1
                for _ in islice(bar, _BLOCK):
                    continue
        return count

    def _note(self, said: dict[str, Any]) -> None:
        if "_rejected" in said:
            self._rejects.keep(said["_rejected"])
        else:
            self.stopped.update(said["_stopped"])
            self.phases.update(said["_phases"])
            self.sources.update(said["_sources"])

    def _make(self, path: Path, queries: Sequence[Query], *, trained: bool) -> None:
        """Write one block: its rows, what was rejected, and last what was counted."""
        before = Counter(self._tools.miner.stopped)
        rows = self._pairs(queries)
        if self._tools.cross_encoder is not None:
            rows = iter(self._tools.cross_encoder.passed(list(rows), self._config.num))
        phases: Counter[str] = Counter()
        sources: Counter[str] = Counter()

        def lines() -> Iterator[Row]:
            for row in map(_phased, rows):
                if trained and (errors := self._errors(row)):
                    yield {"_rejected": _rejected(row, errors[0].kind, errors[0].detail)}
                    continue
                phases[row["phase"]] += 1
                sources.update(row["negative_sources"])
                yield row

        def counted() -> Iterator[Row]:
            stopped = Counter(self._tools.miner.stopped) - before
            if self._tools.cross_encoder is not None:
                stopped["cross_encoder"] += self._tools.cross_encoder.taken()
            yield {"_stopped": +stopped, "_phases": phases, "_sources": sources}

        write_jsonl(path, chain(lines(), counted()))

    def _errors(self, row: Row) -> list[Defect]:
        return [found for found in self._tools.defects.check(row) if found.severity == "error"]

    def _pairs(self, queries: Sequence[Query]) -> Iterator[Row]:
        tools = self._tools
        near: list[Near] = tools.nearest.of(queries) if tools.nearest else []
        for number, query in enumerate(queries):
            stop.check()
            if not query.positives:
                yield self._given(query)
                continue
            ranked = self._ranked(query)
            for which, positive in enumerate(query.positives):
                by_model = (
                    below_margin(near[number], which, self._config.relative_margin) if near else []
                )
                yield self._row(query, positive, Candidates(ranked, by_model))

    def _ranked(self, query: Query) -> list[int]:
        """Positions of chunks by BM25, best first, that the query's time limit allows."""
        found = self._tools.domain.words.positions(query.text, self._config.bm25_depth)
        allowed = in_time(self._tools.domain.corpus.chunks.times[found], query.temporal_limit)
        return [position for position, may in zip(found, allowed.tolist(), strict=True) if may]

    def _row(self, query: Query, positive: int, candidates: Candidates) -> Row:
        """One pair: the negatives that ready-made data gives come first, then mined ones."""
        chunks = self._tools.domain.corpus.chunks
        found = self._negatives(query, positive, candidates)
        similarity, *others = self._cosines(query.text, [positive, *(n.position for n in found)])
        rank = candidates.by_words.index(positive) if positive in candidates.by_words else None
        return {
            "query": query.text,
            "positive": query.positive_text or chunks.text(positive),
            "negatives": [negative.text for negative in found],
            "query_id": query.query_id,
            "positive_id": chunks.chunk_id(positive),
            "negative_ids": [chunks.chunk_id(n.position) if n.position >= 0 else "" for n in found],
            "negative_sources": [negative.source for negative in found],
            "negative_similarities": others,
            "negative_hardness": [hardness_of(other, similarity) for other in others],
            "similarity": similarity,
            "phase": query.phase,
            **self._about(query),
            _RANK: rank,
        }

    def _negatives(self, query: Query, positive: int, candidates: Candidates) -> list[Negative]:
        """Given ones, and mined ones to make up the number; no text twice."""
        chunks = self._tools.domain.corpus.chunks
        found = {normalise(text): self._given_negative(text) for text in query.negatives}
        given = len(found)
        most = max(0, self._config.num - given)
        if self._tools.cross_encoder is not None:
            most *= 2  # it will stop some
        if not most:
            return list(found.values())
        # What is given may be mined as well.
        mined = self._tools.miner.mine(query, positive, candidates, self._seed, most + given)
        for position, source in mined:
            text = chunks.text(position)
            found.setdefault(normalise(text), Negative(text, position, source))
        return list(found.values())[: given + most]

    def _given_negative(self, text: str) -> Negative:
        """Without a corpus of its own, ready-made data has made chunks of its texts."""
        positions = self._tools.domain.corpus.chunks.named(chunk_of_text(text)[0])
        return Negative(text, int(positions[0]) if len(positions) else -1, "given")

    def _given(self, query: Query) -> Row:
        """A ready-made pair whose positive is no chunk of the corpus: taken as it is."""
        count = len(query.negatives)
        return {
            "query": query.text,
            "positive": query.positive_text or "",
            "negatives": list(query.negatives),
            "query_id": query.query_id,
            "positive_id": "",
            "negative_ids": [""] * count,
            "negative_sources": ["given"] * count,
            "negative_similarities": [None] * count,
            "negative_hardness": [""] * count,
            "similarity": None,
            "phase": query.phase or "medium",
            **self._about(query),
        }

    def _about(self, query: Query) -> Row:
        """What a row says of its query; generic topics say nothing of a chunk, and are left out."""
        return {
            "source": query.source,
            "category": query.category,
            "domain": query.domain,
            "topics": self._tools.miner.guard.telling(query.topics),
        }

    def _cosines(self, text: str, positions: Sequence[int]) -> list[float]:
        """TF-IDF cosines of a text with chunks; 0 for what is no chunk (-1)."""
        known = [position for position in positions if position >= 0]
        cosines = iter(self._tools.domain.words.cosine(text, known).tolist())
        return [round(next(cosines), 4) if position >= 0 else 0.0 for position in positions]


def _phased(row: Row) -> Row:
    """The row with its phase, which depends on the negatives that are left."""
    if _RANK in row:
        similarities = row["similarity"], row["negative_similarities"]
        row["phase"] = phase_of(row["phase"], row.pop(_RANK), *similarities)
    return row


def _rejected(row: Row, kind: str, detail: str) -> Row:
    kept = ("query_id", "query", "positive_id", "source")
    return {"kind": "pair", "reason": kind, "about": detail, **{key: row[key] for key in kept}}
