"""Queries that must find their answer: where each answer came, and whether that is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from codex_forge.config.sections import Scenario
from codex_forge.corpus import ChunkTable
from codex_forge.errors import InputError
from codex_forge.evaluate.retrieve import Asked, Ranking, Retriever

_SHOWN = 100
"""Letters of a query in a line."""


def check_names(scenarios: Sequence[Scenario], chunks: ChunkTable) -> None:
    """See that every name is one of the corpus, before anything is computed.

    Raises:
        InputError: a scenario expects a file or chunk that the corpus does not have.
    """
    for number, scenario in enumerate(scenarios):
        for name in scenario.expects:
            if not chunks.knows(name):
                raise InputError(
                    f"expects {name!r}, which is no file name and no chunk id of the corpus",
                    where=f"evaluate.must_pass[{number}]",
                    do="write the `filename` as the chunks have it",
                )


def judge(
    scenarios: Sequence[Scenario], retriever: Retriever, chunks: ChunkTable, depth: int
) -> list[dict[str, Any]]:
    """Search for each; the rank is that of the first answer, if one is among the first `depth`."""
    if not scenarios:
        return []
    found = retriever.search([Asked(scenario.query) for scenario in scenarios], depth)
    return [_judged(s, ranking, chunks) for s, ranking in zip(scenarios, found, strict=True)]


def _judged(scenario: Scenario, ranking: Ranking, chunks: ChunkTable) -> dict[str, Any]:
    answers = {int(row) for name in scenario.expects for row in chunks.named(name)}
    rows = (chunks.position(chunk_id) for chunk_id, _ in ranking)
    rank = next((rank for rank, row in enumerate(rows, start=1) if row in answers), None)
    return {
        "query": scenario.query,
        "expects": list(scenario.expects),
        "k": scenario.k,
        "rank": rank,
        "passed": rank is not None and rank <= scenario.k,
    }


def line_of(judged: Mapping[str, Any]) -> str:
    """One of them for people."""
    rank = judged["rank"]
    where = "not found" if rank is None else f"rank {rank}"
    word = "pass" if judged["passed"] else "FAIL"
    query = shorten(judged["query"], _SHOWN, placeholder=" ...")
    return f"{word}  {where} (must be in the first {judged['k']}): {query}"
